//! Moments as people and programs read them.

use shoal_protocol::time::Time;

const MILLIS_PER_DAY: u64 = 86_400_000;

/// Nanoseconds since the Unix epoch.
pub fn nanos(time: Time) -> u64 {
    time.0.saturating_mul(1_000_000)
}

/// A moment as RFC 3339 text in UTC, to the millisecond.
pub fn rfc3339(time: Time) -> String {
    let (year, month, day) = civil(time.0 / MILLIS_PER_DAY);
    let (seconds, millis) = (time.0 % MILLIS_PER_DAY / 1_000, time.0 % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day counted from the Unix epoch (Howard Hinnant, `civil_from_days`, for days from 0 on).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_600_001, "2025-01-01T00:00:00.001Z"),
            (4_102_444_799_000, "2099-12-31T23:59:59.000Z"),
        ];
        for (millis, expected) in table {
            assert_eq!(rfc3339(Time(millis)), expected);
        }
    }
}
