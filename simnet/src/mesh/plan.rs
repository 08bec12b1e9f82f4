//! What is done to the nodes of a run, and when: drawn from the seed before it begins.

use std::time::Duration;

use super::{MIN_NODES, MeshSetup};
use crate::chance::Chance;
use crate::scenarios::Scenario;

/// Time in which everything happens, in milliseconds for each job: a mesh on one machine has work all the while.
const SPREAD_MS_PER_JOB: u64 = 250;
/// How long a node that is restarted stays away, in milliseconds.
const AWAY_MS: (u64, u64) = (100, 1_500);

/// A run before it begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Nodes that are there from the start.
    pub(super) early: Vec<usize>,
    /// What is done, by time since the start.
    pub(super) steps: Vec<(Duration, Action)>,
}

/// Something that is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    /// It is started for the first time, or again on its data directory.
    Start(usize),
    /// It is given a job; if it is away, the next one is.
    Submit(usize),
    /// It is shut down.
    Stop(usize),
}

impl Plan {
    /// Draws a run of a scenario.
    pub(super) fn draw(scenario: &Scenario, setup: MeshSetup) -> Self {
        let mut chance = Chance::new(setup.seed);
        let spread_ms = SPREAD_MS_PER_JOB * setup.jobs as u64;
        // Below that nobody could be found who agrees.
        let late = portion(scenario.late, setup.nodes).min(setup.nodes - MIN_NODES);
        let early = setup.nodes - late;
        let mut steps = Vec::new();
        for node in early..setup.nodes {
            steps.push((chance.between(0, spread_ms), Action::Start(node)));
        }
        for _ in 0..setup.jobs {
            steps.push((chance.between(0, spread_ms), Action::Submit(chance.below(setup.nodes))));
        }
        for _ in 0..portion(scenario.crashes, early) {
            let (node, at) = (chance.below(early), chance.between(0, spread_ms));
            steps.push((at, Action::Stop(node)));
            steps.push((at + chance.between(AWAY_MS.0, AWAY_MS.1), Action::Start(node)));
        }
        steps.sort_unstable();
        let steps = steps.into_iter().map(|(at, action)| (Duration::from_millis(at), action)).collect();
        Self { early: (0..early).collect(), steps }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a few nodes")]
fn portion(share: f64, of: usize) -> usize {
    (share * of as f64).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::named;

    fn plan(name: &str, seed: u64) -> Plan {
        Plan::draw(
            &named(name).expect("real nodes can run it"),
            MeshSetup { nodes: 8, jobs: 20, seed, shard_nodes: 256 },
        )
    }

    fn count(plan: &Plan, which: fn(&Action) -> bool) -> usize {
        plan.steps.iter().filter(|(_, action)| which(action)).count()
    }

    #[test]
    fn equal_seeds_give_equal_plans() {
        assert_eq!(plan("churn", 7), plan("churn", 7));
        assert_ne!(plan("churn", 7), plan("churn", 8));
    }

    #[test]
    fn a_calm_run_only_submits() {
        let plan = plan("calm", 1);
        assert_eq!((plan.early.len(), plan.steps.len()), (8, 20));
        assert_eq!(count(&plan, |action| matches!(action, Action::Submit(_))), 20);
    }

    #[test]
    fn whoever_is_stopped_or_late_is_started_later() {
        for (name, late, stops) in [("crashes", 0, 12), ("churn", 4, 3)] {
            let plan = plan(name, 3);
            assert_eq!(8 - plan.early.len(), late, "{name}");
            assert_eq!(count(&plan, |action| matches!(action, Action::Stop(_))), stops, "{name}");
            assert_eq!(count(&plan, |action| matches!(action, Action::Start(_))), late + stops, "{name}");
            for (at, action) in &plan.steps {
                let Action::Stop(node) = action else { continue };
                assert!(plan.steps.iter().any(|(then, what)| then > at && *what == Action::Start(*node)), "{name}");
            }
        }
    }
}
