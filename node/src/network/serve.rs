//! Blobs for others: iroh-blobs, bounded in connections, requests and bytes per second, and asking a policy first.
//!
//! All that is sent passes one limit, in which the peers take turns: who opens many streams gets no more for it. Each peer
//! may have a limit of its own before that.

mod batch;

#[cfg(debug_assertions)]
mod corrupt;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use iroh::endpoint::Connection;
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh_blobs::api::Store;
use iroh_blobs::provider::events::{
    AbortReason, ClientConnected, ConnectMode, ConnectionClosed, EventMask, EventResult, EventSender, HasErrorCode,
    ObserveMode, ProviderMessage, RequestMode, ThrottleMode,
};
use iroh_blobs::provider::{StreamPair, handle_stream};
use shoal_protocol::id::{BlobHash, PeerId};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use self::batch::Batched;
use super::NetworkConfig;
use super::identity::peer_of_endpoint;
use super::links::Links;
use super::shaper::Shaper;

/// Connections that blobs are served on.
const MAX_CONNECTIONS: usize = 128;
/// Connections of one peer: old ones of a node that came back.
const MAX_CONNECTIONS_PER_PEER: usize = 4;
/// Requests that are served at once.
const MAX_REQUESTS: usize = 1_024;
/// Requests of one connection that are served at once.
const MAX_REQUESTS_PER_CONNECTION: usize = 512;
/// Events that may wait for the gate. Requests wait with them.
const MAX_WAITING: usize = 64;

/// Says whether a peer may have a blob. It is asked for the root of each request and must not block.
pub type ServePolicy = Arc<dyn Fn(PeerId, BlobHash) -> bool + Send + Sync>;

/// What was served since the start.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// Bytes of blobs.
    pub(super) bytes: AtomicU64,
    /// Requests that were answered.
    pub(super) requests: AtomicU64,
    /// Requests and connections that were refused.
    pub(super) refused: AtomicU64,
}

/// Serves the store's blobs.
#[derive(Debug, Clone)]
pub(super) struct Serve {
    store: Store,
    threads: Handle,
    events: EventSender,
    links: Links,
    served: Arc<Served>,
    is_limited: bool,
    #[cfg(debug_assertions)]
    is_corrupt: bool,
}

impl Serve {
    /// A handler for blob connections. Its gate runs until the handler is dropped.
    pub(super) fn new(config: &NetworkConfig, links: Links, served: Arc<Served>) -> Self {
        let upload = Shaper::new(config.bandwidth.upload);
        let per_peer = config.bandwidth.upload_per_peer;
        let is_limited = upload.is_limited() || per_peer.is_some();
        let mask = EventMask {
            connected: ConnectMode::Intercept,
            get: RequestMode::Intercept,
            // Costs a message to the gate for each piece that is sent.
            throttle: if is_limited { ThrottleMode::Intercept } else { ThrottleMode::None },
            get_many: RequestMode::Disabled,
            push: RequestMode::Disabled,
            observe: ObserveMode::Intercept,
        };
        let (sender, waiting) = EventSender::channel(MAX_WAITING, mask);
        let requests = Arc::new(Semaphore::new(MAX_REQUESTS));
        let policy = config.serve.clone();
        let gate = Gate { policy, clients: HashMap::new(), requests, upload, per_peer, served: Arc::clone(&served) };
        tokio::spawn(gate.run(waiting));
        let (store, threads) = (config.store.clone(), config.store_threads());
        Self {
            store,
            threads,
            events: sender,
            links,
            served,
            is_limited,
            #[cfg(debug_assertions)]
            is_corrupt: config.corrupt,
        }
    }
}

impl ProtocolHandler for Serve {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        self.links.add(peer_of_endpoint(connection.remote_id()), &connection);
        #[cfg(debug_assertions)]
        if self.is_corrupt {
            corrupt::serve(&connection, &self.store).await;
            return Ok(());
        }
        let (connection_id, endpoint_id) = (connection.stable_id() as u64, Some(connection.remote_id()));
        if let Err(refused) = self.events.client_connected(|| ClientConnected { connection_id, endpoint_id }).await {
            connection.close(refused.code(), refused.reason());
            return Ok(());
        }
        while let Ok((send, receive)) = connection.accept_bi().await {
            let send = Batched::new(send, Arc::clone(&self.served), self.is_limited);
            let streams = StreamPair::new(connection_id, receive, send, self.events.clone());
            self.threads.spawn(handle_stream(streams, self.store.clone()));
        }
        self.events.connection_closed(|| ConnectionClosed { connection_id }).await.ok();
        Ok(())
    }
}

