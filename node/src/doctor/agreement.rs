//! What this machine and others should have in common: the time, and the version.

use shoal_protocol::limits::MAX_CLOCK_SKEW_MS;

use crate::network::PeerInfo;
use crate::views::doctor::{Check, Finding};

/// A difference between clocks that is worth a word, in milliseconds.
const NOTABLE_SKEW_MS: u64 = 30_000;
/// Peers that must be of another version before it is this node that is behind.
const ENOUGH_PEERS: usize = 2;

/// Whether the clock is right, if others' clocks are `ahead_ms` ahead of it.
pub(super) fn clock(ahead_ms: Option<i64>) -> Finding {
    let Some(ahead_ms) = ahead_ms else {
        return Finding::ok(Check::Clock, "too few peers have said what time it is to compare the clock with theirs");
    };
    let (by, side) = (ahead_ms.unsigned_abs(), if ahead_ms < 0 { "ahead of" } else { "behind" });
    let what = format!("this machine's clock is {} {side} its peers' clocks", span(by));
    let set = "set the clock, and let the system keep it right (`timedatectl set-ntp true`)";
    // A node's time follows the clock forwards, and never runs back.
    let remedy =
        if ahead_ms < 0 { format!("{set}; then restart the node") } else { format!("{set}; the node follows") };
    let limit = span(MAX_CLOCK_SKEW_MS);
    match by {
        by if by > MAX_CLOCK_SKEW_MS => Finding::wrong(
            Check::Clock,
            what,
            format!("announcements that are more than {limit} off are ignored, here and there: no job is taken"),
            remedy,
        ),
        by if by > NOTABLE_SKEW_MS => {
            Finding::note(Check::Clock, what, format!("beyond {limit} jobs would be ignored"), remedy)
        }
        _ => Finding::ok(Check::Clock, "the clock agrees with those of peers"),
    }
}

/// Whether most connected peers are of a newer or older version.
pub(super) fn version(own: &str, peers: &[PeerInfo]) -> Finding {
    let versions: Vec<&str> = peers.iter().filter_map(|peer| peer.version.as_deref()).collect();
    let parsed: Vec<[u64; 3]> = versions.iter().filter_map(|version| numbers(version)).collect();
    let Some(own_numbers) = numbers(own).filter(|_| !parsed.is_empty()) else {
        return Finding::ok(Check::Version, format!("version {own}"));
    };
    let newer = parsed.iter().filter(|version| **version > own_numbers).count();
    let older = parsed.iter().filter(|version| **version < own_numbers).count();
    let most = |number: usize| number >= ENOUGH_PEERS && number * 2 > parsed.len();
    let why = "nodes of versions that are far apart do not understand each other";
    if most(newer) {
        let newest = parsed.iter().max().map_or_else(String::new, |[a, b, c]| format!(", up to {a}.{b}.{c}"));
        let what = format!("version {own} is old: {newer} of {} peers have a newer one{newest}", parsed.len());
        return Finding::wrong(Check::Version, what, why, "install the version that the others have");
    }
    if most(older) {
        let what = format!("version {own} is newer than that of {older} of {} peers", parsed.len());
        return Finding::note(Check::Version, what, why, "tell their operators that there is a newer version");
    }
    Finding::ok(Check::Version, format!("version {own}, as most peers"))
}

/// The three numbers of a version.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let plain = version.split(['-', '+']).next()?;
    let numbers: Vec<u64> = plain.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// A length of time in whole minutes or seconds.
fn span(millis: u64) -> String {
    let seconds = millis / 1_000;
    humantime::format_duration(std::time::Duration::from_secs(if seconds > 600 { seconds / 60 * 60 } else { seconds }))
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::super::company::tests::connected;
    use super::*;
    use crate::views::doctor::State;

    #[test]
    fn a_clock_is_wrong_when_announcements_would_be_ignored() {
        let minute = 60_000;
        let table = [
            (None, State::Ok, "too few"),
            (Some(900), State::Ok, "agrees"),
            (Some(-2 * minute), State::Note, "2m ahead of"),
            (Some(6 * minute), State::Wrong, "6m behind"),
            (Some(-3_600_123), State::Wrong, "1h ahead of"),
        ];
        for (ahead, state, words) in table {
            let finding = clock(ahead);
            assert_eq!(finding.state, state, "{ahead:?}");
            assert!(finding.what.contains(words), "{finding:?}");
        }
    }

    #[test]
    fn a_version_is_too_old_when_most_peers_have_a_newer_one() {
        let peers = |versions: &[&str]| -> Vec<PeerInfo> {
            let peer = |version: &&str| PeerInfo { version: Some((*version).to_owned()), ..connected(1) };
            versions.iter().map(peer).collect()
        };
        let state = |versions: &[&str]| version("0.2.0", &peers(versions)).state;
        assert_eq!(state(&[]), State::Ok);
        assert_eq!(state(&["0.3.0"]), State::Ok, "one peer may say anything");
        assert_eq!(state(&["0.3.0", "0.10.0"]), State::Wrong);
        assert_eq!(state(&["0.3.0", "0.3.0", "0.2.0", "0.2.0"]), State::Ok);
        assert_eq!(state(&["0.1.9", "0.1.0-rc.1", "gibberish"]), State::Note);
        assert!(version("0.2.0", &peers(&["0.3.0", "0.10.0"])).what.contains("up to 0.10.0"));
    }
}
