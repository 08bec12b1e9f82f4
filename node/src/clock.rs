//! The node's only clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shoal_protocol::time::Time;

/// Wall-clock time that never runs backwards: the epoch is read once, the rest is monotonic.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    epoch: u64,
}

impl Clock {
    /// Reads the wall clock.
    pub fn start() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), epoch: u64::try_from(epoch.as_millis()).unwrap_or(u64::MAX) }
    }

    /// A clock that is wrong, in tests.
    #[cfg(debug_assertions)]
    pub(crate) fn ahead(millis: u64) -> Self {
        let right = Self::start();
        Self { epoch: right.epoch + millis, ..right }
    }

    /// Now.
    pub fn now(&self) -> Time {
        Time(self.epoch) + u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// When a moment comes, for a timer. The protocol counts whole milliseconds, so a timer waits until the whole
    /// of the one named has begun.
    pub fn instant(&self, at: Time) -> Instant {
        // Some platforms cannot add centuries to an instant.
        const FAR_MS: u64 = 365 * 24 * 3_600_000;
        let after = at.since(Time(self.epoch)).min(FAR_MS);
        self.started + Duration::from_millis(after)
    }
}
