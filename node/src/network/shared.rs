//! What the handles and the task of a network share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iroh::{Endpoint, Watcher};
use shoal_protocol::id::PeerId;
use shoal_protocol::message::ExecutorKind;
use shoal_protocol::relay::RelayAddress;
use tokio::sync::watch;

use super::strangers::Strangers;
use super::task::Described;
use super::{
    NetworkConfig, NetworkError, PortMapping, book, doorman, endpoint, gate, identity, links, mapping, relay, serve,
    transport,
};

/// How long a node waits at its start for a relay. Where UDP is blocked, finding one takes three seconds.
const HOME_TIMEOUT: Duration = Duration::from_secs(6);

/// What handles can read without asking the task.
pub(super) struct Shared {
    pub(super) own: PeerId,
    pub(super) mesh: String,
    pub(super) doorman: doorman::Doorman,
    /// Of a private mesh.
    pub(super) gate: Option<gate::Gate>,
    pub(super) blobs_alpn: Vec<u8>,
    pub(super) endpoint: Endpoint,
    pub(super) book: book::Book,
    pub(super) links: links::Links,
    pub(super) strangers: Strangers,
    pub(super) connected: Mutex<BTreeMap<PeerId, Instant>>,
    pub(super) described: Mutex<BTreeMap<PeerId, Described>>,
    pub(super) mesh_size: watch::Sender<u32>,
    /// Nodes that a shard has at least.
    pub(super) shard_nodes: u32,
    /// The classes of jobs that this node runs.
    pub(super) runs: Mutex<BTreeSet<ExecutorKind>>,
    /// How many connected peers run none of a class.
    pub(super) without: Mutex<BTreeMap<ExecutorKind, u32>>,
    pub(super) port_mapping: Option<watch::Receiver<PortMapping>>,
    pub(super) served: Arc<serve::Served>,
    pub(super) fetched: Arc<AtomicU64>,
    pub(super) relays: relay::Relays,
    pub(super) counted: Counted,
}

/// What was fended off since the start, beside connections.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) cut_off: AtomicU64,
    pub(super) gossip: AtomicU64,
    pub(super) requests: AtomicU64,
}

impl Shared {
    pub(super) fn connected(&self) -> MutexGuard<'_, BTreeMap<PeerId, Instant>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn described(&self) -> MutexGuard<'_, BTreeMap<PeerId, Described>> {
        self.described.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn runs(&self) -> MutexGuard<'_, BTreeSet<ExecutorKind>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn without(&self) -> MutexGuard<'_, BTreeMap<ExecutorKind, u32>> {
        self.without.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_mesh_size(&self, nodes: u32) {
        self.mesh_size.send_if_modified(|known| std::mem::replace(known, nodes) != nodes);
    }
}

impl Shared {
    pub(super) async fn bind(config: &NetworkConfig, relays: relay::Relays) -> Result<Self, NetworkError> {
        let (book, names) = (book::Book::default(), config.names());
        let gate = config.membership.clone().map(|membership| gate::Gate::new(membership, names.join_alpn()));
        let doorman = doorman::Doorman::new(config.access.clone());
        let strangers = Strangers::new(config.dialect);
        let endpoint = endpoint::bind(config, &book, &doorman, gate.as_ref(), relay::to_begin_with(config)).await?;
        Ok(Self {
            own: identity::peer_of_key(&config.key),
            mesh: config.mesh.clone(),
            port_mapping: config.maps_port().then(|| mapping::ask(&endpoint, port_of(&endpoint))),
            endpoint,
            doorman,
            gate,
            blobs_alpn: names.blobs_alpn(),
            book,
            links: links::Links::new(strangers.clone()),
            strangers,
            connected: Mutex::default(),
            described: Mutex::default(),
            mesh_size: watch::Sender::new(1),
            shard_nodes: config.shard_nodes,
            runs: Mutex::new(config.runs.clone()),
            without: Mutex::new(BTreeMap::new()),
            served: Arc::default(),
            fetched: Arc::default(),
            relays,
            counted: Counted::default(),
        })
    }

    /// The relay where peers find this node that cannot reach it directly.
    pub(super) fn home_relay(&self) -> Option<RelayAddress> {
        // iroh goes on naming one that it has lost until it finds another.
        let homes = self.endpoint.home_relay_status().get();
        homes.iter().find(|home| home.is_connected())?.url().to_string().parse().ok()
    }

    /// Waits for a home relay, so that a ticket that is made now names it.
    pub(super) async fn wait_for_home(&self) {
        if tokio::time::timeout(HOME_TIMEOUT, self.endpoint.online()).await.is_err() {
            tracing::warn!("no relay answers yet; who cannot be reached directly is out of reach until one does");
        }
    }

    pub(super) fn serve(&self, config: &NetworkConfig) -> serve::Serve {
        serve::Serve::new(config, self.links.clone(), Arc::clone(&self.served))
    }
}

/// A peer whose home relay does not answer has another by now, most likely one that this node uses too.
pub(super) fn detours(shared: &Arc<Shared>) -> transport::Detours {
    let (book, relays) = (shared.book.clone(), shared.relays.clone());
    Arc::new(move |peer| {
        let home = book.contact(peer).and_then(|contact| contact.relay?.parse().ok());
        home.map(|home| relays.instead_of(&home)).unwrap_or_default()
    })
}

pub(super) fn port_of(endpoint: &Endpoint) -> Option<u16> {
    endpoint.bound_sockets().first().map(SocketAddr::port)
}
