//! What a network is started with.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use iroh_blobs::api::Store;
use shoal_protocol::access::Access;
use shoal_protocol::id::{MeshId, PeerId};
use shoal_protocol::message::{Contact, ExecutorKind};
use shoal_protocol::shard::SHARD_NODES;
use shoal_protocol::wire::{self, Dialect};
use tokio::runtime::Handle;

use super::known::Remembered;
use super::rate::Rate;
use super::relay::RelaySettings;
use super::serve::ServePolicy;
use super::swarm;
use super::ticket::Ticket;
use crate::clock::Clock;
use crate::membership::Membership;

/// How often a node of a private mesh looks whether its certificate has to be renewed, unless told otherwise.
const RENEW_EVERY: Duration = Duration::from_secs(3_600);

/// Connected peers at most, as long as nobody says otherwise: what a home's router bears without noticing.
pub const DEFAULT_MAX_PEERS: usize = 32;
/// The fewest that may be asked for: enough for each topic that a node of the largest mesh hears.
pub const LEAST_MAX_PEERS: usize = 16;

/// What a network needs to start.
#[derive(Clone)]
pub struct NetworkConfig {
    /// The node's key: its name in libp2p and iroh.
    pub key: SigningKey,
    /// The mesh to join. Nodes of other meshes are not heard.
    pub mesh: String,
    /// This node's membership, if that mesh is private.
    pub membership: Option<Membership>,
    /// The UDP socket; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Tickets into the mesh.
    pub join: Vec<Ticket>,
    /// Peers to join with.
    pub join_peers: Vec<(PeerId, Contact)>,
    /// Peers that the last run knew.
    pub known_peers: Vec<Remembered>,
    /// URLs of relays to use, beside those that tickets name and the mesh announces.
    pub relays: Vec<String>,
    /// The relay to run; none to run none.
    pub relay: Option<RelaySettings>,
    /// Whether neighbours on the local network are looked for, and told of this node.
    pub mdns: bool,
    /// Whether the router is asked to open the port.
    pub port_mapping: bool,
    /// The blobs that are served, and where fetched ones go. It is not shut down with the network.
    pub store: Store,
    /// The threads that the store runs on; none: those of the network.
    pub store_threads: Option<Handle>,
    /// Who may have which blob; nobody is refused without one.
    pub serve: Option<ServePolicy>,
    /// The version of the protocol that the node speaks.
    pub dialect: Dialect,
    /// What says for how long peers have been away.
    pub clock: Clock,
    /// The classes of jobs that this node runs.
    pub runs: BTreeSet<ExecutorKind>,
    /// Nodes that a [shard](shoal_protocol::shard) has at least.
    pub shard_nodes: u32,
    /// Connected peers, beyond which those that nobody needs are let go.
    pub max_peers: usize,
    /// With whom the node has to do at all.
    pub access: Access,
    /// How much a single peer may ask for.
    pub rates: RateLimits,
    /// How many bytes of blobs may pass.
    pub bandwidth: Bandwidth,
    /// How often a node of a private mesh looks whether its certificate has to be renewed.
    pub renew_every: Duration,
    /// For tests and a mesh in one process: no port mapping and no relays.
    pub loopback_only: bool,
    /// For tests: sends something else than it is asked for.
    #[cfg(debug_assertions)]
    pub corrupt: bool,
}

/// How many bytes of blobs may pass in a second; none: as many as can.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    /// To all peers together, who share it fairly.
    pub upload: Option<u64>,
    /// To one peer, whatever the others leave.
    pub upload_per_peer: Option<u64>,
    /// From all peers together, which fetches share fairly.
    pub download: Option<u64>,
}

/// How much a single peer may ask of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Direct requests, of which a large one counts as several.
    pub requests: Rate,
    /// Gossip messages passed on by one neighbour: more than an honest one passes on of the whole mesh
    /// ([`ALL_GOSSIP`](shoal_protocol::limits::ALL_GOSSIP)) and says itself.
    pub gossip: Rate,
    /// Provider records for the DHT.
    pub records: Rate,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            // A requester of hundreds of jobs a second sends each worker several messages for each.
            requests: Rate { per_second: 4_000, burst: 8_000 },
            gossip: Rate { per_second: 3_000, burst: 8_000 },
            records: Rate { per_second: 50, burst: 1_000 },
        }
    }
}

impl NetworkConfig {
    /// A network with nobody to join, on any address and free port.
    pub fn new(key: SigningKey, mesh: impl Into<String>, store: Store) -> Self {
        Self {
            key,
            mesh: mesh.into(),
            membership: None,
            listen: SocketAddr::from(([0, 0, 0, 0], 0)),
            join: Vec::new(),
            join_peers: Vec::new(),
            known_peers: Vec::new(),
            relays: Vec::new(),
            relay: None,
            mdns: false,
            port_mapping: false,
            store,
            store_threads: None,
            serve: None,
            dialect: wire::OWN,
            clock: Clock::start(),
            runs: BTreeSet::new(),
            shard_nodes: SHARD_NODES,
            max_peers: DEFAULT_MAX_PEERS,
            access: Access::default(),
            rates: RateLimits::default(),
            bandwidth: Bandwidth::default(),
            renew_every: RENEW_EVERY,
            loopback_only: false,
            #[cfg(debug_assertions)]
            corrupt: false,
        }
    }

    pub(super) fn names(&self) -> swarm::Names {
        swarm::Names::new(self.mesh_id(), self.membership.is_some())
    }

    pub(super) fn mesh_id(&self) -> MeshId {
        self.membership.as_ref().map_or_else(|| MeshId::of(&self.mesh), Membership::mesh)
    }

    /// Whether it asks the router to open its port.
    pub(super) fn maps_port(&self) -> bool {
        self.port_mapping && !self.loopback_only && !self.listen.ip().is_loopback()
    }

    /// Whether it looks for neighbours: nobody else can reach a node on loopback.
    pub(super) fn looks_around(&self) -> bool {
        self.mdns && !self.loopback_only && !self.listen.ip().is_loopback()
    }

    pub(super) fn store_threads(&self) -> Handle {
        self.store_threads.clone().unwrap_or_else(Handle::current)
    }
}
