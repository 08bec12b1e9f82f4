//! Which partition gets an object: as in Bacalhau, by the FNV-1a hash of a part of its key.
//!
//! Equal keys go to equal partitions on every node and in every run. Where the part is not found, partition 0 gets
//! the object, so that none is lost.

use regex::Regex;
use shoal_protocol::job::spec::{S3Partition, S3PartitionBy};

use super::date::Layout;
use crate::sources::DataError;

/// What Bacalhau joins the groups of a regular expression with: no key has it.
const BETWEEN_GROUPS: &str = "\u{1f}";
/// The partition of what has no part to go by.
const FALLBACK: usize = 0;

/// Divides objects into parts.
#[derive(Debug)]
pub(super) struct Division {
    by: By,
    parts: usize,
    prefix: String,
}

#[derive(Debug)]
enum By {
    /// One part has everything.
    Nothing,
    Object,
    Regex(Regex),
    Substring(usize, usize),
    Date(Layout),
}

impl Division {
    /// Divides what is below `prefix` for so many partitions.
    pub(super) fn new(partition: &S3Partition, prefix: &str, partitions: u32) -> Result<Self, DataError> {
        let by = match partition.by {
            _ if partitions <= 1 => By::Nothing,
            S3PartitionBy::None => By::Nothing,
            S3PartitionBy::Object => By::Object,
            S3PartitionBy::Regex => By::Regex(regex("Partition.Pattern", &partition.pattern)?),
            S3PartitionBy::Substring => {
                let index = |index: u64| usize::try_from(index).unwrap_or(usize::MAX);
                By::Substring(index(partition.start_index), index(partition.end_index))
            }
            S3PartitionBy::Date => By::Date(Layout::parse(&partition.date_format)?),
        };
        let parts = if matches!(by, By::Nothing) { 1 } else { partitions as usize };
        Ok(Self { by, parts, prefix: prefix.to_owned() })
    }

    /// How many parts there are: one for all partitions, or one for each.
    pub(super) fn parts(&self) -> usize {
        self.parts
    }

    /// The part that has the object of that key.
    pub(super) fn part(&self, key: &str) -> usize {
        let rest = key.strip_prefix(&self.prefix).unwrap_or(key);
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        let text = match &self.by {
            By::Nothing => None,
            By::Object => Some(key.to_owned()),
            By::Regex(regex) => found(regex, rest),
            By::Substring(start, end) => substring(rest, *start, *end),
            By::Date(layout) => layout.normalise_start(rest),
        };
        text.map_or(FALLBACK, |text| fnv1a(&text) as usize % self.parts)
    }
}

/// What a regular expression finds: its groups that are not empty, or all of it when it has none.
fn found(regex: &Regex, text: &str) -> Option<String> {
    let found = regex.captures(text)?;
    let groups: Vec<&str> =
        found.iter().skip(1).flatten().map(|group| group.as_str()).filter(|group| !group.is_empty()).collect();
    match (found[0].is_empty(), groups.is_empty()) {
        (true, _) => None,
        (false, true) => Some(found[0].to_owned()),
        (false, false) => Some(groups.join(BETWEEN_GROUPS)),
    }
}

/// The characters from `start` to `end`, if there are so many.
fn substring(text: &str, start: usize, end: usize) -> Option<String> {
    let part: String = text.chars().take(end).skip(start).collect();
    (part.chars().count() == end.checked_sub(start)?).then_some(part)
}

/// FNV-1a with 32 bits (draft-eastlake-fnv).
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A regular expression as Go reads it: `\d`, `\w`, `\s` and `\b` mean ASCII there.
pub(super) fn regex(field: &str, pattern: &str) -> Result<Regex, DataError> {
    Regex::new(&ascii_classes(pattern)).map_err(|error| {
        // The last line says what is wrong, the others draw where.
        let reason = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        DataError::new(format!("{field} {pattern:?}"), reason, "write a regular expression of Go's or RE2's syntax")
    })
}

