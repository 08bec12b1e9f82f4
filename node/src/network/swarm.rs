//! What libp2p does for us, and the numbers it does it with: gossip, the DHT, identify, direct messages, limits.
//!
//! Every protocol name and gossip topic carry the mesh, so nodes of two meshes have nothing to say to each other
//! even if one is told the other's address.

use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, PeerScoreParams, PeerScoreThresholds, ValidationMode};
use libp2p::identity::PublicKey;
use libp2p::kad::{self, store::MemoryStore, store::MemoryStoreConfig};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, Swarm};
use libp2p::{StreamProtocol, Transport as _, allow_block_list, identify};
use shoal_protocol::id::{BlobHash, MeshId};
use shoal_protocol::limits::{GOSSIP_DEGREE, MAX_GOSSIP_BYTES, MAX_RELAY_ANNOUNCEMENT_BYTES};
use shoal_protocol::message::ExecutorKind;
use shoal_protocol::shard::Shard;

use super::codec::DirectCodec;
use super::ledger::MAX_RECORDS;
use super::topics::Topics;
use super::transport::Transport;

/// Connections that others opened to us.
const MAX_INBOUND: u32 = 128;
/// Connections that we opened: room that nobody else can fill.
const MAX_OUTBOUND: u32 = 128;
/// Dials under way.
const MAX_DIALLING: u32 = 64;
/// Connections with one peer: two after a simultaneous dial, and old ones of a node that came back.
const MAX_PER_PEER: u32 = 6;
/// A connection that nothing uses is closed after this. Gossip neighbours stay.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Direct requests of one connection that are worked on at once, both directions together. More are cut off.
const MAX_DIRECT_STREAMS: usize = 2 * MAX_REQUESTS_PER_PEER + 64;
/// Requests of ours to one peer under way. As many of its own fit beside them.
pub(super) const MAX_REQUESTS_PER_PEER: usize = 128;
/// How long a direct request may take once there is a connection.
pub(super) const DIRECT_TIMEOUT: Duration = Duration::from_secs(6);

/// Bounds around the number of neighbours that gossip is forwarded to.
const GOSSIP_DEGREES: [usize; 2] = [3, 8];
/// Of these, those that this node has chosen itself: whoever fills all its other places cannot fill them.
const GOSSIP_OUTBOUND: usize = 2;
/// How often neighbours are chosen and missed messages are offered. Short: it is how long a newcomer hears nothing.
const GOSSIP_HEARTBEAT: Duration = Duration::from_millis(500);
/// Heartbeats that a message may wait for its validation or be asked for.
const GOSSIP_HISTORY: usize = 10;
/// How long a message is remembered so that it is not handled twice.
const GOSSIP_MEMORY: Duration = Duration::from_secs(120);
/// What a message may weigh with libp2p's frame around it, in bytes.
const MAX_GOSSIP_FRAME: usize = MAX_GOSSIP_BYTES + 256;
/// What a revocation may weigh with libp2p's frame around it, in bytes.
const MAX_REVOCATION_FRAME: usize = 512;
/// What an announcement of a relay may weigh with libp2p's frame around it, in bytes.
const MAX_RELAY_FRAME: usize = MAX_RELAY_ANNOUNCEMENT_BYTES + 256;
/// What gossip's own messages in one frame may weigh, in bytes. A larger frame is not read, and five of them end gossip
/// with whoever sent them for as long as the connection lasts.
const MAX_GOSSIP_CONTROL: usize = 64 * 1_024;
/// What a message id takes in an offer, in bytes: a hash, with its tag and length.
const OFFERED_BYTES: usize = 2 + size_of::<BlobHash>();
/// Message ids in one offer or request. Room is left for the topic's name and the frame.
const MAX_OFFERED: usize = (MAX_GOSSIP_CONTROL - 1_024) / OFFERED_BYTES;
/// Messages that may wait to be sent to one peer.
const MAX_GOSSIP_QUEUE: usize = 1_024;

/// Peers near a key that keep its provider record.
const REPLICATION: NonZeroUsize = NonZeroUsize::new(8).unwrap();
/// Keys that this node provides itself: room that others cannot fill.
const MAX_PROVIDED: usize = 16_384;
/// How long a provider is believed without news.
pub(super) const PROVIDER_TTL: Duration = Duration::from_secs(2 * 3_600);
/// How often we say again what we provide.
const PROVIDER_REPEAT: Duration = Duration::from_secs(40 * 60);
/// How long a DHT query may take: also the longest that finding providers takes.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the routing table is refreshed. Each time peers are dialled, so it is seldom.
const BOOTSTRAP_INTERVAL: Duration = Duration::from_secs(600);

