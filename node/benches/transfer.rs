//! Blobs between nodes on loopback, and what else moves bytes on the same machine in the same run.
//!
//! `cargo bench --bench transfer`; `-- large files shared found memory` picks some. `MIB` is the size of the large
//! blob (default 1,024), `FILES` the number of small files (20,000), `NODES` the size of the mesh (20), and `GIB` what
//! is moved while memory is watched (8).

use std::path::Path;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use iroh::endpoint::{Connection, presets};
use iroh::protocol::{AcceptError, ProtocolHandler, Router};
use shoal::network::{Network, NetworkConfig, NetworkEvent};
use shoal_protocol::id::{BlobHash, PeerId};
use shoal_protocol::task::{Content, ContentKind};
use shoal_store::blobs::{Blobs, BlobsConfig};

const ALPN: &[u8] = b"bench/raw";
const PIECE: usize = 256 << 10;
/// What one provider may send in a second when several share a blob, in bytes.
const LIMIT: u64 = 8 << 20;

fn main() {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|word| word == name);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let dir = tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or(".".into())).expect("a folder can be made");
    runtime.block_on(async {
        // First, because memory that was used once is not always given back.
        if wanted("memory") {
            memory(&dir.path().join("memory")).await;
        }
        if wanted("large") {
            large(&dir.path().join("large")).await;
        }
        if wanted("files") {
            files(&dir.path().join("files")).await;
        }
        if wanted("shared") {
            shared(&dir.path().join("shared")).await;
        }
        if wanted("found") {
            found(&dir.path().join("found")).await;
        }
    });
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A network with a store on disk.
struct Node {
    network: Network,
    blobs: Blobs,
}

impl Node {
    async fn start(dir: &Path, seed: u8, change: impl FnOnce(&mut NetworkConfig)) -> Self {
        let blobs = Blobs::open(&dir.join(seed.to_string()), BlobsConfig::default()).await.expect("the store opens");
        let key = SigningKey::from_bytes(&[seed; 32]);
        let mut config = NetworkConfig::new(key, "bench", blobs.store().clone());
        (config.listen, config.loopback_only) = ("127.0.0.1:0".parse().expect("an address"), true);
        change(&mut config);
        let (network, mut events) = Network::start(config).await.expect("the network starts");
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let NetworkEvent::Request { reply, .. } = event {
                    reply.send(Vec::new());
                }
            }
        });
        Self { network, blobs }
    }

    fn id(&self) -> PeerId {
        self.network.peer_id()
    }

    /// Fetches, and returns how long that took.
    async fn fetch(&self, content: Content, from: &[PeerId]) -> Duration {
        let _guard = self.blobs.protect(content).await.expect("the store works");
        let start = Instant::now();
        self.network.fetch(content, from.to_vec(), u64::MAX, |_| {}).await.expect("it arrives");
        start.elapsed()
    }
}

/// A file of noise, written piece by piece.
fn noise(path: &Path, mebibytes: u64) {
    use std::io::Write;
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path).expect("it can be made"));
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut piece = vec![0; 1 << 20];
    for _ in 0..mebibytes {
        noise.fill(&mut piece);
        file.write_all(&piece).expect("there is room");
    }
    file.flush().expect("there is room");
}

fn rate(name: &str, bytes: u64, time: Duration) -> f64 {
    let rate = bytes as f64 / time.as_secs_f64() / f64::from(1 << 20);
    println!("{name:<44} {rate:9.1} MiB/s  ({:.2} s)", time.as_secs_f64());
    rate
}

/// One large blob against a raw stream and a copy.
async fn large(dir: &Path) {
    let mebibytes = setting("MIB", 1_024);
    let (first, second) = (Node::start(dir, 1, |_| {}).await, Node::start(dir, 2, |_| {}).await);
    let file = dir.join("file");
    noise(&file, mebibytes);
    let start = Instant::now();
    tokio::fs::copy(&file, dir.join("copy")).await.expect("it is copied");
    let copied = rate("copy of a file", mebibytes << 20, start.elapsed());
    let raw = rate("raw iroh stream", mebibytes << 20, raw_stream(mebibytes << 20).await);
    let start = Instant::now();
    let imported = first.blobs.import_path(&file).await.expect("it is imported");
    rate("import", mebibytes << 20, start.elapsed());
    second.network.learn(first.id(), &first.network.contact());
    let time = second.fetch(imported.content, &[first.id()]).await;
    let fetched = rate("fetch from one node", mebibytes << 20, time);
    println!("{:<44} {:9.2}", "fetch / raw stream", fetched / raw);
    println!("{:<44} {:9.2}", "fetch / copy", fetched / copied);
    first.network.shutdown().await;
    second.network.shutdown().await;
    std::fs::remove_dir_all(dir).expect("it can be removed");
}

/// How long so many bytes take over one stream of one connection.
async fn raw_stream(bytes: u64) -> Duration {
    #[derive(Debug, Clone)]
    struct Source(u64);
    impl ProtocolHandler for Source {
        async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
            let (mut send, _receive) = connection.accept_bi().await?;
            let piece = vec![7; PIECE];
            for _ in 0..self.0 / PIECE as u64 {
                send.write_all(&piece).await.map_err(AcceptError::from_err)?;
            }
            send.finish().map_err(AcceptError::from_err)?;
            connection.closed().await;
            Ok(())
        }
    }
    let endpoint = async || {
        let endpoint = iroh::Endpoint::builder(presets::Minimal).clear_ip_transports().bind_addr("127.0.0.1:0");
        endpoint.expect("an address").bind().await.expect("the endpoint binds")
    };
    let (source, target) = (endpoint().await, endpoint().await);
    let address = iroh::EndpointAddr::new(source.id()).with_ip_addr(source.bound_sockets()[0]);
    let router = Router::builder(source).accept(ALPN, Source(bytes)).spawn();
    let connection = target.connect(address, ALPN).await.expect("it connects");
    let start = Instant::now();
    let (mut send, mut receive) = connection.open_bi().await.expect("a stream opens");
    send.write_all(b"go").await.expect("it is sent");
    let mut piece = vec![0; PIECE];
    let mut received = 0;
    while let Some(length) = receive.read(&mut piece).await.expect("it arrives") {
        received += length as u64;
    }
    assert_eq!(received, bytes / PIECE as u64 * PIECE as u64);
    let time = start.elapsed();
    connection.close(0_u32.into(), b"done");
    target.close().await;
    router.shutdown().await.expect("it ends");
    time
}

