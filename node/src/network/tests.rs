//! Networks of real nodes on loopback.

mod abuse;

mod deaf;
mod private;

mod shards;

mod transfer;

use std::collections::BTreeSet;
use std::future::Future;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use iroh_blobs::store::mem::MemStore;
use shoal_protocol::id::{BlobHash, PeerId};
use shoal_protocol::message::{Contact, ExecutorKind};
use shoal_protocol::shard::Audience;
use shoal_protocol::task::{Content, ContentKind};
use tokio::sync::{mpsc, watch};

use super::ticket::{Ticket, TicketError};
use super::*;

/// Far more than anything here takes. A test that waits this long has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// Those who run modules: all nodes here.
const EVERYBODY: Audience = Audience { class: ExecutorKind::Wasm, level: 0 };

/// A node whose events are looked after: gossip is accepted and kept, and requests are answered with themselves.
struct Node {
    network: Network,
    store: MemStore,
    heard: mpsc::Receiver<(Vec<u8>, Instant)>,
    up: watch::Receiver<BTreeSet<PeerId>>,
}

impl Node {
    async fn start(seed: u8, change: impl FnOnce(&mut NetworkConfig)) -> Self {
        let store = MemStore::new();
        let mut config = NetworkConfig::new(SigningKey::from_bytes(&[seed; 32]), "test", (*store).clone());
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.loopback_only = true;
        config.runs = BTreeSet::from([EVERYBODY.class]);
        change(&mut config);
        let (network, events) = Network::start(config).await.unwrap();
        let (hear, heard) = mpsc::channel(10_000);
        let (set_up, up) = watch::channel(BTreeSet::new());
        tokio::spawn(look_after(network.clone(), events, hear, set_up));
        Self { network, store, heard, up }
    }

    fn id(&self) -> PeerId {
        self.network.peer_id()
    }

    async fn sees(&mut self, peer: PeerId) {
        within(self.up.wait_for(|up| up.contains(&peer))).await.unwrap();
    }

    async fn misses(&mut self, peer: PeerId) {
        within(self.up.wait_for(|up| !up.contains(&peer))).await.unwrap();
    }

    async fn add(&self, bytes: Vec<u8>) -> Content {
        let tag = self.store.blobs().add_bytes(bytes).await.unwrap();
        Content { hash: BlobHash(*tag.hash.as_bytes()), kind: ContentKind::Raw }
    }
}

