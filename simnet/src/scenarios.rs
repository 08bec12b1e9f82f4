//! The named worlds that a run can take place in: what the network, the nodes and the jobs are like.

use shoal_protocol::shard::SHARD_NODES;

use crate::links::{Distance, Profile};
use crate::peers::Behaviour;

/// A kind of world.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for, in a line.
    pub about: &'static str,
    /// The network while faults last.
    pub profile: Profile,
    /// Faults end then, in milliseconds of virtual time.
    pub heal_ms: u64,
    /// How often a node crashes before that, on average.
    pub crashes: f64,
    /// How often the mesh is cut in two before that.
    pub partitions: u32,
    /// Share of nodes that join late.
    pub late: f64,
    /// Share of nodes that have an executor.
    pub workers: f64,
    /// Who is not honest.
    pub peers: Vec<Crowd>,
    /// Share of runs and fetches that fail for reasons of the worker's machine.
    pub host_failures: f64,
    /// Share of tries to publish a result that fail.
    pub publish_failures: f64,
    /// Share of jobs that their owner stops.
    pub stops: f64,
    /// The jobs.
    pub load: Load,
    /// Least share of the jobs that must complete, rounded down to whole jobs.
    pub complete: f64,
    /// What is broken on purpose, to see that the checks notice.
    pub sabotage: Option<Sabotage>,
    /// Nodes that a shard has at least.
    pub shard_nodes: u32,
}

/// Nodes that behave alike.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// How they behave.
    pub behaviour: Behaviour,
    /// Their share of all nodes.
    pub share: f64,
    /// The most there are, whatever the share.
    pub at_most: usize,
    /// Whether they share one public network, and so one group.
    pub neighbours: bool,
}

/// What the jobs of a world are like.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// They are submitted within this time, in milliseconds.
    pub spread_ms: u64,
    /// A typical run, in milliseconds.
    pub run_ms: u64,
    /// Independent executions that must agree.
    pub agreement: u32,
    /// Executions at first.
    pub executions: u32,
    /// Most votes.
    pub max_executions: u32,
    /// Partitions of each job.
    pub partitions: u32,
    /// CPU of an execution, in thousandths of a core; a worker has 4,000.
    pub cpu_millis: u32,
    /// How long a job waits for workers, in milliseconds.
    pub queue_timeout_ms: u64,
    /// Number of different priorities.
    pub priorities: u64,
    /// Share of jobs whose results are published.
    pub published: f64,
}

/// A defect that the checks must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The disk keeps nothing about executions held for others.
    ForgetfulDisk,
    /// Workers do not survive an award: nothing is ever finished.
    DeadWorkers,
    /// A restarted node begins without its records.
    Amnesia,
}

const WAN: Profile = Profile::clean(Distance::Wan);

/// Share of jobs that are disputed when one vote in five is wrong and no two wrong ones are the same: those in which at
/// most two of seven are right, since three right ones lead every other by two. Whoever has lied to a requester is not
/// asked again, so in a run it is less.
const LONE_LIARS_DISPUTE: f64 = 0.0047;

const LOAD: Load = Load {
    spread_ms: 60_000,
    run_ms: 1_000,
    agreement: 2,
    executions: 3,
    max_executions: 7,
    partitions: 1,
    cpu_millis: 500,
    queue_timeout_ms: 600_000,
    priorities: 1,
    published: 0.0,
};

/// One execution is believed.
const UNVERIFIED: Load = Load { agreement: 1, executions: 1, max_executions: 1, ..LOAD };

fn calm() -> Scenario {
    Scenario {
        name: "calm",
        about: "honest nodes around the world, a network without faults",
        profile: WAN,
        heal_ms: 0,
        crashes: 0.0,
        partitions: 0,
        late: 0.0,
        workers: 1.0,
        peers: Vec::new(),
        host_failures: 0.0,
        publish_failures: 0.0,
        stops: 0.0,
        load: LOAD,
        complete: 1.0,
        sabotage: None,
        shard_nodes: SHARD_NODES,
    }
}

fn crowd(behaviour: Behaviour, share: f64) -> Crowd {
    Crowd { behaviour, share, at_most: usize::MAX, neighbours: false }
}

