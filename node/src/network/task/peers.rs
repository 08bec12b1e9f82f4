//! Who is connected, and what they say of themselves.

use std::time::{Duration, Instant};

use libp2p::core::ConnectedPoint;
use libp2p::kad::KBucketKey;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, identify};
use shoal_protocol::id::PeerId;
use tokio::sync::mpsc;

use super::super::identity::{libp2p_id, peer_of_libp2p};
use super::super::{NetworkEvent, addresses, agent, diversity, strangers};
use super::{MAX_AGENT_CHARS, Task};

/// Connections of one peer that are further apart than this were not made by both sides dialling at once.
const SAME_TIME: Duration = Duration::from_secs(3);

/// How long a connected peer may take to say what it wants to hear. It is the first thing that is said.
const DEAF_AFTER: Duration = Duration::from_secs(6);

/// How long the other side has to see that its connections are closed before it is dialled again. If the new one came
/// first, it would be one more connection of a peer that is known already, which is not told anew what we want to hear.
const BEFORE_REDIAL: Duration = Duration::from_millis(500);

impl Task {
    pub(super) fn on_connected(&mut self, id: &libp2p::PeerId, connection: ConnectionId, point: &ConnectedPoint) {
        let Some(peer) = peer_of_libp2p(id) else { return };
        let now = Instant::now();
        if let ConnectedPoint::Listener { send_back_addr, .. } = point {
            self.notice_new_start(peer, id, send_back_addr, now);
        }
        self.connections.entry(peer).or_default().push((connection, now));
        self.trim.connected(peer, point.is_dialer());
        self.known.connected(peer, now);
        self.shared.connected().entry(peer).or_insert(now);
        tracing::debug!(peer = %peer.short(), "connected");
    }

    /// A peer that dials us has no connection: if we have an old one, the peer has started anew, and what is sent on
    /// the old one is lost until it times out. Both sides begin again then, with a clean slate.
    fn notice_new_start(&mut self, peer: PeerId, id: &libp2p::PeerId, address: &Multiaddr, now: Instant) {
        let is_old = |since: Instant| now.saturating_duration_since(since) > SAME_TIME;
        let Some(connections) = self.connections.get(&peer) else { return };
        if !connections.iter().any(|(_, since)| is_old(*since)) {
            return;
        }
        self.shared.book.learn(peer, &addresses::contact_of_claims(*id, std::slice::from_ref(address)));
        self.begin_again(peer);
    }

    pub(super) fn begin_again(&mut self, peer: PeerId) {
        tracing::debug!(peer = %peer.short(), "beginning again with a peer");
        self.agents.remove(&peer);
        self.shared.links.close(peer);
        self.redial.insert(peer, Instant::now() + BEFORE_REDIAL);
    }

    /// Tells a peer that another node has its key, and was started as `start`. Nobody here knows which of the two should be
    /// there: whoever comes first is.
    fn warn(&mut self, peer: PeerId, start: u64) {
        tracing::debug!(peer = %peer.short(), "two nodes run with one key");
        self.agents.remove(&peer);
        self.shared.links.warn(peer, start);
    }

    /// Dials those that have had time to notice that they are to begin again.
    pub(super) fn redial(&mut self, now: Instant) {
        let due: Vec<PeerId> = self.redial.extract_if(.., |_, at| *at <= now).map(|(peer, _)| peer).collect();
        due.into_iter().for_each(|peer| self.dial(peer));
    }

    /// Begins again with peers that are connected and have not said what they want to hear. It is said once, at the
    /// start of a first connection: where the two sides disagree on which that was, a peer would hear nothing for good.
    pub(super) fn begin_again_with_deaf(&mut self, now: Instant) {
        let is_old = |since: Instant| now.saturating_duration_since(since) > DEAF_AFTER;
        let all_old = self.connections.iter().filter(|(_, all)| all.iter().all(|(_, since)| is_old(*since)));
        let deaf: Vec<PeerId> = all_old.map(|(peer, _)| *peer).filter(|peer| !self.is_up(*peer)).collect();
        for peer in deaf {
            self.begin_again(peer);
        }
    }

    pub(super) fn on_disconnected(&mut self, id: &libp2p::PeerId, connection: ConnectionId) {
        let Some(peer) = peer_of_libp2p(id) else { return };
        if let Some(connections) = self.connections.get_mut(&peer) {
            connections.retain(|(id, _)| *id != connection);
            if !connections.is_empty() {
                return;
            }
        }
        self.connections.remove(&peer);
        self.trim.forget(peer);
        self.agents.remove(&peer);
        self.known.connected(peer, Instant::now());
        self.shared.connected().remove(&peer);
        self.shared.links.forget(peer);
        self.set_up(peer, false);
    }

