//! Virtual time.
//!
//! All clocks are one counter of nanoseconds. Each reading advances it by a microsecond, so that no two readings are
//! equal and a program that waits for time to pass ends; sleeping advances it by what was asked for. Nothing sleeps.

/// Time of day at the start of every run, in nanoseconds: 2025-01-01T00:00:00Z.
const EPOCH_NS: u64 = 1_735_689_600_000_000_000;
/// The other clocks' start, in nanoseconds. Not 0: some runtimes (Go) take that for a broken clock.
const START_NS: u64 = 1_000_000_000;
/// What a reading costs, in nanoseconds; also the clocks' resolution.
pub(crate) const TICK_NS: u64 = 1_000;

/// Which clock a program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    RealTime,
    /// The monotonic, process and thread clocks.
    Monotonic,
}

impl Which {
    pub(crate) fn of(id: u32) -> Option<Self> {
        match id {
            0 => Some(Which::RealTime),
            1..=3 => Some(Which::Monotonic),
            _ => None,
        }
    }

    fn base(self) -> u64 {
        match self {
            Which::RealTime => EPOCH_NS,
            Which::Monotonic => START_NS,
        }
    }
}

/// The run's time, in nanoseconds since its start.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    elapsed_ns: u64,
}

impl Clock {
    /// Reads a clock, which takes a tick.
    pub(crate) fn read(&mut self, which: Which) -> u64 {
        self.sleep(TICK_NS);
        self.now(which)
    }

    /// The time without a reading.
    pub(crate) fn now(&self, which: Which) -> u64 {
        which.base().saturating_add(self.elapsed_ns)
    }

    /// The time of day without a reading: what files are stamped with.
    pub(crate) fn stamp(&self) -> u64 {
        self.now(Which::RealTime)
    }

    /// Nanoseconds until `which` shows `at`.
    pub(crate) fn until(&self, which: Which, at: u64) -> u64 {
        at.saturating_sub(self.now(which))
    }

    pub(crate) fn sleep(&mut self, ns: u64) {
        self.elapsed_ns = self.elapsed_ns.saturating_add(ns);
    }
}

/// The stamp of everything that was there before the program started.
pub(crate) const INPUT_STAMP_NS: u64 = EPOCH_NS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_differ_and_sleep_passes_on_every_clock() {
        let mut clock = Clock::default();
        let first = clock.read(Which::Monotonic);
        assert_eq!(clock.read(Which::Monotonic), first + TICK_NS);
        clock.sleep(5_000_000_000);
        assert_eq!(clock.now(Which::RealTime), EPOCH_NS + 2 * TICK_NS + 5_000_000_000);
    }

    #[test]
    fn sleeping_for_ever_saturates() {
        let mut clock = Clock::default();
        clock.sleep(u64::MAX);
        clock.sleep(u64::MAX);
        assert_eq!(clock.read(Which::RealTime), u64::MAX);
    }
}
