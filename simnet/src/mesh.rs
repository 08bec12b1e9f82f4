//! The same scenarios with real nodes on loopback, in real time.
//!
//! Nodes, faults and submissions follow a plan drawn from the seed; what the nodes make of it is theirs, so equal
//! seeds give equal plans and not equal runs. A node that crashes in the simulated scenario is shut down here, and
//! started again on its data directory. Only what must have happened in the end is looked for: nobody can look into
//! a real node between two steps.

mod plan;

mod fleet;

mod findings;

mod report;

use std::time::{Duration, Instant};

use fleet::Fleet;
use plan::{Action, Plan};
use tokio::time::sleep_until;

pub use fleet::MeshError;
pub use report::MeshReport;

use crate::scenarios::{self, Scenario};

/// Scenarios whose faults real nodes can have: the network between them cannot be made to lose messages, and release
/// builds of nodes do not lie.
const PLAYED: [&str; 3] = ["calm", "crashes", "churn"];
/// Fewest nodes: a requester, and three others to pick workers from.
const MIN_NODES: usize = 4;
/// Most nodes: each has two databases, a compiler and a network of its own.
const MAX_NODES: usize = 256;
/// How long the jobs may take after the last of them was submitted and all nodes are up again. A worker that goes
/// silent is given up after twelve seconds, and a job may have bad luck more than once.
const PATIENCE: Duration = Duration::from_secs(180);

/// How large a run is, and from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeshSetup {
    /// Number of nodes.
    pub nodes: usize,
    /// Number of jobs.
    pub jobs: usize,
    /// The seed of the plan.
    pub seed: u64,
    /// Nodes that a shard has at least.
    pub shard_nodes: u32,
}

/// The scenarios that real nodes can run.
pub fn played() -> Vec<Scenario> {
    PLAYED.into_iter().filter_map(scenarios::named).collect()
}

/// The scenario of this name, if real nodes can run it.
pub fn named(name: &str) -> Result<Scenario, MeshError> {
    let unplayable = |simulated| MeshError::Unplayable { name: name.to_owned(), simulated, played: PLAYED.join(", ") };
    let scenario = scenarios::named(name).ok_or_else(|| unplayable(false))?;
    if PLAYED.contains(&name) { Ok(scenario) } else { Err(unplayable(true)) }
}

/// Runs a scenario with real nodes to its end. An error means that it could not be run, not that it went wrong.
pub async fn run(scenario: &Scenario, setup: MeshSetup) -> Result<MeshReport, MeshError> {
    if !(MIN_NODES..=MAX_NODES).contains(&setup.nodes) {
        return Err(MeshError::Size { nodes: setup.nodes, least: MIN_NODES, most: MAX_NODES });
    }
    let started = Instant::now();
    let plan = Plan::draw(scenario, setup);
    let mut fleet = Box::pin(Fleet::start(setup, &plan.early)).await?;
    let played = Box::pin(play(&mut fleet, &plan)).await;
    let ended = match &played {
        Ok(()) => Box::pin(fleet.ended(tokio::time::Instant::now() + PATIENCE)).await,
        Err(_) => Ok(Vec::new()),
    };
    let restarts = fleet.restarts();
    Box::pin(fleet.shutdown()).await;
    played?;
    Ok(MeshReport::of(scenario, setup, &ended?, restarts, started.elapsed()))
}

/// Does what the plan says when it says so; in the end every node is up.
async fn play(fleet: &mut Fleet, plan: &Plan) -> Result<(), MeshError> {
    let start = tokio::time::Instant::now();
    for (at, action) in &plan.steps {
        sleep_until(start + *at).await;
        match *action {
            Action::Submit(node) => fleet.submit(node).await?,
            Action::Stop(node) => fleet.stop(node).await,
            Action::Start(node) => fleet.bring_up(node).await?,
        }
    }
    Ok(())
}
