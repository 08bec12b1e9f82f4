//! A token bucket: so many at once, and so many per second after that.

use crate::time::Time;

/// An allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Sustained, per second.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

/// What is left of an allowance.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: f64,
    at: Time,
}

impl Bucket {
    /// A full one.
    pub fn full(allowance: Allowance, now: Time) -> Self {
        Self { tokens: f64::from(allowance.burst), at: now }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, allowance: Allowance, now: Time) -> bool {
        let allowed = !self.is_empty(allowance, now);
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }

    /// Whether there is none to take.
    pub fn is_empty(&mut self, allowance: Allowance, now: Time) -> bool {
        self.refill(allowance, now);
        self.tokens < 1.0
    }

    /// Whether less than half of what may be taken at once is left.
    pub fn is_low(&mut self, allowance: Allowance, now: Time) -> bool {
        self.refill(allowance, now);
        self.tokens < f64::from(allowance.burst) / 2.0
    }

    /// Whether nothing has been taken for so long that forgetting it changes nothing.
    pub fn is_full(&mut self, allowance: Allowance, now: Time) -> bool {
        self.refill(allowance, now);
        self.tokens >= f64::from(allowance.burst)
    }

    /// When there is one again, in milliseconds.
    pub fn wait_ms(&mut self, allowance: Allowance, now: Time) -> u64 {
        if !self.is_empty(allowance, now) {
            return 0;
        }
        u64::from(1_000_u32.div_ceil(allowance.per_second.max(1)))
    }

    fn refill(&mut self, allowance: Allowance, now: Time) {
        #[expect(clippy::cast_precision_loss, reason = "a bucket is full long before")]
        let elapsed = now.since(self.at) as f64 / 1_000.0;
        self.tokens = (self.tokens + elapsed * f64::from(allowance.per_second)).min(f64::from(allowance.burst));
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: Allowance = Allowance { per_second: 10, burst: 3 };

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut bucket = Bucket::full(FEW, Time(0));
        let mut taken = |at| (0..9).filter(|_| bucket.take(FEW, Time(at))).count();
        assert_eq!([taken(0), taken(100), taken(50), taken(60_000)], [3, 1, 0, 3]);
    }

    #[test]
    fn one_that_is_empty_says_when_to_come_back() {
        let mut bucket = Bucket::full(FEW, Time(0));
        while bucket.take(FEW, Time(0)) {}
        let wait = bucket.wait_ms(FEW, Time(0));
        assert!(bucket.take(FEW, Time(wait)), "after {wait} ms");
        assert!(bucket.is_low(FEW, Time(wait)) && !bucket.is_full(FEW, Time(wait)));
        assert!(!bucket.is_low(FEW, Time(60_000)) && bucket.is_full(FEW, Time(60_000)));
    }
}
