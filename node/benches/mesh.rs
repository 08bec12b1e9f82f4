//! Five real nodes on loopback in one process: how long a trivial verified job takes, and how many a second.
//!
//! `cargo bench -p shoal --bench mesh`; the number of jobs is `JOBS` (default 500), and `LANES` of them (default 32)
//! are under way at once when their rate is measured. Each prints something of its own unless `SAME` is set.
//!
//! With `ATTACK` set, it measures instead how much longer jobs take, one at a time, while somebody floods, has workers bid
//! for nothing, forges, says what nobody can read, comes with a swarm of names, or with names that were there before, and
//! with a new key as soon as one is cut off. The nodes have been there for a minute by then. It tells all nodes `RATE`
//! things a second (default 2,000, which is 10,000 messages), or as many as it can if that is 0. Each attack has one
//! address, or with `EVERYWHERE` one for each key. The attacker is in this process too, so what attacking costs is in the
//! figures.

#[path = "../../tests/abuse/hostile.rs"]
mod hostile;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hostile::{FEW, Hostile, garbage};

use shoal::config::{Loaded, Settings};
use shoal::network::ticket::Ticket;
use shoal::{Config, Node};
use shoal_protocol::id::JobId;
use shoal_protocol::job::{self, Job};
use shoal_protocol::limits::NEWCOMER_MS;
use shoal_protocol::record::{JobState, Placement, Step};

const NODES: usize = 5;
const WARM_UP: usize = 50;
/// The number of the first job that is not measured and comes after the warm-up; far from those that are.
const FIRST_OF_NEWCOMERS: usize = 1_000_000;
/// Prints its argument and returns.
const MODULE: &str = r#"(module
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $sizes (i32.const 0) (i32.const 12)))
        (drop (call $args (i32.const 32) (i32.const 1024)))
        (i32.store (i32.const 8) (i32.const 1024))
        (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 4)))))"#;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(run());
}

async fn run() {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let nodes = Box::pin(mesh(dir.path())).await;
    let jobs = setting("JOBS", 500);
    for index in 0..WARM_UP {
        verified(&nodes[0], &trivial_job(index)).await;
    }
    if std::env::var_os("ATTACK").is_some() {
        sow(&nodes).await;
        be_known(&nodes[0]).await;
        attacked(&nodes, jobs).await;
    } else {
        latency(&nodes[0], WARM_UP, jobs).await;
        throughput(&nodes, jobs, setting("LANES", 32)).await;
    }
    for node in nodes {
        node.shutdown().await;
    }
}

/// Has all nodes hear names that are no newcomers any more when they flood.
async fn sow(nodes: &[Node]) {
    let tickets = tickets(nodes);
    let sown = tokio::task::spawn_blocking(move || {
        let tickets: Vec<&str> = tickets.iter().map(String::as_str).collect();
        let mut hostile = Hostile::join(u8::MAX, "127.100.0.1", &tickets);
        while hostile.peers() < NODES {
            std::thread::sleep(Duration::from_millis(20));
        }
        hostile.gossip(u32::try_from(FEW).expect("they are few"), Hostile::announcement_of_few);
        // What it said is on its way.
        std::thread::sleep(Duration::from_secs(1));
    });
    sown.await.expect("the attacker ends");
}

fn tickets(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(|node| node.ticket().to_string()).collect()
}

