//! How a peer behaves on the wire, and when it is cut off: marks for what no honest peer does, which fade.
//!
//! It says nothing of work: that is a matter of [`credibility`](crate::credibility). And it is never for ever: a peer that
//! was cut off is let in again after a while, with a clean slate.

use std::collections::BTreeMap;

use crate::id::PeerId;
use crate::limits::{MAX_MARKED_PEERS, MAX_SHUNNED_PEERS, SHUN_MS};
use crate::time::{Millis, Time};

/// What no honest peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// It sent what is malformed, or not signed by whom it names.
    Forged,
    /// It sent more than it may, or passed on more of somebody than anybody may say.
    Excess,
    /// It passed on what others said long ago.
    Replayed,
}

/// Marks fade to half in this time: what is over within a minute costs minutes.
const HALF_LIFE_MS: Millis = 60_000;
/// Marks from which a peer is cut off: five forged messages, or a thousand too many. Gossip reads nothing more of a peer
/// with as many marks, so later ones would not be seen.
const CUT_OFF: f64 = 100.0;
/// Marks for light offences count up to here, which costs a peer its place among gossip's neighbours and never its
/// connection: a node that has only just started cannot tell a replay, and may pass it on in good faith.
const MOST_LIGHT: f64 = 20.0;

/// The marks of all peers.
#[derive(Debug, Default)]
pub struct Conduct {
    marked: BTreeMap<PeerId, Marks>,
    shunned: BTreeMap<PeerId, Time>,
}

#[derive(Debug, Clone, Copy)]
struct Marks {
    grave: f64,
    light: f64,
    at: Time,
}

/// What follows from an offence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Consequence {
    /// The peer's score among gossip's neighbours: zero or less.
    Score(f64),
    /// It is cut off until then.
    CutOff(Time),
}

impl Offence {
    fn marks(self) -> f64 {
        match self {
            Offence::Forged => 20.0,
            Offence::Excess | Offence::Replayed => 0.1,
        }
    }

    fn is_light(self) -> bool {
        self == Offence::Replayed
    }
}

impl Conduct {
    /// Notes what a peer did.
    pub fn note(&mut self, now: Time, peer: PeerId, offence: Offence) -> Consequence {
        self.make_room(now, peer);
        let marks = self.marked.entry(peer).or_insert(Marks { grave: 0.0, light: 0.0, at: now });
        *marks = marks.faded(now);
        if offence.is_light() {
            marks.light = (marks.light + offence.marks()).min(MOST_LIGHT);
        } else {
            marks.grave += offence.marks();
        }
        if marks.grave < CUT_OFF {
            return Consequence::Score(-marks.sum());
        }
        self.marked.remove(&peer);
        self.shun(peer, now + SHUN_MS);
        Consequence::CutOff(now + SHUN_MS)
    }

    /// What each marked peer's score has become. Marks that have faded away are forgotten.
    pub fn fade(&mut self, now: Time) -> Vec<(PeerId, f64)> {
        let scores = self.marked.iter().map(|(peer, marks)| (*peer, 0.0 - marks.faded(now).sum().floor())).collect();
        self.marked.retain(|_, marks| marks.faded(now).sum() >= 1.0);
        scores
    }

    /// Whether a peer is cut off now.
    pub fn is_shunned(&self, now: Time, peer: PeerId) -> bool {
        self.shunned.get(&peer).is_some_and(|until| now < *until)
    }

    /// The peers that are cut off now, and until when.
    pub fn shunned(&self, now: Time) -> impl Iterator<Item = (PeerId, Time)> + '_ {
        self.shunned.iter().filter(move |(_, until)| now < **until).map(|(peer, until)| (*peer, *until))
    }

    fn shun(&mut self, peer: PeerId, until: Time) {
        self.shunned.insert(peer, until);
        if self.shunned.len() > MAX_SHUNNED_PEERS {
            let soonest = self.shunned.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
            soonest.map(|peer| self.shunned.remove(&peer));
        }
    }

    /// Forgets whoever has the fewest marks when there are too many.
    fn make_room(&mut self, now: Time, newcomer: PeerId) {
        if self.marked.len() < MAX_MARKED_PEERS || self.marked.contains_key(&newcomer) {
            return;
        }
        let sum = |marks: &Marks| marks.faded(now).sum();
        let least = self.marked.iter().min_by(|a, b| sum(a.1).total_cmp(&sum(b.1))).map(|(peer, _)| *peer);
        least.map(|peer| self.marked.remove(&peer));
    }
}

impl Marks {
    fn faded(self, now: Time) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "marks are gone long before")]
        let left = 0.5_f64.powf(now.since(self.at) as f64 / HALF_LIFE_MS as f64);
        Self { grave: self.grave * left, light: self.light * left, at: self.at.max(now) }
    }

    fn sum(self) -> f64 {
        self.grave + self.light
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);

    fn after(conduct: &mut Conduct, times: u32, offence: Offence, every_ms: Millis) -> (u32, Option<f64>) {
        for number in 0..times {
            match conduct.note(Time(u64::from(number) * every_ms), PEER, offence) {
                Consequence::CutOff(_) => return (number + 1, None),
                Consequence::Score(score) if number + 1 == times => return (times, Some(score)),
                Consequence::Score(_) => {}
            }
        }
        (times, None)
    }

    #[test]
    fn whoever_forges_or_floods_is_cut_off_and_whoever_errs_now_and_then_is_not() {
        let table = [
            (Offence::Forged, 1, 0, (1, Some(-20.0))),
            (Offence::Forged, 1_000, 0, (5, None)),
            (Offence::Excess, 10_000, 0, (1_001, None)),
        ];
        for (offence, times, every_ms, expected) in table {
            assert_eq!(after(&mut Conduct::default(), times, offence, every_ms), expected, "{offence:?}");
        }
        let (_, score) = after(&mut Conduct::default(), 1_000, Offence::Forged, HALF_LIFE_MS);
        assert!(score.is_some_and(|score| score > -41.0), "{score:?}");
    }

    #[test]
    fn what_may_be_in_good_faith_never_costs_the_connection() {
        assert_eq!(after(&mut Conduct::default(), 100_000, Offence::Replayed, 0), (100_000, Some(-MOST_LIGHT)));
    }

    #[test]
    fn marks_fade_and_so_does_being_cut_off() {
        let mut conduct = Conduct::default();
        after(&mut conduct, 4, Offence::Forged, 0);
        assert_eq!(conduct.fade(Time(HALF_LIFE_MS)), [(PEER, -40.0)]);
        conduct.fade(Time(20 * HALF_LIFE_MS));
        assert_eq!(conduct.fade(Time(20 * HALF_LIFE_MS)), []);
        after(&mut conduct, 10, Offence::Forged, 0);
        assert!(conduct.is_shunned(Time(SHUN_MS - 1), PEER) && !conduct.is_shunned(Time(SHUN_MS), PEER));
        assert_eq!(conduct.shunned(Time(SHUN_MS)).count(), 0);
    }

    #[test]
    fn a_swarm_with_a_mark_each_does_not_wash_off_the_marks_of_another() {
        let mut conduct = Conduct::default();
        after(&mut conduct, 4, Offence::Forged, 0);
        for number in 0..2 * MAX_MARKED_PEERS {
            let name = PeerId(std::array::from_fn(|i| number.to_le_bytes().get(i).copied().unwrap_or(7)));
            conduct.note(Time(0), name, Offence::Forged);
        }
        assert_eq!(conduct.marked.len(), MAX_MARKED_PEERS);
        assert!(matches!(conduct.note(Time(0), PEER, Offence::Forged), Consequence::CutOff(_)));
    }
}
