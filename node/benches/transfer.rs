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
use iroh_blobs::provider::events::EventSender;
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
        config.store_threads = Some(blobs.threads().clone());
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

    async fn fetch(&self, content: Content, from: &[PeerId]) {
        let _guard = self.blobs.protect(content).await.expect("the store works");
        self.network.fetch(content, from.to_vec(), u64::MAX, |_| {}).await.expect("it arrives");
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

/// A stretch of time, and what it cost.
#[derive(Clone, Copy)]
struct Watch {
    start: Instant,
    cpu_ms: u64,
}

impl Watch {
    fn start() -> Self {
        Self { start: Instant::now(), cpu_ms: cpu_ms() }
    }

    /// Prints how fast so many bytes were, and returns MiB per second.
    fn rate(self, name: &str, bytes: u64) -> f64 {
        let (time, cpu_ms) = (self.start.elapsed().as_secs_f64(), cpu_ms() - self.cpu_ms);
        let mebibytes = bytes as f64 / f64::from(1 << 20);
        let cost = cpu_ms as f64 / mebibytes;
        println!("{name:<44} {:9.1} MiB/s  ({time:.2} s, {cost:.2} ms of processor time a MiB)", mebibytes / time);
        mebibytes / time
    }
}

/// The processor time of this process and of its children that have ended, in milliseconds.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(4);
    // A hundredth of a second each, on every Linux.
    fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}

/// One large blob against a raw stream, iroh-blobs alone, and what else reads or copies the file.
async fn large(dir: &Path) {
    let bytes = setting("MIB", 1_024) << 20;
    let (first, second) = (Node::start(dir, 1, |_| {}).await, Node::start(dir, 2, |_| {}).await);
    let file = dir.join("file");
    noise(&file, bytes >> 20);
    let watch = Watch::start();
    tokio::fs::copy(&file, dir.join("copy")).await.expect("it is copied");
    let copied = watch.rate("copy of a file", bytes);
    std::fs::remove_file(dir.join("copy")).expect("it can be removed");
    let hashed = b3sum("b3sum, all cores", &file, bytes, &[]);
    let hashed_by_one = b3sum("b3sum, one thread", &file, bytes, &["--num-threads", "1"]);
    let watch = Watch::start();
    let imported = first.blobs.import_path(&file).await.expect("it is imported");
    let import = watch.rate("import", bytes);
    let raw = raw_stream(bytes).await;
    let alone = alone(dir, imported.content.hash, &first.blobs, bytes).await;
    second.network.learn(first.id(), &first.network.contact());
    let watch = Watch::start();
    second.fetch(imported.content, &[first.id()]).await;
    let fetched = watch.rate("fetch from one node", bytes);
    ratio("fetch / raw stream", fetched / raw);
    ratio("fetch / iroh-blobs alone", fetched / alone);
    ratio("iroh-blobs alone / raw stream", alone / raw);
    ratio("fetch / copy", fetched / copied);
    if let (Some(all), Some(one)) = (hashed, hashed_by_one) {
        ratio("import / b3sum, all cores", import / all);
        ratio("import / copy, then b3sum, all cores", import * (1.0 / copied + 1.0 / all));
        ratio("import / copy, then b3sum, one thread", import * (1.0 / copied + 1.0 / one));
    }
    first.network.shutdown().await;
    second.network.shutdown().await;
    std::fs::remove_dir_all(dir).expect("it can be removed");
}

fn ratio(name: &str, ratio: f64) {
    println!("{name:<44} {ratio:9.2}");
}

/// How fast `b3sum` reads a file, where it is installed.
fn b3sum(name: &str, file: &Path, bytes: u64, flags: &[&str]) -> Option<f64> {
    let watch = Watch::start();
    let output = std::process::Command::new("b3sum").args(flags).arg(file).output().ok()?;
    output.status.success().then(|| watch.rate(name, bytes))
}

