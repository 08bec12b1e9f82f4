//! What a node remembers of the network for its next start: its port and whom it knew.

use shoal_protocol::id::PeerId;
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
    let change = Change::Put { table: Table::Peers, key: b"connected".to_vec(), value };
    // Nobody connected is no reason to forget who was.
    if !network.peers().is_empty()
        && let Err(error) = state.apply(&[change])
    {
        tracing::warn!(%error, "peers were not remembered");
    }
}

/// Who was connected when the node stopped, or shortly before.
pub(super) fn known_peers(state: &State) -> Result<Vec<(PeerId, Contact)>, StateError> {
    let saved = state.get(Table::Peers, b"connected")?;
    Ok(saved.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default())
}
