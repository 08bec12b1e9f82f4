//! Blobs from others: whoever has it, as much as is missing, never more than allowed.
//!
//! Providers are tried in the given order. A connection that is not there soon is overtaken by the next one's, and a
//! provider that fails or falls silent is replaced; what has arrived stays and is not asked for again. When all given
//! providers have failed the DHT is asked for others. Every chunk is verified, so a provider can be slow or absent
//! but not wrong.
//!
//! Who wants to keep the blob has to protect it with a tag in the store before it is fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use iroh::Endpoint;
use iroh_blobs::api::Store;
use iroh_blobs::api::remote::GetProgressItem;
use iroh_blobs::util::connection_pool::{ConnectionPool, ConnectionRef, Options};
use iroh_blobs::{Hash, HashAndFormat};
use shoal_protocol::id::{BlobHash, PeerId};
use shoal_protocol::task::{Content, ContentKind};
use tokio::sync::Semaphore;

use super::Network;
use super::identity::{endpoint_id, peer_of_endpoint};
use super::links::Links;

/// Providers that are tried for one blob.
const MAX_PROVIDERS: usize = 32;
/// Blob connections that are kept.
const MAX_CONNECTIONS: usize = 64;
/// Fetches under way: fewer than a peer serves on one connection, so that it never refuses one.
const MAX_FETCHES: usize = 200;
/// How long an unused blob connection is kept.
const KEEP_CONNECTION: Duration = Duration::from_secs(60);
/// How long connecting to a provider may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// A provider that has not connected after this long gets a rival.
const RIVAL_AFTER: Duration = Duration::from_millis(250);
/// A provider that sends nothing for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Blobs in a collection.
const MAX_CHILDREN: u64 = 16_384;
/// Bytes of a hash in a collection's root.
const HASH_BYTES: u64 = 32;

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
    pool: ConnectionPool,
    slots: Arc<Semaphore>,
    under_way: Arc<Mutex<BTreeMap<Content, Weak<Turn>>>>,
}

/// What fetches of the same content take turns by.
type Turn = tokio::sync::Mutex<()>;

impl Fetcher {
    pub(super) fn new(store: Store, endpoint: &Endpoint, links: Links) -> Self {
        let mut options = Options::default();
        options.idle_timeout = KEEP_CONNECTION;
        options.connect_timeout = CONNECT_TIMEOUT;
        options.max_connections = MAX_CONNECTIONS;
        options.max_pending_connections = MAX_CONNECTIONS / 2;
        let options = options.with_on_connected(move |_, connection| {
            links.add(peer_of_endpoint(connection.remote_id()), &connection);
            async { Ok(()) }
        });
        let pool = ConnectionPool::new(endpoint.clone(), iroh_blobs::ALPN, options);
        Self { store, pool, slots: Arc::new(Semaphore::new(MAX_FETCHES)), under_way: Arc::default() }
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
}

impl Network {
    /// Fetches a blob or a collection into the store, from `providers` or whoever the DHT knows, and returns its size
    /// in bytes. `progress` hears how many bytes are there, often. More than `max_bytes` are not fetched.
    pub async fn fetch(
        &self,
        content: Content,
        providers: Vec<PeerId>,
        max_bytes: u64,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<u64, FetchError> {
        let turn = self.fetcher.turn(content);
        let _turn = turn.lock().await;
        let _slot = self.fetcher.slots.acquire().await.expect("nobody closes the slots");
        let mut fetch = Fetch::new(self, content, max_bytes, &progress);
        if let Some(size) = fetch.already_here().await? {
            return Ok(size);
        }
        if let Some(size) = Box::pin(fetch.try_all(providers)).await? {
            return Ok(size);
        }
        let others = self.providers(content.hash).await;
        if let Some(size) = Box::pin(fetch.try_all(others)).await? {
            return Ok(size);
        }
        Err(fetch.verdict())
    }
}

/// One blob on its way.
struct Fetch<'a> {
    network: &'a Network,
    content: Content,
    max_bytes: u64,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    tried: BTreeSet<PeerId>,
    broke_off: Option<String>,
}

/// What is wrong with a provider, or with the whole fetch.
enum Failure {
    /// It has not got the blob, or all of it.
    NotThere,
    /// It stopped in the middle, or its connection did.
    BrokeOff(String),
    /// No provider can help.
    Fatal(FetchError),
}

impl<'a> Fetch<'a> {
    fn new(network: &'a Network, content: Content, max_bytes: u64, progress: &'a (dyn Fn(u64) + Send + Sync)) -> Self {
        Self { network, content, max_bytes, progress, tried: BTreeSet::new(), broke_off: None }
    }