/// A fetch as iroh-blobs does it: its own provider, endpoint, download and store, without anything of ours.
async fn alone(dir: &Path, hash: BlobHash, blobs: &Blobs, bytes: u64) -> f64 {
    let store = iroh_blobs::store::fs::FsStore::load(dir.join("alone")).await.expect("the store opens");
    let (source, target) = (endpoint().await, endpoint().await);
    let address = iroh::EndpointAddr::new(source.id()).with_ip_addr(source.bound_sockets()[0]);
    source.set_alpns(vec![iroh_blobs::ALPN.to_vec()]);
    // Not iroh-blobs' own handler: it would shut the store down at the end.
    let (from, serve) = (blobs.store().clone(), iroh_blobs::provider::handle_connection);
    let serving = tokio::spawn(async move {
        let connection = source.accept().await.expect("somebody connects").await.expect("it connects");
        serve(connection, from, EventSender::DEFAULT).await;
        source.close().await;
    });
    let connection = target.connect(address, iroh_blobs::ALPN).await.expect("it connects");
    let watch = Watch::start();
    let hash = iroh_blobs::Hash::from_bytes(hash.0);
    store.remote().fetch(connection.clone(), hash).await.expect("it arrives");
    let rate = watch.rate("iroh-blobs alone", bytes);
    connection.close(0_u32.into(), b"done");
    target.close().await;
    serving.await.expect("it ends");
    store.shutdown().await.expect("it ends");
    rate
}

async fn endpoint() -> iroh::Endpoint {
    let endpoint = iroh::Endpoint::builder(presets::Minimal).clear_ip_transports().bind_addr("127.0.0.1:0");
    endpoint.expect("an address").bind().await.expect("the endpoint binds")
}

/// How fast so many bytes are over one stream of one connection.
async fn raw_stream(bytes: u64) -> f64 {
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
    let (source, target) = (endpoint().await, endpoint().await);
    let address = iroh::EndpointAddr::new(source.id()).with_ip_addr(source.bound_sockets()[0]);
    let router = Router::builder(source).accept(ALPN, Source(bytes)).spawn();
    let connection = target.connect(address, ALPN).await.expect("it connects");
    let watch = Watch::start();
    let (mut send, mut receive) = connection.open_bi().await.expect("a stream opens");
    send.write_all(b"go").await.expect("it is sent");
    let mut piece = vec![0; PIECE];
    let mut received = 0;
    while let Some(length) = receive.read(&mut piece).await.expect("it arrives") {
        received += length as u64;
    }
    assert_eq!(received, bytes / PIECE as u64 * PIECE as u64);
    let rate = watch.rate("raw iroh stream", bytes);
    connection.close(0_u32.into(), b"done");
    target.close().await;
    router.shutdown().await.expect("it ends");
    rate
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
    let start = Instant::now();
    second.fetch(imported.content, &[first.id()]).await;
    let time = start.elapsed().as_secs_f64();
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
        let watch = Watch::start();
        reader.fetch(kept[0].content, &from).await;
        let fetched = watch.rate(&format!("fetch from {count} of {} MiB/s each", LIMIT >> 20), 64 << 20);
        ratio(&format!("{count} against one"), fetched / *one.get_or_insert(fetched));
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

/// How much memory two nodes in one process need together while a large blob is imported and moves.
async fn memory(dir: &Path) {
    let gibibytes = setting("GIB", 8);
    let (first, second) = (Node::start(dir, 1, |_| {}).await, Node::start(dir, 2, |_| {}).await);
    let file = dir.join("file");
    noise(&file, gibibytes << 10);
    let print = |what: &str| println!("{:<44} {:9.1} MiB at most", format!("memory, both nodes, {what}"), peak_mib());
    print("before");
    forget_peak();
    let imported = first.blobs.import_path(&file).await.expect("it is imported");
    print(&format!("{gibibytes} GiB imported"));
    std::fs::remove_file(&file).expect("it can be removed");
    second.network.learn(first.id(), &first.network.contact());
    forget_peak();
    second.fetch(imported.content, &[first.id()]).await;
    print(&format!("{gibibytes} GiB moved"));
    first.network.shutdown().await;
    second.network.shutdown().await;
    std::fs::remove_dir_all(dir).expect("it can be removed");
}

/// The most memory that this process has had since [`forget_peak`], in MiB.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0) / 1_024.0
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("the system forgets the peak");
}