/// Every scenario, in the order of their difficulty.
pub fn all() -> Vec<Scenario> {
    let lossy = |loss, duplication, reordering| Profile { loss, duplication, reordering, ..WAN };
    let minutes = |n: u64| n * 60_000;
    vec![
        calm(),
        Scenario {
            name: "lan",
            about: "honest nodes in one building",
            profile: Profile::clean(Distance::Lan),
            load: Load { run_ms: 20, spread_ms: 10_000, ..LOAD },
            ..calm()
        },
        Scenario {
            name: "loss",
            about: "one message in ten is lost, for ever",
            profile: lossy(0.1, 0.0, 0.05),
            heal_ms: u64::MAX,
            ..calm()
        },
        Scenario {
            name: "duplicates",
            about: "one message in three arrives twice, many out of order",
            profile: lossy(0.0, 0.33, 0.3),
            heal_ms: u64::MAX,
            ..calm()
        },
        Scenario {
            name: "partitions",
            about: "the mesh is cut in two, again and again",
            partitions: 4,
            heal_ms: minutes(3),
            load: Load { run_ms: 5_000, ..LOAD },
            complete: 0.9,
            ..calm()
        },
        Scenario {
            name: "crashes",
            about: "nodes crash between any two outputs and restart from what they saved",
            crashes: 1.5,
            heal_ms: minutes(3),
            load: Load { run_ms: 4_000, ..LOAD },
            complete: 0.9,
            ..calm()
        },
        Scenario {
            name: "slow",
            about: "one worker in five takes twenty times as long as the others",
            peers: vec![crowd(Behaviour::Slow, 0.2)],
            ..calm()
        },
        Scenario {
            name: "liars",
            about: "one worker in five answers something wrong of its own",
            peers: vec![crowd(Behaviour::Liar, 0.2)],
            // Four times what is expected, for bad luck.
            complete: 1.0 - 4.0 * LONE_LIARS_DISPUTE,
            ..calm()
        },
        Scenario {
            name: "colluders",
            about: "two workers agree on wrong answers; three must agree",
            peers: vec![Crowd { at_most: 2, ..crowd(Behaviour::Colluder, 1.0) }],
            load: Load { agreement: 3, executions: 4, max_executions: 9, ..LOAD },
            complete: 0.95,
            ..calm()
        },
        Scenario {
            name: "neighbours",
            about: "a third of the workers collude, all from one public network",
            peers: vec![Crowd { neighbours: true, ..crowd(Behaviour::Colluder, 0.33) }],
            complete: 0.9,
            ..calm()
        },
        Scenario {
            name: "free-riders",
            about: "some copy, some withhold their reveal, some bid and fall silent, some vanish",
            peers: vec![
                crowd(Behaviour::Copier, 0.1),
                crowd(Behaviour::Withholder, 0.1),
                crowd(Behaviour::Mute, 0.1),
                crowd(Behaviour::Vanisher, 0.1),
            ],
            complete: 0.9,
            ..calm()
        },
        Scenario {
            name: "debtors",
            about: "one requester in three has others work for it and never settles",
            peers: vec![crowd(Behaviour::Debtor, 0.33)],
            ..calm()
        },
        Scenario {
            name: "floods",
            about: "two peers send forged messages without end",
            peers: vec![Crowd { at_most: 2, ..crowd(Behaviour::Flooder, 1.0) }],
            heal_ms: minutes(2),
            complete: 0.95,
            ..calm()
        },
        Scenario {
            name: "hoarders",
            about: "two requesters announce jobs without end that would fill every worker, and award nothing",
            peers: vec![Crowd { at_most: 2, ..crowd(Behaviour::Hoarder, 1.0) }],
            heal_ms: minutes(2),
            ..calm()
        },
        Scenario {
            name: "sybils",
            about: "two peers do so, each job in a name of its own",
            peers: vec![Crowd { at_most: 2, ..crowd(Behaviour::Sybil, 1.0) }],
            heal_ms: minutes(2),
            ..calm()
        },
        Scenario {
            name: "churn",
            about: "half of the nodes join late, others come and go",
            late: 0.5,
            crashes: 0.7,
            heal_ms: minutes(2),
            complete: 0.9,
            ..calm()
        },
        Scenario {
            name: "overload",
            about: "far more work than workers: jobs queue, important ones first",
            load: Load {
                spread_ms: 5_000,
                cpu_millis: 4_000,
                run_ms: 3_000,
                priorities: 3,
                queue_timeout_ms: 36_000_000,
                ..LOAD
            },
            complete: 1.0,
            ..calm()
        },
        Scenario {
            name: "arrays",
            about: "every job has fifty partitions",
            load: Load { partitions: 50, run_ms: 2_000, ..LOAD },
            ..calm()
        },
        Scenario {
            name: "publishers",
            about: "results are published to a place that often fails, by nodes that crash",
            crashes: 1.5,
            heal_ms: minutes(3),
            publish_failures: 0.2,
            load: Load { partitions: 3, published: 0.9, ..LOAD },
            complete: 0.9,
            ..calm()
        },
        Scenario {
            name: "scarce",
            about: "too few workers for an agreement: jobs end and say why",
            workers: 0.0,
            load: Load { queue_timeout_ms: 0, run_ms: 15_000, ..LOAD },
            complete: 0.0,
            ..calm()
        },
        Scenario {
            name: "hermits",
            about: "nobody hears anybody, and nobody verifies: each runs its own jobs at last",
            profile: lossy(1.0, 0.0, 0.0),
            heal_ms: u64::MAX,
            load: Load { partitions: 3, run_ms: 3_000, ..UNVERIFIED },
            ..calm()
        },
        Scenario {
            name: "selfish",
            about: "jobs that nobody verifies, too few workers, and crashes: owners help themselves",
            workers: 0.4,
            crashes: 0.5,
            heal_ms: minutes(3),
            load: Load { partitions: 4, cpu_millis: 2_000, run_ms: 4_000, ..UNVERIFIED },
            complete: 0.9,
            ..calm()
        },
        Scenario {
            name: "shards",
            about: "a mesh in parts too small for most jobs, lost messages, nodes that come and go",
            profile: lossy(0.05, 0.05, 0.1),
            workers: 0.7,
            crashes: 0.5,
            heal_ms: minutes(3),
            shard_nodes: 4,
            load: Load { agreement: 2, executions: 4, max_executions: 7, ..LOAD },
            complete: 0.9,
            ..calm()
        },
        Scenario {
            name: "chaos",
            about: "everything at once",
            profile: lossy(0.05, 0.05, 0.1),
            heal_ms: minutes(4),
            crashes: 1.0,
            partitions: 2,
            late: 0.2,
            peers: vec![
                crowd(Behaviour::Slow, 0.05),
                crowd(Behaviour::Liar, 0.05),
                crowd(Behaviour::Copier, 0.05),
                crowd(Behaviour::Withholder, 0.05),
                crowd(Behaviour::Mute, 0.05),
                crowd(Behaviour::Vanisher, 0.05),
                Crowd { at_most: 1, ..crowd(Behaviour::Colluder, 0.1) },
                Crowd { at_most: 1, ..crowd(Behaviour::Flooder, 0.1) },
            ],
            host_failures: 0.03,
            stops: 0.05,
            publish_failures: 0.1,
            load: Load { partitions: 2, run_ms: 3_000, published: 0.3, ..LOAD },
            shard_nodes: 8,
            complete: 0.5,
            ..calm()
        },
    ]
}