    async fn already_here(&self) -> Result<Option<u64>, FetchError> {
        let local = self.store().remote().local(self.wanted()).await.map_err(|error| self.store_failed(error))?;
        if !local.is_complete() {
            return Ok(None);
        }
        let size = local.local_bytes();
        if size > self.max_bytes { Err(self.too_large()) } else { Ok(Some(size)) }
    }

    /// Tries those of `providers` that were not tried before. None when all of them failed.
    async fn try_all(&mut self, providers: Vec<PeerId>) -> Result<Option<u64>, FetchError> {
        let own = self.network.peer_id();
        let room = MAX_PROVIDERS.saturating_sub(self.tried.len());
        let mut new = Vec::new();
        for peer in providers {
            if peer != own && new.len() < room && self.tried.insert(peer) {
                new.push(peer);
            }
        }
        let mut connecting = Connecting::new(self.network, new);
        while let Some((peer, connection)) = connecting.next().await {
            match self.try_one(peer, connection).await {
                Ok(size) => return Ok(Some(size)),
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::NotThere) => tracing::debug!(provider = %peer.short(), "provider has not got the blob"),
                Err(Failure::BrokeOff(reason)) => {
                    tracing::debug!(provider = %peer.short(), %reason, "provider broke off");
                    self.broke_off = Some(reason);
                }
            }
        }
        Ok(None)
    }

    /// Fetches from one provider; a connection from the pool may have died unnoticed, so it gets a second one.
    async fn try_one(&self, peer: PeerId, connection: ConnectionRef) -> Result<u64, Failure> {
        match self.whole(&connection).await {
            Err(Failure::BrokeOff(reason)) => {
                tracing::debug!(provider = %peer.short(), %reason, "once more on a new connection");
                drop(connection);
                let again = self.network.fetcher.reconnect(peer).await.ok_or(Failure::BrokeOff(reason))?;
                self.whole(&again).await
            }
            result => result,
        }
    }

    async fn whole(&self, connection: &ConnectionRef) -> Result<u64, Failure> {
        if self.content.kind == ContentKind::Collection {
            // A root names its children, and each child costs work even when it is empty.
            let root = self.transfer(connection, HashAndFormat::raw(self.wanted().hash)).await?;
            if root > MAX_CHILDREN.saturating_mul(HASH_BYTES) {
                return Err(Failure::Fatal(self.too_large()));
            }
        }
        self.transfer(connection, self.wanted()).await
    }

    /// Gets what is missing of `wanted` and returns the size of the whole.
    async fn transfer(&self, connection: &ConnectionRef, wanted: HashAndFormat) -> Result<u64, Failure> {
        let remote = self.store().remote();
        let local = remote.local(wanted).await.map_err(|error| Failure::Fatal(self.store_failed(error)))?;
        let before = local.local_bytes();
        if local.is_complete() {
            return Ok(before);
        }
        let mut items = Box::pin(remote.execute_get((**connection).clone(), local.missing()).stream());
        loop {
            let item = tokio::time::timeout(STALL_TIMEOUT, items.next()).await;
            match item.map_err(|_| Failure::BrokeOff("the provider fell silent".into()))? {
                Some(GetProgressItem::Progress(bytes)) => self.count(before.saturating_add(bytes))?,
                Some(GetProgressItem::Done(stats)) => {
                    let size = before.saturating_add(stats.payload_bytes_read);
                    self.count(size)?;
                    return Ok(size);
                }
                Some(GetProgressItem::Error(error)) => return Err(self.failure(connection, &error)),
                None => return Err(Failure::BrokeOff("the transfer ended early".into())),
            }
        }
    }

