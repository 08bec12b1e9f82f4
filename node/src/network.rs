//! The node's network: one key, one UDP socket, and everything that peers say and fetch through it.
//!
//! One iroh endpoint carries libp2p (gossip, DHT, identify, direct messages, through a transport of our own) and
//! iroh-blobs. A task owns the swarm; [`Network`] is a handle to it, cheap to clone. What peers do arrives as
//! [`NetworkEvent`]s. All that peers can make grow is bounded by a constant beside it.
//!
//! The network knows nothing of jobs: it checks sizes, rates and who is connected, and leaves every judgement on what
//! a message says to the node, which answers for each gossip message with [`Network::validate`].

pub mod ticket;

mod config;

mod error;

mod event;

mod task;

mod swarm;

mod codec;

mod transport;

mod endpoint;

mod diversity;

mod doorman;

mod gate;

pub mod join;

pub mod relay;

mod places;

mod frame;

mod fetch;

mod serve;

mod shaper;

mod ledger;

mod known;

mod service;

mod agent;

mod strangers;

mod duplicates;

mod unreached;

mod lan;

mod mapping;

mod nat;

mod book;

mod links;

mod rate;

mod queue;

mod topics;

mod shared;

mod size;

mod addresses;

mod identity;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use iroh::protocol::Router;
use shoal_protocol::conduct::Offence;
use shoal_protocol::id::{BlobHash, MeshId, PeerId};
use shoal_protocol::membership::Revocation;
use shoal_protocol::message::{Contact, ExecutorKind};
use shoal_protocol::relay::RelayAddress;
use shoal_protocol::shard::{self, Audience, Shard};
use shoal_protocol::time::{Millis, Time};
use shoal_protocol::wire::canonical;
use tokio::sync::{mpsc, oneshot};

pub use self::codec::{MAX_ANSWER_BYTES, MAX_REQUEST_BYTES};
pub use self::config::{Bandwidth, DEFAULT_MAX_PEERS, LEAST_MAX_PEERS, NetworkConfig, RateLimits};
pub use self::error::{NetworkError, RequestError};
pub use self::event::{Fended, GossipId, NetworkEvent, PeerInfo, Reply, Traffic, Validity};
pub use self::fetch::{FetchError, Progress};
pub use self::known::{KnownPeer, Remembered, worth_keeping};
pub use self::links::Passed;
pub use self::mapping::PortMapping;
pub use self::nat::Nat;
pub use self::queue::Events;
pub use self::rate::Rate;
pub use self::relay::{KnownRelay, RelayClient};
pub use self::serve::ServePolicy;
pub use self::service::Service;
use self::shared::{Counted, Shared, detours, port_of};
pub(crate) use self::strangers::UNNAMED;
use self::task::Command;
use self::ticket::Ticket;
pub use self::unreached::Unreached;
use crate::membership::Membership;

/// Commands that may wait for the task.
const MAX_COMMANDS: usize = 1_024;
/// How long a request may take, with looking the peer up and dialling it.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(12);
/// How long saying goodbye may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// The peer that a multiaddress leads to, and how.
pub(crate) fn parse_multiaddr(text: &str) -> Option<(PeerId, Contact)> {
    addresses::parse_text(text)
}

/// A handle to the network. Clones share it; it ends with [`shutdown`](Self::shutdown) or its last handle.
#[derive(Clone)]
pub struct Network {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    fetcher: fetch::Fetcher,
}

