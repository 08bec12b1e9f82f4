//! Blobs for others: iroh-blobs, bounded in connections, requests and bytes per second, and asking a policy first.
//!
//! All that is sent passes one limit, in which the peers take turns: who opens many streams gets no more for it.

#[cfg(debug_assertions)]
mod corrupt;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use iroh::endpoint::Connection;
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh_blobs::BlobsProtocol;
use iroh_blobs::api::Store;
use iroh_blobs::provider::events::{
    AbortReason, ConnectMode, EventMask, EventResult, EventSender, ObserveMode, ProviderMessage, RequestMode,
    RequestUpdate, ThrottleMode,
};
use shoal_protocol::id::{BlobHash, PeerId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

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
    blobs: BlobsProtocol,
    links: Links,
    #[cfg(debug_assertions)]
    is_corrupt: bool,
}

impl Serve {
    /// A handler for blob connections. Its gate runs until the handler is dropped.
    pub(super) fn new(
        store: &Store,
        policy: Option<ServePolicy>,
        links: Links,
        upload: Shaper<PeerId>,
        served: Arc<Served>,
    ) -> Self {
        let mask = EventMask {
            connected: ConnectMode::Intercept,
            get: RequestMode::InterceptLog,
            // Costs a message to the gate for each piece that is sent.
            throttle: if upload.is_limited() { ThrottleMode::Intercept } else { ThrottleMode::None },
            get_many: RequestMode::Disabled,
            push: RequestMode::Disabled,
            observe: ObserveMode::Intercept,
        };
        let (sender, events) = EventSender::channel(MAX_WAITING, mask);
        let requests = Arc::new(Semaphore::new(MAX_REQUESTS));
        let gate = Gate { policy, clients: HashMap::new(), requests, upload, served };
        tokio::spawn(gate.run(events));
        Self {
            blobs: BlobsProtocol::new(store, Some(sender)),
            links,
            #[cfg(debug_assertions)]
            is_corrupt: false,
        }
    }

    /// The same, or one that sends something else than it is asked for.
    #[cfg(debug_assertions)]
    pub(super) fn corrupt(self, is_corrupt: bool) -> Self {
        Self { is_corrupt, ..self }
    }
}

impl ProtocolHandler for Serve {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        self.links.add(peer_of_endpoint(connection.remote_id()), &connection);
        #[cfg(debug_assertions)]
        if self.is_corrupt {
            corrupt::serve(&connection, self.blobs.store()).await;
            return Ok(());
        }
        self.blobs.accept(connection).await
    }

    // The inner handler would shut the store down here. The store is not ours to close.
}

/// Decides on every connection and request.
struct Gate {
    policy: Option<ServePolicy>,
    clients: HashMap<u64, Client>,
    requests: Arc<Semaphore>,
    upload: Shaper<PeerId>,
    served: Arc<Served>,
}

struct Client {
    peer: Option<PeerId>,
    requests: Arc<Semaphore>,
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
                // The permits are held until the request is over, which closes its updates.
                let (mut updates, served) = (event.rx, Arc::clone(&self.served));
                tokio::spawn(async move {
                    while let Ok(Some(update)) = updates.recv().await {
                        served.count(&update);
                    }
                    drop(permits);
                });
            }
            ProviderMessage::Throttle(event) => {
                let peer = self.clients.get(&event.inner.connection_id).and_then(|client| client.peer);
                let upload = self.upload.clone();
                // There is one at a time for each request, so these are bounded like requests.
                tokio::spawn(async move {
                    if let Some(peer) = peer {
                        upload.pass(peer, event.inner.size).await;
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
        let of_peer = self.clients.values().filter(|client| client.peer == peer).count();
        if self.clients.len() >= MAX_CONNECTIONS || of_peer >= MAX_CONNECTIONS_PER_PEER {
            self.count_refusal();
            return Err(AbortReason::RateLimited);
        }
        let requests = Arc::new(Semaphore::new(MAX_REQUESTS_PER_CONNECTION));
        self.clients.insert(connection, Client { peer, requests });
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

impl Served {
    fn count(&self, update: &RequestUpdate) {
        let stats = match update {
            RequestUpdate::Completed(ended) => &ended.stats,
            RequestUpdate::Aborted(ended) => &ended.stats,
            RequestUpdate::Started(_) | RequestUpdate::Progress(_) => return,
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(stats.payload_bytes_sent, Ordering::Relaxed);
    }
}
