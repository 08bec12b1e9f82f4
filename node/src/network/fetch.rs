//! Blobs from others: whoever has it, as much as is missing, never more than allowed.
//!
//! The first provider that answers is asked for all that is missing. While that goes on others are connected, the DHT
//! is asked for more of them, and each takes a share of what is left, as large as it is fast. What a provider leaves
//! when it fails, falls silent or dawdles goes to the others; what has arrived stays and is not asked for again, not
//! even by another process after a crash. Every chunk is verified, so a provider can be slow or absent but not wrong;
//! one that sends something else is not asked again for a while, and of the others those come last whom this node thinks
//! little of.
//!
//! Who wants to keep the blob has to protect it with a tag in the store before it is fetched.

mod crew;

mod claim;

mod lane;

mod stream;

mod pieces;

mod peers;

mod reputation;

mod survey;

mod tally;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use iroh_blobs::api::Store;
use iroh_blobs::util::connection_pool::{ConnectionPool, ConnectionRef, Options};
use shoal_protocol::id::{BlobHash, PeerId};
use shoal_protocol::task::Content;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

pub use self::tally::Progress;

use self::crew::Crew;
use self::reputation::Marked;
use self::tally::Tally;
use super::identity::{endpoint_id, peer_of_endpoint};
use super::shaper::Shaper;
use super::{Network, NetworkConfig, Shared};

/// Blob connections that are kept.
const MAX_CONNECTIONS: usize = 64;
/// Fetches under way, of two requests at most: a peer serves as many on one connection, so that it never refuses one.
const MAX_FETCHES: usize = 200;
/// How long a peer is not asked that sent something wrong.
const DISTRUST: Duration = Duration::from_secs(600);
/// How long an unused blob connection is kept.
const KEEP_CONNECTION: Duration = Duration::from_secs(60);
/// How long connecting to a provider may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// Why a blob did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Nobody who was asked has it or answers.
    #[error("no peer has blob {hash} ({tried} asked, and the mesh's directory)")]
    Nowhere {
        /// The blob.
        hash: BlobHash,
        /// How many peers were asked.
        tried: usize,
    },
    /// Who has it sent something else, and there is nobody else.
    #[error(
        "no honest peer has blob {hash}: {} sent something else, and is not asked again for {} minutes",
        liar.short(),
        DISTRUST.as_secs() / 60
    )]
    Corrupt {
        /// The blob.
        hash: BlobHash,
        /// Who lied.
        liar: PeerId,
    },
    /// There is more of it than allowed. What came before that stays in the store, unprotected.
    #[error("blob {hash} is larger than the {limit} bytes allowed")]
    TooLarge {
        /// The blob.
        hash: BlobHash,
        /// The limit.
        limit: u64,
    },
    /// Somebody has it, but it broke off with everybody.
    #[error("fetching blob {hash} broke off: {reason}")]
    Stalled {
        /// The blob.
        hash: BlobHash,
        /// What happened last.
        reason: String,
    },
    /// Our own store failed.
    #[error("blob {hash} cannot be stored here: {reason}")]
    Store {
        /// The blob.
        hash: BlobHash,
        /// What the store said.
        reason: String,
    },
}

/// The store and the connections to fetch through.
#[derive(Clone)]
pub(super) struct Fetcher {
    store: Store,
    store_threads: Handle,
    pool: ConnectionPool,
    slots: Arc<Semaphore>,
    under_way: Arc<Mutex<BTreeMap<Content, Weak<Turn>>>>,
    /// Not asked: they sent something wrong, or have no standing.
    liars: Marked,
    /// Asked after everybody else, for want of standing.
    doubted: Marked,
    limit: Shaper<BlobHash>,
    fetched: Arc<AtomicU64>,
}

/// What fetches of the same content take turns by.
type Turn = tokio::sync::Mutex<()>;

impl Fetcher {
    /// A fetcher into the store, which takes in no more bytes in a second than allowed.
    pub(super) fn new(shared: &Shared, config: &NetworkConfig) -> Self {
        let links = shared.links.clone();
        let mut options = Options::default();
        options.idle_timeout = KEEP_CONNECTION;
        options.connect_timeout = CONNECT_TIMEOUT;
        options.max_connections = MAX_CONNECTIONS;
        options.max_pending_connections = MAX_CONNECTIONS / 2;
        let options = options.with_on_connected(move |_, connection| {
            links.add(peer_of_endpoint(connection.remote_id()), &connection);
            async { Ok(()) }
        });
        let pool = ConnectionPool::new(shared.endpoint.clone(), &shared.blobs_alpn, options);
        let slots = Arc::new(Semaphore::new(MAX_FETCHES));
        Self {
            store: config.store.clone(),
            store_threads: config.store_threads(),
            pool,
            slots,
            under_way: Arc::default(),
            liars: Marked::default(),
            doubted: Marked::default(),
            limit: Shaper::new(config.bandwidth.download),
            fetched: Arc::clone(&shared.fetched),
        }
    }

    /// The turn of `content`: whoever comes second finds it fetched, and does not fetch it again.
    fn turn(&self, content: Content) -> Arc<Turn> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = under_way.get(&content).and_then(Weak::upgrade) {
            return turn;
        }
        under_way.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Turn::default());
        under_way.insert(content, Arc::downgrade(&turn));
        turn
    }

    async fn connect(&self, peer: PeerId) -> Option<ConnectionRef> {
        let connected = self.pool.get_or_connect(endpoint_id(peer)?).await;
        connected.inspect_err(|error| tracing::debug!(provider = %peer.short(), %error, "no way")).ok()
    }

    /// Does not ask a peer for so long.
    pub(super) fn avoid(&self, peer: PeerId, long: Duration) {
        self.liars.mark(peer, long);
    }

    /// Asks others before this peer for so long.
    pub(super) fn doubt(&self, peer: PeerId, long: Duration) {
        self.doubted.mark(peer, long);
    }

    pub(super) fn is_liar(&self, peer: PeerId) -> bool {
        self.liars.has(peer)
    }

    fn is_doubted(&self, peer: PeerId) -> bool {
        self.doubted.has(peer)
    }
}

impl Network {
    /// Fetches a blob or a collection into the store, from `providers` and whoever the DHT knows, and returns its size
    /// in bytes. `progress` hears how far it has come, often. More than `max_bytes` are not fetched.
    pub async fn fetch(
        &self,
        content: Content,
        providers: Vec<PeerId>,
        max_bytes: u64,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<u64, FetchError> {
        let turn = self.fetcher.turn(content);
        let _turn = turn.lock().await;
        let _slot = self.fetcher.slots.acquire().await.expect("nobody closes the slots");
        let tally = Tally::new(content.hash, max_bytes, &self.fetcher, &progress);
        let fetched = Box::pin(Crew::new(self, content, providers, &tally).run()).await;
        fetched.map_err(|failure| failure.of(content.hash, max_bytes))
    }
}
