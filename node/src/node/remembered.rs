//! What a node remembers of the network for its next start: its port and whom it knew.

use shoal_protocol::id::{MeshId, PeerId};
use shoal_protocol::message::Contact;
use shoal_store::state::{Change, State, StateError, Table};
use tokio::sync::mpsc;

use super::StartError;
use crate::network::{Network, NetworkConfig, NetworkError, NetworkEvent};

/// Peers that are remembered for the next start.
const MAX_KNOWN_PEERS: usize = 256;

/// Listens on the port of the last run, if any will do and it is free: others look for the node there.
pub(super) async fn listen_again(
    mut config: NetworkConfig,
    state: &State,
) -> Result<(Network, mpsc::Receiver<NetworkEvent>), StartError> {
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

/// Saves who is connected.
pub(super) fn save_peers(network: &Network, state: &State) {
    let peers = network.peers().into_iter().filter(|info| info.contact != Contact::default()).take(MAX_KNOWN_PEERS);
    let value = shoal_protocol::wire::canonical(&peers.map(|info| (info.peer, info.contact)).collect::<Vec<_>>());
    let change = Change::Put { table: Table::Peers, key: key_of(network.mesh_id()), value };
    // Nobody connected is no reason to forget who was.
    if !network.peers().is_empty()
        && let Err(error) = state.apply(&[change])
    {
        tracing::warn!(%error, "peers were not remembered");
    }
}

/// Who of `mesh` was connected when the node stopped, or shortly before. Peers of another mesh are not asked: they would
/// learn that this node is in this one.
pub(super) fn known_peers(state: &State, mesh: MeshId) -> Result<Vec<(PeerId, Contact)>, StateError> {
    let saved = state.get(Table::Peers, &key_of(mesh))?;
    Ok(saved.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default())
}

/// The same for a public mesh, whose peers earlier builds saved without its name.
pub(super) fn known_publicly(state: &State, mesh: &str) -> Result<Vec<(PeerId, Contact)>, StateError> {
    let known = known_peers(state, MeshId::of(mesh))?;
    if !known.is_empty() {
        return Ok(known);
    }
    let saved = state.get(Table::Peers, b"connected")?;
    Ok(saved.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default())
}

fn key_of(mesh: MeshId) -> Vec<u8> {
    [&b"connected/"[..], mesh.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(state: &State, key: Vec<u8>, peer: u8) {
        let contact = Contact { addresses: vec!["192.0.2.1:1".parse().unwrap()], relay: None };
        let value = shoal_protocol::wire::canonical(&vec![(PeerId([peer; 32]), contact)]);
        state.apply(&[Change::Put { table: Table::Peers, key, value }]).unwrap();
    }

    #[test]
    fn peers_of_one_mesh_are_not_asked_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.redb")).unwrap();
        let (home, lab) = (MeshId([1; 32]), MeshId([2; 32]));
        saved(&state, key_of(home), 1);
        assert_eq!(known_peers(&state, home).unwrap()[0].0, PeerId([1; 32]));
        assert_eq!(known_peers(&state, lab).unwrap(), []);
        // What an earlier build saved is of a public mesh.
        saved(&state, b"connected".to_vec(), 3);
        assert_eq!(known_peers(&state, lab).unwrap(), []);
        assert_eq!(known_publicly(&state, "public").unwrap()[0].0, PeerId([3; 32]));
        saved(&state, key_of(MeshId::of("public")), 4);
        assert_eq!(known_publicly(&state, "public").unwrap()[0].0, PeerId([4; 32]));
    }
}
