//! When to come back, for many things at once: deadlines are state and are pulled, so no stale timer can fire.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{LONGEST_RESEND_MS, RESEND_MS};
use crate::time::{Millis, Time};

/// One deadline a key.
#[derive(Debug, Clone)]
pub(crate) struct Timers<K> {
    by_key: BTreeMap<K, Time>,
    by_time: BTreeSet<(Time, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Replaces the deadline of `key`; `None` removes it.
    pub(crate) fn set(&mut self, key: K, at: Option<Time>) {
        if self.by_key.get(&key).copied() == at {
            return;
        }
        if let Some(old) = self.by_key.remove(&key) {
            self.by_time.remove(&(old, key));
        }
        if let Some(at) = at {
            self.by_key.insert(key, at);
            self.by_time.insert((at, key));
        }
    }

    /// The next deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Everything that has a deadline, the latest first.
    pub(crate) fn latest_first(&self) -> impl Iterator<Item = K> {
        self.by_time.iter().rev().map(|(_, key)| *key)
    }

    /// Takes a key whose deadline has come.
    pub(crate) fn pop(&mut self, now: Time) -> Option<K> {
        let (at, key) = self.by_time.first().copied().filter(|(at, _)| *at <= now)?;
        self.by_time.remove(&(at, key));
        self.by_key.remove(&key);
        Some(key)
    }
}

/// When to say something again: after pauses that double up to a longest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resend {
    pub(crate) at: Time,
    pause: Millis,
}

impl Resend {
    /// Said just now; again in a while.
    pub(crate) fn after(now: Time) -> Self {
        Self { at: now + RESEND_MS, pause: RESEND_MS }
    }

    /// To be said as soon as possible.
    pub(crate) fn at_once(now: Time) -> Self {
        Self { at: now, pause: RESEND_MS / 2 }
    }

    /// Whether it is time.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.at <= now
    }

    /// Said again just now.
    pub(crate) fn repeated(&mut self, now: Time) {
        self.pause = (self.pause * 2).min(LONGEST_RESEND_MS);
        self.at = now + self.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_deadline_of_a_key_counts() {
        let mut timers = Timers::default();
        timers.set('a', Some(Time(5)));
        timers.set('b', Some(Time(7)));
        timers.set('a', Some(Time(9)));
        assert_eq!((timers.next(), timers.pop(Time(6))), (Some(Time(7)), None));
        assert_eq!((timers.pop(Time(9)), timers.pop(Time(9)), timers.pop(Time(9))), (Some('b'), Some('a'), None));
        timers.set('c', Some(Time(1)));
        timers.set('c', None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn reminders_come_ever_more_rarely() {
        let mut resend = Resend::after(Time(0));
        assert!(!resend.is_due(Time(RESEND_MS - 1)));
        let mut now = Time(0);
        let pauses: Vec<Millis> = (0..6)
            .map(|_| {
                let pause = resend.at.since(now);
                now = resend.at;
                assert!(resend.is_due(now));
                resend.repeated(now);
                pause
            })
            .collect();
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 4_000, 4_000]);
    }
}
