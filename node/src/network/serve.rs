//! Blobs for others: iroh-blobs, bounded in connections and requests, and asking a policy first.

use std::collections::HashMap;
use std::sync::Arc;

use iroh::endpoint::Connection;
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh_blobs::BlobsProtocol;
use iroh_blobs::api::Store;
use iroh_blobs::provider::events::{
    AbortReason, ConnectMode, EventMask, EventResult, EventSender, ObserveMode, ProviderMessage, RequestMode,
};
use shoal_protocol::id::{BlobHash, PeerId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::identity::peer_of_endpoint;
use super::links::Links;

/// Connections that blobs are served on.
const MAX_CONNECTIONS: usize = 128;
/// Requests that are served at once.
const MAX_REQUESTS: usize = 1_024;
/// Requests of one connection that are served at once.
const MAX_REQUESTS_PER_CONNECTION: usize = 256;
/// Events that may wait for the gate. Requests wait with them.
const MAX_WAITING: usize = 64;

/// Says whether a peer may have a blob. It is asked for the root of each request and must not block.
pub type ServePolicy = Arc<dyn Fn(PeerId, BlobHash) -> bool + Send + Sync>;

/// Serves the store's blobs.
#[derive(Debug, Clone)]
pub(super) struct Serve {
    blobs: BlobsProtocol,
    links: Links,
}

impl Serve {
    /// A handler for blob connections. Its gate runs until the handler is dropped.
    pub(super) fn new(store: &Store, policy: Option<ServePolicy>, links: Links) -> Self {
        let mask = EventMask {
            connected: ConnectMode::Intercept,
            get: RequestMode::Intercept,
            get_many: RequestMode::Disabled,
            push: RequestMode::Disabled,
            observe: ObserveMode::Intercept,
            ..EventMask::DEFAULT
        };
        let (sender, events) = EventSender::channel(MAX_WAITING, mask);
        let gate = Gate { policy, clients: HashMap::new(), requests: Arc::new(Semaphore::new(MAX_REQUESTS)) };
        tokio::spawn(gate.run(events));
        Self { blobs: BlobsProtocol::new(store, Some(sender)), links }
    }
}

impl ProtocolHandler for Serve {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        self.links.add(peer_of_endpoint(connection.remote_id()), &connection);
        self.blobs.accept(connection).await
    }

    // The inner handler would shut the store down here. The store is not ours to close.
}

/// Decides on every connection and request.
struct Gate {
    policy: Option<ServePolicy>,
    clients: HashMap<u64, Client>,
    requests: Arc<Semaphore>,
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
                // The permits are held until the request is over, which closes its updates.
                let mut updates = event.rx;
                tokio::spawn(async move {
                    while let Ok(Some(_)) = updates.recv().await {}
                    drop(permits);
                });
            }
            ProviderMessage::ObserveRequestReceived(event) => {
                event.tx.send(Err(AbortReason::Permission)).await.ok();
            }
            _ => {}
        }
    }

    fn admit(&mut self, connection: u64, peer: Option<PeerId>) -> EventResult {
        if self.clients.len() >= MAX_CONNECTIONS {
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
}
