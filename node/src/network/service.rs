//! How well a peer has served: what a node ranks peers by when it looks for its mesh again.
//!
//! Who answered, stayed long and was there lately comes first. All of it fades, so that nobody lives on old merits.

use serde::{Deserialize, Serialize};
use shoal_protocol::time::{Millis, Time};

/// Dials that are counted; beyond that old ones count for half.
const MAX_DIALS: u32 = 64;
/// Time connected that counts, in seconds: a week. Longer makes nobody better.
const MAX_SECONDS: u64 = 7 * 24 * 3_600;
/// A peer that was seen that much longer ago, in milliseconds, counts for half: a week.
const HALF_LIFE_MS: Millis = 7 * 24 * 3_600_000;

/// What one peer has been good for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Dials that it answered.
    answered: u32,
    /// Dials that came to nothing.
    unanswered: u32,
    /// How long it has been connected in all.
    seconds: u64,
    /// When it was connected last.
    seen: Time,
}

impl Service {
    /// Counts a dial that has not been answered yet.
    pub(super) fn dialled(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
        if self.answered.saturating_add(self.unanswered) > MAX_DIALS {
            (self.answered, self.unanswered) = (self.answered / 2, self.unanswered / 2);
        }
    }

    /// Counts the last dial as answered.
    pub(super) fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.answered = self.answered.saturating_add(1);
    }

    /// Notes that it was connected for so long, until now.
    pub(super) fn stayed(&mut self, seconds: u64, now: Time) {
        self.seconds = self.seconds.saturating_add(seconds).min(MAX_SECONDS);
        self.seen = now;
    }

    /// How good a peer it is: more is better, and 0 is the least.
    pub fn rank(&self, now: Time) -> f64 {
        let (answered, dials) = (f64::from(self.answered), f64::from(self.answered) + f64::from(self.unanswered));
        // Laplace's rule: who was never asked is as likely to answer as not.
        let answers = (answered + 1.0) / (dials + 2.0);
        let stays = 1.0 + self.seconds.min(MAX_SECONDS) as f64 / 3_600.0;
        let age = now.since(self.seen) as f64 / HALF_LIFE_MS as f64;
        answers * stays * 0.5_f64.powf(age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time(1_800_000_000_000);

    fn served(answered: u32, unanswered: u32, hours: u64, weeks_ago: u64) -> Service {
        let mut service = Service::default();
        (0..answered + unanswered).for_each(|_| service.dialled());
        (0..answered).for_each(|_| service.answered());
        service.stayed(hours * 3_600, NOW - weeks_ago * HALF_LIFE_MS);
        service
    }

    #[test]
    fn who_answers_stays_and_was_there_lately_ranks_first() {
        let better_and_worse = [
            (served(3, 0, 1, 0), served(1, 2, 1, 0)),
            (served(1, 0, 9, 0), served(1, 0, 1, 0)),
            (served(1, 0, 9, 0), served(1, 0, 9, 1)),
            (served(1, 0, 1, 0), served(0, 0, 0, 0)),
            (served(1, 0, 2, 0), served(9, 0, 168, 9)),
        ];
        for (better, worse) in better_and_worse {
            assert!(better.rank(NOW) > worse.rank(NOW), "{better:?} {worse:?}");
        }
    }

    proptest! {
        #[test]
        fn no_record_breaks_the_order(answered: u32, unanswered: u32, seconds: u64, seen: u64, now: u64) {
            let mut service = Service { answered, unanswered, seconds, seen: Time(seen) };
            service.dialled();
            service.answered();
            service.stayed(seconds, Time(seen));
            prop_assert!(service.rank(Time(now)) >= 0.0);
        }
    }
}