/// All protocols of a node.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(super) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub(super) gossip: gossipsub::Behaviour,
    pub(super) kad: kad::Behaviour<MemoryStore>,
    pub(super) identify: identify::Behaviour,
    pub(super) direct: request_response::Behaviour<DirectCodec>,
}

/// The names of one mesh.
#[derive(Debug, Clone)]
pub(super) struct Names {
    mesh: String,
    is_private: bool,
}

impl Names {
    pub(super) fn new(mesh: MeshId, is_private: bool) -> Self {
        Self { mesh: mesh.short(), is_private }
    }

    /// What the connections of this mesh say in their handshake. Another mesh's fail there.
    pub(super) fn alpn(&self) -> Vec<u8> {
        self.name("libp2p/1").into_bytes()
    }

    /// Where jobs for an executor of this class are announced in a shard, and bid for.
    pub(super) fn jobs(&self, class: ExecutorKind, shard: Shard) -> IdentTopic {
        IdentTopic::new(self.name(&format!("{class}/1/{}", shard.digits())))
    }

    /// Where nodes are found that have executors of this class.
    pub(super) fn workers(&self, class: ExecutorKind) -> BlobHash {
        BlobHash::of(self.name(&format!("{class}/1")).as_bytes())
    }

    /// What connections for blobs say. In a private mesh they tell nobody else that there are any.
    pub(super) fn blobs_alpn(&self) -> Vec<u8> {
        if self.is_private { self.name("blobs/1").into_bytes() } else { iroh_blobs::ALPN.to_vec() }
    }

    /// What newcomers of a private mesh say.
    pub(super) fn join_alpn(&self) -> Vec<u8> {
        self.name("join/1").into_bytes()
    }

    /// Where revocations of a private mesh are spread.
    pub(super) fn revocations(&self) -> Option<IdentTopic> {
        self.is_private.then(|| IdentTopic::new(self.name("revoked/1")))
    }

    /// Where relays are announced. Every node of the mesh hears it, and is known by that.
    pub(super) fn relays(&self) -> IdentTopic {
        IdentTopic::new(self.name("relays/1"))
    }

    fn protocol(&self, what: &str) -> StreamProtocol {
        StreamProtocol::try_from_owned(self.name(what)).expect("the name begins with a slash")
    }

    fn name(&self, what: &str) -> String {
        format!("/shoal/{}/{what}", self.mesh)
    }
}

/// A swarm over `transport` that has joined the topic and announces the endpoint's addresses.
///
/// Topics of jobs are made known to it here, and joined and left later.
pub(super) fn swarm(
    transport: Transport,
    key: PublicKey,
    names: &Names,
    jobs: &Topics,
    agent: String,
) -> Swarm<Behaviour> {
    let own = key.to_peer_id();
    let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_TIMEOUT);
    let mut swarm = Swarm::new(transport.boxed(), behaviour(key, names, jobs, agent), own, config);
    // The address is only a wish; the transport listens where its endpoint is bound.
    let anywhere = super::addresses::socket_multiaddr(([0, 0, 0, 0], 0).into());
    swarm.listen_on(anywhere).expect("the first listener is always accepted");
    swarm
}

fn behaviour(key: PublicKey, names: &Names, jobs: &Topics, agent: String) -> Behaviour {
    let own = key.to_peer_id();
    Behaviour {
        limits: connection_limits::Behaviour::new(connection_limits()),
        blocked: allow_block_list::Behaviour::default(),
        gossip: gossip(names, jobs),
        kad: kad(own, names),
        identify: identify(key, names, agent),
        direct: direct(names),
    }
}

/// Handshakes under way are not seen here: the endpoint's router is done with them before.
fn connection_limits() -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_established_incoming(Some(MAX_INBOUND))
        .with_max_established_outgoing(Some(MAX_OUTBOUND))
        .with_max_established_per_peer(Some(MAX_PER_PEER))
        .with_max_pending_outgoing(Some(MAX_DIALLING))
}

