//! The open connections, libp2p's and those for blobs: what can be seen of them, and an end to all of a peer's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh::endpoint::{Connection, WeakConnectionHandle};
use shoal_protocol::id::PeerId;

/// Remembered connections of one peer. There are three as a rule: one for libp2p, and one for blobs each way.
const MAX_LINKS_PER_PEER: usize = 16;
/// Application close code of connections that end so that both sides begin again.
const BEGIN_AGAIN: u32 = 1;

/// A registry of live connections that keeps none of them open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Links(Arc<Mutex<BTreeMap<PeerId, Vec<WeakConnectionHandle>>>>);

/// The path that carries a peer's data now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    /// Round-trip time.
    pub(crate) rtt: Duration,
    /// Whether it goes through a relay.
    pub(crate) relayed: bool,
}

impl Links {
    /// Remembers a connection for as long as it lives.
    pub(crate) fn add(&self, peer: PeerId, connection: &Connection) {
        let mut links = self.lock();
        let links = links.entry(peer).or_default();
        links.retain(|link| link.upgrade().is_some());
        if links.len() < MAX_LINKS_PER_PEER {
            links.push(connection.weak_handle());
        }
    }

    /// Closes every connection with a peer, to begin again. If it has started anew, iroh sends to the address of the dead
    /// process, even when it connects again, until the last of them is gone.
    pub(crate) fn close(&self, peer: PeerId) {
        let links = self.lock().remove(&peer).unwrap_or_default();
        for link in links.iter().filter_map(WeakConnectionHandle::upgrade) {
            link.close(BEGIN_AGAIN.into(), b"begin again");
        }
    }

    /// Forgets a peer that is connected no more. A connection that was made meanwhile stays.
    pub(crate) fn forget(&self, peer: PeerId) {
        let mut links = self.lock();
        if links.get(&peer).is_some_and(|links| links.iter().all(|link| link.upgrade().is_none())) {
            links.remove(&peer);
        }
    }

    /// The best path to `peer`, while it is connected.
    pub(crate) fn path(&self, peer: PeerId) -> Option<Path> {
        let links = self.lock().get(&peer)?.clone();
        let paths = links.iter().filter_map(WeakConnectionHandle::upgrade).filter_map(|link| selected_path(&link));
        paths.min_by_key(|path| (path.relayed, path.rtt))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Vec<WeakConnectionHandle>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn selected_path(connection: &Connection) -> Option<Path> {
    let paths = connection.paths();
    let path = paths.iter().find(|path| path.is_selected())?;
    Some(Path { rtt: path.rtt(), relayed: path.is_relay() })
}
