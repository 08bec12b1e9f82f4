//! Time as the protocol sees it: milliseconds, always an argument, never read.

use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A moment, in milliseconds since the Unix epoch (or since the start of a simulation).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time(pub u64);

/// A span of time, in milliseconds.
pub type Millis = u64;

impl Time {
    /// A moment that never comes.
    pub const NEVER: Time = Time(u64::MAX);

    /// Milliseconds since `earlier`; none if that is later than this.
    pub fn since(self, earlier: Time) -> Millis {
        self.0.saturating_sub(earlier.0)
    }

    /// Milliseconds from this to `other`, negative if that is earlier.
    pub fn until(self, other: Time) -> i64 {
        let away = i64::try_from(self.0.abs_diff(other.0)).unwrap_or(i64::MAX);
        if other < self { -away } else { away }
    }
}

impl Add<Millis> for Time {
    type Output = Time;

    fn add(self, millis: Millis) -> Time {
        Time(self.0.saturating_add(millis))
    }
}

impl Sub<Millis> for Time {
    type Output = Time;

    fn sub(self, millis: Millis) -> Time {
        Time(self.0.saturating_sub(millis))
    }
}
