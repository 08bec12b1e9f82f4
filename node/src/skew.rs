//! How far this machine's clock is from those of others, by the times in their signed announcements.
//!
//! One peer may be wrong or lie, so only the median of several says something, and of two that which is nearer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shoal_protocol::id::PeerId;
use shoal_protocol::time::{Millis, Time};

/// Peers whose clocks are remembered; who was heard longest ago makes way.
const MAX_CLOCKS: usize = 64;
/// Clocks that say something together.
const ENOUGH: usize = 2;
/// How long a peer's clock is remembered, in milliseconds. Machines set theirs right now and then.
const MEMORY_MS: Millis = 30 * 60_000;

/// What peers' clocks showed. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Skew(Arc<Mutex<BTreeMap<PeerId, Heard>>>);

#[derive(Debug, Clone, Copy)]
struct Heard {
    ahead_ms: i64,
    at: Time,
}

impl Skew {
    /// Notes that `peer` said that it was `said` when it was `now` here.
    pub(crate) fn hear(&self, peer: PeerId, said: Time, now: Time) {
        let mut clocks = self.lock();
        let ahead_ms = said.0.cast_signed().wrapping_sub(now.0.cast_signed());
        // Messages only come late, and may be repeated: of one peer the most recent time counts.
        let kept = clocks.get(&peer).filter(|heard| now.since(heard.at) < MEMORY_MS && heard.ahead_ms > ahead_ms);
        let heard = Heard { ahead_ms: kept.map_or(ahead_ms, |heard| heard.ahead_ms), at: now };
        clocks.insert(peer, heard);
        if clocks.len() > MAX_CLOCKS {
            let oldest = clocks.iter().min_by_key(|(_, heard)| heard.at).map(|(peer, _)| *peer);
            oldest.map(|peer| clocks.remove(&peer));
        }
    }

    /// How far others' clocks are ahead of this one, in milliseconds; none while too few were heard.
    pub(crate) fn ahead_ms(&self, now: Time) -> Option<i64> {
        let clocks = self.lock();
        let lately = clocks.values().filter(|heard| now.since(heard.at) < MEMORY_MS);
        let mut ahead: Vec<i64> = lately.map(|heard| heard.ahead_ms).collect();
        ahead.sort_unstable();
        let (low, high) = (ahead.get(ahead.len().checked_sub(1)? / 2)?, ahead.get(ahead.len() / 2)?);
        (ahead.len() >= ENOUGH).then(|| if low.unsigned_abs() < high.unsigned_abs() { *low } else { *high })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(10_000_000);

    fn skew(ahead: &[i64]) -> Option<i64> {
        let skew = Skew::default();
        for (n, ahead) in ahead.iter().enumerate() {
            let peer = PeerId([u8::try_from(n).unwrap(); 32]);
            skew.hear(peer, Time(NOW.0.checked_add_signed(*ahead).unwrap()), NOW);
        }
        skew.ahead_ms(NOW)
    }

    #[test]
    fn one_clock_says_nothing_and_one_of_several_cannot_lie() {
        assert_eq!(skew(&[]), None);
        assert_eq!(skew(&[600_000]), None);
        assert_eq!(skew(&[600_000, -20]), Some(-20), "of two, the nearer");
        assert_eq!(skew(&[600_000, 0, -20]), Some(0));
        assert_eq!(skew(&[600_000, 600_100]), Some(600_000));
        assert_eq!(skew(&[-600_000, -600_100, 5]), Some(-600_000));
    }

    #[test]
    fn a_message_that_comes_late_changes_nothing() {
        let skew = Skew::default();
        let peer = |n| PeerId([n; 32]);
        for n in [1, 2] {
            skew.hear(peer(n), NOW, NOW);
            skew.hear(peer(n), NOW, NOW + 60_000);
        }
        assert_eq!(skew.ahead_ms(NOW + 60_000), Some(0));
        assert_eq!(skew.ahead_ms(NOW + 2 * MEMORY_MS), None, "in the end it is forgotten");
    }

    #[test]
    fn who_was_heard_longest_ago_makes_way() {
        let skew = Skew::default();
        for n in 0..=MAX_CLOCKS as u64 {
            skew.hear(PeerId([u8::try_from(n).unwrap(); 32]), NOW + n, NOW + n);
        }
        let clocks = skew.lock();
        assert_eq!(clocks.len(), MAX_CLOCKS);
        assert!(!clocks.contains_key(&PeerId([0; 32])));
    }
}