async fn look_after(
    network: Network,
    mut events: Events,
    hear: mpsc::Sender<(Vec<u8>, Instant)>,
    up: watch::Sender<BTreeSet<PeerId>>,
) {
    while let Some(event) = events.recv().await {
        match event {
            NetworkEvent::Gossip { id, source, bytes, .. } => {
                network.validate(id, source, Validity::Accept);
                let _ = hear.try_send((bytes, Instant::now()));
            }
            NetworkEvent::Request { bytes, reply, .. } => reply.send(bytes),
            NetworkEvent::PeerUp(peer) => up.send_modify(|up| {
                up.insert(peer);
            }),
            NetworkEvent::Corrupt(_) => {}
            NetworkEvent::PeerDown(peer) => up.send_modify(|up| {
                up.remove(&peer);
            }),
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("this happens long before the deadline")
}

/// Nodes that all know only the first one's ticket, once everybody sees everybody.
async fn mesh(size: u8) -> Vec<Node> {
    let first = Node::start(1, |_| {}).await;
    let ticket: Ticket = first.network.ticket().to_string().parse().unwrap();
    let mut nodes = vec![first];
    for seed in 2..=size {
        nodes.push(Node::start(seed, |config| config.join.push(ticket.clone())).await);
    }
    let ids: Vec<PeerId> = nodes.iter().map(Node::id).collect();
    for node in &mut nodes {
        for id in &ids {
            if *id != node.id() {
                node.sees(*id).await;
            }
        }
    }
    nodes
}

/// Some bytes that no other test has.
fn noise(length: usize, seed: u8) -> Vec<u8> {
    (0..length.div_ceil(32)).flat_map(|block| BlobHash::of(&[&[seed][..], &block.to_le_bytes()].concat()).0).collect()
}

/// A peer whose address takes packets and never answers.
fn dead_peer(seed: u8) -> (PeerId, Contact, std::net::UdpSocket) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let contact = Contact { addresses: vec![socket.local_addr().unwrap()], relay: None };
    (identity::peer_of_key(&SigningKey::from_bytes(&[seed; 32])), contact, socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_with_one_ticket_find_each_other_and_talk() {
    let mut nodes = mesh(5).await;
    nodes[1].network.gossip(EVERYBODY, b"hello all".to_vec()).await;
    for at in [0, 2, 3, 4] {
        let (bytes, _) = within(nodes[at].heard.recv()).await.unwrap();
        assert_eq!(bytes, b"hello all");
    }
    let to = nodes[4].id();
    assert_eq!(nodes[2].network.request(to, b"hello you".to_vec()).await, Ok(b"hello you".to_vec()));
    let largest = noise(MAX_REQUEST_BYTES, 1)[..MAX_REQUEST_BYTES].to_vec();
    assert_eq!(nodes[2].network.request(to, largest.clone()).await, Ok(largest));
    assert_eq!(nodes[3].network.peers().len(), 4);
    assert_eq!(nodes[3].network.ticket().peers.len(), TICKET_PEERS);
    assert!(nodes[3].network.delay_ms() < 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_a_small_mesh_is_known() {
    let nodes = mesh(4).await;
    for node in &nodes {
        let mut size = node.network.shared.mesh_size.subscribe();
        within(size.wait_for(|size| *size == 4)).await.unwrap();
        assert_eq!(node.network.mesh_size(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_provided_is_found_and_fetched_by_hash_alone() {
    let nodes = mesh(5).await;
    let content = nodes[1].add(noise(100_000, 2)).await;
    assert_eq!(within(nodes[4].network.providers(content.hash)).await, []);
    within(nodes[1].network.provide(content.hash)).await;
    // The last hop of announcing is not acknowledged, so the first question may come too early.
    let found = within(async {
        loop {
            let found = nodes[4].network.providers(content.hash).await;
            if !found.is_empty() {
                return found;
            }
        }
    });
    assert_eq!(found.await, [nodes[1].id()]);
    assert_eq!(within(nodes[4].network.fetch(content, vec![], 200_000, |_| {})).await, Ok(100_000));
    let bytes = nodes[4].store.blobs().get_bytes(iroh_blobs::Hash::from_bytes(content.hash.0)).await.unwrap();
    assert_eq!(bytes, noise(100_000, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_provider_does_not_stop_a_fetch() {
    let nodes = mesh(2).await;
    let (dead, contact, _socket) = dead_peer(77);
    nodes[1].network.learn(dead, &contact);
    let content = nodes[0].add(noise(8 << 20, 3)).await;
    let most = std::sync::atomic::AtomicU64::new(0);
    let progress = |progress: Progress| {
        most.fetch_max(progress.bytes, std::sync::atomic::Ordering::Relaxed);
    };
    let started = Instant::now();
    let size = within(nodes[1].network.fetch(content, vec![dead, nodes[0].id()], 8 << 20, progress)).await;
    assert_eq!(size, Ok(8 << 20));
    assert_eq!(most.into_inner(), 8 << 20);
    assert!(started.elapsed() < Duration::from_secs(8), "the live provider overtakes the dead one");
    assert_eq!(within(nodes[1].network.fetch(content, vec![], u64::MAX, |_| {})).await, Ok(8 << 20), "it is here now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_comes_with_its_blobs() {
    let nodes = mesh(2).await;
    let blobs = [nodes[0].add(noise(50_000, 4)).await, nodes[0].add(vec![]).await, nodes[0].add(noise(96, 5)).await];
    let names = ["a", "b", "c"].into_iter();
    let hashes = blobs.iter().map(|blob| iroh_blobs::Hash::from_bytes(blob.hash.0));
    let collection: iroh_blobs::format::collection::Collection = names.zip(hashes).collect();
    let root = collection.store(&nodes[0].store).await.unwrap();
    let content = Content { hash: BlobHash(*root.hash().as_bytes()), kind: ContentKind::Collection };
    let size = within(nodes[1].network.fetch(content, vec![nodes[0].id()], 60_000, |_| {})).await.unwrap();
    assert!((50_096..60_000).contains(&size), "{size}");
    assert_eq!(within(nodes[1].network.fetch(content, vec![], 60_000, |_| {})).await, Ok(size));
    for blob in blobs {
        assert!(nodes[1].store.blobs().has(iroh_blobs::Hash::from_bytes(blob.hash.0)).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_nobody_has_or_that_is_too_large_is_an_error_that_says_so() {
    let nodes = mesh(2).await;
    let missing = Content { hash: BlobHash::of(b"nobody has this"), kind: ContentKind::Raw };
    let error = within(nodes[1].network.fetch(missing, vec![nodes[0].id()], 1_000, |_| {})).await;
    assert_eq!(error, Err(FetchError::Nowhere { hash: missing.hash, tried: 1 }));
    let large = nodes[0].add(noise(4 << 20, 6)).await;
    let error = within(nodes[1].network.fetch(large, vec![nodes[0].id()], 1 << 20, |_| {})).await;
    assert_eq!(error, Err(FetchError::TooLarge { hash: large.hash, limit: 1 << 20 }));
    assert_eq!(within(nodes[1].network.fetch(large, vec![nodes[0].id()], 4 << 20, |_| {})).await, Ok(4 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_decides_who_may_have_a_blob() {
    let first = Node::start(1, |config| config.serve = Some(Arc::new(|_, hash| hash == BlobHash::of(b"public")))).await;
    let mut second = Node::start(2, |config| config.join.push(first.network.ticket())).await;
    second.sees(first.id()).await;
    let (public, private) = (first.add(b"public".to_vec()).await, first.add(b"private".to_vec()).await);
    assert_eq!(within(second.network.fetch(public, vec![first.id()], 100, |_| {})).await, Ok(6));
    assert!(within(second.network.fetch(private, vec![first.id()], 100, |_| {})).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_with_its_key_is_taken_back() {
    let mut nodes = mesh(2).await;
    let gone = nodes.pop().unwrap();
    let [stayed] = &mut nodes[..] else { unreachable!("one of two is left") };
    let (id, known) = (gone.id(), gone.network.peers().into_iter().map(|info| (info.peer, info.contact)).collect());
    within(gone.network.shutdown()).await;
    stayed.misses(id).await;
    let mut back = Node::start(2, |config| config.join_peers = known).await;
    assert_eq!(back.id(), id);
    stayed.sees(id).await;
    back.sees(stayed.id()).await;
    assert_eq!(within(stayed.network.request(id, b"again?".to_vec())).await, Ok(b"again?".to_vec()));
    stayed.network.gossip(EVERYBODY, b"welcome back".to_vec()).await;
    assert_eq!(within(back.heard.recv()).await.unwrap().0, b"welcome back");
}

#[test]
fn a_node_that_was_killed_and_comes_back_is_reached_at_once() {
    tracing_subscriber::fmt()
        .with_env_filter("shoal=debug,iroh_util=debug,iroh_blobs=debug,iroh=info")
        .with_test_writer()
        .init();
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (here, there) = (runtime(), runtime());
    let mut stayed = here.block_on(Node::start(1, |_| {}));
    let ticket = stayed.network.ticket();
    let killed = there.block_on(Node::start(2, |config| config.join.push(ticket.clone())));
    let id = killed.id();
    here.block_on(stayed.sees(id));
    let content = there.block_on(killed.add(noise(5_000, 8)));
    assert_eq!(here.block_on(stayed.network.fetch(content, vec![id], 6_000, |_| {})), Ok(5_024));
    // Younger connections could be two that were made at once.
    let connected = stayed.network.peers()[0].connected_since;
    while connected.elapsed() < Duration::from_secs(4) {
        let _ = here.block_on(stayed.network.request(id, vec![0]));
    }
    there.shutdown_background();
    std::mem::forget(killed);
    here.block_on(async {
        let restarted = Instant::now();
        let back = Node::start(2, |config| config.join.push(ticket)).await;
        // What crosses the clean-up of the old connections may be lost once.
        while within(back.network.request(stayed.id(), vec![1])).await.is_err() {}
        while within(stayed.network.request(id, vec![2])).await.is_err() {}
        for _ in 0..8 {
            assert_eq!(within(stayed.network.request(id, vec![3])).await, Ok(vec![3]));
        }
        let content = back.add(noise(6_000, 9)).await;
        assert_eq!(within(stayed.network.fetch(content, vec![id], 6_016, |_| {})).await, Ok(6_016));
        assert!(restarted.elapsed() < Duration::from_secs(8), "faster than connections time out");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_not_there_yet_is_found_later() {
    let probe = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = probe.local_addr().unwrap();
    let late =
        (identity::peer_of_key(&SigningKey::from_bytes(&[2; 32])), Contact { addresses: vec![listen], relay: None });
    let mut early = Node::start(1, |config| config.join_peers.push(late.clone())).await;
    let error = within(early.network.request(late.0, vec![])).await;
    assert_eq!(error, Err(RequestError::Unreachable(late.0)));
    drop(probe);
    let _late = Node::start(2, |config| config.listen = listen).await;
    early.sees(late.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_on_all_interfaces_tell_where_they_can_be_reached() {
    let anywhere = |config: &mut NetworkConfig| {
        (config.listen, config.loopback_only) = ("0.0.0.0:0".parse().unwrap(), false);
    };
    let first = Node::start(1, anywhere).await;
    let ticket = first.network.ticket();
    assert!(!ticket.peers[0].1.addresses.is_empty());
    let second = Node::start(2, |config| {
        anywhere(config);
        config.join.push(ticket);
    });
    assert_eq!(within(second.await.network.request(first.id(), vec![3])).await, Ok(vec![3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_gossip_is_rejected_is_soon_not_heard() {
    let store = MemStore::new();
    let mut config = NetworkConfig::new(SigningKey::from_bytes(&[1; 32]), "test", (*store).clone());
    (config.listen, config.loopback_only) = ("127.0.0.1:0".parse().unwrap(), true);
    config.runs = BTreeSet::from([EVERYBODY.class]);
    let (strict, mut events) = Network::start(config).await.unwrap();
    let judge = strict.clone();
    let heard = tokio::spawn(async move {
        let mut heard = 0;
        while let Some(event) = events.recv().await {
            match event {
                NetworkEvent::Gossip { id, source, .. } => {
                    heard += 1;
                    judge.validate(id, source, Validity::Reject);
                }
                NetworkEvent::Request { bytes, reply, .. } => {
                    reply.send(bytes.clone());
                    if bytes == b"end" {
                        return heard;
                    }
                }
                _ => {}
            }
        }
        heard
    });
    let mut liar = Node::start(2, |config| config.join.push(strict.ticket())).await;
    liar.sees(strict.peer_id()).await;
    for n in 0..100_u8 {
        liar.network.gossip(EVERYBODY, vec![n; 100]).await;
        // By the time of the answer the message has long arrived.
        within(liar.network.request(strict.peer_id(), vec![n])).await.unwrap();
    }
    within(liar.network.request(strict.peer_id(), b"end".to_vec())).await.unwrap();
    let heard = within(heard).await.unwrap();
    assert!((1..50).contains(&heard), "{heard} of 100 messages were heard");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_two_meshes_do_not_mix() {
    let one = Node::start(1, |_| {}).await;
    let ticket = one.network.ticket();
    let stranger = Node::start(2, |config| {
        config.mesh = "other".into();
        config.join_peers = ticket.peers.clone();
    });
    let stranger = stranger.await;
    let asked = within(stranger.network.request(one.id(), b"hello?".to_vec())).await;
    assert_eq!(asked, Err(RequestError::Unreachable(one.id())));
    assert_eq!((one.network.peers(), stranger.network.peers()), (vec![], vec![]));
    let reason = async {
        loop {
            match &stranger.network.known().await[..] {
                [KnownPeer { reason: Some(reason), .. }] => return reason.clone(),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    assert_eq!(within(reason).await, Unreached::OtherMesh);
    let error = Ticket::new("other", vec![]).for_mesh("test");
    assert!(matches!(error, Err(TicketError::OtherMesh { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_of_another_mesh_is_refused_at_the_start() {
    let store = MemStore::new();
    let mut config = NetworkConfig::new(SigningKey::from_bytes(&[1; 32]), "test", (*store).clone());
    config.join.push(Ticket::new("other", vec![]));
    let Err(error) = Network::start(config).await else { panic!("the ticket is of another mesh") };
    assert!(error.to_string().contains("\"other\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_too_large_or_go_nowhere_are_refused() {
    let nodes = mesh(2).await;
    let to = nodes[0].id();
    let error = nodes[1].network.request(to, vec![0; MAX_REQUEST_BYTES + 1]).await;
    assert_eq!(error, Err(RequestError::TooLarge(MAX_REQUEST_BYTES + 1)));
    let own = nodes[1].id();
    assert_eq!(nodes[1].network.request(own, vec![]).await, Err(RequestError::NoSuchPeer(own)));
    let nobody = identity::peer_of_key(&SigningKey::from_bytes(&[99; 32]));
    assert_eq!(within(nodes[1].network.request(nobody, vec![])).await, Err(RequestError::Unreachable(nobody)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_asks_too_much_is_told_that_we_are_busy() {
    let strict = |config: &mut NetworkConfig| config.rates.requests = Rate { per_second: 0, burst: 3 };
    let first = Node::start(1, strict).await;
    let mut second = Node::start(2, |config| config.join.push(first.network.ticket())).await;
    second.sees(first.id()).await;
    for _ in 0..3 {
        assert_eq!(within(second.network.request(first.id(), vec![7])).await, Ok(vec![7]));
    }
    assert_eq!(within(second.network.request(first.id(), vec![7])).await, Err(RequestError::Busy(first.id())));
    assert_eq!(within(first.network.request(second.id(), vec![7])).await, Ok(vec![7]), "we may still ask");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_peer_is_not_talked_to_until_it_is_unblocked() {
    let mut nodes = mesh(2).await;
    let blocked = nodes[1].id();
    nodes[0].network.block(blocked).await;
    nodes[0].misses(blocked).await;
    assert_eq!(nodes[0].network.request(blocked, vec![1]).await, Err(RequestError::Unreachable(blocked)));
    nodes[0].network.unblock(blocked).await;
    nodes[0].sees(blocked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_fit_at_once_wait_their_turn() {
    let nodes = mesh(2).await;
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..1_000_u32 {
        let (network, to) = (nodes[1].network.clone(), nodes[0].id());
        asked.spawn(async move { network.request(to, n.to_le_bytes().to_vec()).await.map(|answer| (n, answer)) });
    }
    while let Some(answer) = within(asked.join_next()).await {
        let (n, answer) = answer.unwrap().unwrap();
        assert_eq!(answer, n.to_le_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_keep_up_says_that_it_is_busy() {
    let store = MemStore::new();
    let mut config = NetworkConfig::new(SigningKey::from_bytes(&[1; 32]), "test", (*store).clone());
    (config.listen, config.loopback_only) = ("127.0.0.1:0".parse().unwrap(), true);
    let (idle, _events) = Network::start(config).await.unwrap();
    let mut asked = tokio::task::JoinSet::new();
    let mut others = Vec::new();
    for seed in 2..8 {
        let mut other = Node::start(seed, |config| config.join.push(idle.ticket())).await;
        other.sees(idle.peer_id()).await;
        for _ in 0..100 {
            let (network, to) = (other.network.clone(), idle.peer_id());
            asked.spawn(async move { network.request(to, vec![]).await });
        }
        others.push(other);
    }
    let busy = within(async {
        while let Some(answer) = asked.join_next().await {
            if answer.unwrap() == Err(RequestError::Busy(idle.peer_id())) {
                return true;
            }
        }
        false
    });
    assert!(busy.await, "requests beyond the bound are answered at once");
}
