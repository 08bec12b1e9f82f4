//! Real nodes on loopback, each with a data directory that outlives it.

use std::path::Path;
use std::time::Duration;

use shoal::config::{ConfigError, DEFAULT_MESH, Loaded, Settings};
use shoal::network::ticket::Ticket;
use shoal::{Config, LookupError, Node, StartError, SubmitError};
use shoal_protocol::id::JobId;
use shoal_protocol::job::{self, Job};
use shoal_protocol::message::ExecutorKind;
use shoal_protocol::record::{Placement, Step};
use tempfile::TempDir;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use super::findings::Ended;
use super::{MIN_NODES, MeshSetup};
use crate::jobs::worker_capacity;

/// How long nodes may take to find each other.
const MEET: Duration = Duration::from_secs(60);
/// How long they may take to find out how many they are: bids are timed by that, and a calm mesh knows.
const COUNT: Duration = Duration::from_secs(60);
/// By what factor a node may be wrong about it.
const MISCOUNT: usize = 2;
/// Pause between two looks at who has found whom.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Fewest nodes that are up: a requester, and two that can agree.
const MIN_UP: usize = 3;
/// Nodes whose tickets another one has.
const TICKETS: usize = 4;
/// Turns of the job's loop, some tens of milliseconds: long enough to be interrupted.
const TURNS: u64 = 20_000_000;

/// Why a run with real nodes did not take place.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// Real nodes cannot run this scenario, or nobody can.
    #[error("{why}; real nodes can run: {played}", why = unplayable(.name, *.simulated))]
    Unplayable {
        /// The scenario that was asked for.
        name: String,
        /// Whether `simnet run` has it.
        simulated: bool,
        /// Those that can be run.
        played: String,
    },
    /// There are too few or too many nodes.
    #[error("{nodes} real nodes are asked for; use --nodes {least} to {most}")]
    Size {
        /// How many were asked for.
        nodes: usize,
        /// The fewest.
        least: usize,
        /// The most.
        most: usize,
    },
    /// There is no place for data directories.
    #[error("cannot make a folder for the nodes' data: {0}")]
    Folder(#[from] std::io::Error),
    /// A node's configuration cannot be had; the environment is part of it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A node does not start.
    #[error("node {0} does not start: {1}")]
    Start(usize, StartError),
    /// The nodes do not find each other.
    #[error("the nodes did not find each other within {} s", MEET.as_secs())]
    Apart,
    /// A node does not take a job.
    #[error("node {0} does not take a job: {1}")]
    Submit(usize, SubmitError),
    /// A node does not know what became of a job.
    #[error("node {0} cannot say what became of a job: {1}")]
    Lookup(usize, LookupError),
}

/// All nodes of a run.
pub(super) struct Fleet {
    dir: TempDir,
    nodes: Vec<Option<Node>>,
    shard_nodes: u32,
    /// Whose job is which, in the order of submission.
    jobs: Vec<(usize, JobId)>,
    job: Job,
    stops: u64,
}

impl Fleet {
    /// Starts some of so many nodes, and waits until they know each other.
    pub(super) async fn start(setup: MeshSetup, early: &[usize]) -> Result<Self, MeshError> {
        let (dir, nodes) = (TempDir::with_prefix("simnet-mesh-")?, vec![None; setup.nodes]);
        let mut fleet = Self { dir, nodes, shard_nodes: setup.shard_nodes, jobs: Vec::new(), job: job(), stops: 0 };
        for node in early {
            fleet.bring_up(*node).await?;
        }
        timeout(MEET, fleet.met()).await.map_err(|_| MeshError::Apart)?;
        if timeout(COUNT, fleet.counted()).await.is_err() {
            tracing::warn!("some nodes still take the mesh for less than half as large as it is");
        }
        Ok(fleet)
    }

    /// Starts a node, unless it is up. It joins through some of those who are up.
    pub(super) async fn bring_up(&mut self, node: usize) -> Result<(), MeshError> {
        if self.nodes[node].is_none() {
            let step = self.up().count().div_ceil(TICKETS).max(1);
            let join = self.up().step_by(step).map(|(_, node)| node.ticket()).collect();
            let config = config(&self.dir.path().join(node.to_string()), join, self.shard_nodes)?;
            let started = Box::pin(Node::start(config)).await.map_err(|error| MeshError::Start(node, error))?;
            self.nodes[node] = Some(started);
        }
        Ok(())
    }

    /// Shuts a node down, unless too few would be left.
    pub(super) async fn stop(&mut self, node: usize) {
        if self.up().count() > MIN_UP
            && let Some(node) = self.nodes[node].take()
        {
            self.stops += 1;
            node.shutdown().await;
        }
    }

