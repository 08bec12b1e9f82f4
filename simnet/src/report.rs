//! What a run came to, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use shoal_protocol::record::JobRecord;

/// Characters of a reason that tell kinds of endings apart.
const REASON_CHARS: usize = 120;

/// Figures and findings of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of jobs.
    pub jobs: usize,
    /// Jobs by how they ended: state, and the beginning of the reason.
    pub outcomes: BTreeMap<String, u64>,
    /// Nodes that hear an announcement.
    pub hearers: Spread,
    /// When an announcement reaches one of them, in milliseconds of virtual time.
    pub reach_ms: Spread,
    /// Bids for one round of announcement.
    pub bids: Spread,
    /// Rounds of announcement of one job.
    pub rounds: Spread,
    /// Executions awarded for one partition.
    pub executions: Spread,
    /// First announcement of a job to its first award, in milliseconds of virtual time.
    pub bidding_ms: Spread,
    /// Submit to completion, in milliseconds of virtual time.
    pub latency_ms: Spread,
    /// Messages of one job, gossip counted once.
    pub messages_per_job: f64,
    /// Bytes of one job's messages as signed and sent, gossip counted once.
    pub bytes_per_job: f64,
    /// Bytes of one job's gossip that all nodes together hear, each message counted once a node: what a node hears
    /// while each submits one job.
    pub heard_bytes_per_job: f64,
    /// Messages by kind.
    pub messages: BTreeMap<&'static str, u64>,
    /// Largest sealed message of each kind, in bytes.
    pub largest: BTreeMap<&'static str, usize>,
    /// Crashes and restarts that took place.
    pub crashes: u64,
    /// Events that were handled.
    pub events: u64,
    /// Virtual time until the world came to rest, in milliseconds.
    pub virtual_ms: u64,
    /// Names everything that happened: equal for equal runs.
    pub digest: String,
    /// What happened that may not, or did not happen that must.
    pub violations: Vec<String>,
    /// All of them, also those that are not told one by one.
    pub violation_count: u64,
    /// Real time, in milliseconds; the only field that differs between equal runs.
    pub wall_ms: u64,
}

/// How a figure is spread.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// How many were measured.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Half are at most this.
    pub p50: u64,
    /// 95 of 100 are at most this.
    pub p95: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Spread {
    /// The spread of these figures.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn of(mut figures: Vec<u64>) -> Self {
        figures.sort_unstable();
        let at = |percent: usize| figures.get((figures.len() * percent / 100).min(figures.len().saturating_sub(1)));
        let at = |percent| at(percent).copied().unwrap_or(0);
        let mean = figures.iter().sum::<u64>() as f64 / figures.len().max(1) as f64;
        Self { count: figures.len(), mean, p50: at(50), p95: at(95), p99: at(99), max: at(100) }
    }
}

impl Report {
    /// Whether nothing went wrong.
    pub fn is_good(&self) -> bool {
        self.violation_count == 0
    }

    /// As a table for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let Self { scenario, seed, nodes, jobs, .. } = self;
        let _ = writeln!(text, "{scenario}: {nodes} nodes, {jobs} jobs, seed {seed}");
        let spreads = [
            ("nodes that hear", self.hearers),
            ("announcement's reach, ms", self.reach_ms),
            ("bids per round", self.bids),
            ("rounds per job", self.rounds),
            ("executions per partition", self.executions),
            ("announce to award, ms", self.bidding_ms),
            ("submit to result, ms", self.latency_ms),
        ];
        text += &spread_table(&spreads);
        let _ = writeln!(text, "  {:<26}{:>10.1}", "messages per job", self.messages_per_job);
        let _ = writeln!(text, "  {:<26}{:>10.0}", "bytes per job", self.bytes_per_job);
        let _ = writeln!(text, "  {:<26}{:>10.0}", "bytes heard per job", self.heard_bytes_per_job);
        let largest = self.largest.get("announce").copied().unwrap_or(0);
        let _ = writeln!(text, "  {:<26}{largest:>10}", "largest announce, bytes");
        for (outcome, count) in &self.outcomes {
            let _ = writeln!(text, "  {count:>5} × {outcome}");
        }
        let seconds = |ms: u64| format!("{}.{:03} s", ms / 1_000, ms % 1_000);
        let _ = writeln!(
            text,
            "  {} events, {} crashes, {} of virtual time in {} · digest {}",
            self.events,
            self.crashes,
            seconds(self.virtual_ms),
            seconds(self.wall_ms),
            self.digest
        );
        text += &violation_lines(&self.violations);
        let hidden = self.violation_count - self.violations.len() as u64;
        if hidden > 0 {
            let _ = writeln!(text, "  and {hidden} more violations");
        }
        text
    }
}

/// Spreads, one a line, under a heading.
pub(crate) fn spread_table(spreads: &[(&str, Spread)]) -> String {
    let mut text = format!("  {:<26}{:>10}{:>8}{:>8}{:>8}{:>8}\n", "", "mean", "p50", "p95", "p99", "max");
    for (name, s) in spreads {
        let _ = writeln!(text, "  {name:<26}{:>10.2}{:>8}{:>8}{:>8}{:>8}", s.mean, s.p50, s.p95, s.p99, s.max);
    }
    text
}

/// Violations, one a line.
pub(crate) fn violation_lines(violations: &[String]) -> String {
    violations.iter().map(|violation| format!("  VIOLATION {violation}\n")).collect()
}

/// How a job ended: its state, and the beginning of the reason.
pub(crate) fn outcome(job: Option<&JobRecord>) -> String {
    match job {
        None => "never saved".to_owned(),
        Some(job) if job.reason.is_empty() => format!("{:?}", job.state),
        Some(job) => format!("{:?}: {}", job.state, outline(&job.reason)),
    }
}

/// A reason without what differs from job to job: numbers and hashes.
fn outline(reason: &str) -> String {
    let word = |word: &str| {
        let hash = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        match hash.len() >= 8 && hash.chars().all(|c| c.is_ascii_hexdigit()) {
            true => word.replace(hash, "…"),
            false => word.to_owned(),
        }
    };
    let words: Vec<String> = reason.split(' ').map(word).collect();
    let mut text = String::new();
    for c in words.join(" ").chars().take(REASON_CHARS) {
        if !(c.is_ascii_digit() && text.ends_with('#')) {
            text.push(if c.is_ascii_digit() { '#' } else { c });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_of_few_figures_are_sound() {
        assert_eq!(Spread::of(Vec::new()), Spread::default());
        let spread = Spread::of((1..=100).rev().collect());
        assert_eq!((spread.p50, spread.p95, spread.p99, spread.max), (51, 96, 100, 100));
    }
}
