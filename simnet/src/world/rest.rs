//! The world at rest: what must have happened by now, and what it all came to.

use std::collections::BTreeMap;

use shoal_protocol::record::JobState;

use super::World;
use crate::report::{Report, Spread, outcome};

impl World {
    /// Looks at everything once more, and sums up.
    pub(super) fn report(mut self, errors: u64) -> Report {
        let outcomes = self.outcomes();
        self.check_rest(&outcomes);
        if errors > 0 {
            let place = self.place(0);
            self.checks.never(place, || format!("{errors} errors were logged"));
        }
        let jobs = self.tasks.len();
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let per_job = |total: u64| total as f64 / jobs.max(1) as f64;
        let figures = |map: BTreeMap<_, u64>| Spread::of(map.into_values().collect());
        let stats = self.stats;
        Report {
            scenario: self.scenario.name.into(),
            seed: self.setup.seed,
            nodes: self.nodes.len(),
            jobs,
            outcomes,
            bids: Spread::of(stats.bids.into_values().collect()),
            rounds: Spread::of(stats.rounds.into_values().collect()),
            executions: figures(stats.executions),
            bidding_ms: Spread::of(stats.bidding),
            latency_ms: Spread::of(stats.latencies),
            messages_per_job: per_job(stats.messages.values().sum()),
            bytes_per_job: per_job(stats.bytes),
            messages: stats.messages,
            largest: stats.largest,
            crashes: stats.crashes,
            events: stats.events,
            virtual_ms: self.queue.now(),
            digest: format!("{:016x}", stats.digest),
            violations: self.checks.told,
            violation_count: self.checks.count,
            wall_ms: 0,
        }
    }

    fn outcomes(&self) -> BTreeMap<String, u64> {
        let mut outcomes = BTreeMap::new();
        for task in &self.tasks {
            let outcome = outcome(self.nodes[task.owner as usize].disk.job(task.job));
            *outcomes.entry(outcome).or_default() += 1;
        }
        outcomes
    }

    fn check_rest(&mut self, outcomes: &BTreeMap<String, u64>) {
        for number in 0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX) {
            let place = self.place(number);
            let node = &self.nodes[number as usize];
            if let Some(machine) = &node.machine {
                self.checks.at_rest(place, machine, &node.disk);
            }
        }
        let state = |task: &super::Task| self.nodes[task.owner as usize].disk.job(task.job).map(|job| job.state);
        let states: Vec<_> = self.tasks.iter().map(state).collect();
        let place = self.place(0);
        let open = states.iter().filter(|state| state.is_none_or(|state| !state.is_over())).count();
        if open > 0 {
            self.checks.never(place, || format!("{open} jobs never ended"));
        }
        let completed = states.iter().filter(|state| **state == Some(JobState::Completed)).count();
        let wanted = states.len() - states.iter().filter(|state| **state == Some(JobState::Stopped)).count();
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let enough = completed as f64 >= (self.scenario.complete * wanted as f64).floor();
        if !enough {
            self.checks.never(place, || format!("only {completed} of {wanted} jobs completed: {outcomes:?}"));
        }
    }
}