    fn count(&self, bytes: u64) -> Result<(), Failure> {
        if bytes > self.max_bytes {
            return Err(Failure::Fatal(self.too_large()));
        }
        (self.progress)(bytes);
        Ok(())
    }

    fn failure(&self, connection: &ConnectionRef, error: &iroh_blobs::get::GetError) -> Failure {
        use iroh_blobs::get::GetError;
        match error {
            // Opening a stream on a dead connection is reported as our own failure.
            GetError::LocalFailure { .. } | GetError::IrpcSend { .. } if connection.close_reason().is_none() => {
                Failure::Fatal(self.store_failed(error))
            }
            GetError::AtBlobHeaderNext { .. } if connection.close_reason().is_none() => Failure::NotThere,
            error => Failure::BrokeOff(format!("{error:#}")),
        }
    }

    fn verdict(self) -> FetchError {
        let hash = self.content.hash;
        match self.broke_off {
            Some(reason) => FetchError::Stalled { hash, reason },
            None => FetchError::Nowhere { hash, tried: self.tried.len() },
        }
    }

    fn wanted(&self) -> HashAndFormat {
        let hash = Hash::from_bytes(self.content.hash.0);
        match self.content.kind {
            ContentKind::Raw => HashAndFormat::raw(hash),
            ContentKind::Collection => HashAndFormat::hash_seq(hash),
        }
    }

    fn store(&self) -> &Store {
        &self.network.fetcher.store
    }

    fn too_large(&self) -> FetchError {
        FetchError::TooLarge { hash: self.content.hash, limit: self.max_bytes }
    }

    fn store_failed(&self, error: impl std::fmt::Display) -> FetchError {
        FetchError::Store { hash: self.content.hash, reason: format!("{error:#}") }
    }
}

impl Fetcher {
    /// A connection to `peer` that is not the one just used.
    async fn reconnect(&self, peer: PeerId) -> Option<ConnectionRef> {
        let id = endpoint_id(peer)?;
        self.pool.close(id).await.ok()?;
        self.pool.get_or_connect(id).await.ok()
    }
}

/// Connections to providers, each begun when the one before is late or has failed.
struct Connecting<'a> {
    network: &'a Network,
    waiting: std::vec::IntoIter<PeerId>,
    begun: FuturesUnordered<BoxFuture<'a, Option<(PeerId, ConnectionRef)>>>,
}

impl<'a> Connecting<'a> {
    fn new(network: &'a Network, providers: Vec<PeerId>) -> Self {
        Self { network, waiting: providers.into_iter(), begun: FuturesUnordered::new() }
    }

    /// The next provider that is connected. None when there are no more.
    async fn next(&mut self) -> Option<(PeerId, ConnectionRef)> {
        loop {
            if self.begun.is_empty() && !self.begin() {
                return None;
            }
            let late = tokio::time::sleep(RIVAL_AFTER);
            tokio::select! {
                Some(connected) = self.begun.next() => if connected.is_some() { return connected },
                () = late, if self.waiting.len() > 0 => { self.begin(); }
            }
        }
    }

    /// Begins with the next provider, if there is one.
    fn begin(&mut self) -> bool {
        let Some(peer) = self.waiting.next() else { return false };
        let network = self.network;
        self.begun.push(Box::pin(async move {
            network.locate(peer).await;
            let connection = network.fetcher.pool.get_or_connect(endpoint_id(peer)?).await;
            let connection =
                connection.inspect_err(|error| tracing::debug!(provider = %peer.short(), %error, "no way"));
            Some((peer, connection.ok()?))
        }));
        true
    }
}
