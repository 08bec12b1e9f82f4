//! Blobs between nodes, when all goes well and when providers are slow, wrong, or gone.

use std::sync::atomic::{AtomicU64, Ordering};

use iroh::endpoint::{Connection, presets};
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh_blobs::Hash;
use iroh_blobs::format::collection::Collection;
use iroh_blobs::protocol::ChunkRanges;

use super::*;

const MIB: u64 = 1 << 20;

/// A collection of `files` on a node.
async fn folder(node: &Node, files: impl IntoIterator<Item = Vec<u8>>) -> Content {
    let mut hashes = Vec::new();
    for (index, bytes) in files.into_iter().enumerate() {
        hashes.push((index.to_string(), node.store.blobs().add_bytes(bytes).temp_tag().await.unwrap()));
    }
    let collection: Collection = hashes.iter().map(|(name, tag)| (name.clone(), tag.hash())).collect();
    let root = collection.store(&node.store).await.unwrap();
    node.store.tags().create(root.hash_and_format()).await.unwrap();
    Content { hash: BlobHash(*root.hash().as_bytes()), kind: ContentKind::Collection }
}

/// A node that has `bytes`, serves so many per second, and knows where the others are.
async fn provider(seed: u8, bytes: &[u8], per_second: u64, ticket: &Ticket) -> Node {
    let limited = |config: &mut NetworkConfig| {
        config.bandwidth.upload = Some(per_second);
        config.join.push(ticket.clone());
    };
    let node = Node::start(seed, limited).await;
    node.add(bytes.to_vec()).await;
    node
}

async fn fetch(node: &Node, content: Content, from: &[PeerId]) -> Result<u64, FetchError> {
    within(node.network.fetch(content, from.to_vec(), 1 << 40, |_| {})).await
}

async fn has(node: &Node, bytes: &[u8]) -> bool {
    node.store.blobs().get_bytes(Hash::new(bytes)).await.is_ok_and(|here| here == bytes)
}

