//! Amounts as job files write them: CPU as a Kubernetes quantity, memory and disk as people write sizes, and how long
//! something lasts.
//!
//! As in Bacalhau, case and spaces do not matter: `512 MB`, `512mb` and `512m` are the same memory. Amounts are
//! exact: decimals are read as digits, never as floats.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::time::Millis;

/// CPU, in thousandths of a core.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu(pub u32);

/// Memory or disk, in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// GPUs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gpus(pub u16);

/// A length of time, in seconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub u64);

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is '{text}', which is not {what}: write {example}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    example: &'static str,
}

impl UnitError {
    fn new(text: &str, what: &'static str, example: &'static str) -> Self {
        Self { text: text.chars().take(40).collect(), what, example }
    }
}

impl FromStr for Cpu {
    type Err = UnitError;

    /// Reads `500m`, `0.5`, `2` or `1e3m`; what is finer than a thousandth is rounded up, as Kubernetes does.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::new(text, "an amount of CPU", "cores or thousandths, such as 2, 0.5 or 500m");
        let (number, unit) = split(text).ok_or_else(wrong)?;
        // Thousandths of a core, as a fraction.
        let (times, per) = match unit.as_str() {
            "n" => (1, 1_000_000),
            "u" => (1, 1_000),
            "m" => (1, 1),
            "" => (1_000, 1),
            "k" => (1_000_000, 1),
            exponent => power_of_ten(exponent).ok_or_else(wrong)?,
        };
        let millis = number.times(times, per, Rounding::Up).ok_or_else(wrong)?;
        u32::try_from(millis).map(Cpu).map_err(|_| wrong())
    }
}

impl FromStr for Bytes {
    type Err = UnitError;

    /// Reads `512mb` and `512m` (powers of 1000), `1gib` and `1gi` (powers of 1024), or bytes.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::new(text, "a size", "a number of bytes or a size such as 512MB or 1GiB");
        let (number, unit) = split(&text.replace(',', "")).ok_or_else(wrong)?;
        let bytes = number.times(size_unit(&unit).ok_or_else(wrong)?, 1, Rounding::Down).ok_or_else(wrong)?;
        u64::try_from(bytes).map(Bytes).map_err(|_| wrong())
    }
}

impl FromStr for Gpus {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        digits.parse().map(Gpus).map_err(|_| UnitError::new(text, "a number of GPUs", "a whole number such as 1"))
    }
}

impl FromStr for Seconds {
    type Err = UnitError;

    /// Reads `90m`, `12h`, `7d` or `2w`, or seconds.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::new(text, "a length of time", "a number of seconds or a time such as 90m, 12h or 7d");
        let (number, unit) = split(text).ok_or_else(wrong)?;
        let seconds = number.times(time_unit(&unit).ok_or_else(wrong)?, 1, Rounding::Down).ok_or_else(wrong)?;
        u64::try_from(seconds).map(Seconds).map_err(|_| wrong())
    }
}

impl Seconds {
    /// So many days.
    pub const fn days(days: u64) -> Self {
        Self(days * 86_400)
    }

    /// The same in milliseconds, as the protocol counts.
    pub fn millis(self) -> Millis {
        self.0.saturating_mul(1_000)
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1_000) { write!(f, "{}", self.0 / 1_000) } else { write!(f, "{}m", self.0) }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 8] = [
            (1 << 40, "TiB"),
            (1_000_000_000_000, "TB"),
            (1 << 30, "GiB"),
            (1_000_000_000, "GB"),
            (1 << 20, "MiB"),
            (1_000_000, "MB"),
            (1 << 10, "KiB"),
            (1_000, "KB"),
        ];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, char); 3] = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}s", self.0),
        }
    }
}

impl Serialize for Cpu {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Gpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A decimal number: `digits` / 10^`decimals`.
struct Decimal {
    digits: u128,
    decimals: u32,
}

#[derive(Clone, Copy)]
enum Rounding {
    Up,
    Down,
}

/// Digits of an amount; more cannot be meant.
const MAX_DIGITS: usize = 20;

impl Decimal {
    fn times(&self, times: u128, per: u128, rounding: Rounding) -> Option<u128> {
        let numerator = self.digits.checked_mul(times)?;
        let denominator = 10_u128.pow(self.decimals).checked_mul(per)?;
        Some(match rounding {
            Rounding::Up => numerator.div_ceil(denominator),
            Rounding::Down => numerator / denominator,
        })
    }
}

/// Cuts lower-cased text without spaces into its number and what follows.
fn split(text: &str) -> Option<(Decimal, String)> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > MAX_DIGITS || fraction.contains('.') {
        return None;
    }
    let decimals = u32::try_from(fraction.len()).ok()?;
    Some((Decimal { digits: digits.parse().ok()?, decimals }, unit.to_owned()))
}

