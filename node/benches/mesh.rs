//! Five real nodes on loopback in one process: how long a trivial verified job takes, and how many a second.
//!
//! `cargo bench -p shoal --bench mesh`; the number of jobs is `JOBS` (default 500).

use std::path::Path;
use std::time::{Duration, Instant};

use shoal::config::{Loaded, Settings};
use shoal::network::ticket::Ticket;
use shoal::{Config, Node};
use shoal_protocol::id::JobId;
use shoal_protocol::job::{self, Job};
use shoal_protocol::record::{JobState, Placement, Step};

const NODES: usize = 5;
const WARM_UP: usize = 50;
const PARALLEL: usize = 32;
/// Prints a line and returns.
const MODULE: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "hello\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 16))
        (i32.store (i32.const 4) (i32.const 6))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(run());
}

async fn run() {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let nodes = mesh(dir.path()).await;
    let jobs = std::env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(500);
    let job = trivial_job();
    for _ in 0..WARM_UP {
        verified(&nodes[0], &job).await;
    }
    latency(&nodes[0], &job, jobs).await;
    throughput(&nodes, &job, jobs).await;
    for node in nodes {
        node.shutdown().await;
    }
}

async fn latency(node: &Node, job: &Job, jobs: usize) {
    let mut times = Vec::with_capacity(jobs);
    for _ in 0..jobs {
        let start = Instant::now();
        verified(node, job).await;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    println!("submit to verified result, one at a time, {jobs} jobs: p50 {:?}, p99 {:?}", at(50), at(99));
}

/// Every node submits, so that each is requester and worker at once.
async fn throughput(nodes: &[Node], job: &Job, jobs: usize) {
    let start = Instant::now();
    let lanes = (0..PARALLEL).map(|lane| {
        let (node, job) = (nodes[lane % nodes.len()].clone(), job.clone());
        tokio::spawn(async move {
            for _ in 0..jobs.div_ceil(PARALLEL) {
                verified(&node, &job).await;
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.expect("every job is verified");
    }
    let done = jobs.div_ceil(PARALLEL) * PARALLEL;
    let rate = done as f64 / start.elapsed().as_secs_f64();
    println!("verified jobs, {PARALLEL} at a time from all nodes, {done} jobs: {rate:.1} per second");
}

async fn verified(node: &Node, job: &Job) {
    let mut events = node.subscribe();
    let id: JobId = node.submit(job.clone(), Placement::Mesh).await.expect("the job is valid");
    loop {
        match events.recv().await {
            Ok(event) if event.job == id && event.step == Step::End => break,
            Ok(_) => {}
            Err(_) if node.job(id).is_ok_and(|job| job.is_some_and(|job| job.state.is_over())) => break,
            Err(_) => {}
        }
    }
    let record = node.job(id).expect("the state can be read").expect("the job is there");
    assert_eq!(record.state, JobState::Completed, "{}", record.reason);
}

async fn mesh(dir: &Path) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for index in 0..NODES {
        let join = nodes.first().map(Node::ticket).into_iter().collect();
        nodes.push(Node::start(config(&dir.join(index.to_string()), join)).await.expect("a node starts"));
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while nodes.iter().any(|node| node.peers().len() < NODES - 1) {
        assert!(Instant::now() < deadline, "the nodes did not find each other");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    nodes
}

fn config(dir: &Path, join: Vec<Ticket>) -> Config {
    let loaded = Loaded::new(dir, Settings::default()).expect("defaults are valid");
    let listen = "127.0.0.1:0".parse().expect("an address");
    Config { join, listen, loopback_only: true, ..loaded.config }
}

fn trivial_job() -> Job {
    let module = data_encoding::BASE64.encode(&wat::parse_str(MODULE).expect("the module is valid"));
    let spec = serde_json::json!({
        "Name": "trivial", "Type": "batch", "Count": 1,
        "Tasks": [{
            "Name": "main",
            "Engine": {"Type": "wasm", "Params": {"EntryModule": "main.wasm"}},
            "InputSources": [{"Target": "/main.wasm", "Source": {
                "Type": "inline", "Params": {"URL": format!("data:application/wasm;base64,{module}")},
            }}],
        }],
    });
    job::parse(&spec.to_string()).expect("the job is valid").job
}
