//! Dates in keys, in the forms that Go's `time` package writes and reads.
//!
//! A layout shows a moment, 2006-01-02 15:04:05, as dates are to be written. Go normalises what it reads (`jan` is
//! `Jan`); so does this, because partitions go by the normalised text. Fractions and names of zones are refused: the
//! latter mean other things on other machines.

use std::ops::RangeInclusive;

use time::{Date, Month};

use crate::sources::DataError;

/// How dates are written.
#[derive(Debug)]
pub(super) struct Layout {
    elements: Vec<Element>,
    /// How many bytes of a key Bacalhau looks at.
    length: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Literal(char),
    Year,
    YearOfCentury,
    MonthName,
    MonthShort,
    Month,
    MonthPadded,
    WeekdayName,
    WeekdayShort,
    Day,
    DayPadded,
    DaySpaced,
    DayOfYear,
    Hour,
    Hour12,
    Hour12Padded,
    Minute,
    MinutePadded,
    Second,
    SecondPadded,
    HalfUpper,
    HalfLower,
    /// How far from UTC, with a colon in it or not; `Z` for UTC or not.
    Offset {
        colon: bool,
        zulu: bool,
    },
}

/// How Go writes each element; the first that fits counts, as in its `nextStdChunk`.
const SPELLINGS: [(&str, Element); 26] = [
    ("January", Element::MonthName),
    ("Jan", Element::MonthShort),
    ("Monday", Element::WeekdayName),
    ("Mon", Element::WeekdayShort),
    ("002", Element::DayOfYear),
    ("01", Element::MonthPadded),
    ("02", Element::DayPadded),
    ("03", Element::Hour12Padded),
    ("04", Element::MinutePadded),
    ("05", Element::SecondPadded),
    ("06", Element::YearOfCentury),
    ("15", Element::Hour),
    ("1", Element::Month),
    ("2006", Element::Year),
    ("2", Element::Day),
    ("_2006", Element::Literal('_')),
    ("_2", Element::DaySpaced),
    ("3", Element::Hour12),
    ("4", Element::Minute),
    ("5", Element::Second),
    ("PM", Element::HalfUpper),
    ("pm", Element::HalfLower),
    ("-07:00", Element::Offset { colon: true, zulu: false }),
    ("-0700", Element::Offset { colon: false, zulu: false }),
    ("Z07:00", Element::Offset { colon: true, zulu: true }),
    ("Z0700", Element::Offset { colon: false, zulu: true }),
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// How many letters a short name has.
const SHORT: usize = 3;
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// What was read of a date.
#[derive(Debug, Default)]
struct Moment {
    year: i32,
    month: Option<u8>,
    day: Option<u8>,
    day_of_year: Option<u16>,
    hour: u8,
    minute: u8,
    second: u8,
    afternoon: Option<bool>,
    offset: Offset,
}

/// How far a clock is from UTC.
#[derive(Debug, Default, Clone, Copy)]
struct Offset {
    west: bool,
    hours: u8,
    minutes: u8,
}

/// Zones that are refused: by name, by the hour, or to the second.
const REFUSED_ZONES: [&str; 7] = ["MST", "-070000", "-07:00:00", "Z070000", "Z07:00:00", "-07", "Z07"];

impl Layout {
    pub(super) fn parse(text: &str) -> Result<Self, DataError> {
        let refused = |part: &str| {
            let reason = format!("{part:?} in it is not supported");
            DataError::new(format!("DateFormat {text:?}"), reason, "write dates like 2006-01-02T15:04:05-0700")
        };
        let mut elements = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let found = SPELLINGS.iter().find(|(spelling, _)| is_next(rest, spelling));
            let zone = REFUSED_ZONES.iter().find(|zone| rest.starts_with(**zone));
            let (length, element) = match (found, zone) {
                (_, Some(zone)) if found.is_none_or(|(spelling, _)| spelling.len() < zone.len()) => {
                    return Err(refused(zone));
                }
                _ if is_fraction(rest) => return Err(refused(&rest[..2])),
                (Some((_, Element::Literal(literal))), _) => (literal.len_utf8(), Element::Literal(*literal)),
                (Some((spelling, element)), _) => (spelling.len(), *element),
                (None, _) => (first.len_utf8(), Element::Literal(first)),
            };
            elements.push(element);
            rest = &rest[length..];
        }
        Ok(Self { elements, length: text.len() })
    }

    /// The date that a text begins with, as Go writes it; none if it begins with none.
    pub(super) fn normalise_start(&self, text: &str) -> Option<String> {
        // Bacalhau cuts bytes, and a character that is cut is in no date.
        let start = text.get(..self.length.min(text.len()))?;
        let mut reader = Reader { rest: start };
        let mut moment = Moment::default();
        for &element in &self.elements {
            reader.read(element, &mut moment)?;
        }
        if !reader.rest.is_empty() {
            return None;
        }
        let date = moment.date()?;
        Some(self.elements.iter().map(|&element| moment.write(element, date)).collect())
    }
}

