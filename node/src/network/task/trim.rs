//! Keeping connections few: each costs a router a place in its table, and both ends a few pings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use libp2p::gossipsub::TopicHash;
use shoal_protocol::id::{BlobHash, PeerId};
use shoal_protocol::limits::GOSSIP_PEERS;

use super::super::identity::{libp2p_id, peer_of_libp2p};
use super::Task;

/// How often a node looks whether it has too many connections.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A connection that was made, or used for a direct message, so lately stays.
const YOUNG: Duration = Duration::from_secs(45);

/// A connected peer whose connections may be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spare {
    peer: PeerId,
    /// Whether this node has chosen it.
    chosen: bool,
    /// What of this node's topics it hears.
    hears: Vec<TopicHash>,
}

/// What is remembered of connections for this.
#[derive(Debug)]
pub(in crate::network) struct Trim {
    /// Peers at most; when there are more, a quarter goes.
    most: usize,
    look_at: Instant,
    /// When peers were talked to last.
    talked: BTreeMap<PeerId, Instant>,
    /// Connected peers that this node has dialled.
    chosen: BTreeSet<PeerId>,
}

impl Trim {
    pub(in crate::network) fn new(most: usize) -> Self {
        Self { most, look_at: Instant::now(), talked: BTreeMap::new(), chosen: BTreeSet::new() }
    }

    /// A direct message went to a connected peer, or came from it.
    pub(super) fn talked(&mut self, peer: PeerId) {
        self.talked.insert(peer, Instant::now());
    }

    /// A connection with a peer was made, by this node or by the other.
    pub(super) fn connected(&mut self, peer: PeerId, chosen: bool) {
        if chosen {
            self.chosen.insert(peer);
        }
    }

    pub(super) fn forget(&mut self, peer: PeerId) {
        self.talked.remove(&peer);
        self.chosen.remove(&peer);
    }
}

impl Task {
    /// Closes connections that nobody needs, if there are too many.
    pub(super) fn trim(&mut self, now: Instant) {
        if self.trim.look_at > now {
            return;
        }
        self.trim.look_at = now + LOOK_EVERY;
        if self.connections.len() <= self.trim.most {
            return;
        }
        let excess = self.connections.len() - (self.trim.most - self.trim.most / 4);
        let own = self.shared.own;
        for peer in superfluous(own, excess, &self.hearers(), self.spare(now)) {
            tracing::debug!(peer = %peer.short(), "closed: there are enough connections");
            // It is gone already if this fails.
            let _ = self.swarm.disconnect_peer_id(libp2p_id(peer));
        }
    }

    /// How many connected peers hear each of this node's topics.
    fn hearers(&self) -> BTreeMap<TopicHash, usize> {
        let gossip = &self.swarm.behaviour().gossip;
        let mut hearers: BTreeMap<TopicHash, usize> = gossip.topics().map(|topic| (topic.clone(), 0)).collect();
        for topic in gossip.all_peers().flat_map(|(_, heard)| heard) {
            hearers.entry(topic.clone()).and_modify(|count| *count += 1);
        }
        hearers
    }

    /// Peers with whom nothing is under way.
    fn spare(&self, now: Instant) -> Vec<Spare> {
        let is_young = |since: Instant| now.saturating_duration_since(since) < YOUNG;
        let is_spare = |peer: &PeerId| {
            let young = self.connections.get(peer).is_some_and(|all| all.iter().any(|(_, since)| is_young(*since)));
            let busy = self.requests_to.contains_key(peer) || self.waiting.contains_key(peer);
            !young && !busy && !self.trim.talked.get(peer).is_some_and(|since| is_young(*since))
        };
        let all = self.swarm.behaviour().gossip.all_peers();
        let spare = all.filter_map(|(id, hears)| {
            let peer = peer_of_libp2p(id).filter(is_spare)?;
            let hears = hears.into_iter().cloned().collect();
            Some(Spare { peer, chosen: self.trim.chosen.contains(&peer), hears })
        });
        spare.collect()
    }
}

/// Which of the spare connections are closed: at most `excess`, and of each topic enough stay. Those that this node has chosen
/// go last, so that whoever fills all other places does not surround it. Else the order is one that both sides of a
/// connection agree on, so that what one keeps the other does not close.
fn superfluous(own: PeerId, excess: usize, hearers: &BTreeMap<TopicHash, usize>, mut spare: Vec<Spare>) -> Vec<PeerId> {
    let lot = |peer: PeerId| {
        let (low, high) = (own.min(peer), own.max(peer));
        BlobHash::of(&[low.0, high.0].concat())
    };
    spare.sort_by_key(|spare| (spare.chosen, lot(spare.peer)));
    let mut hearers = hearers.clone();
    let mut closed = Vec::new();
    for spare in spare {
        let is_needed = |topic: &TopicHash| hearers.get(topic).is_some_and(|count| *count <= GOSSIP_PEERS);
        if closed.len() == excess || spare.hears.iter().any(is_needed) {
            continue;
        }
        for topic in &spare.hears {
            hearers.entry(topic.clone()).and_modify(|count| *count -= 1);
        }
        closed.push(spare.peer);
    }
    closed
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: PeerId = PeerId([0; 32]);

    fn topic(name: &str) -> TopicHash {
        TopicHash::from_raw(name)
    }

    fn spare(n: u8, chosen: bool, hears: &[&str]) -> Spare {
        Spare { peer: PeerId([n; 32]), chosen, hears: hears.iter().map(|name| topic(name)).collect() }
    }

    #[test]
    fn no_more_are_closed_than_are_too_many() {
        let all: Vec<Spare> = (1..=20).map(|n| spare(n, false, &["all"])).collect();
        let hearers = BTreeMap::from([(topic("all"), 20)]);
        assert_eq!(superfluous(OWN, 5, &hearers, all.clone()).len(), 5);
        assert_eq!(superfluous(OWN, 20, &hearers, all).len(), 20 - GOSSIP_PEERS, "enough stay for the topic");
    }

    #[test]
    fn whoever_is_needed_for_a_topic_stays() {
        let mut all: Vec<Spare> = (1..=20).map(|n| spare(n, false, &["all"])).collect();
        all[3].hears.push(topic("rare"));
        let hearers = BTreeMap::from([(topic("all"), 20), (topic("rare"), 1)]);
        assert!(!superfluous(OWN, 20, &hearers, all).contains(&PeerId([4; 32])));
    }

    #[test]
    fn those_that_were_chosen_go_last() {
        let all: Vec<Spare> = (1..=20).map(|n| spare(n, n > 10, &["all"])).collect();
        let hearers = BTreeMap::from([(topic("all"), 20)]);
        let closed = superfluous(OWN, 10, &hearers, all);
        assert!(closed.iter().all(|peer| peer.0[0] <= 10), "{closed:?}");
    }

    #[test]
    fn both_sides_agree_on_what_a_connection_is_worth() {
        let rank = |own: u8, other: u8| {
            let all: Vec<Spare> = (1..=20).filter(|n| *n != own).map(|n| spare(n, false, &[])).collect();
            let closed = superfluous(PeerId([own; 32]), 10, &BTreeMap::new(), all);
            closed.contains(&PeerId([other; 32]))
        };
        let pairs = (1..=20).flat_map(|a| (a + 1..=20).map(move |b| (a, b)));
        let (same, all) =
            pairs.fold((0, 0), |(same, all), (a, b)| (same + u32::from(rank(a, b) == rank(b, a)), all + 1));
        assert!(same * 10 > all * 7, "{same} of {all}: by chance it would be half");
    }
}
