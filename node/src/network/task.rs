//! The task that owns the swarm: commands in, events out.
//!
//! Nothing here waits: what takes time is remembered and answered when libp2p reports it. Each of those memories is
//! bounded, and so are both queues.

mod company;
mod conduct;
mod dht;
mod direct;
mod gossip;
mod members;
mod moved;
mod peers;
mod shards;
mod trim;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use iroh::protocol::Router;
use libp2p::gossipsub::TopicHash;
use libp2p::kad::QueryId;
use libp2p::request_response::{OutboundRequestId, ResponseChannel};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use shoal_protocol::conduct::{Conduct, Offence};
use shoal_protocol::id::{BlobHash, PeerId};
use shoal_protocol::message::Contact;
use shoal_protocol::shard::Audience;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

pub(super) use self::company::Described;
use self::dht::Query;
use self::moved::Moved;
pub(super) use self::shards::Shards;
pub(super) use self::trim::Trim;
use super::addresses;
use super::codec::Answer;
use super::duplicates::Starts;
use super::gate::Gate;
use super::identity::libp2p_id;
use super::known::{Known, KnownPeer};
use super::ledger::Ledger;
use super::queue::Queue;
use super::rate::Buckets;
use super::swarm::{Behaviour, BehaviourEvent, Names};
use super::unreached::Unreached;
use super::{GossipId, NetworkEvent, RateLimits, RequestError, Shared, Validity};
use crate::clock::Clock;

/// What is remembered of a peer's description of itself, in characters.
pub(super) const MAX_AGENT_CHARS: usize = 64;

/// How often the swarm is looked after: peers to dial again, and the estimate of the mesh's size.
const TICK: Duration = Duration::from_millis(500);

/// How often records that have expired are removed.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// How often marks against peers fade, and connections are looked at.
const FORGIVE_EVERY: Duration = Duration::from_secs(5);

/// What a handle asks of the task.
pub(super) enum Command {
    Gossip(Audience, Vec<u8>),
    Validate(GossipId, PeerId, Validity),
    Offence(PeerId, Offence),
    Corrupt(PeerId),
    Request(PeerId, Vec<u8>, RequestReply),
    Provide(BlobHash, oneshot::Sender<()>),
    Unprovide(BlobHash),
    Providers(BlobHash, oneshot::Sender<Vec<PeerId>>),
    Locate(PeerId, oneshot::Sender<()>),
    Block(PeerId, bool),
    BeginAgain(PeerId),
    Neighbour(PeerId, Contact),
    Hurry,
    Known(oneshot::Sender<Vec<KnownPeer>>),
    Revoked(Vec<u8>),
    AnnounceRelay(Vec<u8>),
    Shutdown(oneshot::Sender<()>),
}

pub(super) type RequestReply = oneshot::Sender<Result<Vec<u8>, RequestError>>;

/// An inbound request that the node is working on.
type Working = BoxFuture<'static, (ResponseChannel<Answer>, Option<Answer>)>;

/// What the task is made of.
pub(super) struct Parts {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) router: Router,
    pub(super) names: Names,
    pub(super) shards: Shards,
    pub(super) trim: Trim,
    /// Where relays are announced.
    pub(super) relays: TopicHash,
    /// Where revocations of a private mesh are spread.
    pub(super) revocations: Option<TopicHash>,
    pub(super) shared: Arc<Shared>,
    pub(super) known: Known,
    pub(super) clock: Clock,
    pub(super) rates: RateLimits,
    pub(super) renew_every: Duration,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: Queue,
}

