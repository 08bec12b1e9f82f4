//! The open connections, libp2p's and those for blobs: what can be seen of them, and an end to all of a peer's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iroh::TransportAddr;
use iroh::endpoint::{Connection, ConnectionError, ConnectionStats, WeakConnectionHandle};
use shoal_protocol::id::PeerId;

use super::agent;
use super::strangers::Strangers;

/// Remembered connections of one peer. There are three as a rule: one for libp2p, and one for blobs each way.
const MAX_LINKS_PER_PEER: usize = 16;
/// Application close code of connections that end so that both sides begin again.
const BEGIN_AGAIN: u32 = 1;
/// Application close code of connections with a peer whose version is too far away. The reason names the version of the
/// side that closes, since the other one may not have heard it.
const OTHER_VERSION: u32 = 2;

/// A registry of live connections that keeps none of them open.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    peers: Arc<Mutex<BTreeMap<PeerId, Peer>>>,
    strangers: Strangers,
}

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
    /// No connections yet. Peers that close theirs because of their version are told to `strangers`.
    pub(crate) fn new(strangers: Strangers) -> Self {
        Self { peers: Arc::default(), strangers }
    }

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
                    if let Some(version) = version_in(&closed.reason) {
                        links.strangers.meet(peer, version, Instant::now());
                    }
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
        self.close_with(peer, BEGIN_AGAIN, b"begin again");
    }

    /// Closes every connection with a peer, and tells it that this node speaks `version`.
    pub(crate) fn part(&self, peer: PeerId, version: u8) {
        self.close_with(peer, OTHER_VERSION, agent::protocol_word(version).as_bytes());
    }

    fn close_with(&self, peer: PeerId, code: u32, reason: &[u8]) {
        let known = self.lock().remove(&peer).unwrap_or_default();
        for link in known.links.iter().filter_map(WeakConnectionHandle::upgrade) {
            link.close(code.into(), reason);
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
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The version of a peer that has closed a connection because of it.
fn version_in(reason: &ConnectionError) -> Option<u8> {
    match reason {
        ConnectionError::ApplicationClosed(close) if close.error_code == OTHER_VERSION.into() => {
            agent::protocol(std::str::from_utf8(&close.reason).ok()?)
        }
        _ => None,
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