    /// A peer does not answer: that may be its relay's fault.
    pub(super) fn doubt_relay_of(&self, id: &libp2p::PeerId) {
        let relay = peer_of_libp2p(id).and_then(|peer| self.shared.book.contact(peer)?.relay);
        relay.into_iter().for_each(|relay| self.shared.relays.doubt(&relay));
    }

    /// Ends all connections with a peer and takes no more, or takes them again.
    pub(super) fn block(&mut self, peer: PeerId, block: bool) {
        let id = libp2p_id(peer);
        let blocked = &mut self.swarm.behaviour_mut().blocked;
        if block {
            blocked.block_peer(id);
        } else {
            blocked.unblock_peer(id);
        }
    }

    /// Notes for the node that `peer` came up or went down; only the last word is told.
    pub(super) fn set_up(&mut self, peer: PeerId, up: bool) {
        if self.up.contains(&peer) == up {
            self.news.remove(&peer);
        } else {
            self.news.insert(peer, up);
        }
    }

    /// Whether the node has been told, or will be, that `peer` is up.
    fn is_up(&self, peer: PeerId) -> bool {
        self.news.get(&peer).copied().unwrap_or_else(|| self.up.contains(&peer))
    }

    /// Tells one piece of news.
    pub(super) fn tell(&mut self, permit: mpsc::OwnedPermit<NetworkEvent>) {
        let Some((peer, up)) = self.news.pop_first() else { return };
        if up {
            self.up.insert(peer);
        } else {
            self.up.remove(&peer);
        }
        permit.send(if up { NetworkEvent::PeerUp(peer) } else { NetworkEvent::PeerDown(peer) });
    }

    /// A peer's own description: where it is, and that it belongs into the routing table.
    pub(super) fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id, info, .. } = event else { return };
        let Some(peer) = peer_of_libp2p(&peer_id) else { return };
        let version = agent::protocol(&info.agent_version).unwrap_or(strangers::UNNAMED);
        if self.shared.strangers.meet(peer, version, Instant::now()) {
            return self.part(peer, &peer_id);
        }
        let contact = addresses::contact_of_claims(peer_id, &info.listen_addrs);
        self.shared.book.learn(peer, &contact);
        let start = agent::start(&info.agent_version);
        if let Some(other) = start.and_then(|start| self.starts.note(peer, start, Instant::now())) {
            return self.warn(peer, other);
        }
        let earlier = self.agents.insert(peer, info.agent_version.chars().take(MAX_AGENT_CHARS).collect());
        if earlier.is_some_and(|earlier| !info.agent_version.starts_with(&earlier)) {
            // Connections that began before this start are dead, however lately they were made.
            return self.begin_again(peer);
        }
        self.describe_company();
        let Some(address) = addresses::endpoint_addr(peer, &contact) else { return };
        let ways: Vec<Multiaddr> = address.addrs.iter().filter_map(|way| addresses::multiaddr(peer_id, way)).collect();
        if !self.may_be_routed(&peer_id, &ways) {
            return tracing::debug!(peer = %peer.short(), "not routed: its network has its share of the table");
        }
        for way in ways {
            self.swarm.behaviour_mut().kad.add_address(&peer_id, way);
        }
        self.estimate_size();
    }

    /// Ends all connections with a peer whose version is too far from this node's, and says why.
    fn part(&mut self, peer: PeerId, id: &libp2p::PeerId) {
        self.agents.remove(&peer);
        self.swarm.behaviour_mut().kad.remove_peer(id);
        self.shared.links.part(peer, self.shared.strangers.own());
    }

    /// Whether a peer may be in the routing table, or is already: one network has only so many places there.
    fn may_be_routed(&mut self, id: &libp2p::PeerId, ways: &[Multiaddr]) -> bool {
        let networks = diversity::networks(ways);
        if networks.is_empty() || self.is_routable(id) {
            return true;
        }
        let (own, sought) = (KBucketKey::from(*self.swarm.local_peer_id()), KBucketKey::from(*id));
        let bucket = own.distance(&sought).ilog2();
        let mut table = Vec::new();
        for entries in self.swarm.behaviour_mut().kad.kbuckets() {
            table.extend(entries.iter().map(|entry| {
                let is_same = own.distance(entry.node.key).ilog2() == bucket;
                (is_same, diversity::networks(entry.node.value.iter()))
            }));
        }
        diversity::has_room(&networks, &table)
    }
}