/// The task's state.
pub(super) struct Task {
    swarm: Swarm<Behaviour>,
    router: Router,
    names: Names,
    shards: Shards,
    trim: Trim,
    relays: TopicHash,
    revocations: Option<TopicHash>,
    shared: Arc<Shared>,
    known: Known,
    clock: Clock,
    events: Queue,
    /// Requests of ours that wait for an answer.
    requests: HashMap<OutboundRequestId, (PeerId, RequestReply)>,
    /// How many of them go to each peer.
    requests_to: BTreeMap<PeerId, usize>,
    /// Requests of ours that wait for those.
    waiting: BTreeMap<PeerId, VecDeque<(Vec<u8>, RequestReply)>>,
    /// Requests of others that the node is working on.
    working: FuturesUnordered<Working>,
    /// DHT queries that somebody waits for.
    queries: HashMap<QueryId, Query>,
    /// Open connections by peer, oldest first.
    connections: BTreeMap<PeerId, Vec<(ConnectionId, Instant)>>,
    /// Peers whose connections this side has closed, to begin again with them, and when they are dialled.
    redial: BTreeMap<PeerId, Instant>,
    /// The last change of this machine's address, until it is known who is still heard.
    moved: Option<Moved>,
    /// What each connected peer said of its build and start.
    agents: BTreeMap<PeerId, String>,
    /// The starts of peers, of which two may run at once.
    starts: Starts,
    /// Peers that came up or went down, until the node has been told.
    news: BTreeMap<PeerId, bool>,
    /// Peers that the node was told of as up.
    up: BTreeSet<PeerId>,
    request_rates: Buckets<PeerId>,
    gossip_rates: Buckets<PeerId>,
    record_rates: Buckets<PeerId>,
    /// What peers did that no honest one does.
    conduct: Conduct,
    /// Records that are kept for others.
    ledger: Ledger,
    expire_at: Instant,
    forgive_at: Instant,
    renew_every: Duration,
    renew_at: Instant,
}

