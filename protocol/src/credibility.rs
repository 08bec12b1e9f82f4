//! What this node thinks of its peers, from what it has seen itself.
//!
//! Standings are never taken from others: receipts travel, trust does not. A wrong answer is remembered for a month; all
//! else fades, so that nobody is shut out for ever, and good work makes up for it.

use std::collections::BTreeMap;

use crate::id::PeerId;
use crate::limits::{
    BAD_DEMERITS, DEMERITS_HALF_LIFE_MS, DISTRUST_MS, FIRST_CREDIT, LOW_DEMERITS, MAX_HELD_PER_REQUESTER, MAX_STANDINGS,
};
use crate::record::Standing;
use crate::time::{Millis, Time};

/// The standings of peers that this node has dealt with.
#[derive(Debug, Default, Clone)]
pub struct Ledger(BTreeMap<PeerId, Standing>);

/// What a peer showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// A worker's answer was the result.
    Agreed,
    /// Its answer was not the result.
    Dissented,
    /// It committed and did not open its commitment truly, or gave no result for it, or an answer that an honest worker
    /// might have given too was not the result.
    Fault,
    /// It had bid, and did not answer the award.
    Unstarted,
    /// A requester settled an execution.
    Settled,
    /// It let this node finish an execution, and never settled it.
    Unsettled,
    /// A provider sent something else than the blob it was asked for.
    Corrupt,
}

/// How much counts against a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Nothing to speak of.
    Good,
    /// So much that it comes after everybody else: as a requester, as a worker.
    Low,
    /// So much that nothing is done for it and nothing asked of it, for now.
    Bad,
}

impl Ledger {
    /// Takes up a standing that was saved.
    pub fn restore(&mut self, peer: PeerId, standing: Standing) {
        self.0.insert(peer, standing);
    }

    /// Notes what a peer showed. Returns its new standing, to be saved, and who is forgotten for it.
    pub fn note(&mut self, now: Time, peer: PeerId, sign: Sign) -> (Standing, Option<PeerId>) {
        let forgotten = if self.0.contains_key(&peer) { None } else { self.make_room(now) };
        let standing = self.0.entry(peer).or_default();
        standing.note(now, sign);
        (*standing, forgotten)
    }

    /// Whether the peer may be awarded anything: not if it gave a wrong answer lately, or if too much else counts against it.
    pub fn is_trusted(&self, now: Time, peer: PeerId) -> bool {
        self.standing(peer).is_trusted(now)
    }

    /// Peers that may not be awarded anything.
    pub fn distrusted(&self, now: Time) -> impl Iterator<Item = PeerId> + '_ {
        self.0.iter().filter(move |(_, standing)| !standing.is_trusted(now)).map(|(peer, _)| *peer)
    }

    /// Peers that something counts against now, with their standings.
    pub fn doubted(&self, now: Time) -> impl Iterator<Item = (PeerId, Standing)> + '_ {
        self.0.iter().filter(move |(_, standing)| standing.grade(now) != Grade::Good).map(|(peer, of)| (*peer, *of))
    }

    /// The share of faults among what the peer did, from 0 to 1; a newcomer has none.
    pub fn fault_rate(&self, peer: PeerId) -> f64 {
        let standing = self.standing(peer);
        let faults = f64::from(standing.faults);
        // One virtual success: a single fault of a newcomer is bad luck, a second one is a habit.
        faults / (faults + f64::from(standing.agreed) + 1.0)
    }

    /// What is known of a peer.
    pub fn standing(&self, peer: PeerId) -> Standing {
        self.0.get(&peer).copied().unwrap_or_default()
    }

    /// Forgets somebody when there are too many: of those that nothing counts against, whoever was not noted for longest.
    fn make_room(&mut self, now: Time) -> Option<PeerId> {
        if self.0.len() < MAX_STANDINGS {
            return None;
        }
        let place = |standing: &Standing| (!standing.is_trusted(now), standing.grade(now), standing.noted_at);
        let (peer, _) = self.0.iter().min_by_key(|(_, standing)| place(standing))?;
        let peer = *peer;
        self.0.remove(&peer);
        Some(peer)
    }
}