/// Decides on every connection and request.
struct Gate {
    policy: Option<ServePolicy>,
    clients: HashMap<u64, Client>,
    requests: Arc<Semaphore>,
    upload: Shaper<PeerId>,
    /// Bytes a second that one peer gets.
    per_peer: Option<u64>,
    served: Arc<Served>,
}

struct Client {
    peer: Option<PeerId>,
    requests: Arc<Semaphore>,
    /// What its peer gets, on all connections together, which take turns.
    share: Shaper<u64>,
}

impl Gate {
    async fn run(mut self, mut events: mpsc::Receiver<ProviderMessage>) {
        while let Some(event) = events.recv().await {
            self.decide(event).await;
        }
    }

    /// Answers at once: whoever asked waits for it.
    async fn decide(&mut self, event: ProviderMessage) {
        match event {
            ProviderMessage::ClientConnected(event) => {
                let peer = event.inner.endpoint_id.map(peer_of_endpoint);
                event.tx.send(self.admit(event.inner.connection_id, peer)).await.ok();
            }
            ProviderMessage::ConnectionClosed(event) => {
                self.clients.remove(&event.inner.connection_id);
            }
            ProviderMessage::GetRequestReceived(event) => {
                let hash = BlobHash(*event.inner.request.hash.as_bytes());
                let permits = self.allow(event.inner.connection_id, hash);
                event.tx.send(permits.as_ref().map(|_| ()).map_err(|reason| *reason)).await.ok();
                let Ok(permits) = permits else { return self.count_refusal() };
                // The permits are held until the request is over: no update comes, and then their channel closes.
                let (mut updates, served) = (event.rx, Arc::clone(&self.served));
                tokio::spawn(async move {
                    updates.recv().await.ok();
                    served.requests.fetch_add(1, Ordering::Relaxed);
                    drop(permits);
                });
            }
            ProviderMessage::Throttle(event) => {
                let (connection, size) = (event.inner.connection_id, event.inner.size);
                let client = self.clients.get(&connection);
                let client = client.and_then(|client| Some((client.peer?, client.share.clone())));
                let upload = self.upload.clone();
                // There is one at a time for each request, so these are bounded like requests.
                tokio::spawn(async move {
                    if let Some((peer, share)) = client {
                        // First, so that nobody's turn is spent on whoever has to wait all the same.
                        share.pass(connection, size).await;
                        upload.pass(peer, size).await;
                    }
                    event.tx.send(Ok(())).await.ok();
                });
            }
            ProviderMessage::ObserveRequestReceived(event) => {
                event.tx.send(Err(AbortReason::Permission)).await.ok();
            }
            _ => {}
        }
    }

    fn admit(&mut self, connection: u64, peer: Option<PeerId>) -> EventResult {
        let mut of_peer = self.clients.values().filter(|client| client.peer == peer);
        let share = of_peer.next().map(|client| client.share.clone());
        let others = of_peer.count() + usize::from(share.is_some());
        if self.clients.len() >= MAX_CONNECTIONS || others >= MAX_CONNECTIONS_PER_PEER {
            self.count_refusal();
            return Err(AbortReason::RateLimited);
        }
        let requests = Arc::new(Semaphore::new(MAX_REQUESTS_PER_CONNECTION));
        let share = share.unwrap_or_else(|| Shaper::new(self.per_peer));
        self.clients.insert(connection, Client { peer, requests, share });
        Ok(())
    }

    fn allow(&self, connection: u64, hash: BlobHash) -> Result<[OwnedSemaphorePermit; 2], AbortReason> {
        let client = self.clients.get(&connection).ok_or(AbortReason::Permission)?;
        if let Some(policy) = &self.policy {
            let peer = client.peer.ok_or(AbortReason::Permission)?;
            if !policy(peer, hash) {
                return Err(AbortReason::Permission);
            }
        }
        let take = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_owned().map_err(|_| AbortReason::RateLimited);
        Ok([take(&client.requests)?, take(&self.requests)?])
    }

    fn count_refusal(&self) {
        self.served.refused.fetch_add(1, Ordering::Relaxed);
    }
}