impl Task {
    /// Runs until every handle is gone or one of them shuts it down; then closes the endpoint.
    pub(super) async fn run(parts: Parts) {
        let mut commands = parts.commands;
        let mut task = Task {
            swarm: parts.swarm,
            router: parts.router,
            names: parts.names,
            shards: parts.shards,
            trim: parts.trim,
            relays: parts.relays,
            revocations: parts.revocations,
            shared: parts.shared,
            known: parts.known,
            clock: parts.clock,
            events: parts.events,
            requests: HashMap::new(),
            requests_to: BTreeMap::new(),
            waiting: BTreeMap::new(),
            working: FuturesUnordered::new(),
            queries: HashMap::new(),
            connections: BTreeMap::new(),
            redial: BTreeMap::new(),
            moved: None,
            agents: BTreeMap::new(),
            starts: Starts::default(),
            news: BTreeMap::new(),
            up: BTreeSet::new(),
            request_rates: Buckets::new(parts.rates.requests),
            gossip_rates: Buckets::new(parts.rates.gossip),
            record_rates: Buckets::new(parts.rates.records),
            conduct: Conduct::default(),
            ledger: Ledger::default(),
            expire_at: Instant::now(),
            forgive_at: Instant::now(),
            renew_every: parts.renew_every,
            renew_at: Instant::now(),
        };
        task.look_after_shards(Instant::now());
        let done = task.serve(&mut commands).await;
        task.close().await;
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    async fn serve(&mut self, commands: &mut mpsc::Receiver<Command>) -> Option<oneshot::Sender<()>> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm(event),
                command = commands.recv() => match command {
                    None => return None,
                    Some(Command::Shutdown(done)) => return Some(done),
                    Some(command) => self.on_command(command),
                },
                Some((channel, answer)) = self.working.next() => self.answer(channel, answer),
                permit = reserve(self.events.others.clone()), if !self.news.is_empty() => match permit {
                    Ok(permit) => self.tell(permit),
                    // Nobody listens any more, and nobody will.
                    Err(_) => self.news.clear(),
                },
                _ = tick.tick() => self.on_tick(),
            }
        }
    }

    /// Says goodbye to everybody and releases the socket.
    async fn close(self) {
        // Connections close with the swarm; after that nobody is left to answer.
        drop(self.swarm);
        if let Err(error) = self.router.shutdown().await {
            tracing::debug!(%error, "router did not shut down cleanly");
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Gossip(audience, bytes) => self.publish(audience, bytes),
            Command::Validate(id, source, validity) => self.validate(&id, source, validity),
            // A node that is too slow to hear of it hears of the next one.
            Command::Corrupt(peer) => drop(self.events.others.try_send(NetworkEvent::Corrupt(peer))),
            Command::Offence(peer, offence) => self.on_offence(peer, offence),
            Command::Request(to, bytes, reply) => self.request(to, bytes, reply),
            Command::Provide(hash, done) => self.provide(hash, done),
            Command::Unprovide(hash) => self.unprovide(hash),
            Command::Providers(hash, found) => self.providers(hash, found),
            Command::Locate(peer, done) => self.locate(peer, Query::Locate { peer, done }),
            Command::Block(peer, block) => self.block(peer, block),
            Command::BeginAgain(peer) => self.begin_again(peer),
            Command::Neighbour(peer, contact) => self.on_neighbour(peer, &contact),
            Command::Hurry => self.known.hurry(Instant::now()),
            Command::Known(reply) => {
                let _ = reply.send(self.all_known());
            }
            Command::Revoked(bytes) => self.spread(bytes),
            Command::AnnounceRelay(bytes) => self.announce_relay(bytes),
            Command::Shutdown(_) => unreachable!("the loop ends with this command"),
        }
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.on_gossip(event),
            SwarmEvent::Behaviour(BehaviourEvent::Direct(event)) => self.on_direct(event),
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => self.on_kad(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.on_identify(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(&peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, left = num_established, "connection closed");
                if num_established == 0 && cause.is_some() {
                    self.doubt_relay_of(&peer_id);
                }
                self.on_disconnected(&peer_id, connection_id);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer_id), error, .. } => {
                self.on_dial_failed(&peer_id, &error);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::debug!(%address, "own address");
                self.on_moved(Instant::now());
            }
            _ => {}
        }
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        let connected = self.swarm.connected_peers().count();
        let is_connected = |peer| self.swarm.is_connected(&libp2p_id(peer));
        self.known.look(now, self.clock.now(), is_connected);
        let is_not_dialled = |peer| is_connected(peer) || self.shared.strangers.resting(peer, now).is_some();
        for peer in self.known.due(now, self.clock.now(), connected, is_not_dialled) {
            self.dial(peer);
        }
        self.begin_again_with_deaf(now);
        self.begin_again_with_silent(now);
        self.redial(now);
        self.estimate_size();
        self.look_after_shards(now);
        self.trim(now);
        self.describe_company();
        if self.expire_at <= now {
            self.expire_at = now + EXPIRE_EVERY;
            self.expire_records(now);
            self.shared.gate.iter().for_each(Gate::close_expired);
        }
        if self.forgive_at <= now {
            self.forgive_at = now + FORGIVE_EVERY;
            self.forgive();
            self.shared.doorman.look_around();
        }
        if self.renew_at <= now {
            self.renew_at = now + self.renew_every;
            self.renew_certificate();
        }
    }

    /// Peers worth dialling. Why one of another version is not kept is known better than by its dials.
    fn all_known(&self) -> Vec<KnownPeer> {
        let (mut known, strangers) = (self.known.all(), self.shared.strangers.all(Instant::now()));
        for peer in &mut known {
            let version = strangers.get(&peer.peer).copied();
            peer.reason = version.map(Unreached::OtherVersion).or_else(|| peer.reason.take());
        }
        known
    }

    /// Somebody on the local network says that `peer` is there. Of who is connected that is no news.
    fn on_neighbour(&mut self, peer: PeerId, contact: &Contact) {
        if peer != self.shared.own && !self.connections.contains_key(&peer) {
            self.shared.book.hint(peer, contact);
            self.known.neighbour(peer, Instant::now());
        }
    }

    fn dial(&mut self, peer: PeerId) {
        let options = DialOpts::peer_id(libp2p_id(peer))
            .addresses(vec![addresses::by_name(peer)])
            .extend_addresses_through_behaviour();
        if let Err(error) = self.swarm.dial(options.build()) {
            tracing::trace!(peer = %peer.short(), %error, "not dialled");
        }
    }
}

/// Waits for room among the events, without borrowing the task meanwhile.
async fn reserve(
    events: mpsc::Sender<NetworkEvent>,
) -> Result<mpsc::OwnedPermit<NetworkEvent>, mpsc::error::SendError<()>> {
    events.reserve_owned().await
}