fn is_next(rest: &str, spelling: &str) -> bool {
    let short_name = matches!(spelling, "Jan" | "Mon");
    let follows = rest.strip_prefix(spelling).map(|rest| rest.chars().next());
    follows.is_some_and(|next| !short_name || !next.is_some_and(|next| next.is_ascii_lowercase()))
}

/// Whether a layout goes on with a point and only zeros or only nines: a fraction of a second.
fn is_fraction(rest: &str) -> bool {
    let Some(digits) = rest.strip_prefix(['.', ',']) else { return false };
    let Some(first) = digits.chars().next().filter(|first| matches!(first, '0' | '9')) else { return false };
    !digits.trim_start_matches(first).starts_with(|next: char| next.is_ascii_digit())
}

/// Reads a date, element by element.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn read(&mut self, element: Element, moment: &mut Moment) -> Option<()> {
        match element {
            Element::Literal(literal) => self.rest = self.rest.strip_prefix(literal)?,
            Element::Year => moment.year = i32::from(self.digits(4, 4)?),
            Element::YearOfCentury => {
                let year = i32::from(self.digits(2, 2)?);
                moment.year = if year >= 69 { 1_900 + year } else { 2_000 + year };
            }
            Element::MonthName => moment.month = Some(self.month(|name| name.len())?),
            Element::MonthShort => moment.month = Some(self.month(|_| SHORT)?),
            Element::Month => moment.month = Some(self.number(1, 1..=12)?),
            Element::MonthPadded => moment.month = Some(self.number(2, 1..=12)?),
            Element::WeekdayName => self.weekday(|name| name.len())?,
            Element::WeekdayShort => self.weekday(|_| SHORT)?,
            Element::Day => moment.day = Some(self.number(1, 1..=31)?),
            Element::DayPadded => moment.day = Some(self.number(2, 1..=31)?),
            Element::DaySpaced => {
                self.rest = self.rest.strip_prefix(' ').unwrap_or(self.rest);
                moment.day = Some(self.number(1, 1..=31)?);
            }
            Element::DayOfYear => moment.day_of_year = Some(self.digits(3, 3)?),
            Element::Hour => moment.hour = self.number(1, 0..=23)?,
            Element::Hour12 => moment.hour = self.number(1, 0..=12)?,
            Element::Hour12Padded => moment.hour = self.number(2, 0..=12)?,
            Element::Minute => moment.minute = self.number(1, 0..=59)?,
            Element::MinutePadded => moment.minute = self.number(2, 0..=59)?,
            Element::Second => moment.second = self.number(1, 0..=59)?,
            Element::SecondPadded => moment.second = self.number(2, 0..=59)?,
            Element::HalfUpper => moment.afternoon = Some(self.half(["AM", "PM"])?),
            Element::HalfLower => moment.afternoon = Some(self.half(["am", "pm"])?),
            Element::Offset { colon, zulu } => moment.offset = self.offset(colon, zulu)?,
        }
        Some(())
    }

    /// As many digits as there are, from `least` to `most`.
    fn digits(&mut self, least: usize, most: usize) -> Option<u16> {
        let count = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        if count < least { None } else { digits.parse().ok() }
    }

    fn number(&mut self, least: usize, range: RangeInclusive<u8>) -> Option<u8> {
        let number = u8::try_from(self.digits(least, 2)?).ok()?;
        range.contains(&number).then_some(number)
    }

    /// The place of the name that comes next, as far as `length` says of each.
    fn name(&mut self, names: &[&str], length: fn(&str) -> usize) -> Option<u8> {
        let place = names.iter().position(|name| {
            let start = self.rest.get(..length(name));
            start.is_some_and(|start| start.eq_ignore_ascii_case(&name[..length(name)]))
        })?;
        self.rest = &self.rest[length(names[place])..];
        u8::try_from(place).ok()
    }

    fn month(&mut self, length: fn(&str) -> usize) -> Option<u8> {
        self.name(&MONTHS, length).map(|place| place + 1)
    }

    /// Go reads the day of the week, and does not compare it with the date.
    fn weekday(&mut self, length: fn(&str) -> usize) -> Option<()> {
        self.name(&WEEKDAYS, length).map(drop)
    }

    fn half(&mut self, halves: [&str; 2]) -> Option<bool> {
        let place = halves.iter().position(|half| self.rest.starts_with(half))?;
        self.rest = &self.rest[2..];
        Some(place == 1)
    }

    fn offset(&mut self, colon: bool, zulu: bool) -> Option<Offset> {
        if let Some(rest) = self.rest.strip_prefix('Z').filter(|_| zulu) {
            self.rest = rest;
            return Some(Offset::default());
        }
        let west = self.rest.starts_with('-');
        self.rest = self.rest.strip_prefix(['+', '-'])?;
        let hours = self.number(2, 0..=24)?;
        if colon {
            self.rest = self.rest.strip_prefix(':')?;
        }
        let minutes = self.number(2, 0..=59)?;
        Some(Offset { west: west && (hours, minutes) != (0, 0), hours, minutes })
    }
}

