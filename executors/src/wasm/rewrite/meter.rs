//! The meter, as the host sees it.

use super::emit::STACK_SHIFT;
use super::stack::UNITS;

/// Fuel and stack in one number, handed from function to function: fuel in the lower half, stack in the upper half,
/// each signed, and below zero when used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    /// Fuel at hand.
    pub fuel: i32,
    /// Stack left, in units of the profile.
    pub stack: i32,
}

impl Meter {
    /// What the first function of a call into a program gets.
    pub fn full(fuel: i32) -> Self {
        Self { fuel, stack: i32::try_from(UNITS).unwrap_or(i32::MAX) }
    }

    /// The meter as functions pass it.
    pub fn to_bits(self) -> i64 {
        (i64::from(self.stack) << STACK_SHIFT) + i64::from(self.fuel)
    }

    /// A meter that a function passed.
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken apart")]
    pub fn from_bits(bits: i64) -> Self {
        let fuel = bits as i32;
        Self { fuel, stack: ((bits - i64::from(fuel)) >> STACK_SHIFT) as i32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn both_halves_come_back_whatever_their_signs(fuel: i32, stack: i32) {
            // One half's borrow must not be taken for the other's.
            proptest::prop_assume!(stack > i32::MIN);
            let meter = Meter { fuel, stack };
            proptest::prop_assert_eq!(Meter::from_bits(meter.to_bits()), meter);
        }
    }
}
