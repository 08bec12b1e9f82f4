//! How long gossip takes, measured. Connections tell how far peers are, not how long messages wait in their queues.
//!
//! A bid says how long its worker waited since it heard of the job. So whoever heard both knows what the way took, and no
//! clocks are compared: a sender of RTCP learns its round-trip times so (RFC 3550, section 6.4.1), and one of NORM that of
//! a whole group (RFC 5401). A peer may lie about its wait: each has one sample, the median of several counts, and it is
//! kept between what connections tell and a bound.

use std::collections::VecDeque;

use crate::id::{JobId, PeerId};
use crate::limits::{DELAY_MEMORY_MS, MAX_DELAY_SAMPLES, MAX_HOP_MS, MAX_TIMED_ANNOUNCEMENTS};
use crate::message::Bid;
use crate::suppression;
use crate::time::{Millis, Time};

/// Samples that say something together.
const ENOUGH: usize = 3;

/// What bids told of the delay of gossip.
#[derive(Debug, Default)]
pub(crate) struct Delays {
    /// Announcements that bids may answer, oldest first.
    announced: VecDeque<Announced>,
    /// One for each of the peers that bid last, oldest first.
    samples: VecDeque<Sample>,
}

/// When an announcement was heard here, or said.
#[derive(Debug)]
struct Announced {
    job: JobId,
    round: u32,
    level: u8,
    at: Time,
    by: Speaker,
}

/// Who said an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// This node: a bid for it comes back after two ways.
    Me,
    /// Another: a bid for it took about one way longer than the announcement itself.
    Another,
}

#[derive(Debug)]
struct Sample {
    bidder: PeerId,
    at: Time,
    /// What one hop took.
    hop_ms: f64,
}

impl Delays {
    /// An announcement was heard, or said.
    pub(crate) fn announced(&mut self, now: Time, (job, round): (JobId, u32), level: u8, by: Speaker) {
        if self.announced.len() >= MAX_TIMED_ANNOUNCEMENTS {
            self.announced.pop_front();
        }
        self.announced.push_back(Announced { job, round, level, at: now, by });
    }

    /// A bid was heard; `nodes` says how many a shard of a level has.
    pub(crate) fn bid(&mut self, now: Time, bidder: PeerId, bid: &Bid, nodes: impl Fn(u8) -> u32) {
        let mut answered = self.announced.iter().rev();
        let Some(announced) = answered.find(|it| it.job == bid.job && it.round == bid.round) else { return };
        #[expect(clippy::cast_precision_loss, reason = "delays are seconds, not centuries")]
        let passed_ms = now.since(announced.at).saturating_sub(Millis::from(bid.waited_ms)) as f64;
        let ways = if announced.by == Speaker::Me { 2.0 } else { 1.0 };
        let hop_ms = passed_ms / ways / suppression::hops(nodes(announced.level));
        self.samples.retain(|sample| sample.bidder != bidder);
        if self.samples.len() >= MAX_DELAY_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { bidder, at: now, hop_ms });
    }

    /// What one hop of gossip takes, in milliseconds: at least what connections tell.
    pub(crate) fn hop_ms(&self, now: Time, told_ms: u32) -> u32 {
        let lately = self.samples.iter().filter(|sample| now.since(sample.at) < DELAY_MEMORY_MS);
        let mut hops: Vec<f64> = lately.map(|sample| sample.hop_ms).collect();
        hops.sort_unstable_by(f64::total_cmp);
        let Some(median) = hops.get(hops.len() / 2).filter(|_| hops.len() >= ENOUGH) else { return told_ms };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first")]
        let median = median.round().clamp(0.0, f64::from(MAX_HOP_MS)) as u32;
        median.max(told_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Contact;

    const JOB: JobId = JobId([1; 16]);
    /// What connections tell, in milliseconds.
    const TOLD: u32 = 2;

    /// An announcement was heard just now.
    fn delays(by: Speaker) -> Delays {
        let mut delays = Delays::default();
        delays.announced(Time(0), (JOB, 0), 0, by);
        delays
    }

    /// A bid of peer number `n` is heard, in a mesh that is so many hops wide.
    fn hear(delays: &mut Delays, n: u8, now: u64, waited_ms: u32, hops: u32) {
        let (slots, cost, operator, contact) = (1, 0, None, Contact::default());
        let bid = Bid { job: JOB, round: 0, slots, cost, operator, contact, waited_ms };
        delays.bid(Time(now), PeerId([n; 32]), &bid, |_| 6_u32.pow(hops));
    }

    #[test]
    fn the_wait_of_a_bid_is_no_part_of_its_way() {
        for (by, hops, expected) in [(Speaker::Another, 1, 42), (Speaker::Me, 1, 21), (Speaker::Another, 3, 14)] {
            let mut delays = delays(by);
            for (n, waited_ms) in [(1, 10), (2, 500), (3, 0)] {
                hear(&mut delays, n, u64::from(waited_ms) + 42, waited_ms, hops);
            }
            assert_eq!(delays.hop_ms(Time(600), TOLD), expected);
        }
    }

    #[test]
    fn few_bids_say_nothing_and_old_ones_are_forgotten() {
        let mut delays = delays(Speaker::Another);
        for n in 1..=3 {
            assert_eq!(delays.hop_ms(Time(40), TOLD), TOLD);
            hear(&mut delays, n, 40, 0, 1);
        }
        assert_eq!(delays.hop_ms(Time(40), TOLD), 40);
        assert_eq!(delays.hop_ms(Time(40) + DELAY_MEMORY_MS, TOLD), TOLD);
    }

    #[test]
    fn a_bid_for_what_was_not_heard_says_nothing() {
        let mut delays = Delays::default();
        delays.announced(Time(0), (JOB, 1), 0, Speaker::Another);
        (1..=3).for_each(|n| hear(&mut delays, n, 40, 0, 1));
        assert_eq!(delays.hop_ms(Time(40), TOLD), TOLD);
    }

    #[test]
    fn a_minority_of_liars_changes_nothing_however_often_they_bid() {
        for (now, waited_ms) in [(9_000, 0), (40, u32::MAX)] {
            let mut delays = delays(Speaker::Another);
            (1..=4).for_each(|n| hear(&mut delays, n, 50, 10, 1));
            for _ in 0..100 {
                (5..=7).for_each(|liar| hear(&mut delays, liar, now, waited_ms, 1));
            }
            assert_eq!(delays.hop_ms(Time(9_000), TOLD), 40, "{waited_ms}");
        }
    }

    #[test]
    fn what_most_bid_last_counts() {
        let mut delays = delays(Speaker::Another);
        (0..100).for_each(|n| hear(&mut delays, n, 400, 0, 1));
        (100..=108).for_each(|n| hear(&mut delays, n, 40, 0, 1));
        assert_eq!((delays.samples.len(), delays.hop_ms(Time(500), TOLD)), (MAX_DELAY_SAMPLES, 40));
    }

    proptest! {
        #[test]
        fn a_mesh_of_liars_stays_within_bounds(
            bids in prop::collection::vec((any::<u8>(), any::<u64>(), any::<u32>(), 0..8_u32), 0..40),
            told in any::<u32>(),
        ) {
            let mut delays = delays(Speaker::Me);
            for (n, now, waited_ms, hops) in bids {
                hear(&mut delays, n, now, waited_ms, hops);
            }
            let hop_ms = delays.hop_ms(Time(0), told);
            prop_assert!((told..=told.max(MAX_HOP_MS)).contains(&hop_ms));
        }
    }
}