impl Network {
    /// Binds the socket, starts serving and begins to look for the peers that the configuration names.
    pub async fn start(config: NetworkConfig) -> Result<(Self, Events), NetworkError> {
        let named = named_peers(&config)?;
        let names = config.names();
        let (relays, heard) = relay::Relays::new();
        let shared = Arc::new(Shared::bind(&config, relays).await?);
        let own_relay = relay::start(&config, &shared.endpoint).await;
        if own_relay.is_err() {
            // An endpoint that is only dropped complains, beside the error that a person should read.
            shared.endpoint.close().await;
        }
        let own_relay = own_relay?;
        // Tickets last: the last word on an address counts, and what an earlier run knew may be stale.
        let remembered = config.known_peers.iter().map(|known| (known.peer, &known.contact));
        let named_contacts = named.iter().map(|(peer, contact)| (*peer, contact));
        remembered.chain(named_contacts).for_each(|(peer, contact)| shared.book.learn(peer, contact));

        let alpn: Arc<[u8]> = names.alpn().into();
        let endpoint = shared.endpoint.clone();
        let (transport, incoming) =
            transport::Transport::new(endpoint.clone(), Arc::clone(&alpn), shared.links.clone(), detours(&shared));
        let doorman = shared.doorman.clone();
        let router = Router::builder(endpoint)
            .incoming_filter(Arc::new(move |incoming| doorman.look_at(incoming)))
            .accept(&alpn, incoming)
            .accept(&shared.blobs_alpn, shared.serve(&config));
        let router = match config.membership.clone().filter(Membership::holds_key) {
            Some(membership) => router.accept(names.join_alpn(), join::Door::new(membership)).spawn(),
            None => router.spawn(),
        };
        let start = shared.links.duplicates().own();
        let (key, agent) = (identity::libp2p_keypair(&config.key), agent::describe(config.dialect.version, start));
        let jobs = topics::Topics::new(&key.public().to_peer_id(), &names);
        let swarm = swarm::swarm(transport, key.public(), &names, &jobs, agent);

        let (commands, command_queue) = mpsc::channel(MAX_COMMANDS);
        let (event_queue, events) = queue::queue();
        if config.looks_around() {
            lan::look_around(&shared.endpoint, config.mesh_id(), &commands);
        }
        let fetcher = fetch::Fetcher::new(&shared, &config);
        let has_relay = own_relay.is_some() || !relay::named(&config).is_empty();
        if !config.loopback_only {
            tokio::spawn(relay::Keeper::new(&config, &shared, own_relay, heard, &commands).run());
        }
        let others = |peer: &PeerId| *peer != shared.own;
        let named = named.into_iter().map(|(peer, _)| peer).filter(others);
        let remembered = config.known_peers.iter().map(|known| (known.peer, known.service));
        let known = known::Known::new(named, remembered.filter(|(peer, _)| others(peer)), Instant::now());
        tokio::spawn(task::Task::run(task::Parts {
            swarm,
            router,
            relays: names.relays().hash(),
            revocations: names.revocations().map(|topic| topic.hash()),
            names,
            shards: task::Shards::new(jobs, config.shard_nodes),
            trim: task::Trim::new(config.max_peers),
            shared: Arc::clone(&shared),
            known,
            clock: config.clock,
            rates: config.rates,
            renew_every: config.renew_every,
            commands: command_queue,
            events: event_queue,
        }));
        if has_relay && !config.loopback_only {
            shared.wait_for_home().await;
        }
        Ok((Self { commands, shared, fetcher }, events))
    }

    /// This node's name.
    pub fn peer_id(&self) -> PeerId {
        self.shared.own
    }

    /// The mesh that it is in.
    pub fn mesh_id(&self) -> MeshId {
        match &self.shared.gate {
            Some(gate) => gate.membership().mesh(),
            None => MeshId::of(&self.shared.mesh),
        }
    }

    /// Where this node can be reached, as far as it knows now. Loopback addresses only when there are no others.
    pub fn contact(&self) -> Contact {
        addresses::contact_of(self.shared.endpoint.addr().addrs)
    }

    /// The same as multiaddresses, for `--join`.
    pub fn multiaddrs(&self) -> Vec<String> {
        addresses::multiaddrs(self.peer_id(), &self.contact()).iter().map(ToString::to_string).collect()
    }

    /// The UDP port that it listens on.
    pub fn port(&self) -> Option<u16> {
        port_of(&self.shared.endpoint)
    }

