//! How much one peer, or one place, may ask of this node: a token bucket each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shoal_protocol::id::PeerId;

/// Buckets that are remembered. More than peers can be connected, so that reconnecting does not fill a bucket.
const MAX_BUCKETS: usize = 1_024;

/// An allowance: so many at once, and so many per second after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Sustained, per second.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

/// The allowances of all. Those with a full bucket are forgotten first: they lose nothing.
#[derive(Debug)]
pub(crate) struct Buckets<K = PeerId> {
    rate: Rate,
    buckets: BTreeMap<K, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl<K: Ord + Copy> Buckets<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, buckets: BTreeMap::new() }
    }

    /// Whether `who` may do it once more.
    pub(crate) fn take(&mut self, who: K, now: Instant) -> bool {
        self.take_many(who, 1, now)
    }

    /// Whether `who` may do it so many times more. What is more than a whole burst costs no more than that.
    pub(crate) fn take_many(&mut self, who: K, times: u32, now: Instant) -> bool {
        if self.buckets.len() >= MAX_BUCKETS && !self.buckets.contains_key(&who) {
            self.make_room(now);
        }
        let rate = self.rate;
        let bucket = self.buckets.entry(who).or_insert(Bucket { tokens: f64::from(rate.burst), at: now });
        *bucket = bucket.refilled(rate, now);
        let price = f64::from(times.min(rate.burst));
        let allowed = bucket.tokens >= price;
        if allowed {
            bucket.tokens -= price;
        }
        allowed
    }

    /// Forgets the buckets that are full again, or the fullest one.
    fn make_room(&mut self, now: Instant) {
        let (rate, full) = (self.rate, f64::from(self.rate.burst));
        self.buckets.retain(|_, bucket| bucket.refilled(rate, now).tokens < full);
        if self.buckets.len() >= MAX_BUCKETS {
            let by_tokens = |bucket: &Bucket| bucket.refilled(rate, now).tokens;
            let fullest = self.buckets.iter().max_by(|a, b| by_tokens(a.1).total_cmp(&by_tokens(b.1)));
            if let Some(who) = fullest.map(|(who, _)| *who) {
                self.buckets.remove(&who);
            }
        }
    }
}

impl Bucket {
    fn refilled(self, rate: Rate, now: Instant) -> Self {
        let elapsed: Duration = now.saturating_duration_since(self.at);
        let tokens = self.tokens + elapsed.as_secs_f64() * f64::from(rate.per_second);
        Self { tokens: tokens.min(f64::from(rate.burst)), at: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 3 };

    fn name(n: u16) -> PeerId {
        PeerId(std::array::from_fn(|i| n.to_le_bytes().get(i).copied().unwrap_or(0)))
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let (mut buckets, start) = (Buckets::new(RATE), Instant::now());
        let taken = |buckets: &mut Buckets<PeerId>, at| (0..9).filter(|_| buckets.take(name(1), at)).count();
        assert_eq!(taken(&mut buckets, start), 3);
        assert_eq!(taken(&mut buckets, start + Duration::from_millis(100)), 1);
        assert_eq!(taken(&mut buckets, start + Duration::from_secs(60)), 3);
    }

    #[test]
    fn what_is_taken_together_costs_as_much_as_one_by_one() {
        let (mut buckets, now) = (Buckets::new(RATE), Instant::now());
        assert!(buckets.take_many(name(1), 2, now) && !buckets.take_many(name(1), 2, now));
        assert!(buckets.take(name(1), now) && !buckets.take(name(1), now));
        assert!(buckets.take_many(name(2), 99, now) && !buckets.take(name(2), now));
    }

    #[test]
    fn one_peer_does_not_spend_for_another() {
        let (mut buckets, now) = (Buckets::new(RATE), Instant::now());
        while buckets.take(name(1), now) {}
        assert!(buckets.take(name(2), now));
    }

    #[test]
    fn many_names_do_not_fill_an_empty_bucket_nor_the_memory() {
        let (mut buckets, now) = (Buckets::new(RATE), Instant::now());
        while buckets.take(name(1), now) {}
        for n in 2..5_000 {
            buckets.take(name(n), now);
        }
        assert!(!buckets.take(name(1), now));
        assert!(buckets.buckets.len() <= MAX_BUCKETS);
    }
}
