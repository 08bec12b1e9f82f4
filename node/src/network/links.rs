//! The open connections, libp2p's and those for blobs: what can be seen of them, and an end to all of a peer's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use iroh::TransportAddr;
use iroh::endpoint::{
    ApplicationClose, Closed, Connection, ConnectionError, PathEvent, PathEventStream, PathStats, WeakConnectionHandle,
};
use serde::Serialize;
use shoal_protocol::id::PeerId;
use shoal_protocol::relay::RelayAddress;

use super::agent;
use super::duplicates::Duplicates;
use super::strangers::Strangers;

/// Remembered connections of one peer. There are three as a rule: one for libp2p, and one for blobs each way.
const MAX_LINKS_PER_PEER: usize = 16;
/// Application close code of connections that end so that both sides begin again.
const BEGIN_AGAIN: u32 = 1;
/// Application close code of connections with a peer whose version is too far away. The reason names the version of the
/// side that closes, since the other one may not have heard it.
const OTHER_VERSION: u32 = 2;
/// Application close code of connections with a peer that runs twice. The reason names the start of the other one.
const OTHER_START: u32 = 3;

/// A registry of live connections that keeps none of them open.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    known: Arc<Mutex<Known>>,
    strangers: Strangers,
    duplicates: Duplicates,
}

#[derive(Debug, Default)]
struct Known {
    peers: BTreeMap<PeerId, Peer>,
    /// What passed over all paths that have ended.
    before: Passed,
}

/// One peer's connections.
#[derive(Debug, Default)]
struct Peer {
    links: Vec<WeakConnectionHandle>,
    /// What passed over paths that have ended.
    before: Passed,
}