impl Moment {
    /// The day, if there is such a one. What was not read is the first.
    fn date(&self) -> Option<Date> {
        let Some(day_of_year) = self.day_of_year else {
            let month = Month::try_from(self.month.unwrap_or(1)).ok()?;
            return Date::from_calendar_date(self.year, month, self.day.unwrap_or(1)).ok();
        };
        let date = Date::from_ordinal_date(self.year, day_of_year).ok()?;
        let month = self.month.is_none_or(|month| month == u8::from(date.month()));
        (month && self.day.is_none_or(|day| day == date.day())).then_some(date)
    }

    /// The hour of the day, whichever way it was read.
    fn hour(&self) -> u8 {
        match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        }
    }

    fn write(&self, element: Element, date: Date) -> String {
        let (hour, month) = (self.hour(), u8::from(date.month()));
        let twelfth = if hour % 12 == 0 { 12 } else { hour % 12 };
        let half = if hour >= 12 { "PM" } else { "AM" };
        let month_name = MONTHS[usize::from(month - 1)];
        let weekday = WEEKDAYS[usize::from(date.weekday().number_days_from_monday())];
        match element {
            Element::Literal(literal) => literal.to_string(),
            Element::Year => format!("{:04}", self.year),
            Element::YearOfCentury => format!("{:02}", self.year % 100),
            Element::MonthName => month_name.to_owned(),
            Element::MonthShort => month_name[..SHORT].to_owned(),
            Element::Month => month.to_string(),
            Element::MonthPadded => format!("{month:02}"),
            Element::WeekdayName => weekday.to_owned(),
            Element::WeekdayShort => weekday[..SHORT].to_owned(),
            Element::Day => date.day().to_string(),
            Element::DayPadded => format!("{:02}", date.day()),
            Element::DaySpaced => format!("{:2}", date.day()),
            Element::DayOfYear => format!("{:03}", date.ordinal()),
            Element::Hour => format!("{hour:02}"),
            Element::Hour12 => twelfth.to_string(),
            Element::Hour12Padded => format!("{twelfth:02}"),
            Element::Minute => self.minute.to_string(),
            Element::MinutePadded => format!("{:02}", self.minute),
            Element::Second => self.second.to_string(),
            Element::SecondPadded => format!("{:02}", self.second),
            Element::HalfUpper => half.to_owned(),
            Element::HalfLower => half.to_ascii_lowercase(),
            Element::Offset { colon, zulu } => self.offset.write(colon, zulu),
        }
    }
}