/// A folder of many small files.
async fn files(dir: &Path) {
    let count = setting("FILES", 20_000);
    let folder = dir.join("folder");
    std::fs::create_dir_all(&folder).expect("it can be made");
    for index in 0..count {
        std::fs::write(folder.join(index.to_string()), format!("file {index}\n").repeat(20)).expect("there is room");
    }
    let (first, second) = (Node::start(dir, 1, |_| {}).await, Node::start(dir, 2, |_| {}).await);
    let start = Instant::now();
    let imported = first.blobs.import_path(&folder).await.expect("it is imported");
    println!("{:<44} {:9.2} s", format!("import of {count} files"), start.elapsed().as_secs_f64());
    second.network.learn(first.id(), &first.network.contact());
    let time = second.fetch(imported.content, &[first.id()]).await.as_secs_f64();
    println!("{:<44} {time:9.2} s  ({:.0} files/s)", format!("fetch of {count} files"), count as f64 / time);
    first.network.shutdown().await;
    second.network.shutdown().await;
    std::fs::remove_dir_all(dir).expect("it can be removed");
}

/// One blob from one, two and four nodes that may send only so much.
async fn shared(dir: &Path) {
    std::fs::create_dir_all(dir).expect("it can be made");
    let file = dir.join("file");
    noise(&file, 64);
    let mut one = None;
    for (round, count) in [(10, 1), (20, 2), (40, 4)] {
        let mut providers = Vec::new();
        let reader = Node::start(dir, round, |_| {}).await;
        let mut kept = Vec::new();
        for index in 1..=count {
            let node = Node::start(dir, round + index, |config| config.bandwidth.upload = Some(LIMIT)).await;
            kept.push(node.blobs.import_path(&file).await.expect("it is imported"));
            reader.network.learn(node.id(), &node.network.contact());
            providers.push(node);
        }
        let from: Vec<PeerId> = providers.iter().map(Node::id).collect();
        let time = reader.fetch(kept[0].content, &from).await;
        let fetched = rate(&format!("fetch from {count} of {} MiB/s each", LIMIT >> 20), 64 << 20, time);
        println!("{:<44} {:9.2}", format!("{count} against one"), fetched / *one.get_or_insert(fetched));
        for node in providers.into_iter().chain([reader]) {
            node.network.shutdown().await;
        }
    }
    std::fs::remove_dir_all(dir).expect("it can be removed");
}

/// From the announcement on one node to the blob on another, in a mesh that one ticket made.
async fn found(dir: &Path) {
    let count = u8::try_from(setting("NODES", 20)).expect("at most 255 nodes");
    let mut nodes = vec![Node::start(dir, 1, |_| {}).await];
    let ticket = nodes[0].network.ticket();
    for seed in 2..=count {
        nodes.push(Node::start(dir, seed, |config| config.join.push(ticket.clone())).await);
    }
    while nodes.iter().any(|node| node.network.peers().len() + 1 < usize::from(count).min(8)) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut times = Vec::new();
    for round in 0..40_usize {
        let (from, to) = (&nodes[(3 + 7 * round) % nodes.len()], &nodes[(11 + 5 * round) % nodes.len()]);
        let start = Instant::now();
        let added = from.blobs.add_bytes(round.to_le_bytes().repeat(12_500)).await.expect("it is added");
        from.network.provide(added.content.hash).await;
        let content = Content { hash: BlobHash::of(&round.to_le_bytes().repeat(12_500)), kind: ContentKind::Raw };
        to.fetch(content, &[]).await;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2].as_secs_f64() * 1e3, times[times.len() - 1].as_secs_f64() * 1e3);
    println!(
        "{:<44} p50 {median:.0} ms, worst of 40 {worst:.0} ms",
        format!("add, and get by hash, among {count} nodes")
    );
    for node in nodes {
        node.network.shutdown().await;
    }
}

/// How much memory two nodes and the file system's tools need together while a large blob moves.
async fn memory(dir: &Path) {
    let gibibytes = setting("GIB", 8);
    let (first, second) = (Node::start(dir, 1, |_| {}).await, Node::start(dir, 2, |_| {}).await);
    let file = dir.join("file");
    noise(&file, gibibytes << 10);
    let before = peak_kib();
    let imported = first.blobs.import_path(&file).await.expect("it is imported");
    std::fs::remove_file(&file).expect("it can be removed");
    second.network.learn(first.id(), &first.network.contact());
    second.fetch(imported.content, &[first.id()]).await;
    let name = format!("memory, both nodes, {gibibytes} GiB moved");
    println!("{name:<44} {:9.1} MiB at most ({:.1} before)", peak_kib() / 1_024.0, before / 1_024.0);
    first.network.shutdown().await;
    second.network.shutdown().await;
    std::fs::remove_dir_all(dir).expect("it can be removed");
}

/// The most memory that this process has had, in KiB.
fn peak_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0)
}
