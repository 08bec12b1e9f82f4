//! Rules of where results go: what could not be published is refused before anything runs.

use super::task;

use crate::job::problem::{Problems, quoted};
use crate::job::spec::{Publisher, S3Publisher};
use crate::job::units::Seconds;

/// The longest key of an object in S3, in bytes.
const MAX_KEY_BYTES: usize = 1_024;
/// How the name of an archive ends.
const ARCHIVE: &str = ".tar.gz";

/// Checks the publisher of a job with `count` partitions.
pub(super) fn check(path: &str, publisher: &Publisher, count: u32, problems: &mut Problems) {
    let path = |name: &str| format!("{path}.{name}");
    if publisher.retention() == Some(Seconds(0)) {
        let remedy = "write at least 1s, or leave it out";
        problems.push(path("Retention"), "is 0, so that nobody could fetch the result", remedy);
    }
    let Publisher::S3(s3) = publisher else { return };
    for (name, value) in [("Bucket", &s3.bucket), ("Key", &s3.key)] {
        if value.trim().is_empty() {
            problems.push(path(name), "is missing", "write it: the s3 publisher needs it");
        }
    }
    for (name, value) in [("Bucket", &s3.bucket), ("Key", &s3.key), ("Region", &s3.region)] {
        if value.contains(',') || value.contains(char::is_control) {
            let reason = "has a comma or a control character, and -i could not take the result's address";
            problems.push(path(name), reason, "leave it out");
        }
    }
    if !["", "gzip", "plain"].contains(&s3.encoding.to_ascii_lowercase().as_str()) {
        problems.push(path("Encoding"), format!("is {}", quoted(&s3.encoding)), "write gzip or plain");
    }
    task::endpoint(&path("Endpoint"), &s3.endpoint, problems);
    key(&path("Key"), &s3.key, count, problems);
}

fn key(path: &str, key: &str, count: u32, problems: &mut Problems) {
    if let Some(unknown) =
        placeholders(key).find(|name| S3Publisher::PLACEHOLDERS.iter().all(|(known, _)| known != name))
    {
        let known: Vec<&str> = S3Publisher::PLACEHOLDERS.iter().map(|(name, _)| *name).collect();
        let remedy = format!("write one of {}", known.join(", "));
        problems.push(path, format!("has the placeholder {}", quoted(unknown)), remedy);
    }
    if count > 1 && !key.contains("{executionID}") {
        let reason = format!("is the same for all {count} partitions, so that one would replace another");
        problems.push(path, reason, "put {executionID} into it");
    }
    let bytes = filled_bytes(key) + ARCHIVE.len();
    if bytes > MAX_KEY_BYTES {
        let reason = format!("has {bytes} bytes when it is filled in, and {MAX_KEY_BYTES} are allowed");
        problems.push(path, reason, "write a shorter one");
    }
}

/// Whatever is in braces, with them.
fn placeholders(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('{').filter_map(|(start, _)| {
        let rest = &key[start..];
        Some(&rest[..=rest.find('}')?])
    })
}

fn filled_bytes(key: &str) -> usize {
    let grows = |(name, filled): &(&str, usize)| key.matches(name).count() * filled.saturating_sub(name.len());
    key.len() + S3Publisher::PLACEHOLDERS.iter().map(grows).sum::<usize>()
}