impl Standing {
    /// Whether what a sign made of the standing `before` has to be written down. Requesters settle with every execution:
    /// of that only each part of the credit is.
    pub fn is_news(&self, now: Time, before: &Standing, sign: Sign) -> bool {
        let is_part = usize::try_from(self.settled).is_ok_and(|settled| settled.is_multiple_of(FIRST_CREDIT));
        sign != Sign::Settled || is_part || self.grade(now) != before.grade(now)
    }

    /// Whether it may be awarded anything now.
    pub fn is_trusted(&self, now: Time) -> bool {
        let lied_lately = self.dissented_at.is_some_and(|at| now.since(at) <= DISTRUST_MS);
        !lied_lately && self.grade(now) != Grade::Bad
    }

    /// How much counts against the peer now, whatever its part. Who answers wrong may still have jobs of its own.
    pub fn grade(&self, now: Time) -> Grade {
        match self.demerits_at(now) {
            BAD_DEMERITS.. => Grade::Bad,
            LOW_DEMERITS.. => Grade::Low,
            _ => Grade::Good,
        }
    }

    /// For how much longer its grade is bad, in milliseconds.
    pub fn bad_for_ms(&self, now: Time) -> Millis {
        self.above_for_ms(now, BAD_DEMERITS)
    }

    /// For how much longer its grade is not good.
    pub fn low_for_ms(&self, now: Time) -> Millis {
        self.above_for_ms(now, LOW_DEMERITS)
    }

    fn above_for_ms(&self, now: Time, bound: u32) -> Millis {
        let demerits = f64::from(self.demerits_at(now));
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "days"
        )]
        let fading = ((demerits / f64::from(bound)).log2().max(0.0) * DEMERITS_HALF_LIFE_MS as f64) as Millis;
        fading
    }

    /// How many finished executions it may owe.
    pub fn credit(&self) -> usize {
        let earned = usize::try_from(self.settled).unwrap_or(usize::MAX);
        FIRST_CREDIT.saturating_add(earned).min(MAX_HELD_PER_REQUESTER)
    }

    /// What counts against it now, in thousandths.
    pub fn demerits_at(&self, now: Time) -> u32 {
        #[expect(clippy::cast_precision_loss, reason = "demerits are gone long before")]
        let halvings = now.since(self.noted_at) as f64 / DEMERITS_HALF_LIFE_MS as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no more than it was")]
        let left = (f64::from(self.demerits) * 0.5_f64.powf(halvings)) as u32;
        left
    }

    fn note(&mut self, now: Time, sign: Sign) {
        let count = match sign {
            Sign::Agreed => &mut self.agreed,
            Sign::Dissented => &mut self.dissented,
            Sign::Fault => &mut self.faults,
            Sign::Unstarted => &mut self.unstarted,
            Sign::Settled => &mut self.settled,
            Sign::Unsettled => &mut self.unsettled,
            Sign::Corrupt => &mut self.corrupt,
        };
        *count = count.saturating_add(1);
        if sign == Sign::Dissented {
            self.dissented_at = Some(now);
        }
        self.demerits = sign.weigh(self.demerits_at(now));
        self.noted_at = self.noted_at.max(now);
    }
}