fn served(node: &Node) -> u64 {
    node.network.traffic().served_bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_blob_is_one_request_to_one_provider() {
    let nodes = mesh(3).await;
    let content = nodes[0].add(noise(100_000, 20)).await;
    nodes[1].add(noise(100_000, 20)).await;
    assert_eq!(fetch(&nodes[2], content, &[nodes[0].id(), nodes[1].id()]).await, Ok(100_000));
    let requests = async || {
        while nodes[0].network.traffic().served_requests < 1 {
            tokio::task::yield_now().await;
        }
    };
    within(requests()).await;
    let first = nodes[0].network.traffic();
    assert_eq!((first.served_requests, first.served_bytes), (1, 100_000));
    assert_eq!(nodes[1].network.traffic(), Traffic::default());
    assert_eq!(nodes[2].network.traffic().fetched_bytes, 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_this_node_thinks_little_of_is_asked_after_everybody_else() {
    let nodes = mesh(3).await;
    let (doubted, other, reader) = (&nodes[0], &nodes[1], &nodes[2]);
    // Both are connected before it counts.
    for (node, seed) in [(doubted, 30), (other, 31)] {
        let warm = node.add(noise(1_024, seed)).await;
        assert_eq!(fetch(reader, warm, &[node.id()]).await, Ok(1_024));
    }
    let [wanted, only] = [noise(100_000, 32), noise(100_000, 33)];
    let content = doubted.add(wanted.clone()).await;
    assert_eq!(other.add(wanted).await, content);
    reader.network.doubt(doubted.id(), 60_000);
    assert_eq!(fetch(reader, content, &[doubted.id(), other.id()]).await, Ok(100_000));
    within(async {
        while served(other) < 101_024 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(served(doubted), 1_024);
    let content = doubted.add(only).await;
    assert_eq!(fetch(reader, content, &[doubted.id()]).await, Ok(100_000), "where there is nobody else");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_providers_share_a_blob_and_none_sends_much_in_vain() {
    let reader = Node::start(1, |_| {}).await;
    let (bytes, ticket) = (noise(16 << 20, 21), reader.network.ticket());
    let mut providers = Vec::new();
    for (seed, mebibytes) in [(2, 2), (3, 2), (4, 2), (5, 4)] {
        providers.push(provider(seed, &bytes, mebibytes * MIB, &ticket).await);
    }
    let most = AtomicU64::new(0);
    let content = reader.add_nothing(&bytes);
    let from = providers.iter().map(Node::id).collect();
    let progress = |progress: Progress| {
        most.fetch_max(progress.providers.into(), Ordering::Relaxed);
        assert!(progress.total.is_none_or(|total| total == 16 * MIB), "{progress:?}");
    };
    assert_eq!(within(reader.network.fetch(content, from, 16 * MIB, progress)).await, Ok(16 * MIB));
    assert!(has(&reader, &bytes).await);
    assert_eq!(most.into_inner(), 4);
    for provider in &providers {
        within(async {
            while served(provider) < MIB {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let all: u64 = providers.iter().map(served).sum();
    assert!(all < 24 * MIB, "{all} bytes were sent for 16 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_peer_gets_no_more_than_its_share_however_it_asks() {
    let bytes = [noise(2 << 20, 34), noise(2 << 20, 35)];
    let provider = Node::start(1, |config| config.bandwidth.upload_per_peer = Some(MIB)).await;
    let mut contents = Vec::new();
    for bytes in &bytes {
        contents.push(provider.add(bytes.clone()).await);
    }
    let ticket = provider.network.ticket();
    let greedy = Node::start(2, |config| config.join.push(ticket.clone())).await;
    let from = [provider.id()];
    let began = std::time::Instant::now();
    let both = tokio::join!(fetch(&greedy, contents[0], &from), fetch(&greedy, contents[1], &from));
    assert_eq!(both, (Ok(2 * MIB), Ok(2 * MIB)));
    // Four seconds of bytes; what was missed before may be made up for.
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_ends_in_the_middle_is_replaced() {
    let reader = Node::start(1, |_| {}).await;
    let (bytes, ticket) = (noise(8 << 20, 22), reader.network.ticket());
    let dying = provider(2, &bytes, 2 * MIB, &ticket).await;
    let steady = provider(3, &bytes, 100 * MIB, &ticket).await;
    let content = reader.add_nothing(&bytes);
    let (began, waiting) = tokio::sync::watch::channel(0);
    let network = reader.network.clone();
    let from = vec![dying.id()];
    // The other one is found in the DHT, while the first is still sending.
    within(steady.network.provide(content.hash)).await;
    let fetching = tokio::spawn(async move {
        let progress = |progress: Progress| {
            began.send_replace(progress.bytes);
        };
        network.fetch(content, from, 8 * MIB, progress).await
    });
    within(waiting.clone().wait_for(|bytes| *bytes > MIB)).await.unwrap();
    within(dying.network.shutdown()).await;
    assert_eq!(within(fetching).await.unwrap(), Ok(8 * MIB));
    assert!(has(&reader, &bytes).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_lacks_a_part_is_completed_by_another() {
    let nodes = mesh(3).await;
    let files = || (0..200_u8).map(|file| noise(3_000 + usize::from(file), file));
    let content = folder(&nodes[0], files()).await;
    // One has the list of files, and a few of them.
    let list = nodes[0].store.blobs().get_bytes(Hash::from_bytes(content.hash.0)).await.unwrap();
    nodes[1].add(list.to_vec()).await;
    for file in files().take(50) {
        nodes[1].add(file).await;
    }
    let size = fetch(&nodes[2], content, &[nodes[1].id(), nodes[0].id()]).await.unwrap();
    assert!(size > 200 * 3_000);
    for file in files() {
        assert!(has(&nodes[2], &file).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_large_and_small_files_is_shared_by_slow_providers() {
    let reader = Node::start(1, |_| {}).await;
    let ticket = reader.network.ticket();
    let files = || [vec![noise(6 << 20, 23)], (0..100).map(|file| noise(500, file)).collect(), vec![vec![]]].concat();
    let (first, second) = (provider(2, b"", 4 * MIB, &ticket).await, provider(3, b"", 4 * MIB, &ticket).await);
    let content = folder(&first, files()).await;
    assert_eq!(folder(&second, files()).await, content);
    let size = fetch(&reader, content, &[first.id(), second.id()]).await.unwrap();
    assert!(size > 6 * MIB);
    for file in files() {
        assert!(has(&reader, &file).await);
    }
    assert!(second.network.traffic().served_requests + second.network.traffic().refused_requests > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_arrived_is_not_fetched_again() {
    let nodes = mesh(2).await;
    let bytes = noise(8 << 20, 24);
    let content = nodes[0].add(bytes.clone()).await;
    // The middle is here.
    let hash = Hash::from_bytes(content.hash.0);
    let ranges = ChunkRanges::from(bao_tree::ChunkNum(2_048)..bao_tree::ChunkNum(6_144));
    let middle = nodes[0].store.blobs().export_bao(hash, ranges.clone()).bao_to_vec().await.unwrap();
    nodes[1].store.blobs().import_bao_bytes(hash, ranges, middle).await.unwrap();
    assert_eq!(fetch(&nodes[1], content, &[nodes[0].id()]).await, Ok(8 * MIB));
    assert_eq!(nodes[1].network.traffic().fetched_bytes, 4 * MIB);
    assert!(has(&nodes[1], &bytes).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_files_than_a_folder_has_are_refused_before_they_are_fetched() {
    let nodes = mesh(2).await;
    let root = nodes[0].add(vec![7; (shoal_store::blobs::MAX_FILES + 2) * 32]).await;
    let content = Content { kind: ContentKind::Collection, ..root };
    let error = fetch(&nodes[1], content, &[nodes[0].id()]).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_small_files_arrive() {
    let nodes = mesh(2).await;
    let content = folder(&nodes[0], (0..20_000_u32).map(|file| file.to_le_bytes().repeat(75))).await;
    let size = fetch(&nodes[1], content, &[nodes[0].id()]).await.unwrap();
    assert!((6 * MIB - 300_000..8 * MIB).contains(&size), "{size}");
    assert!(has(&nodes[1], &19_999_u32.to_le_bytes().repeat(75)).await);
}

/// Answers each request with the same bytes, and then with silence or the end of the stream.
#[derive(Debug, Clone)]
struct Answer {
    bytes: Vec<u8>,
    ends: bool,
}

impl ProtocolHandler for Answer {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let mut streams = Vec::new();
        while let Ok((mut send, mut receive)) = connection.accept_bi().await {
            let _ = receive.read_to_end(1 << 20).await;
            let _ = send.write_all(&self.bytes).await;
            if self.ends {
                let _ = send.finish();
            }
            streams.push(send);
        }
        Ok(())
    }
}

/// A peer that speaks iroh-blobs its own way.
async fn odd_provider(answer: Answer) -> (Router, PeerId, Contact) {
    let endpoint = iroh::Endpoint::builder(presets::Minimal).clear_ip_transports();
    let endpoint = endpoint.bind_addr("127.0.0.1:0").unwrap().bind().await.unwrap();
    let (peer, address) = (identity::peer_of_endpoint(endpoint.id()), endpoint.bound_sockets()[0]);
    let router = Router::builder(endpoint).accept(iroh_blobs::ALPN, answer).spawn();
    (router, peer, Contact { addresses: vec![address], relay: None })
}

/// What an honest provider answers to a request for all of a blob.
async fn honest_answer(node: &Node, content: Content) -> Vec<u8> {
    let hash = Hash::from_bytes(content.hash.0);
    node.store.blobs().export_bao(hash, ChunkRanges::all()).bao_to_vec().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_sends_something_else_is_found_out_and_not_asked_again() {
    let nodes = mesh(2).await;
    let bytes = noise(2 << 20, 25);
    let content = nodes[0].add(bytes.clone()).await;
    let honest = honest_answer(&nodes[0], content).await;
    let flipped = |at: usize| {
        let mut bytes = honest.clone();
        bytes[at] ^= 1;
        bytes
    };
    // Wrong: the size, a proof, a byte in the middle, the last byte, everything.
    let wrong = [flipped(5), flipped(20), flipped(honest.len() / 2), flipped(honest.len() - 1), vec![b'x'; 1 << 20]];
    for (seed, answer) in (30..).zip(wrong) {
        let join = |config: &mut NetworkConfig| config.join.push(nodes[0].network.ticket());
        let (alone, reader) = (Node::start(seed, join).await, Node::start(seed + 10, join).await);
        let (_router, liar, contact) = odd_provider(Answer { bytes: answer, ends: true }).await;
        [&alone, &reader].iter().for_each(|node| node.network.learn(liar, &contact));
        // Where others have it too, they may be faster than the lie.
        assert_eq!(fetch(&reader, content, &[liar, nodes[0].id()]).await, Ok(2 * MIB), "{seed}");
        assert!(has(&reader, &bytes).await && !reader.network.fetcher.is_liar(nodes[0].id()), "{seed}");
        let error = fetch(&alone, content, &[liar]).await.unwrap_err();
        assert_eq!(error, FetchError::Corrupt { hash: content.hash, liar }, "{seed}");
        assert!(alone.network.fetcher.is_liar(liar), "{seed}");
        assert_eq!(fetch(&alone, content, &[liar, nodes[0].id()]).await, Ok(2 * MIB), "{seed}");
        assert!(has(&alone, &bytes).await, "{seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_falls_silent_or_stops_does_not_hold_up_the_fetch() {
    let nodes = mesh(2).await;
    let bytes = noise(4 << 20, 26);
    let content = nodes[0].add(bytes.clone()).await;
    let honest = honest_answer(&nodes[0], content).await;
    for (seed, ends) in [(40, false), (41, true)] {
        let reader = Node::start(seed, |config| config.join.push(nodes[0].network.ticket())).await;
        let half = honest[..honest.len() / 2].to_vec();
        let (_router, silent, contact) = odd_provider(Answer { bytes: half, ends }).await;
        reader.network.learn(silent, &contact);
        assert_eq!(fetch(&reader, content, &[silent, nodes[0].id()]).await, Ok(4 * MIB), "{seed}");
        assert!(has(&reader, &bytes).await);
        let fetched = reader.network.traffic().fetched_bytes;
        assert!(fetched <= 4 * MIB + (64 << 10), "{fetched}: what the first one sent was kept");
    }
}

impl Node {
    /// Names some bytes that this node has not got.
    fn add_nothing(&self, bytes: &[u8]) -> Content {
        Content { hash: BlobHash::of(bytes), kind: ContentKind::Raw }
    }
}