/// Has the nodes hear each other until none is a newcomer to another: newcomers share an allowance, with the attacker too.
async fn be_known(node: &Node) {
    let until = Instant::now() + Duration::from_millis(NEWCOMER_MS) + Duration::from_secs(1);
    let mut jobs = FIRST_OF_NEWCOMERS..;
    while Instant::now() < until {
        verified(node, &trivial_job(jobs.next().expect("there is no end"))).await;
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Measures the same in peace and under each attack.
async fn attacked(nodes: &[Node], jobs: usize) {
    let peace = latency(&nodes[0], WARM_UP, jobs).await;
    let rate = setting("RATE", 2_000);
    let attacks: [(&str, Attack); 6] = [
        ("a flood of announcements", |hostile| hostile.gossip(100, |it| it.announcement(Duration::ZERO))),
        ("a flood of jobs that workers bid for", |hostile| hostile.gossip(100, Hostile::bait)),
        ("forged messages", |hostile| {
            hostile.gossip(100, |it| it.announcement(Duration::ZERO).into_iter().rev().collect());
            hostile.ask_all(&garbage(0));
        }),
        ("what no node here can read", |hostile| hostile.gossip(100, Hostile::riddle)),
        ("a swarm of names", |hostile| hostile.gossip(100, Hostile::announcement_of_nobody)),
        ("names that were sown in time", |hostile| hostile.gossip(100, Hostile::announcement_of_few)),
    ];
    for (number, (name, attack)) in (1..).zip(attacks) {
        let over = Arc::new(AtomicBool::new(false));
        let tickets = tickets(nodes);
        let attacker = std::thread::spawn({
            let over = Arc::clone(&over);
            let number = u8::try_from(number).expect("attacks are few");
            move || go_on(attack, number, rate, tickets, &over)
        });
        println!("{name}:");
        let war = latency(&nodes[0], WARM_UP + number * jobs, jobs).await;
        over.store(true, Ordering::Relaxed);
        let Spent { said, lives, heard } = attacker.join().expect("the attacker ends");
        let times = |at: fn(&Latency) -> Duration| at(&war).as_secs_f64() / at(&peace).as_secs_f64();
        println!("against peace: p50 {:.2} times, p99 {:.2} times as long", times(|it| it.p50), times(|it| it.p99));
        println!("{said} attacks with {lives} keys, which heard {heard} messages; {:?}", nodes[0].info().fended);
    }
}

/// How long jobs take.
struct Latency {
    p50: Duration,
    p99: Duration,
}

/// What an attack took.
#[derive(Default)]
struct Spent {
    said: u64,
    lives: u8,
    /// Messages of others that the attacker heard: it was there.
    heard: usize,
}

/// Keys that one attack may use. Each attack has its own: those of the one before may still be cut off.
const MAX_LIVES: u8 = 40;

/// Says a hundred things.
type Attack = fn(&mut Hostile);

/// Attacks until it is over, with a new key whenever nobody talks to it any more.
fn go_on(attack: Attack, number: u8, rate: usize, tickets: Vec<String>, over: &AtomicBool) -> Spent {
    let (keys, is_everywhere) = ((number - 1) * MAX_LIVES, std::env::var_os("EVERYWHERE").is_some());
    let tickets: Vec<&str> = tickets.iter().map(String::as_str).collect();
    let pause = Duration::from_secs(100).checked_div(u32::try_from(rate).unwrap_or(0)).unwrap_or_default();
    let (mut spent, mut next) = (Spent::default(), Instant::now());
    while !over.load(Ordering::Relaxed) && spent.lives < MAX_LIVES {
        spent.lives += 1;
        let host = if is_everywhere { spent.lives } else { 1 };
        let mut hostile = Hostile::join(keys + spent.lives, &format!("127.{number}.0.{host}"), &tickets);
        let mut was_there = false;
        while !over.load(Ordering::Relaxed) && (!was_there || hostile.peers() > 0) {
            was_there |= hostile.peers() > 0;
            attack(&mut hostile);
            spent.said += 100;
            next = Instant::max(next + pause, Instant::now());
            std::thread::sleep(next - Instant::now());
        }
        spent.heard += hostile.recorded().len();
    }
    spent
}

/// Says how long jobs take, from the one of that number on.
async fn latency(node: &Node, first: usize, jobs: usize) -> Latency {
    let mut times = Vec::with_capacity(jobs);
    for index in first..first + jobs {
        let job = trivial_job(index);
        let start = Instant::now();
        verified(node, &job).await;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    let latency = Latency { p50: at(50), p99: at(99) };
    println!("submit to verified result, one at a time, {jobs} jobs: p50 {:?}, p99 {:?}", latency.p50, latency.p99);
    latency
}

/// Every node submits, so that each is requester and worker at once.
async fn throughput(nodes: &[Node], jobs: usize, parallel: usize) {
    let (start, cpu) = (Instant::now(), cpu_time());
    let lanes = (0..parallel).map(|lane| {
        let node = nodes[lane % nodes.len()].clone();
        tokio::spawn(async move {
            let mut rounds = 0;
            for index in 0..jobs.div_ceil(parallel) {
                let job = trivial_job(WARM_UP + jobs + index * parallel + lane);
                rounds += verified(&node, &job).await;
            }
            rounds
        })
    });
    let mut rounds = 0;
    for lane in lanes.collect::<Vec<_>>() {
        rounds += lane.await.expect("every job is verified");
    }
    let done = jobs.div_ceil(parallel) * parallel;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
    let (rate, cpu_ms, cores) = (done as f64 / seconds, cpu * 1e3 / done as f64, cpu / seconds);
    println!("verified jobs, {parallel} at a time from all nodes, {done} jobs: {rate:.1} per second");
    let rounds = f64::from(rounds) / done as f64;
    println!(
        "{cpu_ms:.2} ms of processor time a job over all nodes, {cores:.2} cores busy, {rounds:.2} rounds of bids"
    );
}

/// What this process has used of the processors: the figure that other work on the machine disturbs least.
fn cpu_time() -> Duration {
    let own = sysinfo::get_current_pid().expect("this process has an id");
    let mut system = sysinfo::System::new().expect("the system tells about itself");
    let only_time = sysinfo::ProcessRefreshKind::nothing().with_cpu();
    system.refresh_processes_specifics(sysinfo::ProcessesToUpdate::Some(&[own]), false, only_time);
    Duration::from_millis(system.process(own).expect("this process runs").accumulated_cpu_time())
}

/// Returns how many rounds of bidding it took.
async fn verified(node: &Node, job: &Job) -> u32 {
    let mut events = node.subscribe();
    let id: JobId = node.submit(job.clone(), Placement::Mesh, &|_, _, _| {}).await.expect("the job is valid");
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
    record.rounds
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

/// The module is the same for all, so that it is compiled. What a job prints is its own, so that no store has it: see
/// `SAME` for jobs whose results are known. What it may use is what it needs, so that nodes have room for many.
fn trivial_job(index: usize) -> Job {
    let printed = if std::env::var_os("SAME").is_some() { 0 } else { index };
    let module = data_encoding::BASE64.encode(&wat::parse_str(MODULE).expect("the module is valid"));
    let spec = serde_json::json!({
        "Name": "trivial", "Type": "batch", "Count": 1,
        "Tasks": [{
            "Name": "main",
            "Engine": {"Type": "wasm", "Params": {"EntryModule": "main.wasm", "Parameters": [printed.to_string()]}},
            "Resources": {"CPU": "0.1"},
            "InputSources": [{"Target": "/main.wasm", "Source": {
                "Type": "inline", "Params": {"URL": format!("data:application/wasm;base64,{module}")},
            }}],
        }],
    });
    job::parse(&spec.to_string()).expect("the job is valid").job
}