/// Reads `e3` or `e-3` as thousandths of a core: a multiplier and a divisor.
fn power_of_ten(exponent: &str) -> Option<(u128, u128)> {
    let power: i32 = exponent.strip_prefix('e')?.parse().ok().filter(|power| (-9..=9).contains(power))?;
    let ten = |power: i32| 10_u128.pow(power.unsigned_abs());
    Some(if power + 3 >= 0 { (ten(power + 3), 1) } else { (1, ten(power + 3)) })
}

fn size_unit(unit: &str) -> Option<u128> {
    let prefix = unit.strip_suffix('b').unwrap_or(unit);
    let (letter, base) = match prefix.strip_suffix('i') {
        Some(letter) => (letter, 1_024_u128),
        None => (prefix, 1_000),
    };
    let power = match letter {
        "" if base == 1_000 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return None,
    };
    Some(base.pow(power))
}

fn time_unit(unit: &str) -> Option<u128> {
    match unit {
        "" | "s" | "sec" => Some(1),
        "m" | "min" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        "w" => Some(7 * 86_400),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cpu_is_read_as_kubernetes_reads_it() {
        let table = [
            ("500m", 500),
            ("0.5", 500),
            (".5", 500),
            ("2", 2_000),
            (" 1 500 M ", 1_500),
            ("0.001", 1),
            ("0.0001", 1),
            ("100u", 1),
            ("1k", 1_000_000),
            ("1e-1", 100),
            ("1e2", 100_000),
            ("0", 0),
        ];
        for (text, millis) in table {
            assert_eq!(text.parse(), Ok(Cpu(millis)), "{text}");
        }
        for text in ["", "m", "two", "-1", "1.2.3", "1g", "1mi", "1e99", "99999999999999999999k", "nan", "+1"] {
            assert!(text.parse::<Cpu>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let table = [
            ("512Mb", 512_000_000),
            ("250m", 250_000_000),
            ("1 GiB", 1 << 30),
            ("1gi", 1 << 30),
            ("1.5kb", 1_500),
            ("1,000", 1_000),
            ("42", 42),
            ("42b", 42),
            ("36mb", 36_000_000),
            ("0.5ki", 512),
            ("1e", 1_000_000_000_000_000_000),
        ];
        for (text, bytes) in table {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "gb", "lots", "-1gb", "1zb", "1ib", "1i", "100e", "1mbb", "1e3"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        let table = [("90", 90), ("90s", 90), ("90 min", 5_400), ("1.5h", 5_400), ("7D", 604_800), ("2w", 1_209_600)];
        for (text, seconds) in table {
            assert_eq!(text.parse(), Ok(Seconds(seconds)), "{text}");
        }
        for text in ["", "-1d", "soon", "7 fortnights", "1h30m", "d", "99999999999999999999w"] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
        assert_eq!([90, 5_400, 7_200, 604_800, 0].map(|n| Seconds(n).to_string()), ["90s", "90m", "2h", "7d", "0s"]);
    }

    #[test]
    fn a_wrong_amount_says_what_to_write() {
        let error = "12 parsecs".parse::<Bytes>().unwrap_err().to_string();
        assert_eq!(
            error,
            "is '12 parsecs', which is not a size: write a number of bytes or a size such as 512MB or 1GiB"
        );
        assert!("1.5".parse::<Gpus>().unwrap_err().to_string().contains("a whole number such as 1"));
    }

    proptest! {
        #[test]
        fn amounts_survive_text(cpu: u32, bytes: u64, gpus: u16, seconds: u64) {
            prop_assert_eq!(Cpu(cpu).to_string().parse(), Ok(Cpu(cpu)));
            prop_assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
            prop_assert_eq!(Gpus(gpus).to_string().parse(), Ok(Gpus(gpus)));
            prop_assert_eq!(Seconds(seconds).to_string().parse(), Ok(Seconds(seconds)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[0-9.eimkb, ]{0,60}") {
            let _ = (text.parse::<Cpu>(), text.parse::<Bytes>(), text.parse::<Gpus>(), text.parse::<Seconds>());
        }
    }
}
