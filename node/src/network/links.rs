//! The open connections, libp2p's and those for blobs: what can be seen of them, and an end to all of a peer's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh::TransportAddr;
use iroh::endpoint::{Connection, ConnectionStats, WeakConnectionHandle};
use shoal_protocol::id::PeerId;

/// Remembered connections of one peer. There are three as a rule: one for libp2p, and one for blobs each way.
const MAX_LINKS_PER_PEER: usize = 16;
/// Application close code of connections that end so that both sides begin again.
const BEGIN_AGAIN: u32 = 1;

/// A registry of live connections that keeps none of them open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Links(Arc<Mutex<BTreeMap<PeerId, Peer>>>);

/// One peer's connections.
#[derive(Debug, Default)]
struct Peer {
    links: Vec<WeakConnectionHandle>,
    /// What passed over those that have ended.
    before: Passed,
}

/// Bytes of UDP that passed between this node and a peer, all protocols together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// The path that carries a peer's data now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    /// Round-trip time.
    pub(crate) rtt: Duration,
    /// Whether it goes through a relay.
    pub(crate) relayed: bool,
    /// Where the packets of a direct path come from.
    pub(crate) remote: Option<SocketAddr>,
}

impl Links {
    /// Remembers a connection for as long as it lives.
    pub(crate) fn add(&self, peer: PeerId, connection: &Connection) {
        let mut peers = self.lock();
        let known = peers.entry(peer).or_default();
        known.links.retain(|link| link.upgrade().is_some());
        if known.links.len() < MAX_LINKS_PER_PEER {
            known.links.push(connection.weak_handle());
            let (links, closed) = (self.clone(), connection.weak_handle().closed());
            tokio::spawn(async move {
                if let Some(closed) = closed.await {
                    links.count(peer, &closed.stats);
                }
            });
        }
    }

    /// Adds what passed over a connection that has ended, unless its peer is forgotten.
    fn count(&self, peer: PeerId, stats: &ConnectionStats) {
        if let Some(known) = self.lock().get_mut(&peer) {
            known.before += Passed::of(stats);
        }
    }

    /// Closes every connection with a peer, to begin again. If it has started anew, iroh sends to the address of the dead
    /// process, even when it connects again, until the last of them is gone.
    pub(crate) fn close(&self, peer: PeerId) {
        let known = self.lock().remove(&peer).unwrap_or_default();
        for link in known.links.iter().filter_map(WeakConnectionHandle::upgrade) {
            link.close(BEGIN_AGAIN.into(), b"begin again");
        }
    }

    /// Forgets a peer that is connected no more. A connection that was made meanwhile stays.
    pub(crate) fn forget(&self, peer: PeerId) {
        let mut peers = self.lock();
        if peers.get(&peer).is_some_and(|known| known.links.iter().all(|link| link.upgrade().is_none())) {
            peers.remove(&peer);
        }
    }

    /// The best path to `peer`, while it is connected.
    pub(crate) fn path(&self, peer: PeerId) -> Option<Path> {
        let links = self.lock().get(&peer)?.links.clone();
        let paths = links.iter().filter_map(WeakConnectionHandle::upgrade).filter_map(|link| selected_path(&link));
        paths.min_by_key(|path| (path.relayed, path.rtt))
    }

    /// The relay that carries data of `peer`, if one does.
    pub(crate) fn relay(&self, peer: PeerId) -> Option<String> {
        let links = self.lock().get(&peer)?.links.clone();
        let live = links.iter().filter_map(WeakConnectionHandle::upgrade);
        if self.path(peer).is_none_or(|path| !path.relayed) {
            return None;
        }
        live.filter_map(|link| selected_relay(&link)).next()
    }

    /// Where data comes from that `peer` sends directly.
    pub(crate) fn addresses(&self, peer: PeerId) -> BTreeSet<IpAddr> {
        let links = self.lock().get(&peer).map(|known| known.links.clone()).unwrap_or_default();
        let live: Vec<Connection> = links.iter().filter_map(WeakConnectionHandle::upgrade).collect();
        let paths = live.iter().flat_map(|link| {
            let paths = link.paths();
            paths.iter().filter_map(|path| ip(path.remote_addr())).collect::<Vec<_>>()
        });
        paths.collect()
    }

    /// What has passed between this node and `peer` while it has been connected.
    pub(crate) fn passed(&self, peer: PeerId) -> Passed {
        let Some((links, mut passed)) = self.lock().get(&peer).map(|known| (known.links.clone(), known.before)) else {
            return Passed::default();
        };
        // Those that are closed were counted when they ended.
        let open = links.iter().filter_map(WeakConnectionHandle::upgrade).filter(|link| link.close_reason().is_none());
        open.for_each(|link| passed += Passed::of(&link.stats()));
        passed
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passed {
    fn of(stats: &ConnectionStats) -> Self {
        Self { sent: stats.udp_tx.bytes, received: stats.udp_rx.bytes }
    }
}

impl std::ops::AddAssign for Passed {
    fn add_assign(&mut self, other: Self) {
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
    }
}

fn selected_path(connection: &Connection) -> Option<Path> {
    let paths = connection.paths();
    let path = paths.iter().find(|path| path.is_selected())?;
    let remote = match path.remote_addr() {
        TransportAddr::Ip(socket) => Some(*socket),
        _ => None,
    };
    Some(Path { rtt: path.rtt(), relayed: path.is_relay(), remote })
}

fn selected_relay(connection: &Connection) -> Option<String> {
    let paths = connection.paths();
    match paths.iter().find(|path| path.is_selected())?.remote_addr() {
        TransportAddr::Relay(url) => Some(url.to_string()),
        _ => None,
    }
}

fn ip(way: &TransportAddr) -> Option<IpAddr> {
    match way {
        TransportAddr::Ip(socket) => Some(socket.ip().to_canonical()),
        _ => None,
    }
}
