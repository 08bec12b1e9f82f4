//! What a node remembers of the network for its next start: its port and whom it knew.

use serde::de::DeserializeOwned;
use shoal_protocol::id::{MeshId, PeerId};
use shoal_protocol::message::Contact;
use shoal_protocol::time::Time;
use shoal_store::state::{Change, State, StateError, Table};

use super::StartError;
use crate::network::{Events, Network, NetworkConfig, NetworkError, Remembered, Service, worth_keeping};

/// Listens on the port of the last run, if any will do and it is free: others look for the node there.
pub(super) async fn listen_again(mut config: NetworkConfig, state: &State) -> Result<(Network, Events), StartError> {
    let any_port = config.listen.port() == 0;
    if let Some(port) = saved_port(state)?.filter(|_| any_port) {
        config.listen.set_port(port);
    }
    let started = match Network::start(config.clone()).await {
        Err(NetworkError::Bind { .. }) if any_port => {
            config.listen.set_port(0);
            Network::start(config).await?
        }
        started => started?,
    };
    if let Some(port) = started.0.port().filter(|_| any_port) {
        state.apply(&[Change::Put {
            table: Table::Meta,
            key: b"port".to_vec(),
            value: port.to_be_bytes().to_vec(),
        }])?;
    }
    Ok(started)
}

fn saved_port(state: &State) -> Result<Option<u16>, StateError> {
    let saved = state.get(Table::Meta, b"port")?;
    Ok(saved.and_then(|bytes| Some(u16::from_be_bytes(bytes.try_into().ok()?))))
}

/// What is saved of a peer.
type Row = (PeerId, Contact, Service);

/// Whom this node knows and where they are, the best of them: for [`save_peers`].
pub(super) async fn peers_to_save(network: &Network, now: Time) -> Vec<Remembered> {
    let known = network.known().await.into_iter().map(|known| Remembered {
        peer: known.peer,
        contact: network.contact_of(known.peer),
        service: known.service,
    });
    worth_keeping(known.filter(|known| known.contact != Contact::default()).collect(), now)
}

/// Saves peers for the next start.
pub(super) fn save_peers(mesh: MeshId, peers: Vec<Remembered>, state: &State) {
    // Nobody known is no reason to forget who was.
    if peers.is_empty() {
        return;
    }
    let rows: Vec<Row> = peers.into_iter().map(|peer| (peer.peer, peer.contact, peer.service)).collect();
    let value = shoal_protocol::wire::canonical(&rows);
    if let Err(error) = state.apply(&[Change::Put { table: Table::Peers, key: key_of(mesh), value }]) {
        tracing::warn!(%error, "peers were not remembered");
    }
}

/// Whom of `mesh` the last run knew. Peers of another mesh are not asked: they would learn that this node is in this one.
pub(super) fn known_peers(state: &State, mesh: MeshId) -> Result<Vec<Remembered>, StateError> {
    let rows: Vec<Row> = read(state, &key_of(mesh))?;
    if rows.is_empty() {
        return earlier(state, &earlier_key_of(mesh));
    }
    Ok(rows.into_iter().map(|(peer, contact, service)| Remembered { peer, contact, service }).collect())
}

/// The same for a public mesh, whose peers the earliest builds saved without its name.
pub(super) fn known_publicly(state: &State, mesh: &str) -> Result<Vec<Remembered>, StateError> {
    let known = known_peers(state, MeshId::of(mesh))?;
    if known.is_empty() { earlier(state, b"connected") } else { Ok(known) }
}

/// What earlier builds saved: who was connected, and nothing of how that went.
fn earlier(state: &State, key: &[u8]) -> Result<Vec<Remembered>, StateError> {
    let rows: Vec<(PeerId, Contact)> = read(state, key)?;
    let remembered = |(peer, contact)| Remembered { peer, contact, service: Service::default() };
    Ok(rows.into_iter().map(remembered).collect())
}

fn read<T: DeserializeOwned + Default>(state: &State, key: &[u8]) -> Result<T, StateError> {
    let saved = state.get(Table::Peers, key)?;
    Ok(saved.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default())
}

fn key_of(mesh: MeshId) -> Vec<u8> {
    [&b"known/"[..], mesh.as_bytes()].concat()
}

fn earlier_key_of(mesh: MeshId) -> Vec<u8> {
    [&b"connected/"[..], mesh.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact() -> Contact {
        Contact { addresses: vec!["192.0.2.1:1".parse().unwrap()], relay: None }
    }

    fn saved_earlier(state: &State, key: Vec<u8>, peer: u8) {
        let value = shoal_protocol::wire::canonical(&vec![(PeerId([peer; 32]), contact())]);
        state.apply(&[Change::Put { table: Table::Peers, key, value }]).unwrap();
    }

    #[test]
    fn peers_of_one_mesh_are_not_asked_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.redb")).unwrap();
        let (home, lab) = (MeshId([1; 32]), MeshId([2; 32]));
        let known = vec![Remembered { peer: PeerId([1; 32]), contact: contact(), service: Service::default() }];
        save_peers(home, known.clone(), &state);
        save_peers(home, Vec::new(), &state);
        assert_eq!(known_peers(&state, home).unwrap(), known, "nobody known is no reason to forget who was");
        assert_eq!(known_peers(&state, lab).unwrap(), []);
        // What an earlier build saved is read, and what the earliest saved is of a public mesh.
        saved_earlier(&state, b"connected".to_vec(), 3);
        assert_eq!(known_peers(&state, lab).unwrap(), []);
        assert_eq!(known_publicly(&state, "public").unwrap()[0].peer, PeerId([3; 32]));
        saved_earlier(&state, earlier_key_of(MeshId::of("public")), 4);
        assert_eq!(known_publicly(&state, "public").unwrap()[0].peer, PeerId([4; 32]));
    }
}