/// Messages are anonymous to gossipsub, and are named by their content. They carry their sender's signature inside,
/// which the node checks before a message is forwarded; a second signature and a sequence number would make one
/// message many, and cost a verification at each hop.
fn gossip(names: &Names, jobs: &Topics) -> gossipsub::Behaviour {
    let (relays, revocations) = (names.relays(), names.revocations());
    let [low, high] = GOSSIP_DEGREES;
    let mut config = gossipsub::ConfigBuilder::default();
    for topic in jobs.all() {
        config.max_transmit_size_for_topic(MAX_GOSSIP_FRAME, topic.hash());
    }
    if let Some(topic) = &revocations {
        config.max_transmit_size_for_topic(MAX_REVOCATION_FRAME, topic.hash());
    }
    let config = config
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| BlobHash::of(&message.data).0.to_vec().into())
        .mesh_n_low(low)
        .mesh_n(GOSSIP_DEGREE)
        .mesh_n_high(high)
        .mesh_outbound_min(GOSSIP_OUTBOUND)
        .gossip_lazy(GOSSIP_DEGREE)
        // Our own messages go to every connected peer: one hop instead of three for an announcement.
        .flood_publish(true)
        .heartbeat_initial_delay(Duration::from_millis(100))
        .heartbeat_interval(GOSSIP_HEARTBEAT)
        .history_length(GOSSIP_HISTORY)
        .duplicate_cache_time(GOSSIP_MEMORY)
        .max_transmit_size_for_topic(MAX_RELAY_FRAME, relays.hash())
        .max_control_messages_sent(MAX_OFFERED)
        .max_control_message_size(MAX_GOSSIP_CONTROL)
        .max_transmit_size(2 * MAX_GOSSIP_CONTROL)
        .connection_handler_queue_len(MAX_GOSSIP_QUEUE)
        // Messages are about as large as the note that one is not wanted: sending the note would save nothing.
        .idontwant_message_size_threshold(MAX_GOSSIP_FRAME + 1)
        .build()
        .expect("the parameters above are consistent");
    let mut gossip = gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config)
        .expect("anonymous messages match the anonymous validation mode");
    let topics: Vec<IdentTopic> = [relays].into_iter().chain(revocations).collect();
    let (parameters, thresholds) = scoring(topics.iter().chain(jobs.all()));
    gossip.with_peer_score(parameters, thresholds).expect("the score parameters are consistent");
    for topic in &topics {
        gossip.subscribe(topic).expect("every topic may be subscribed");
    }
    gossip
}

/// Rejected messages count squared: four of them cost a peer its neighbours' gossip, ten its hearing, and both are forgiven
/// in minutes. What the node makes of a peer's conduct (`shoal_protocol::conduct`) is added as it is, so that a thousand
/// messages too many do the same. Below zero a peer is no neighbour; at -10 nothing is offered to it, at -25 nothing of ours
/// is sent to it, and at -100 nothing of it is read. Good work earns at most 8, so that nobody saves up for an attack.
/// Where peers sit is no matter of the score: the doorman lets only so many in from one place, a home's more than a
/// swarm's, which a penalty by address cannot tell apart.
fn scoring<'a>(topics: impl Iterator<Item = &'a IdentTopic>) -> (PeerScoreParams, PeerScoreThresholds) {
    let messages = gossipsub::TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 300.0,
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: 0.9,
        first_message_deliveries_cap: 50.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -1.0,
        invalid_message_deliveries_decay: 0.98,
        ..Default::default()
    };
    let parameters = PeerScoreParams {
        topics: topics.map(|topic| (topic.hash(), messages.clone())).collect(),
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_weight: -1.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: 0.9,
        ..Default::default()
    };
    let thresholds = PeerScoreThresholds {
        gossip_threshold: -10.0,
        publish_threshold: -25.0,
        graylist_threshold: -100.0,
        ..Default::default()
    };
    (parameters, thresholds)
}

/// Only provider records are kept, and peers get into the routing table only with addresses that identify told.
fn kad(own: libp2p::PeerId, names: &Names) -> kad::Behaviour<MemoryStore> {
    let mut config = kad::Config::new(names.protocol("kad/1"));
    config
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_caching(kad::Caching::Disabled)
        .set_replication_factor(REPLICATION)
        .set_provider_record_ttl(Some(PROVIDER_TTL))
        .set_provider_publication_interval(Some(PROVIDER_REPEAT))
        .set_query_timeout(QUERY_TIMEOUT)
        .set_periodic_bootstrap_interval(Some(BOOTSTRAP_INTERVAL));
    let store = MemoryStoreConfig {
        max_records: 0,
        max_value_bytes: 0,
        max_providers_per_key: REPLICATION.get(),
        max_provided_keys: MAX_PROVIDED + MAX_RECORDS,
    };
    let mut kad = kad::Behaviour::with_config(own, MemoryStore::with_config(own, store), config);
    // The automatic mode waits for confirmed external addresses. Here every node can be reached through iroh.
    kad.set_mode(Some(kad::Mode::Server));
    kad
}

fn identify(key: PublicKey, names: &Names, agent: String) -> identify::Behaviour {
    let config = identify::Config::new(names.name("id/1"), key)
        .with_agent_version(agent)
        .with_push_listen_addr_updates(true)
        .with_cache_size(0);
    identify::Behaviour::new(config)
}

fn direct(names: &Names) -> request_response::Behaviour<DirectCodec> {
    let config = request_response::Config::default()
        .with_request_timeout(DIRECT_TIMEOUT)
        .with_max_concurrent_streams(MAX_DIRECT_STREAMS);
    request_response::Behaviour::new([(names.protocol("direct/2"), ProtocolSupport::Full)], config)
}