    /// This node as iroh names it: for tickets of blobs.
    pub fn endpoint_addr(&self) -> iroh::EndpointAddr {
        self.shared.endpoint.addr()
    }

    /// A ticket that leads to this node and to some peers it is connected with, so that it outlives this node.
    pub fn ticket(&self) -> Ticket {
        let others = self.peers().into_iter().map(|info| (info.peer, info.contact));
        let others = others.filter(|(_, contact)| *contact != Contact::default());
        let own = std::iter::once((self.peer_id(), self.contact()));
        let peers = own.chain(others).take(TICKET_PEERS).collect();
        let key = self.shared.gate.as_ref().map(|gate| gate.membership().key());
        Ticket { key, ..Ticket::new(self.shared.mesh.clone(), peers) }
    }

    /// Tells the mesh of a revocation, and closes all connections with its peer.
    pub async fn spread(&self, revocation: &Revocation) {
        let Some(gate) = &self.shared.gate else { return };
        gate.close(revocation.peer);
        let _ = self.commands.send(Command::Revoked(canonical(revocation))).await;
    }

    /// Whether `peer` was sent away from this private mesh.
    pub fn is_revoked(&self, peer: PeerId) -> bool {
        self.shared.gate.as_ref().is_some_and(|gate| gate.membership().is_revoked(peer))
    }

    /// Connected members of this private mesh, and when their certificates end.
    pub(crate) fn members(&self) -> Vec<(PeerId, Time)> {
        self.shared.gate.as_ref().map(gate::Gate::members).unwrap_or_default()
    }

    /// Says something about a job to those whom it concerns. It is no error that nobody is there to hear it.
    pub async fn gossip(&self, audience: Audience, bytes: Vec<u8>) {
        let _ = self.commands.send(Command::Gossip(audience, bytes)).await;
    }

    /// This node runs jobs of these classes, and hears of them, from now on.
    pub fn set_runs(&self, classes: BTreeSet<ExecutorKind>) {
        *self.shared.runs() = classes;
    }

    /// Whether a peer is in this node's [shard] of a level.
    pub fn is_near(&self, peer: PeerId, level: u8) -> bool {
        let place = |peer| topics::place(&identity::libp2p_id(peer));
        Shard::around(&place(self.shared.own), level).contains(&place(peer))
    }

    /// The level of the shard with which this node begins to announce a job.
    pub fn first_level(&self) -> u8 {
        shard::first_level(self.mesh_size(), self.shared.shard_nodes)
    }

    /// How many connected peers have no executor of each class.
    pub fn without(&self) -> BTreeMap<ExecutorKind, u32> {
        self.shared.without().clone()
    }

    /// Says what becomes of a gossip message. A verdict that finds the queue full is lost, and the message with it.
    pub fn validate(&self, id: GossipId, source: PeerId, validity: Validity) {
        if self.commands.try_send(Command::Validate(id, source, validity)).is_err() {
            tracing::debug!("gossip was not passed on: too much to do");
        }
    }

    /// Tells that `peer` did what no honest peer does. What does not fit into the queue is forgiven.
    pub fn report(&self, peer: PeerId, offence: Offence) {
        let _ = self.commands.try_send(Command::Offence(peer, offence));
    }

    /// Does not ask `peer` for blobs for so many milliseconds.
    pub(crate) fn avoid(&self, peer: PeerId, millis: Millis) {
        self.fetcher.avoid(peer, Duration::from_millis(millis));
    }

    /// Asks others for blobs before `peer` for so many milliseconds.
    pub(crate) fn doubt(&self, peer: PeerId, millis: Millis) {
        self.fetcher.doubt(peer, Duration::from_millis(millis));
    }

    /// Whether this node's operator wants to have to do with `peer`.
    pub fn wants(&self, peer: PeerId) -> bool {
        self.shared.doorman.wants(peer)
    }