/// Bytes that passed in QUIC, all protocols and blobs together, by the kind of path.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Passed {
    /// Sent directly.
    pub sent_directly: u64,
    /// Received directly.
    pub received_directly: u64,
    /// Sent through a relay.
    pub sent_by_relay: u64,
    /// Received through a relay.
    pub received_by_relay: u64,
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
        Self { known: Arc::default(), strangers, duplicates: Duplicates::new() }
    }

    /// Peers of other versions.
    pub(crate) fn strangers(&self) -> &Strangers {
        &self.strangers
    }

    /// Other nodes with this node's key.
    pub(crate) fn duplicates(&self) -> &Duplicates {
        &self.duplicates
    }

    /// Remembers a connection for as long as it lives.
    pub(crate) fn add(&self, peer: PeerId, connection: &Connection) {
        let mut all = self.lock();
        let known = all.peers.entry(peer).or_default();
        known.links.retain(|link| link.upgrade().is_some());
        if known.links.len() < MAX_LINKS_PER_PEER {
            known.links.push(connection.weak_handle());
            let (paths, closed) = (connection.path_events(), connection.weak_handle().closed());
            tokio::spawn(self.clone().watch(peer, paths, closed));
        }
    }

    /// Adds what passed over each path of a connection when it ends, also at the connection's end, and hears why that was.
    async fn watch(
        self,
        peer: PeerId,
        mut paths: PathEventStream,
        closed: impl Future<Output = Option<Closed>> + Send,
    ) {
        while let Some(event) = paths.next().await {
            if let PathEvent::Closed { remote_addr, last_stats, .. } = event {
                self.count(peer, Passed::over(&remote_addr, &last_stats));
            }
        }
        if let Some(Closed { reason: ConnectionError::ApplicationClosed(close), .. }) = closed.await {
            self.hear(peer, &close);
        }
    }

    /// A peer has closed a connection, and may say why.
    fn hear(&self, peer: PeerId, close: &ApplicationClose) {
        let (now, reason) = (Instant::now(), String::from_utf8_lossy(&close.reason));
        if close.error_code == OTHER_VERSION.into() {
            agent::protocol(&reason).into_iter().for_each(|version| {
                self.strangers.meet(peer, version, now);
            });
        } else if close.error_code == OTHER_START.into() {
            agent::start(&reason).into_iter().for_each(|start| self.duplicates.hear(peer, start, now));
        }
    }

    /// Adds what passed over a path that has ended.
    fn count(&self, peer: PeerId, passed: Passed) {
        let mut all = self.lock();
        all.before += passed;
        if let Some(known) = all.peers.get_mut(&peer) {
            known.before += passed;
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

    /// Closes every connection with a peer, to begin again, and tells it that a node with its key was started as `start`.
    pub(crate) fn warn(&self, peer: PeerId, start: u64) {
        self.close_with(peer, OTHER_START, agent::start_word(start).as_bytes());
    }

    fn close_with(&self, peer: PeerId, code: u32, reason: &[u8]) {
        let known = self.lock().peers.remove(&peer).unwrap_or_default();
        for link in known.links.iter().filter_map(WeakConnectionHandle::upgrade) {
            link.close(code.into(), reason);
        }
    }

    /// Forgets a peer that is connected no more. A connection that was made meanwhile stays.
    pub(crate) fn forget(&self, peer: PeerId) {
        let mut all = self.lock();
        if all.peers.get(&peer).is_some_and(|known| known.links.iter().all(|link| link.upgrade().is_none())) {
            all.peers.remove(&peer);
        }
    }

    /// The best path to `peer`, while it is connected.
    pub(crate) fn path(&self, peer: PeerId) -> Option<Path> {
        let live = self.live(peer);
        let paths = live.iter().filter_map(selected_path);
        paths.min_by_key(|path| (path.relayed, path.rtt))
    }

    /// The relay that carries data of `peer`, if one does.
    pub(crate) fn relay(&self, peer: PeerId) -> Option<String> {
        if self.path(peer).is_none_or(|path| !path.relayed) {
            return None;
        }
        self.live(peer).iter().find_map(selected_relay)
    }

    /// Peers whose data goes through this relay.
    pub(crate) fn through(&self, relay: &RelayAddress) -> Vec<PeerId> {
        let peers: Vec<PeerId> = self.lock().peers.keys().copied().collect();
        let goes_there =
            |link: &Connection| selected_relay(link).and_then(|url| url.parse().ok()).as_ref() == Some(relay);
        peers.into_iter().filter(|peer| self.live(*peer).iter().any(goes_there)).collect()
    }

    /// Where data comes from that `peer` sends directly.
    pub(crate) fn addresses(&self, peer: PeerId) -> BTreeSet<IpAddr> {
        let live = self.live(peer);
        let paths = live.iter().flat_map(|link| {
            let paths = link.paths();
            paths.iter().filter_map(|path| ip(path.remote_addr())).collect::<Vec<_>>()
        });
        paths.collect()
    }

    /// What has passed between this node and `peer` while it has been connected.
    pub(crate) fn passed(&self, peer: PeerId) -> Passed {
        let before = self.lock().peers.get(&peer).map(|known| known.before).unwrap_or_default();
        self.live(peer).iter().fold(before, |passed, link| passed + Passed::so_far(link))
    }

    /// What has passed between this node and all others since its start.
    pub(crate) fn passed_in_all(&self) -> Passed {
        let (before, peers) = {
            let all = self.lock();
            (all.before, all.peers.keys().copied().collect::<Vec<_>>())
        };
        let live = peers.into_iter().flat_map(|peer| self.live(peer));
        live.fold(before, |passed, link| passed + Passed::so_far(&link))
    }

    /// The connections with `peer` that are open.
    fn live(&self, peer: PeerId) -> Vec<Connection> {
        let links = self.lock().peers.get(&peer).map(|known| known.links.clone()).unwrap_or_default();
        links.iter().filter_map(WeakConnectionHandle::upgrade).filter(|link| link.close_reason().is_none()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passed {
    /// Sent by any path.
    pub fn sent(&self) -> u64 {
        self.sent_directly.saturating_add(self.sent_by_relay)
    }

    /// Received by any path.
    pub fn received(&self) -> u64 {
        self.received_directly.saturating_add(self.received_by_relay)
    }

    /// Over one path.
    fn over(way: &TransportAddr, stats: &PathStats) -> Self {
        let (sent, received) = (stats.udp_tx.bytes, stats.udp_rx.bytes);
        match way {
            TransportAddr::Relay(_) => Self { sent_by_relay: sent, received_by_relay: received, ..Self::default() },
            _ => Self { sent_directly: sent, received_directly: received, ..Self::default() },
        }
    }

    /// Over all paths that a connection has now.
    fn so_far(connection: &Connection) -> Self {
        let paths = connection.paths();
        paths.iter().fold(Self::default(), |passed, path| passed + Self::over(path.remote_addr(), &path.stats()))
    }
}

impl std::ops::Add for Passed {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sent_directly: self.sent_directly.saturating_add(other.sent_directly),
            received_directly: self.received_directly.saturating_add(other.received_directly),
            sent_by_relay: self.sent_by_relay.saturating_add(other.sent_by_relay),
            received_by_relay: self.received_by_relay.saturating_add(other.received_by_relay),
        }
    }
}

impl std::ops::AddAssign for Passed {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
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