impl Sign {
    /// What demerits become. A lost connection looks like silence, so that weighs little; whoever sends other bytes does so
    /// on purpose, or on a broken disk. Faults count by their share of a worker's work instead.
    fn weigh(self, demerits: u32) -> u32 {
        match self {
            Sign::Agreed | Sign::Settled => demerits.saturating_sub(100),
            Sign::Dissented | Sign::Fault => demerits,
            Sign::Unstarted | Sign::Unsettled => demerits.saturating_add(1_000),
            Sign::Corrupt => demerits.saturating_add(4_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);

    fn after(signs: &[(usize, Sign)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (times, sign) in signs {
            for _ in 0..*times {
                ledger.note(Time(0), PEER, *sign);
            }
        }
        ledger
    }

    #[test]
    fn a_liar_is_distrusted_for_a_month() {
        let mut ledger = Ledger::default();
        assert!(ledger.is_trusted(Time(0), PEER));
        ledger.note(Time(5), PEER, Sign::Dissented);
        assert!(!ledger.is_trusted(Time(5) + DISTRUST_MS, PEER));
        assert!(ledger.is_trusted(Time(6) + DISTRUST_MS, PEER));
        assert_eq!(ledger.distrusted(Time(6)).collect::<Vec<_>>(), [PEER]);
        assert_eq!(ledger.standing(PEER).grade(Time(6)), Grade::Good, "its own jobs are as good as others'");
    }

    #[test]
    fn faults_cost_rank_and_good_work_earns_it_back() {
        let mut ledger = after(&[(1, Sign::Fault)]);
        let fresh = ledger.fault_rate(PEER);
        for _ in 0..9 {
            ledger.note(Time(0), PEER, Sign::Agreed);
        }
        assert!(ledger.fault_rate(PEER) < fresh);
        assert!(ledger.is_trusted(Time(0), PEER));
    }

    #[test]
    fn a_habit_costs_trust_and_bad_luck_among_good_work_does_not() {
        let table = [
            (vec![(1, Sign::Unsettled)], Grade::Good),
            (vec![(3, Sign::Unsettled)], Grade::Low),
            (vec![(10, Sign::Unsettled)], Grade::Bad),
            (vec![(10, Sign::Unstarted)], Grade::Bad),
            (vec![(1, Sign::Corrupt)], Grade::Low),
            (vec![(3, Sign::Corrupt)], Grade::Bad),
            (vec![(4, Sign::Unstarted), (20, Sign::Agreed)], Grade::Good),
            (vec![(4, Sign::Unsettled), (20, Sign::Settled)], Grade::Good),
        ];
        for (signs, expected) in table {
            assert_eq!(after(&signs).standing(PEER).grade(Time(0)), expected, "{signs:?}");
        }
    }

    #[test]
    fn nobody_is_shut_out_for_ever() {
        let standing = after(&[(20, Sign::Unsettled)]).standing(PEER);
        let bad_for = standing.bad_for_ms(Time(0));
        assert_eq!(bad_for, DEMERITS_HALF_LIFE_MS);
        let grades = [bad_for - 1_000, bad_for + 1_000, 3 * bad_for].map(|at| standing.grade(Time(at)));
        assert_eq!(grades, [Grade::Bad, Grade::Low, Grade::Good]);
        let low_for = standing.low_for_ms(Time(0));
        let grades = [low_for - 1_000, low_for + 1_000].map(|at| standing.grade(Time(at)));
        assert_eq!(grades, [Grade::Low, Grade::Good]);
        assert_eq!(Standing::default().low_for_ms(Time(0)), 0);
    }

    #[test]
    fn credit_is_earned_by_settling_and_has_an_end() {
        assert_eq!(Standing::default().credit(), FIRST_CREDIT);
        assert_eq!(after(&[(10, Sign::Settled)]).standing(PEER).credit(), FIRST_CREDIT + 10);
        let regular = after(&[(5_000, Sign::Settled)]).standing(PEER);
        assert_eq!(regular.credit(), MAX_HELD_PER_REQUESTER);
    }

    #[test]
    fn settling_is_written_down_now_and_then_and_all_else_at_once() {
        let news = |signs: &[(usize, Sign)], sign| {
            let mut ledger = after(signs);
            let before = ledger.standing(PEER);
            ledger.note(Time(0), PEER, sign).0.is_news(Time(0), &before, sign)
        };
        assert!(!news(&[], Sign::Settled) && news(&[(FIRST_CREDIT - 1, Sign::Settled)], Sign::Settled));
        assert!(news(&[(3, Sign::Unsettled)], Sign::Settled), "it is no longer low");
        assert!(news(&[], Sign::Agreed) && news(&[], Sign::Unsettled));
    }

    #[test]
    fn a_swarm_of_strangers_makes_nobody_forgotten_who_is_distrusted() {
        let mut ledger = after(&[(1, Sign::Dissented)]);
        for number in 0..2 * MAX_STANDINGS {
            let name = PeerId(std::array::from_fn(|i| number.to_le_bytes().get(i).copied().unwrap_or(7)));
            let (_, forgotten) = ledger.note(Time(1), name, Sign::Settled);
            assert_ne!(forgotten, Some(PEER));
        }
        assert_eq!(ledger.0.len(), MAX_STANDINGS);
        assert!(!ledger.is_trusted(Time(1), PEER));
    }
}
