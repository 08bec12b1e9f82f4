//! What a run with real nodes came to, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::MeshSetup;
use super::findings::{self, Ended};
use crate::report::{Spread, outcome, spread_table, violation_lines};
use crate::scenarios::Scenario;

/// Figures and findings of one run with real nodes.
#[derive(Debug, Clone, Serialize)]
pub struct MeshReport {
    /// The scenario's name.
    pub scenario: String,
    /// The seed of the plan.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of jobs.
    pub jobs: usize,
    /// Jobs by how they ended: state, and the beginning of the reason.
    pub outcomes: BTreeMap<String, u64>,
    /// Rounds of announcement of one job.
    pub rounds: Spread,
    /// Bids that its requester heard for one job.
    pub bids: Spread,
    /// Executions awarded for one job.
    pub executions: Spread,
    /// Submit to completion, in milliseconds.
    pub latency_ms: Spread,
    /// Nodes that were shut down and started again.
    pub restarts: u64,
    /// How long it all took, in milliseconds.
    pub wall_ms: u64,
    /// What did not happen that must, or happened that may not.
    pub violations: Vec<String>,
}

impl MeshReport {
    /// Sums up how the jobs ended.
    pub(super) fn of(scenario: &Scenario, setup: MeshSetup, jobs: &[Ended], restarts: u64, took: Duration) -> Self {
        let mut outcomes = BTreeMap::new();
        for job in jobs {
            *outcomes.entry(outcome(job.record.as_ref())).or_default() += 1;
        }
        let records = || jobs.iter().filter_map(|job| job.record.as_ref());
        let completed = jobs.iter().filter(|job| job.is_completed()).filter_map(|job| job.record.as_ref());
        Self {
            scenario: scenario.name.into(),
            seed: setup.seed,
            nodes: setup.nodes,
            jobs: jobs.len(),
            outcomes,
            rounds: Spread::of(records().map(|record| u64::from(record.rounds)).collect()),
            bids: Spread::of(jobs.iter().map(|job| job.bids).collect()),
            executions: Spread::of(jobs.iter().map(|job| job.executions.len() as u64).collect()),
            latency_ms: Spread::of(completed.map(|record| record.modified.since(record.created)).collect()),
            restarts,
            wall_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            violations: findings::violations(scenario, jobs),
        }
    }

    /// Whether nothing went wrong.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty()
    }

    /// As a table for people.
    pub fn table(&self) -> String {
        let Self { scenario, seed, nodes, jobs, .. } = self;
        let mut text = format!("{scenario}: {nodes} real nodes, {jobs} jobs, seed {seed}\n");
        text += &spread_table(&[
            ("rounds per job", self.rounds),
            ("bids per job", self.bids),
            ("executions per job", self.executions),
            ("submit to result, ms", self.latency_ms),
        ]);
        for (outcome, count) in &self.outcomes {
            let _ = writeln!(text, "  {count:>5} × {outcome}");
        }
        let (seconds, millis) = (self.wall_ms / 1_000, self.wall_ms % 1_000);
        let _ = writeln!(text, "  {} restarts, {seconds}.{millis:03} s", self.restarts);
        text + &violation_lines(&self.violations)
    }
}