    /// Has a node submit a job, or the next one that is up.
    pub(super) async fn submit(&mut self, wanted: usize) -> Result<(), MeshError> {
        let after = self.up().find(|(index, _)| *index >= wanted).or_else(|| self.up().next());
        let (index, node) = after.expect("some nodes are always up");
        let job = node.submit(self.job.clone(), Placement::Mesh, &|_, _, _| {}).await;
        let job = job.map_err(|error| MeshError::Submit(index, error))?;
        self.jobs.push((index, job));
        Ok(())
    }

    /// What became of every job, waiting for the end of each until the deadline.
    pub(super) async fn ended(&self, deadline: Instant) -> Result<Vec<Ended>, MeshError> {
        let mut all = Vec::new();
        for (index, job) in self.jobs.iter().copied() {
            let node = self.nodes[index].as_ref().expect("in the end every node is up");
            let lookup = |error: LookupError| MeshError::Lookup(index, error);
            // Those that never end are told apart below.
            let _ = timeout_at(deadline, end(node, job)).await;
            let record = node.job(job).map_err(|error| lookup(error.into()))?;
            let executions = node.executions(job).map_err(|error| lookup(error.into()))?;
            let history = node.history(job, 0).map_err(|error| lookup(error.into()))?;
            let bids = history.iter().filter(|event| event.step == Step::Bid).count() as u64;
            all.push(Ended { job, requester: node.peer_id(), record, executions, bids });
        }
        Ok(all)
    }

    /// How often a node was stopped and started again.
    pub(super) fn restarts(&self) -> u64 {
        self.stops
    }

    /// Shuts all nodes down and removes what they kept.
    pub(super) async fn shutdown(self) {
        for node in self.nodes.into_iter().flatten() {
            node.shutdown().await;
        }
    }

    fn up(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(index, node)| Some((index, node.as_ref()?)))
    }

    /// Returns once every node that is up knows enough others for any job.
    async fn met(&self) {
        self.until_all(|node| node.peers().len() >= MIN_NODES - 1).await;
    }

    /// Returns once every node that is up knows about how many they are.
    async fn counted(&self) {
        let up = self.up().count();
        self.until_all(|node| node.info().mesh_size as usize * MISCOUNT >= up).await;
    }

    async fn until_all(&self, is_ready: impl Fn(&Node) -> bool) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.up().any(|(_, node)| !is_ready(node)) {
            looks.tick().await;
        }
    }
}

/// Returns once a job is over.
async fn end(node: &Node, job: JobId) {
    let mut events = node.subscribe();
    // A state that cannot be read is found out by whoever reads it next.
    while !node.job(job).is_ok_and(|record| record.is_some_and(|record| record.state.is_over())) {
        match events.recv().await {
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// What every node is started with, whatever the environment says.
fn config(dir: &Path, join: Vec<Ticket>, shard_nodes: u32) -> Result<Config, ConfigError> {
    let loaded = Loaded::new(dir, Settings::default())?;
    Ok(Config {
        listen: ([127, 0, 0, 1], 0).into(),
        join,
        mesh: DEFAULT_MESH.into(),
        api_listen: None,
        executors: [ExecutorKind::Wasm].into(),
        capacity: worker_capacity(),
        operator: None,
        loopback_only: true,
        shard_nodes,
        ..loaded.config
    })
}

/// The job that everybody submits: all of them must come to the same result.
fn job() -> Job {
    let module = format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 16) "hello\n")
        (func (export "_start") (local $turn i64)
            (loop $again
                (local.set $turn (i64.add (local.get $turn) (i64.const 1)))
                (br_if $again (i64.lt_u (local.get $turn) (i64.const {TURNS}))))
            (i32.store (i32.const 0) (i32.const 16))
            (i32.store (i32.const 4) (i32.const 6))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    );
    let module = data_encoding::BASE64.encode(&wat::parse_str(module).expect("our own module is valid"));
    let spec = serde_json::json!({
        "Name": "mesh", "Type": "batch", "Count": 1,
        "Tasks": [{
            "Name": "main",
            "Engine": {"Type": "wasm", "Params": {"EntryModule": "main.wasm"}},
            "InputSources": [{"Target": "/main.wasm", "Source": {
                "Type": "inline", "Params": {"URL": format!("data:application/wasm;base64,{module}")},
            }}],
            "Resources": {"CPU": "500m", "Memory": "64MB"},
            "Timeouts": {"ExecutionTimeout": 60, "QueueTimeout": 600},
        }],
    });
    job::parse(&spec.to_string()).expect("our own job is valid").job
}

fn unplayable(name: &str, simulated: bool) -> String {
    match simulated {
        true => format!("scenario {name:?} needs a simulated mesh (`simnet run --scenario {name}`)"),
        false => format!("there is no scenario {name:?}"),
    }
}
