//! The node's only clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shoal_protocol::time::{Millis, Time};

/// What the wall clock may gain without the machine having slept, in milliseconds.
const MAX_DRIFT_MS: Millis = 2_000;

/// How long the machine has slept while this process was there: the monotonic clock stood still meanwhile.
static SLEPT: AtomicU64 = AtomicU64::new(0);

/// Wall-clock time that never runs backwards: the epoch is read once, the rest is monotonic, and the time that the
/// machine slept is added when it is noticed.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    epoch: u64,
    slept: &'static AtomicU64,
    slept_before: u64,
}

impl Clock {
    /// Reads the wall clock.
    pub fn start() -> Self {
        Self::at(wall(), &SLEPT)
    }

    fn at(epoch: Time, slept: &'static AtomicU64) -> Self {
        Self { started: Instant::now(), epoch: epoch.0, slept, slept_before: slept.load(Ordering::Relaxed) }
    }

    /// A clock that is wrong, in tests.
    #[cfg(debug_assertions)]
    pub(crate) fn ahead(millis: u64) -> Self {
        Self::at(wall() + millis, &SLEPT)
    }

    /// A clock of its own, and what lets time pass on it, in milliseconds.
    #[cfg(test)]
    pub(crate) fn by_hand() -> (Self, &'static AtomicU64) {
        let passed = Box::leak(Box::default());
        (Self::at(wall(), passed), passed)
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.begun() + u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// When a moment comes, for a timer. The protocol counts whole milliseconds, so a timer waits until the whole
    /// of the one named has begun.
    pub fn instant(&self, at: Time) -> Instant {
        // Some platforms cannot add centuries to an instant.
        const FAR_MS: u64 = 365 * 24 * 3_600_000;
        let after = at.since(self.begun()).min(FAR_MS);
        self.started + Duration::from_millis(after)
    }

    /// Notices that the machine has slept, or that its clock was set forward, and follows: how far, in milliseconds.
    /// Deadlines that have passed meanwhile have passed for all others too.
    pub(crate) fn notice_sleep(&self) -> Option<Millis> {
        self.follow(wall())
    }

    fn follow(&self, wall: Time) -> Option<Millis> {
        let slept = wall.since(self.now());
        if slept <= MAX_DRIFT_MS {
            return None;
        }
        self.slept.fetch_add(slept, Ordering::Relaxed);
        Some(slept)
    }

    /// When it would have been started, had the machine never slept.
    fn begun(&self) -> Time {
        Time(self.epoch) + self.slept.load(Ordering::Relaxed).saturating_sub(self.slept_before)
    }
}

fn wall() -> Time {
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(epoch.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        Clock::at(Time(1_000_000), Box::leak(Box::new(AtomicU64::new(5_000))))
    }

    #[test]
    fn a_sleep_is_added_once_for_all_clocks() {
        let clock = clock();
        let other = clock;
        let before = clock.now();
        let deadline = clock.instant(before + 3_600_000);
        assert_eq!(clock.follow(before + MAX_DRIFT_MS), None, "clocks drift");
        let slept = clock.follow(before + 3_600_000).unwrap();
        assert!((3_590_000..=3_600_000).contains(&slept), "{slept}");
        assert!(other.now() >= before + slept);
        assert!(other.instant(before + 3_600_000) <= deadline - Duration::from_millis(slept), "it has come");
        assert_eq!(clock.follow(other.now()), None);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_run_backwards() {
        let clock = clock();
        let before = clock.now();
        assert_eq!(clock.follow(Time(0)), None);
        assert!(clock.now() >= before);
    }
}
