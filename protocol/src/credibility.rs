//! What this node thinks of its peers, from what it has seen itself.
//!
//! Standings are never taken from others: receipts travel, trust does not.

use std::collections::BTreeMap;

use crate::id::PeerId;
use crate::limits::DISTRUST_MS;
use crate::record::Standing;
use crate::time::Time;

/// The standings of all peers that this node has dealt with.
#[derive(Debug, Default, Clone)]
pub struct Ledger(BTreeMap<PeerId, Standing>);

/// What an execution showed of its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Its answer was the result.
    Agreed,
    /// Its answer was not the result.
    Dissented,
    /// It committed and did not open its commitment truly, or gave no result for it, or an answer that an honest worker
    /// might have given too was not the result.
    Fault,
}

impl Ledger {
    /// Takes up a standing that was saved.
    pub fn restore(&mut self, peer: PeerId, standing: Standing) {
        self.0.insert(peer, standing);
    }

    /// Notes what a peer showed; returns its new standing, to be saved.
    pub fn note(&mut self, now: Time, peer: PeerId, sign: Sign) -> Standing {
        let standing = self.0.entry(peer).or_default();
        match sign {
            Sign::Agreed => standing.agreed = standing.agreed.saturating_add(1),
            Sign::Fault => standing.faults = standing.faults.saturating_add(1),
            Sign::Dissented => {
                standing.dissented = standing.dissented.saturating_add(1);
                standing.dissented_at = Some(now);
            }
        }
        *standing
    }

    /// Whether the peer may be awarded anything: not if it gave a wrong answer lately.
    pub fn is_trusted(&self, now: Time, peer: PeerId) -> bool {
        self.standing(peer).dissented_at.is_none_or(|at| now.since(at) > DISTRUST_MS)
    }

    /// Peers that may not be awarded anything.
    pub fn distrusted(&self, now: Time) -> impl Iterator<Item = PeerId> + '_ {
        self.0.keys().copied().filter(move |peer| !self.is_trusted(now, *peer))
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIAR: PeerId = PeerId([1; 32]);

    #[test]
    fn a_liar_is_distrusted_for_a_month() {
        let mut ledger = Ledger::default();
        assert!(ledger.is_trusted(Time(0), LIAR));
        ledger.note(Time(5), LIAR, Sign::Dissented);
        assert!(!ledger.is_trusted(Time(5) + DISTRUST_MS, LIAR));
        assert!(ledger.is_trusted(Time(6) + DISTRUST_MS, LIAR));
        assert_eq!(ledger.distrusted(Time(6)).collect::<Vec<_>>(), [LIAR]);
    }

    #[test]
    fn faults_cost_rank_and_good_work_earns_it_back() {
        let mut ledger = Ledger::default();
        ledger.note(Time(0), LIAR, Sign::Fault);
        let fresh = ledger.fault_rate(LIAR);
        for _ in 0..9 {
            ledger.note(Time(0), LIAR, Sign::Agreed);
        }
        assert!(ledger.fault_rate(LIAR) < fresh);
        assert!(ledger.is_trusted(Time(0), LIAR));
    }
}
