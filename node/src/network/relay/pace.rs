//! How fast bytes may come: what has come is paid for before more is read.

use std::time::{Duration, Instant};

/// After a pause so much of the rate may be made up for.
const BURST: Duration = Duration::from_millis(500);

/// A rate in bytes a second.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    /// When all that has come would have come at this rate.
    paid_until: Instant,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64, now: Instant) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), paid_until: now }
    }

    /// Notes that so many bytes have come, and says from when on more may be read.
    pub(super) fn charge(&mut self, bytes: u64, now: Instant) -> Instant {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let length = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_until = self.paid_until.max(now) + length;
        self.paid_until.checked_sub(BURST).map_or(now, |from| from.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_whatever_the_size_of_what_comes() {
        for size in [100, 10_000] {
            let start = Instant::now();
            let mut pace = Pace::new(1_000_000, start);
            let mut now = start;
            for _ in 0..(5_000_000 / size) {
                now = pace.charge(size, now);
            }
            let seconds = (now - start).as_secs_f64();
            assert!((4.4..5.1).contains(&seconds), "{seconds} s for 5 s of bytes, {size} at once");
        }
    }

    #[test]
    fn what_comes_after_a_pause_is_read_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(1_000, start);
        assert_eq!(pace.charge(400, start), start);
        assert_eq!(pace.charge(400, start), start + Duration::from_millis(300));
    }
}
