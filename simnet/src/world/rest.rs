//! The world at rest: what must have happened by now, and what it all came to.

use std::collections::BTreeMap;

use shoal_protocol::id::JobId;
use shoal_protocol::record::{ExecutionState, JobState};

use super::{Node, World};
use crate::peers::Behaviour;
use crate::report::{Report, Spread, outcome};
use crate::scenarios::Scenario;

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
            hearers: Spread::of(stats.hearers),
            reach_ms: Spread::of(stats.reach),
            bids: Spread::of(stats.bids.into_values().collect()),
            rounds: Spread::of(stats.rounds.into_values().collect()),
            executions: figures(stats.executions),
            bidding_ms: Spread::of(stats.bidding),
            latency_ms: Spread::of(stats.latencies),
            messages_per_job: per_job(stats.messages.values().sum()),
            bytes_per_job: per_job(stats.bytes),
            heard_bytes_per_job: per_job(stats.heard_bytes),
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
        self.check_standings();
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

    /// Whether one of those that made the result of a job is honest.
    fn an_honest_worker_agreed(&self, owner: &Node, job: JobId) -> bool {
        let executions = owner.disk.saved(job).into_iter().flat_map(|saved| saved.executions.values());
        let mut agreed = executions.filter(|execution| execution.state == ExecutionState::Agreed);
        let is_honest = |node: &Node| node.behaviour == Behaviour::Honest;
        agreed.any(|execution| self.nodes.iter().any(|node| node.me == execution.worker && is_honest(node)))
    }

    /// Whoever lets others work in vain is known for it, and nobody else is. Where messages are lost or nodes crash, honest
    /// ones may look as if they did not answer.
    fn check_standings(&mut self) {
        let mut debtors: BTreeMap<u32, bool> = BTreeMap::new();
        for task in &self.tasks {
            let owner = &self.nodes[task.owner as usize];
            if owner.behaviour == Behaviour::Debtor && self.an_honest_worker_agreed(owner, task.job) {
                debtors.insert(task.owner, false);
            }
        }
        let Scenario { crashes, partitions, late, profile, .. } = &self.scenario;
        let is_calm = *crashes == 0.0 && *partitions == 0 && *late == 0.0 && profile.loss == 0.0;
        let mut wronged = Vec::new();
        // What a peer that is not honest says may not leave it, so that it hears no answer either.
        let judges = self.nodes.iter().filter(|node| node.behaviour == Behaviour::Honest);
        for judge in judges.filter_map(|node| node.machine.as_ref()) {
            for (number, node) in (0_u32..).zip(&self.nodes) {
                let standing = judge.ledger().standing(node.me);
                match node.behaviour {
                    Behaviour::Debtor if standing.unsettled > 0 => drop(debtors.insert(number, true)),
                    Behaviour::Honest if standing.unsettled > 0 || (is_calm && standing.unstarted > 0) => {
                        wronged.push((number, standing));
                    }
                    _ => {}
                }
            }
        }
        let unknown = debtors.into_iter().filter(|(_, known)| !known).map(|(number, _)| number);
        for number in unknown.collect::<Vec<_>>() {
            let place = self.place(number);
            self.checks.never(place, || "it settled nothing, and nobody holds that against it".into());
        }
        for (number, standing) in wronged {
            let place = self.place(number);
            self.checks.never(place, || format!("it is honest, and is thought ill of: {standing:?}"));
        }
    }
}