/// The scenario of this name.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use shoal_protocol::id::BlobHash;
    use shoal_protocol::record::Policy;
    use shoal_protocol::task::Outcome;
    use shoal_protocol::verdict::{Verdict, Vote, camps, judge};

    use super::*;

    /// The probability of a dispute after some votes, when so many more are on their way and one in five is wrong.
    fn disputed(votes: &[Vote], missing: u32) -> f64 {
        let policy =
            Policy { agreement: LOAD.agreement, executions: LOAD.executions, max_executions: LOAD.max_executions };
        let with = |letter: usize| {
            let compared = BlobHash::of(&letter.to_le_bytes());
            let vote = Vote { outcome: Outcome::Exited(0), compared };
            disputed(&[votes, &[vote]].concat(), missing - 1)
        };
        let camps = camps(votes, |_, _| Some(false)).expect("nobody has to be asked");
        match judge(&camps, policy) {
            _ if missing > 0 => 0.8 * with(0) + 0.2 * with(votes.len() + 1),
            Verdict::Accepted(_) => 0.0,
            Verdict::Disputed => 1.0,
            Verdict::More(more) => disputed(votes, more),
        }
    }

    #[test]
    fn liars_bring_about_as_many_disputes_as_the_verdict_rule_says() {
        let share = disputed(&[], LOAD.executions);
        assert!((share - LONE_LIARS_DISPUTE).abs() < 5e-5, "{share}");
    }
}
