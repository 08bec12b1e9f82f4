//! What this machine and others should have in common: the time, and the version.

use std::collections::BTreeMap;

use shoal_protocol::id::PeerId;
use shoal_protocol::limits::MAX_CLOCK_SKEW_MS;

use crate::network::{PeerInfo, UNNAMED};
use crate::views::doctor::{Check, Finding};

/// A difference between clocks that is worth a word, in milliseconds.
const NOTABLE_SKEW_MS: u64 = 30_000;
/// Peers that must have a newer version before this node is told that it is about to be left behind.
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

/// Whether this node's protocol version is one that its peers speak too. Strangers are those that it did not keep because
/// theirs is not.
pub(super) fn version(own: u8, peers: &[PeerInfo], strangers: &BTreeMap<PeerId, u8>) -> Finding {
    if strangers.is_empty() {
        return neighbours(own, peers);
    }
    let is_old = strangers.values().any(|version| *version > own);
    let is_new = strangers.values().any(|version| *version < own);
    let what = format!("{}; this node speaks {own}", spoken(strangers.values()));
    let why = "only neighbouring versions work together: those peers and this node have nothing to do with each other";
    let remedy = match (is_old, is_new) {
        (true, false) => "this node is too old: install the version that the others have",
        (false, _) => "those peers are too old: tell their operators that there is a newer version",
        (true, true) => "install the version that most of the others have, and tell the operators of the older ones",
    };
    if strangers.len() > peers.len() {
        Finding::wrong(Check::Version, what, why, remedy)
    } else {
        Finding::note(Check::Version, what, why, remedy)
    }
}

/// Whether the peers that work with this node are about to leave it behind.
fn neighbours(own: u8, peers: &[PeerInfo]) -> Finding {
    let told: Vec<u8> = peers.iter().filter_map(|peer| peer.protocol).collect();
    let newer = told.iter().filter(|version| **version > own).count();
    let ok = format!("version {}, protocol version {own}", env!("CARGO_PKG_VERSION"));
    if newer < ENOUGH_PEERS || newer * 2 <= told.len() {
        return Finding::ok(Check::Version, ok);
    }
    Finding::note(
        Check::Version,
        format!("{ok}: {newer} of {} peers have the next one", told.len()),
        "they work with this node until they have the one after that",
        "install the version that the others have",
    )
}

/// How many peers speak which version, the newest first.
fn spoken<'a>(versions: impl Iterator<Item = &'a u8>) -> String {
    let mut counts: BTreeMap<u8, u32> = BTreeMap::new();
    versions.for_each(|version| *counts.entry(*version).or_default() += 1);
    let words = counts.into_iter().rev().map(|(version, count)| match (count, version) {
        (1, UNNAMED) => "1 peer names no protocol version".to_owned(),
        (_, UNNAMED) => format!("{count} peers name no protocol version"),
        (1, _) => format!("1 peer speaks protocol version {version}"),
        _ => format!("{count} peers speak protocol version {version}"),
    });
    words.collect::<Vec<_>>().join(", ")
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

    fn peers(protocols: &[u8]) -> Vec<PeerInfo> {
        protocols.iter().map(|version| PeerInfo { protocol: Some(*version), ..connected(1) }).collect()
    }

    fn strangers(versions: &[u8]) -> BTreeMap<PeerId, u8> {
        (0..).map(|n| PeerId([n; 32])).zip(versions.iter().copied()).collect()
    }

    #[test]
    fn a_version_is_too_old_when_most_peers_are_too_new_for_it() {
        let table: [(&[u8], &[u8], State, &str); 6] = [
            (&[], &[9, 9, 9], State::Wrong, "3 peers speak protocol version 9; this node speaks 6"),
            (&[], &[8], State::Wrong, "1 peer speaks protocol version 8; this node speaks 6"),
            (&[6, 7], &[8], State::Note, "1 peer speaks protocol version 8"),
            (&[6], &[4, UNNAMED], State::Wrong, "1 peer speaks protocol version 4, 1 peer names no protocol version"),
            (&[6, 6], &[], State::Ok, "protocol version 6"),
            (&[], &[], State::Ok, "protocol version 6"),
        ];
        for (kept, far, state, words) in table {
            let finding = version(6, &peers(kept), &strangers(far));
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.what.contains(words), "{finding:?}");
        }
    }

    #[test]
    fn whoever_is_too_old_is_told_to_be_updated() {
        let remedy = |far: &[u8]| version(6, &[], &strangers(far)).remedy.unwrap_or_default();
        assert!(remedy(&[8]).starts_with("this node is too old"));
        assert!(remedy(&[4]).starts_with("those peers are too old"));
        assert!(remedy(&[4, 8]).contains("most of the others"));
    }

    #[test]
    fn a_node_that_its_peers_are_about_to_leave_behind_is_told_in_time() {
        let state = |kept: &[u8]| version(6, &peers(kept), &BTreeMap::new()).state;
        assert_eq!([state(&[7]), state(&[7, 7]), state(&[7, 7, 6, 6])], [State::Ok, State::Note, State::Ok]);
    }
}
