//! What a node thinks of a peer, from what it has seen itself.

use serde::{Deserialize, Serialize};
use shoal_protocol::credibility::Grade;
use shoal_protocol::record::Standing;
use shoal_protocol::time::Time;

/// What a node thinks of a peer.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StandingView {
    /// `good`, `low` (it comes after everybody else) or `bad` (nothing is done for it, and nothing asked of it).
    pub grade: String,
    /// What counts against it now; it fades.
    pub demerits: f64,
    /// Its executions that agreed with the result.
    pub agreed: u32,
    /// Its executions that did not.
    pub dissented: u32,
    /// Its commitments that were never opened, or opened falsely, and results that it withheld.
    pub faults: u32,
    /// Awards that it had bid for and did not answer.
    pub unstarted: u32,
    /// Executions of its jobs that it settled.
    pub settled: u32,
    /// Executions of its jobs that it never settled.
    pub unsettled: u32,
    /// Times that it sent something else than the blob it was asked for.
    pub corrupt: u32,
}

impl StandingView {
    /// What counts now.
    pub fn of(standing: &Standing, now: Time) -> Self {
        // Who answered wrong gets no work, whatever else it does.
        let grade = match standing.grade(now) {
            _ if !standing.is_trusted(now) => "bad",
            Grade::Bad => "bad",
            Grade::Low => "low",
            Grade::Good => "good",
        };
        let Standing { agreed, dissented, faults, unstarted, settled, unsettled, corrupt, .. } = *standing;
        let demerits = f64::from(standing.demerits_at(now)) / 1_000.0;
        Self { grade: grade.into(), demerits, agreed, dissented, faults, unstarted, settled, unsettled, corrupt }
    }
}
