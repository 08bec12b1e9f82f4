//! How fast bytes move, lately, and how long the rest will take.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time over which the rate is taken.
const WINDOW: Duration = Duration::from_secs(5);

/// What has moved in the last seconds.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<(Instant, u64)>);

impl Pace {
    /// Notes how far it is; tells bytes per second, and seconds left where `total` is known.
    pub(super) fn note(&mut self, bytes: u64, total: Option<u64>, now: Instant) -> (u64, Option<u64>) {
        self.0.push_back((now, bytes));
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.0.pop_front();
        }
        let (since, before) = self.0.front().copied().unwrap_or((now, bytes));
        let millis = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX);
        let rate = (bytes.saturating_sub(before) * 1_000).checked_div(millis).unwrap_or(0);
        let left = total.map(|total| total.saturating_sub(bytes));
        (rate, left.and_then(|left| left.checked_div(rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut at = |second, bytes| pace.note(bytes, Some(10_000), start + Duration::from_secs(second));
        assert_eq!(at(0, 1_000), (0, None));
        assert_eq!(at(2, 3_000), (1_000, Some(7)));
        assert_eq!(at(60, 4_000), (0, None), "what was long ago tells nothing");
        assert_eq!(at(61, 4_100), (100, Some(59)));
    }
}
