//! The relays that a node used last: with all peers gone from where they were, a relay may still be a way back.

use shoal_protocol::id::MeshId;
use shoal_protocol::limits::MAX_RELAYS_USED;
use shoal_protocol::wire::canonical;
use shoal_store::state::{Change, State, StateError, Table};

use crate::network::Network;

/// Saves the relays in use. That there are none is no reason to forget those that were.
pub(super) fn save(network: &Network, state: &State) {
    let relays =
        network.known_relays().into_iter().filter(|relay| relay.is_used && relay.is_good).take(MAX_RELAYS_USED);
    let relays: Vec<String> = relays.map(|relay| relay.address.to_string()).collect();
    let change = Change::Put { table: Table::Peers, key: key_of(network.mesh_id()), value: canonical(&relays) };
    if !relays.is_empty()
        && let Err(error) = state.apply(&[change])
    {
        tracing::warn!(%error, "relays were not remembered");
    }
}

/// The relays of `mesh` that were used last.
pub(super) fn known(state: &State, mesh: MeshId) -> Result<Vec<String>, StateError> {
    let saved = state.get(Table::Peers, &key_of(mesh))?;
    Ok(saved.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default())
}

fn key_of(mesh: MeshId) -> Vec<u8> {
    [&b"relays/"[..], mesh.as_bytes()].concat()
}
