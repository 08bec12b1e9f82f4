//! Who is not asked for blobs for a while, and who is asked after everybody else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shoal_protocol::id::PeerId;

use super::DISTRUST;

/// Peers of each kind that are remembered.
const MAX_PEERS: usize = 1_024;

/// Peers and until when something is held against them. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Marked(Arc<Mutex<BTreeMap<PeerId, Instant>>>);

impl Marked {
    /// Marks a peer for so long. When there are too many, whoever would be forgotten soonest is forgotten now.
    pub(super) fn mark(&self, peer: PeerId, long: Duration) {
        let (mut peers, now) = (self.lock(), Instant::now());
        peers.retain(|_, until| now < *until);
        // Some platforms cannot add centuries to an instant.
        let until = now.checked_add(long).unwrap_or(now + DISTRUST);
        let marked = peers.entry(peer).or_insert(until);
        *marked = until.max(*marked);
        if peers.len() > MAX_PEERS {
            let soonest = peers.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
            soonest.map(|peer| peers.remove(&peer));
        }
    }

    pub(super) fn has(&self, peer: PeerId) -> bool {
        self.lock().get(&peer).is_some_and(|until| Instant::now() < *until)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_end_by_themselves_and_the_first_to_end_makes_room() {
        let name = |n: usize| PeerId(std::array::from_fn(|i| n.to_le_bytes().get(i).copied().unwrap_or(0)));
        let marked = Marked::default();
        marked.mark(name(0), Duration::ZERO);
        assert!(!marked.has(name(0)));
        for n in 1..=MAX_PEERS + 1 {
            marked.mark(name(n), Duration::from_secs(600 + n as u64));
        }
        assert!(!marked.has(name(1)) && marked.has(name(2)) && marked.has(name(MAX_PEERS + 1)));
    }
}