fn ascii_classes(pattern: &str) -> String {
    let mut ascii = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match (character, if character == '\\' { characters.next() } else { None }) {
            ('\\', Some('d')) => ascii.push_str("[0-9]"),
            ('\\', Some('D')) => ascii.push_str("[^0-9]"),
            ('\\', Some('w')) => ascii.push_str("[0-9A-Za-z_]"),
            ('\\', Some('W')) => ascii.push_str("[^0-9A-Za-z_]"),
            ('\\', Some('s')) => ascii.push_str("[\\t\\n\\f\\r ]"),
            ('\\', Some('S')) => ascii.push_str("[^\\t\\n\\f\\r ]"),
            ('\\', Some('b')) => ascii.push_str("(?-u:\\b)"),
            (character, escaped) => ascii.extend([Some(character), escaped].into_iter().flatten()),
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    fn division(by: S3PartitionBy, text: &str, indices: (u64, u64), prefix: &str, partitions: u32) -> Division {
        let partition = S3Partition {
            by,
            pattern: text.into(),
            date_format: text.into(),
            start_index: indices.0,
            end_index: indices.1,
        };
        Division::new(&partition, prefix, partitions).unwrap()
    }

    fn parts(division: &Division, keys: &[&str]) -> Vec<usize> {
        keys.iter().map(|key| division.part(key)).collect()
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // From the draft's test vectors.
        let table = [("", 0x811c_9dc5), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)];
        for (text, hash) in table {
            assert_eq!(fnv1a(text), hash, "{text:?}");
        }
    }

    #[test]
    fn objects_go_by_the_hash_of_their_whole_key() {
        let keys = ["prefix/subdir/file1.txt", "prefix/subdir/file2.txt", "prefix/other/file3.txt"];
        assert_eq!(parts(&division(S3PartitionBy::Object, "", (0, 0), "prefix/", 2), &keys), [1, 0, 0]);
        let five = division(S3PartitionBy::Object, "", (0, 0), "", 5);
        assert_eq!(parts(&five, &["file1.txt", "file2.txt", "file3.txt"]), [1, 3, 4]);
    }

    #[test]
    fn groups_of_a_regular_expression_are_the_part() {
        let by = |pattern, partitions| division(S3PartitionBy::Regex, pattern, (0, 0), "prefix/", partitions);
        let keys = ["prefix/user123/a", "prefix/user456/b", "prefix/user789/c", "prefix/invalid/d"];
        assert_eq!(parts(&by(r"user(\d+)", 4), &keys), [3, 0, 1, 0]);
        let keys = ["prefix/user123-group456.txt", "prefix/user123-group999.log", "prefix/invalid.txt"];
        assert_eq!(parts(&by(r"user(\d+)-group(\d+)", 3), &keys), [2, 1, 0]);
        let keys = ["prefix/001.txt", "prefix/002.txt", "prefix/003.txt", "prefix/abc.txt"];
        assert_eq!(parts(&by(r"00\d", 3), &keys), [0, 0, 1, 0]);
        assert_eq!(parts(&by("()", 2), &keys), [0, 0, 0, 0], "an empty match is none");
    }

    #[test]
    fn characters_and_not_bytes_are_the_part() {
        let by = |indices, prefix, partitions| division(S3PartitionBy::Substring, "", indices, prefix, partitions);
        let keys = ["prefix/abc123", "prefix/def456", "prefix/def999", "prefix/ghi789"];
        assert_eq!(parts(&by((0, 3), "prefix/", 4), &keys), [3, 0, 0, 1]);
        assert_eq!(parts(&by((0, 1), "prefix/", 3), &["prefix/用户123", "prefix/户用456"]), [2, 0]);
        assert_eq!(parts(&by((0, 10), "prefix/", 3), &["prefix/short.txt", "prefix/very-long-name"]), [0, 1]);
    }

    #[test]
    fn dates_are_the_part() {
        let by = |layout, partitions| division(S3PartitionBy::Date, layout, (0, 0), "prefix/", partitions);
        let keys = ["prefix/2023-01-01-a", "prefix/2023-01-02-b", "prefix/2023-01-03-c", "prefix/invalid"];
        assert_eq!(parts(&by("2006-01-02", 2), &keys), [0, 1, 0, 0]);
        let keys = ["prefix/2023-01/a", "prefix/2023-02/b", "prefix/2023-13/c"];
        assert_eq!(parts(&by("2006-01", 2), &keys), [0, 1, 0]);
    }

    #[test]
    fn one_partition_has_everything_and_no_pattern_is_needed() {
        let one = division(S3PartitionBy::Regex, "[", (0, 0), "", 1);
        assert_eq!((one.parts(), one.part("x")), (1, 0));
        assert_eq!(division(S3PartitionBy::None, "", (0, 0), "", 4).parts(), 1);
    }

    #[test]
    fn classes_are_those_of_ascii_as_in_go() {
        let regex = |pattern| regex("Filter", pattern).unwrap();
        assert!(!regex(r"^\d$").is_match("٣") && regex(r"^\d$").is_match("3"));
        assert!(!regex(r"^\w$").is_match("ä") && regex(r"^[\w.]+$").is_match("a.b"));
        assert!(regex(r"^.$").is_match("ä"));
        assert!(regex(r"^\\d$").is_match(r"\d"));
    }

    #[test]
    fn a_bad_pattern_is_named_with_what_is_wrong() {
        let error = regex("Filter", "a(b").unwrap_err().to_string();
        assert!(error.contains(r#"Filter "a(b""#) && error.contains("unclosed group"), "{error}");
    }
}
