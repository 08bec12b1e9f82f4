//! What a worker has room for: executions use it up, and bids may come to.
//!
//! A requester takes up two or three bids of about seven, and one that only wants to keep others out takes up none. So
//! bids count for what came of those before them, which is how airlines overbook, and an award is taken whenever
//! executions leave room, whoever else has been offered it.

use crate::auction;
use crate::limits::{FIRST_UPTAKE, MAX_RUNNING, UPTAKE_MARGIN, UPTAKE_MEMORY, UPTAKE_STEP};
use crate::message::Resources;

/// All of something, in millionths.
const WHOLE: u64 = 1_000_000;

/// What executions and bids take of a worker's capacity. That is its operator's to change, so it is an argument.
#[derive(Debug)]
pub(super) struct Room {
    used: Resources,
    /// Executions whose program has not ended.
    running: u16,
    reserved: Resources,
    /// How much of what was reserved lately was awarded, in millionths. It is weighed by capacity, not by number, so that
    /// a few small awards do not make up for large bids in vain.
    uptake: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { used: Resources::default(), running: 0, reserved: Resources::default(), uptake: FIRST_UPTAKE }
    }
}

impl Room {
    /// An execution uses this up; `runs` if its program has yet to end.
    pub(super) fn take(&mut self, resources: Resources, runs: bool) {
        self.used = self.used.plus(resources);
        self.running += u16::from(runs);
    }

    /// An execution does not use this any more; `ends` if its program has ended.
    pub(super) fn free(&mut self, resources: Resources, ends: bool) {
        self.used = self.used.minus(resources);
        self.running -= u16::from(ends);
    }

    /// Whether executions leave room for one more.
    pub(super) fn is_free(&self, capacity: &Resources, needs: &Resources) -> bool {
        self.running < MAX_RUNNING && auction::slots(needs, &capacity.minus(self.used)) > 0
    }

    /// How many more executions can be offered before more awards are expected than there is room for.
    pub(super) fn slots(&self, capacity: &Resources, needs: &Resources) -> u16 {
        if !self.is_free(capacity, needs) {
            return 0;
        }
        let free = capacity.minus(self.used);
        let left = free.scaled(WHOLE, self.reckoned()).minus(self.reserved);
        auction::slots(needs, &left).min(auction::slots(needs, &free))
    }

    /// A bid offers so much.
    pub(super) fn reserve(&mut self, resources: Resources) {
        self.reserved = self.reserved.plus(resources);
    }

    /// What a bid offered was awarded; its reservation may have lapsed before.
    pub(super) fn award(&mut self, capacity: &Resources, resources: Resources, is_reserved: bool) {
        if is_reserved {
            self.reserved = self.reserved.minus(resources);
        }
        self.uptake += (WHOLE - self.uptake) * weight(capacity, &resources) / WHOLE;
    }

    /// A bid offered so much in vain.
    pub(super) fn lapse(&mut self, capacity: &Resources, resources: Resources) {
        self.reserved = self.reserved.minus(resources);
        self.uptake -= self.uptake * weight(capacity, &resources) / WHOLE;
    }

    /// What executions use up, and bids are expected to.
    pub(super) fn load(&self, capacity: &Resources) -> Resources {
        let expected = self.reserved.scaled(self.reckoned(), WHOLE);
        self.used.plus(expected.at_most(capacity.minus(self.used)))
    }

    /// How much of what is reserved is reckoned to be awarded, in millionths.
    fn reckoned(&self) -> u64 {
        (self.uptake * UPTAKE_MARGIN).clamp(1, WHOLE)
    }
}

/// How much what came of so much says about the rest, in millionths.
fn weight(capacity: &Resources, resources: &Resources) -> u64 {
    (auction::dominant_share(resources, capacity, WHOLE) / UPTAKE_MEMORY).clamp(1, UPTAKE_STEP)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOT: Resources = Resources { cpu_millis: 500, memory_bytes: 1 << 20, disk_bytes: 0, gpus: 0 };

    fn capacity() -> Resources {
        SLOT.times(8)
    }

    /// Room of which all that can be offered is offered, so many times, and so much of each offer is awarded and ends.
    fn after(rounds: u32, awarded: impl Fn(u16) -> u16) -> Room {
        let mut room = Room::default();
        for _ in 0..rounds {
            let slots = room.slots(&capacity(), &SLOT);
            room.reserve(SLOT.times(slots));
            for _ in 0..awarded(slots) {
                room.award(&capacity(), SLOT, true);
            }
            room.lapse(&capacity(), SLOT.times(slots - awarded(slots)));
        }
        room
    }

    #[test]
    fn what_half_of_the_bids_come_to_is_offered_once() {
        let mut room = after(20, |slots| slots / 2);
        room.reserve(SLOT.times(8));
        assert_eq!((room.slots(&capacity(), &SLOT), room.load(&capacity())), (0, capacity()));
    }

    #[test]
    fn what_nobody_takes_up_keeps_no_others_out() {
        let mut room = after(20, |_| 0);
        for _ in 0..50 {
            assert_eq!(room.slots(&capacity(), &SLOT), 8);
            room.reserve(SLOT.times(8));
        }
        room.take(SLOT.times(8), true);
        assert_eq!(room.slots(&capacity(), &SLOT), 0, "but executions do");
    }

    #[test]
    fn small_awards_do_not_make_up_for_large_bids_in_vain() {
        let crumb = Resources { cpu_millis: 1, memory_bytes: 1, disk_bytes: 0, gpus: 0 };
        let mut room = after(20, |_| 0);
        for _ in 0..20 {
            room.award(&capacity(), crumb, false);
        }
        room.reserve(capacity());
        assert_eq!(room.slots(&capacity(), &SLOT), 8);
    }

    #[test]
    fn awards_make_bids_count_again() {
        let mut room = after(20, |_| 0);
        for _ in 0..16 {
            room.award(&capacity(), SLOT, false);
        }
        room.reserve(capacity());
        assert_eq!(room.slots(&capacity(), &SLOT), 0);
    }

    proptest! {
        #[test]
        fn nothing_is_offered_that_executions_use(
            steps in prop::collection::vec((0..3u8, 1..9u16), 0..60), used in 0..9u16,
        ) {
            let mut room = Room::default();
            room.take(SLOT.times(used), true);
            for (step, slots) in steps {
                match step {
                    0 => room.reserve(SLOT.times(slots)),
                    1 => room.lapse(&capacity(), SLOT.times(slots)),
                    _ => room.award(&capacity(), SLOT, true),
                }
                prop_assert!(room.slots(&capacity(), &SLOT) <= 8 - used);
                prop_assert!(room.load(&capacity()).cpu_millis <= capacity().cpu_millis);
                prop_assert!(room.uptake <= WHOLE);
            }
        }
    }
}