impl Offset {
    fn write(self, colon: bool, zulu: bool) -> String {
        if zulu && (self.hours, self.minutes) == (0, 0) {
            return "Z".to_owned();
        }
        let (sign, between) = (if self.west { '-' } else { '+' }, if colon { ":" } else { "" });
        format!("{sign}{:02}{between}{:02}", self.hours, self.minutes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(layout: &str, text: &str) -> Option<String> {
        Layout::parse(layout).unwrap().normalise_start(text)
    }

    #[test]
    fn a_date_is_what_the_text_begins_with() {
        assert_eq!(normalised("2006-01-02", "2023-01-31-data.txt").as_deref(), Some("2023-01-31"));
        assert_eq!(normalised("200601", "20230103.txt").as_deref(), Some("202301"));
        assert_eq!(normalised("2006/01/02/15", "2023/01/31/07/x").as_deref(), Some("2023/01/31/07"));
    }

    #[test]
    fn what_is_no_date_is_none() {
        let table = [
            ("2006-01-02", "2023-02-29"),
            ("2006-01-02", "2023-13-01"),
            ("2006-01-02", "2023-01"),
            ("2006-01-02", "x"),
            ("2006-01-02", ""),
            ("2006-01-02", "2023-1-02x"),
            ("2006-002", "2023-366"),
            ("15:04", "24:00"),
            ("15:04", "1ä:00"),
            ("2006", "+023"),
        ];
        for (layout, text) in table {
            assert_eq!(normalised(layout, text), None, "{layout} {text}");
        }
    }

    #[test]
    fn dates_are_normalised_as_go_does() {
        let table = [
            ("02-Jan-2006", "05-fEB-2024", "05-Feb-2024"),
            ("January 2", "mARCH 12", "March 12"),
            ("Mon 2006-01-02", "Tue 2024-02-05", "Mon 2024-02-05"),
            ("06-01", "69-02", "69-02"),
            ("06-01", "24-02", "24-02"),
            ("_2 Jan", " 5 Feb", " 5 Feb"),
            ("2006-002", "2024-366", "2024-366"),
            ("03:04PM", "12:05AM", "12:05AM"),
            ("3pm", "7pm", "7pm"),
            ("15-0700", "10-0000", "10+0000"),
            ("15Z07:00", "10+00:00", "10Z"),
            ("15Z07:00", "10-05:30", "10-05:30"),
            ("_2006", "_2024", "_2024"),
            ("2006-01-02T1", "2023-01-01T10:00", "2023-01-01T1"),
        ];
        for (layout, text, expected) in table {
            assert_eq!(normalised(layout, text).as_deref(), Some(expected), "{layout} {text}");
        }
    }

    #[test]
    fn what_depends_on_the_machine_is_refused_by_name() {
        for (layout, part) in [("15:04 MST", "MST"), ("15:04:05.000", ".0"), ("15-07", "-07"), ("15Z07", "Z07")] {
            let error = Layout::parse(layout).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(layout), "{error}");
        }
        assert!(Layout::parse("2006.01.02").is_ok());
    }
}
