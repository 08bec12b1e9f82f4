//! Two nodes with one key: somebody copied a data directory, and both are running.
//!
//! To all others they are one node at two addresses, and each takes the other's connections away. Neither can see the
//! other, but their peers can: each start of a node has another number, and a start that comes back after another took its
//! place is still running. Whoever sees that closes the connections and names the other start, by which the node learns that
//! it is not the only one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shoal_protocol::id::PeerId;

use super::Network;

/// Peers whose starts are remembered; of more, those that were seen last.
const MAX_STARTED: usize = 1_024;
/// Starts of one peer that are remembered: as many copies of one key are told apart.
const MAX_STARTS: usize = 16;
/// How long after another start first took its place a start has to come back to be alive. What was still under way when a
/// node ended comes sooner.
const BACK_AFTER: Duration = Duration::from_secs(2);
/// Peers that are remembered to have seen another node with this node's key.
const MAX_WITNESSES: usize = 64;
/// For how long such a peer is remembered that does not say it again.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The starts that peers told of.
#[derive(Debug, Default)]
pub(super) struct Starts {
    peers: BTreeMap<PeerId, Started>,
}

/// The starts of one peer, the present one last.
#[derive(Debug)]
struct Started {
    starts: VecDeque<Start>,
    changed: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Start {
    number: u64,
    /// When another first took its place.
    replaced: Option<Instant>,
}

impl Starts {
    /// Notes which start of `peer` is there now. If it is back, the one that took its place is another node with the same
    /// key, and is returned.
    pub(super) fn note(&mut self, peer: PeerId, start: u64, now: Instant) -> Option<u64> {
        self.make_room(peer);
        let started = self.peers.entry(peer).or_insert_with(|| Started { starts: VecDeque::new(), changed: now });
        started.note(start, now)
    }

    fn make_room(&mut self, peer: PeerId) {
        if self.peers.len() >= MAX_STARTED && !self.peers.contains_key(&peer) {
            let oldest = self.peers.iter().min_by_key(|(_, started)| started.changed).map(|(peer, _)| *peer);
            oldest.map(|peer| self.peers.remove(&peer));
        }
    }
}

impl Started {
    fn note(&mut self, number: u64, now: Instant) -> Option<u64> {
        let last = self.starts.back_mut().filter(|last| last.number != number);
        let other = last.map(|last| {
            last.replaced.get_or_insert(now);
            last.number
        });
        if other.is_none() && !self.starts.is_empty() {
            return None;
        }
        let place = self.starts.iter().position(|start| start.number == number);
        let start = place.and_then(|place| self.starts.remove(place)).unwrap_or(Start { number, replaced: None });
        if self.starts.len() >= MAX_STARTS {
            self.starts.pop_front();
        }
        self.starts.push_back(start);
        self.changed = now;
        other.filter(|_| start.replaced.is_some_and(|at| now.saturating_duration_since(at) > BACK_AFTER))
    }
}

/// The peers that have seen another node with this node's key. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Duplicates {
    own: u64,
    witnesses: Arc<Mutex<BTreeMap<PeerId, Instant>>>,
}

impl Duplicates {
    /// Nobody has seen any of a node that was started just now.
    pub(crate) fn new() -> Self {
        Self { own: getrandom::u64().unwrap_or_default(), witnesses: Arc::default() }
    }

    /// This start of the node.
    pub(crate) fn own(&self) -> u64 {
        self.own
    }

    /// `witness` says that a node with this node's key was started as `start`.
    pub(crate) fn hear(&self, witness: PeerId, start: u64, now: Instant) {
        if start == self.own {
            return;
        }
        let mut witnesses = self.fresh(now);
        if witnesses.is_empty() {
            tracing::warn!(
                witness = %witness.short(),
                "another node runs with this node's key: stop one of them, and give it a key of its own"
            );
        }
        if witnesses.len() < MAX_WITNESSES || witnesses.contains_key(&witness) {
            witnesses.insert(witness, now);
        }
    }

    /// Who has seen one lately.
    fn witnesses(&self, now: Instant) -> Vec<PeerId> {
        self.fresh(now).keys().copied().collect()
    }

    fn fresh(&self, now: Instant) -> MutexGuard<'_, BTreeMap<PeerId, Instant>> {
        let mut witnesses = self.witnesses.lock().unwrap_or_else(PoisonError::into_inner);
        witnesses.retain(|_, at| now < *at + REMEMBERED);
        witnesses
    }
}

impl Network {
    /// Peers that have lately seen another node with this node's key.
    pub fn duplicate_seen_by(&self) -> Vec<PeerId> {
        self.shared.links.duplicates().witnesses(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);

    fn name(n: u16) -> PeerId {
        PeerId(std::array::from_fn(|i| n.to_le_bytes().get(i).copied().unwrap_or(0)))
    }

    /// What is noted of these starts, of which each is seen so many seconds after the first.
    fn noted(starts: &[(u64, u64)]) -> Vec<Option<u64>> {
        let (mut all, begin) = (Starts::default(), Instant::now());
        starts.iter().map(|(start, at)| all.note(PEER, *start, begin + Duration::from_secs(*at))).collect()
    }

    #[test]
    fn a_start_that_is_back_runs_beside_the_one_that_took_its_place() {
        assert_eq!(noted(&[(7, 0), (8, 5), (7, 10), (8, 15)]), [None, None, Some(8), Some(7)]);
        assert_eq!(noted(&[(7, 0), (8, 5), (9, 10), (7, 15)]), [None, None, None, Some(9)], "three of them");
        let quickly = noted(&[(7, 0), (8, 1), (7, 2), (8, 3), (7, 4), (8, 5)]);
        assert_eq!(quickly, [None, None, None, None, Some(8), Some(7)]);
    }

    #[test]
    fn whoever_only_starts_again_is_one_node() {
        assert_eq!(noted(&[(7, 0), (7, 5), (8, 10), (8, 15), (9, 20)]), [None; 5]);
        assert_eq!(noted(&[(7, 0), (8, 5), (7, 6), (8, 7)]), [None; 4], "the last of the first was under way");
    }

    #[test]
    fn no_more_is_remembered_of_peers_than_there_is_room_for() {
        let (mut starts, begin) = (Starts::default(), Instant::now());
        for n in 0..2_000 {
            let now = begin + Duration::from_millis(n.into());
            starts.note(name(n), n.into(), now);
            starts.note(PEER, n.into(), now);
        }
        assert_eq!((starts.peers.len(), starts.peers[&PEER].starts.len()), (MAX_STARTED, MAX_STARTS));
    }

    #[test]
    fn who_has_seen_a_duplicate_is_remembered_for_a_while() {
        let (duplicates, now) = (Duplicates::new(), Instant::now());
        duplicates.hear(name(1), duplicates.own(), now);
        assert_eq!(duplicates.witnesses(now), [], "it is this node itself");
        (1..1_000).for_each(|n| duplicates.hear(name(n), !duplicates.own(), now));
        assert_eq!(duplicates.witnesses(now).len(), MAX_WITNESSES);
        assert_eq!(duplicates.witnesses(now + REMEMBERED), []);
    }
}
