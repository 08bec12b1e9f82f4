//! Peers worth dialling again: those of tickets, of the last run, and those that were connected once.
//!
//! While connections are few, everybody known is tried, each with a growing pause. While there are enough, one of
//! them is tried now and then, so that two halves of a mesh that lost each other grow together again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shoal_protocol::id::PeerId;

use super::unreached::Unreached;

/// Peers that are remembered for this.
const MAX_KNOWN: usize = 256;
/// Fewer connected peers than this are few.
const ENOUGH: usize = 6;
/// Dials begun at once.
const MAX_DIALS: usize = 8;
/// Pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two dials of one peer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a peer is tried while there are enough connections.
const HEAL_PAUSE: Duration = Duration::from_secs(20);
/// Failures in a row after which a peer is forgotten, unless a ticket or the last run named it.
const MAX_FAILURES: u32 = 20;

/// The peers, and when each is due.
pub(super) struct Known {
    peers: BTreeMap<PeerId, Standing>,
    next_heal: Option<Instant>,
}

struct Standing {
    named: bool,
    failures: u32,
    due: Instant,
    /// Why the last dial failed.
    reason: Option<Unreached>,
}

/// A peer that is worth dialling, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// Who it is.
    pub peer: PeerId,
    /// Dials since it was connected last, or since the start.
    pub failures: u32,
    /// Why the last of them failed, once that is known.
    pub reason: Option<Unreached>,
}

impl Known {
    /// Peers that a ticket or the last run named. They are never forgotten.
    pub(super) fn new(named: impl IntoIterator<Item = PeerId>, now: Instant) -> Self {
        let named = named.into_iter().take(MAX_KNOWN);
        let peers = named.map(|peer| (peer, Standing::new(true, now))).collect();
        Self { peers, next_heal: None }
    }

    /// Notes that `peer` is connected: when it goes, it is tried again at once.
    pub(super) fn connected(&mut self, peer: PeerId, now: Instant) {
        if let Some(standing) = self.peers.get_mut(&peer) {
            (standing.failures, standing.due, standing.reason) = (0, now, None);
        } else if self.peers.len() < MAX_KNOWN {
            self.peers.insert(peer, Standing::new(false, now));
        }
    }

    /// Notes why a dial failed.
    pub(super) fn failed(&mut self, peer: PeerId, reason: Unreached) {
        if let Some(standing) = self.peers.get_mut(&peer) {
            standing.reason = Some(reason);
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<KnownPeer> {
        let view = |(peer, standing): (&PeerId, &Standing)| KnownPeer {
            peer: *peer,
            failures: standing.failures,
            reason: standing.reason.clone(),
        };
        self.peers.iter().map(view).collect()
    }

    /// Whom to dial now. `is_connected` says who needs no dial.
    pub(super) fn due(&mut self, now: Instant, connected: usize, is_connected: impl Fn(PeerId) -> bool) -> Vec<PeerId> {
        let limit = self.dials(now, connected);
        let waiting = self.peers.iter().filter(|(peer, standing)| standing.due <= now && !is_connected(**peer));
        let mut waiting: Vec<_> = waiting.map(|(peer, standing)| (standing.due, *peer)).collect();
        waiting.sort_unstable();
        waiting.truncate(limit);
        for (_, peer) in &waiting {
            self.dialled(*peer, now);
        }
        waiting.into_iter().map(|(_, peer)| peer).collect()
    }

    /// How many dials may begin now.
    fn dials(&mut self, now: Instant, connected: usize) -> usize {
        if connected < ENOUGH {
            return MAX_DIALS;
        }
        let due = *self.next_heal.get_or_insert(now + HEAL_PAUSE) <= now;
        if due {
            self.next_heal = Some(now + HEAL_PAUSE);
        }
        usize::from(due)
    }

    /// Counts a dial as failed until [`connected`](Self::connected) says otherwise.
    fn dialled(&mut self, peer: PeerId, now: Instant) {
        let Some(standing) = self.peers.get_mut(&peer) else { return };
        standing.due = now + FIRST_PAUSE.saturating_mul(1 << standing.failures.min(16)).min(LONGEST_PAUSE);
        standing.failures += 1;
        if standing.failures > MAX_FAILURES && !standing.named {
            self.peers.remove(&peer);
        }
    }
}

impl Standing {
    fn new(named: bool, now: Instant) -> Self {
        Self { named, failures: 0, due: now, reason: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u8) -> PeerId {
        PeerId([n; 32])
    }

    #[test]
    fn a_peer_that_does_not_answer_is_tried_with_growing_pauses() {
        let start = Instant::now();
        let mut known = Known::new([name(1)], start);
        let mut dials = Vec::new();
        for millis in (0..300_000).step_by(500) {
            let now = start + Duration::from_millis(millis);
            dials.extend(known.due(now, 0, |_| false).into_iter().map(|_| millis));
        }
        assert_eq!(dials[..5], [0, 500, 1_500, 3_500, 7_500]);
        assert!(dials.windows(2).all(|pair| pair[1] - pair[0] <= 60_000), "{dials:?}");
    }

    #[test]
    fn a_peer_that_was_connected_is_tried_again_at_once() {
        let now = Instant::now();
        let mut known = Known::new([], now);
        known.connected(name(1), now);
        assert_eq!(known.due(now, 1, |_| true), []);
        assert_eq!(known.due(now, 0, |_| false), [name(1)]);
    }

    #[test]
    fn why_a_peer_cannot_be_reached_is_told_until_it_can() {
        let now = Instant::now();
        let mut known = Known::new([name(1)], now);
        known.due(now, 0, |_| false);
        known.failed(name(1), Unreached::NoAnswer);
        known.failed(name(2), Unreached::NoAnswer);
        assert_eq!(known.all(), [KnownPeer { peer: name(1), failures: 1, reason: Some(Unreached::NoAnswer) }]);
        known.connected(name(1), now);
        assert_eq!(known.all(), [KnownPeer { peer: name(1), failures: 0, reason: None }]);
    }

    #[test]
    fn with_enough_connections_one_lost_peer_is_tried_now_and_then() {
        let now = Instant::now();
        let mut known = Known::new([name(1), name(2)], now);
        assert_eq!(known.due(now, ENOUGH, |_| false).len(), 0);
        assert_eq!(known.due(now + HEAL_PAUSE, ENOUGH, |_| false).len(), 1);
        assert_eq!(known.due(now + HEAL_PAUSE, ENOUGH, |_| false).len(), 0);
    }

    #[test]
    fn only_a_named_peer_is_never_forgotten() {
        let mut now = Instant::now();
        let mut known = Known::new([name(1)], now);
        known.connected(name(2), now);
        for _ in 0..100 {
            now += LONGEST_PAUSE;
            known.due(now, 0, |_| false);
        }
        assert_eq!(known.peers.keys().copied().collect::<Vec<_>>(), [name(1)]);
    }
}
