//! How far and how fast gossip reaches in a mesh of many nodes, and what it costs: real networks on loopback, in one
//! process, without anything that runs jobs.
//!
//! `cargo bench -p shoal --bench reach`; `NODES` (default 200) of them, `SHARD` nodes in a shard at least (256), `MESSAGES`
//! (200) from nodes all over it to each level, `REST` seconds (180) to come to rest, since connections that nothing uses end
//! after a minute, `IDLE` seconds (60) in which nothing is said. Bytes are those of the
//! loopback device with all headers, so nothing else should use it meanwhile.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use iroh_blobs::store::mem::MemStore;
use shoal::network::{Events, Network, NetworkConfig, NetworkEvent, Validity};
use shoal_protocol::message::ExecutorKind;
use shoal_protocol::shard::{Audience, SHARD_NODES};
use tokio::sync::mpsc;

/// Size of a message: that of an announcement of some length.
const BYTES: usize = 500;
/// Pause between two messages.
const PAUSE: Duration = Duration::from_millis(100);
/// How long messages may be on their way.
const LATEST: Duration = Duration::from_secs(10);
/// Nodes whose tickets a newcomer has.
const TICKETS: usize = 3;

/// That a node has heard a message: its number.
type Heard = (u32, Instant);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(run());
}

async fn run() {
    let (nodes, messages) = (setting("NODES", 200), setting("MESSAGES", 200));
    let shard_nodes = u32::try_from(setting("SHARD", SHARD_NODES as usize)).expect("it is a number of nodes");
    let (hear, mut heard) = mpsc::unbounded_channel();
    let networks = start(nodes, shard_nodes, &hear).await;
    tokio::time::sleep(Duration::from_secs(setting("REST", 180) as u64)).await;
    let idle = at_rest(&networks, setting("IDLE", 60)).await;
    let levels: BTreeSet<u8> = networks.iter().map(Network::first_level).collect();
    for level in levels.last().copied().into_iter().chain([0]).collect::<BTreeSet<u8>>() {
        reach(&networks, level, messages, idle, &mut heard).await;
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Starts so many nodes one after the other, each with the tickets of some that are there.
async fn start(nodes: usize, shard_nodes: u32, hear: &mpsc::UnboundedSender<Heard>) -> Vec<Network> {
    let started = Instant::now();
    let mut networks: Vec<Network> = Vec::new();
    for number in 0..nodes {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let store = MemStore::new();
        let step = networks.len().div_ceil(TICKETS).max(1);
        let config = NetworkConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            join: networks.iter().step_by(step).map(Network::ticket).collect(),
            loopback_only: true,
            runs: BTreeSet::from([ExecutorKind::Wasm]),
            shard_nodes,
            ..NetworkConfig::new(SigningKey::from_bytes(&key), "reach", (*store).clone())
        };
        let (network, events) = Network::start(config).await.expect("a node starts");
        tokio::spawn(listen(network.clone(), events, hear.clone(), store));
        networks.push(network);
    }
    println!("{nodes} nodes started in {:.1} s", started.elapsed().as_secs_f64());
    networks
}

/// Passes on all that is heard, and tells of it.
async fn listen(network: Network, mut events: Events, hear: mpsc::UnboundedSender<Heard>, _store: MemStore) {
    while let Some(event) = events.recv().await {
        if let NetworkEvent::Gossip { id, source, bytes, .. } = event {
            network.validate(id, source, Validity::Accept);
            let number = bytes.first_chunk().map(|first| u32::from_le_bytes(*first)).unwrap_or_default();
            let _ = hear.send((number, Instant::now()));
        }
    }
}

/// What nodes know and send while nobody says anything; returns the bytes of all in a second.
async fn at_rest(networks: &[Network], seconds: usize) -> f64 {
    let before = loopback_bytes();
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    let idle = (loopback_bytes() - before) as f64 / seconds as f64;
    let connections = spread(networks.iter().map(|network| network.peers().len() as f64).collect());
    let sizes = spread(networks.iter().map(|network| f64::from(network.mesh_size())).collect());
    let each = idle / networks.len() as f64;
    println!("at rest: {each:.0} bytes/s a node; connections {connections}; estimates of the mesh's size {sizes}");
    idle
}

/// Says things to the shards of a level around nodes, and looks who hears them and when, and what that costs beyond rest.
async fn reach(
    networks: &[Network],
    level: u8,
    messages: usize,
    idle: f64,
    heard: &mut mpsc::UnboundedReceiver<Heard>,
) {
    while heard.try_recv().is_ok() {}
    let audience = Audience { class: ExecutorKind::Wasm, level };
    let (before, began, mut said, mut listeners) = (loopback_bytes(), Instant::now(), Vec::new(), 0);
    for number in 0..messages {
        // A step that has no factor in common with most numbers of nodes.
        let speaker = &networks[number * 37 % networks.len()];
        listeners += networks.iter().filter(|one| speaker.is_near(one.peer_id(), level)).count() - 1;
        let mut bytes = vec![level; BYTES];
        bytes[..4].copy_from_slice(&u32::try_from(number).expect("few messages").to_le_bytes());
        said.push(Instant::now());
        speaker.gossip(audience, bytes).await;
        tokio::time::sleep(PAUSE).await;
    }
    let mut delays = Vec::new();
    while let Ok(Some((number, at))) = tokio::time::timeout(LATEST, heard.recv()).await {
        let since = said.get(number as usize).map(|said| at.saturating_duration_since(*said));
        delays.extend(since.map(|since| since.as_secs_f64() * 1e3));
    }
    let bytes = (loopback_bytes() - before) as f64 - idle * began.elapsed().as_secs_f64();
    let missed = listeners.saturating_sub(delays.len());
    println!(
        "level {level}: heard by {:.1} of {:.1} nodes ({missed} times missed), after ms {}; {:.0} bytes for each that hears",
        delays.len() as f64 / messages as f64,
        listeners as f64 / messages as f64,
        spread(delays.clone()),
        bytes / delays.len() as f64,
    );
}

/// Bytes that the loopback device has carried.
fn loopback_bytes() -> u64 {
    let path = "/sys/class/net/lo/statistics/tx_bytes";
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    text.trim().parse().expect("the kernel writes a number")
}

fn spread(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    let at = |share: usize| figures.get((figures.len() * share / 100).min(figures.len().saturating_sub(1)));
    let [p50, p99, most] = [50, 99, 100].map(|share| at(share).copied().unwrap_or_default());
    format!("p50 {p50:.1}, p99 {p99:.1}, most {most:.1}")
}