    /// What was fended off since the start.
    pub fn fended(&self) -> Fended {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let Counted { cut_off, gossip, requests } = &self.shared.counted;
        Fended {
            connections: self.shared.doorman.refused(),
            gossip: count(gossip),
            requests: count(requests),
            cut_off: count(cut_off),
        }
    }

    /// Asks one peer, dialling it if need be, within [`REQUEST_TIMEOUT`]. Asking again is the caller's business.
    pub async fn request(&self, to: PeerId, bytes: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge(bytes.len()));
        }
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.commands.send(Command::Request(to, bytes, reply)).await.map_err(|_| RequestError::Closed)?;
            answer.await.map_err(|_| RequestError::Closed)?
        };
        tokio::time::timeout(REQUEST_TIMEOUT, asked).await.map_err(|_| RequestError::TimedOut(to))?
    }

    /// Notes where a peer says it is. Cheap, and bounded whatever peers say.
    pub fn learn(&self, peer: PeerId, contact: &Contact) {
        if peer != self.shared.own {
            self.shared.book.learn(peer, contact);
        }
    }

    /// Ends the conversation with a peer until [`unblock`](Self::unblock) or a restart. Blobs are up to the
    /// [`ServePolicy`].
    pub async fn block(&self, peer: PeerId) {
        let _ = self.commands.send(Command::Block(peer, true)).await;
    }

    /// Talks to a blocked peer again.
    pub async fn unblock(&self, peer: PeerId) {
        let _ = self.commands.send(Command::Block(peer, false)).await;
    }

    /// The connected peers, in the order of their ids.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let connected = self.shared.connected().clone();
        connected.into_iter().map(|(peer, since)| self.info(peer, since)).collect()
    }

    fn info(&self, peer: PeerId, connected_since: Instant) -> PeerInfo {
        let (path, passed) = (self.shared.links.path(peer), self.shared.links.passed(peer));
        let described = self.shared.described().get(&peer).cloned().unwrap_or_default();
        let contact = self.contact_of(peer);
        let remote = path.and_then(|path| path.remote);
        PeerInfo {
            peer,
            nat: remote.and_then(|remote| Nat::of(remote, &contact.addresses)),
            contact,
            connected_since,
            rtt: path.map(|path| path.rtt),
            relayed: path.is_some_and(|path| path.relayed),
            relay: self.shared.links.relay(peer),
            remote,
            passed,
            score: described.score,
            version: described.version,
            protocol: described.protocol,
        }
    }

    /// Looks at the machine's interfaces and for peers anew, without the pauses that failures made: after a sleep.
    pub async fn hurry(&self) {
        self.shared.endpoint.network_change().await;
        let _ = self.commands.send(Command::Hurry).await;
    }

    /// Where `peer` was last said to be.
    pub fn contact_of(&self, peer: PeerId) -> Contact {
        self.shared.book.contact(peer).unwrap_or_default()
    }

    /// Peers that are dialled when they are not connected, and why that failed.
    pub async fn known(&self) -> Vec<KnownPeer> {
        let (reply, known) = oneshot::channel();
        if self.commands.send(Command::Known(reply)).await.is_err() {
            return Vec::new();
        }
        known.await.unwrap_or_default()
    }

    /// What the router does for this node's port.
    pub fn port_mapping(&self) -> PortMapping {
        self.shared.port_mapping.as_ref().map(|state| *state.borrow()).unwrap_or_default()
    }

    /// How many nodes the mesh has, this one included: counted while it is small, estimated when it is not.
    pub fn mesh_size(&self) -> u32 {
        *self.shared.mesh_size.borrow()
    }

    /// The relays of the mesh that this node knows.
    pub fn known_relays(&self) -> Vec<KnownRelay> {
        self.shared.relays.known()
    }

    /// Where this node's own relay is, if it runs one.
    pub fn own_relay(&self) -> Option<RelayAddress> {
        self.shared.relays.own()
    }

    /// What the clients of this node's own relay have used, as of a moment ago.
    pub fn relay_clients(&self) -> Vec<RelayClient> {
        self.shared.relays.clients()
    }

    /// The relay where peers find this node that cannot reach it directly.
    pub fn home_relay(&self) -> Option<RelayAddress> {
        self.shared.home_relay()
    }

    /// What blobs have travelled since the start.
    pub fn traffic(&self) -> Traffic {
        let served = &self.shared.served;
        Traffic {
            served_bytes: served.bytes.load(Ordering::Relaxed),
            served_requests: served.requests.load(Ordering::Relaxed),
            refused_requests: served.refused.load(Ordering::Relaxed),
            fetched_bytes: self.shared.fetched.load(Ordering::Relaxed),
        }
    }

    /// What has passed between this node and all others since the start, by the kind of path.
    pub fn passed(&self) -> Passed {
        self.shared.links.passed_in_all()
    }

    /// How long a message takes to a peer: half the median round-trip time, 0 with nobody connected.
    pub fn delay_ms(&self) -> Millis {
        let connected: Vec<PeerId> = self.shared.connected().keys().copied().collect();
        let paths = connected.into_iter().filter_map(|peer| self.shared.links.path(peer));
        let mut rtts: Vec<Duration> = paths.map(|path| path.rtt).collect();
        rtts.sort_unstable();
        let median = rtts.get(rtts.len() / 2).copied().unwrap_or_default();
        Millis::try_from((median / 2).as_millis()).unwrap_or(Millis::MAX)
    }

    /// Offers a blob in the DHT, and keeps doing so. Returns when the peers that keep the record were told.
    pub async fn provide(&self, hash: BlobHash) {
        let (done, told) = oneshot::channel();
        if self.commands.send(Command::Provide(hash, done)).await.is_ok() {
            let _ = told.await;
        }
    }

    /// Stops offering a blob. Others forget it in time.
    pub async fn unprovide(&self, hash: BlobHash) {
        let _ = self.commands.send(Command::Unprovide(hash)).await;
    }

    /// Who offers a blob, as far as the DHT knows; it is asked for at most five seconds.
    pub async fn providers(&self, hash: BlobHash) -> Vec<PeerId> {
        let (reply, found) = oneshot::channel();
        if self.commands.send(Command::Providers(hash, reply)).await.is_err() {
            return Vec::new();
        }
        found.await.unwrap_or_default()
    }

    /// Asks the DHT where `peer` is, unless that is known.
    async fn locate(&self, peer: PeerId) {
        if self.shared.book.knows(peer) || self.shared.connected().contains_key(&peer) {
            return;
        }
        let (done, located) = oneshot::channel();
        if self.commands.send(Command::Locate(peer, done)).await.is_ok() {
            let _ = located.await;
        }
    }

    /// Says goodbye to all peers and closes the socket. The store stays open.
    pub async fn shutdown(self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Shutdown(done)).await.is_ok()
            && tokio::time::timeout(SHUTDOWN_TIMEOUT, closed).await.is_err()
        {
            tracing::warn!("the network took too long to close and was left behind");
        }
    }
}

/// The peers that the operator named, after checking that the tickets are of this mesh.
fn named_peers(config: &NetworkConfig) -> Result<Vec<(PeerId, Contact)>, NetworkError> {
    if config.mesh.is_empty() || config.mesh.len() > ticket::MAX_MESH_NAME {
        return Err(NetworkError::MeshName(config.mesh.len()));
    }
    let mut named = config.join_peers.clone();
    let key = config.membership.as_ref().map(Membership::key);
    for ticket in &config.join {
        named.extend(ticket.clone().for_mesh(&config.mesh)?.for_key(key)?.peers);
    }
    Ok(named)
}

/// Peers in a ticket that a node prints: few, so that the ticket fits on a screen.
const TICKET_PEERS: usize = 3;

#[cfg(test)]
mod tests;
