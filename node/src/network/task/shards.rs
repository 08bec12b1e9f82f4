//! Taking part in the gossip about jobs: which topics are joined, with whom, and what waits for somebody to hear it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use libp2p::PeerId as Libp2pId;
use libp2p::gossipsub::{PublishError, TopicHash};
use shoal_protocol::id::PeerId;
use shoal_protocol::limits::GOSSIP_PEERS;
use shoal_protocol::message::ExecutorKind;
use shoal_protocol::shard::Audience;
use tokio::sync::oneshot;

use super::super::identity::{libp2p_id, peer_of_libp2p};
use super::super::topics::Topics;
use super::{Query, Task};

/// How often a node looks whether it has neighbours for all that it hears.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Peers that are dialled at once for a topic.
const MAX_DIALS: usize = 3;
/// How long a peer is left alone that was dialled for this.
const DIAL_PAUSE: Duration = Duration::from_secs(300);
/// Peers whose pause is remembered.
const MAX_PAUSES: usize = 1_024;
/// Pause between two questions to the DHT who has a class of executors; it doubles while that helps nothing.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(640);
/// Messages that wait for somebody who hears them.
const MAX_UNSAID: usize = 64;
/// How long they wait: what is older is said again anyway.
const UNSAID_FOR: Duration = Duration::from_secs(4);

/// What is remembered to take part.
pub(in crate::network) struct Shards {
    topics: Topics,
    /// Those of them that gossip knows to be heard.
    joined: BTreeSet<Audience>,
    /// Nodes that a shard has at least.
    shard_nodes: u32,
    unsaid: VecDeque<Unsaid>,
    /// Until when peers are left alone.
    pauses: BTreeMap<PeerId, Instant>,
    /// When the DHT is asked again who has a class, and the pause after that.
    questions: BTreeMap<ExecutorKind, (Instant, Duration)>,
    look_at: Instant,
}

/// A message that nobody hears yet.
struct Unsaid {
    audience: Audience,
    bytes: Vec<u8>,
    until: Instant,
}

impl Shards {
    pub(in crate::network) fn new(topics: Topics, shard_nodes: u32) -> Self {
        Self {
            topics,
            joined: BTreeSet::new(),
            shard_nodes,
            unsaid: VecDeque::new(),
            pauses: BTreeMap::new(),
            questions: BTreeMap::new(),
            look_at: Instant::now(),
        }
    }

    /// Whom what is said on a topic is for, if it is about jobs.
    pub(super) fn audience(&self, topic: &TopicHash) -> Option<Audience> {
        self.topics.audience(topic)
    }
}

impl Task {
    /// Says something about a job to those whom it concerns.
    pub(super) fn publish(&mut self, audience: Audience, bytes: Vec<u8>) {
        let now = Instant::now();
        self.shards.topics.announces(audience.class, now);
        if !self.shards.joined.contains(&audience) {
            self.join_topics(now);
        }
        if self.say(audience, bytes.clone()) {
            return;
        }
        if self.shards.unsaid.len() >= MAX_UNSAID {
            self.shards.unsaid.pop_front();
        }
        self.shards.unsaid.push_back(Unsaid { audience, bytes, until: now + UNSAID_FOR });
        self.shards.look_at = now;
    }

    /// Whether anybody hears it.
    fn say(&mut self, audience: Audience, bytes: Vec<u8>) -> bool {
        let Some(topic) = self.shards.topics.of(audience) else { return true };
        match self.swarm.behaviour_mut().gossip.publish(topic.clone(), bytes) {
            Err(PublishError::NoPeersSubscribedToTopic) => return false,
            Ok(_) | Err(PublishError::Duplicate) => {}
            Err(error) => tracing::debug!(%error, "gossip not sent to everybody"),
        }
        true
    }

    /// Somebody hears a topic from now on: what waited for that is said.
    pub(super) fn say_what_waited(&mut self, topic: &TopicHash) {
        let Some(audience) = self.shards.audience(topic) else { return };
        let now = Instant::now();
        let (waited, others) =
            std::mem::take(&mut self.shards.unsaid).into_iter().partition(|u| u.audience == audience);
        self.shards.unsaid = others;
        let waited: VecDeque<Unsaid> = waited;
        for unsaid in waited.into_iter().filter(|unsaid| unsaid.until > now) {
            self.say(audience, unsaid.bytes);
        }
    }

    /// Joins and leaves topics, and looks for those who hear the same.
    pub(super) fn look_after_shards(&mut self, now: Instant) {
        if self.shards.look_at > now {
            return;
        }
        self.shards.look_at = now + LOOK_EVERY;
        self.shards.unsaid.retain(|unsaid| unsaid.until > now);
        self.shards.pauses.retain(|_, until| *until > now);
        self.join_topics(now);
        self.count_without();
        for audience in self.lacking() {
            self.seek_company(audience, now);
        }
    }

    fn join_topics(&mut self, now: Instant) {
        let runs = self.shared.runs().clone();
        for class in ExecutorKind::ALL {
            if self.shards.topics.runs(class) && !runs.contains(&class) {
                self.unprovide(self.names.workers(class));
            }
            self.shards.topics.set_runs(class, runs.contains(&class), now);
        }
        let mesh_size = *self.shared.mesh_size.borrow();
        self.shards.topics.look(mesh_size, self.shards.shard_nodes, now);
        let (topics, heard) = (&self.shards.topics, self.shards.topics.heard().collect::<BTreeSet<Audience>>());
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        for topic in heard.difference(&self.shards.joined).filter_map(|audience| topics.of(*audience)) {
            gossip.subscribe(topic).expect("every topic may be subscribed");
        }
        for topic in self.shards.joined.difference(&heard).filter_map(|audience| topics.of(*audience)) {
            gossip.unsubscribe(topic);
        }
        self.shards.joined = heard;
    }

    /// How many connected peers have no executor of each class, as far as they say what they hear.
    fn count_without(&self) {
        let without = |class| {
            let topic = self.shards.topics.of(Audience { class, level: 0 })?.hash();
            let all = self.swarm.behaviour().gossip.all_peers();
            let deaf = all.filter(|(_, heard)| heard.contains(&&self.relays) && !heard.contains(&&topic)).count();
            Some((class, u32::try_from(deaf).unwrap_or(u32::MAX)))
        };
        *self.shared.without() = ExecutorKind::ALL.into_iter().filter_map(without).collect();
    }

    /// What this node hears with too few others.
    fn lacking(&self) -> Vec<Audience> {
        let gossip = &self.swarm.behaviour().gossip;
        let hear = |topic: TopicHash| gossip.all_peers().filter(|(_, heard)| heard.contains(&&topic)).count();
        let heard = self.shards.topics.heard();
        heard
            .filter(|audience| self.shards.topics.of(*audience).is_some_and(|t| hear(t.hash()) < GOSSIP_PEERS))
            .collect()
    }

    /// Dials nodes that may hear the same: those in the shard, which the routing table knows; and for a class that few
    /// have, those that the DHT names.
    fn seek_company(&mut self, audience: Audience, now: Instant) {
        let found = self.nearby(audience.level);
        let strangers = found.into_iter().filter_map(|id| peer_of_libp2p(&id));
        let strangers = strangers.filter(|peer| !self.shards.pauses.contains_key(peer));
        let chosen: Vec<PeerId> = strangers.take(MAX_DIALS).collect();
        for peer in &chosen {
            self.dial_for_company(*peer, now);
        }
        if chosen.is_empty() && audience.level == 0 {
            self.ask_who_runs(audience.class, now);
        }
    }

    /// Nodes of the routing table in this node's shard of a level that are not connected.
    fn nearby(&mut self, level: u8) -> Vec<Libp2pId> {
        let mut found = Vec::new();
        for bucket in self.swarm.behaviour_mut().kad.kbuckets() {
            found.extend(bucket.iter().map(|entry| *entry.node.key.preimage()));
        }
        found.retain(|id| self.shards.topics.is_near(id, level) && !self.swarm.is_connected(id));
        found
    }

    fn dial_for_company(&mut self, peer: PeerId, now: Instant) {
        let is_connected = self.swarm.is_connected(&libp2p_id(peer));
        if peer == self.shared.own || is_connected || self.shards.pauses.len() >= MAX_PAUSES {
            return;
        }
        self.shards.pauses.insert(peer, now + DIAL_PAUSE);
        self.dial(peer);
    }

    fn ask_who_runs(&mut self, class: ExecutorKind, now: Instant) {
        let (due, pause) = self.shards.questions.get(&class).copied().unwrap_or((now, FIRST_PAUSE));
        let everybody_is_here = *self.shared.mesh_size.borrow() as usize <= self.connections.len() + 1;
        if due <= now && !everybody_is_here {
            self.shards.questions.insert(class, (now + pause, (2 * pause).min(LONGEST_PAUSE)));
            if self.shards.topics.runs(class) {
                // Whoever asks next finds this node.
                self.provide(self.names.workers(class), oneshot::channel().0);
            }
            self.ask(self.names.workers(class), Query::Company);
        }
    }

    /// The DHT names nodes that have executors of a class.
    pub(super) fn meet(&mut self, id: &Libp2pId) {
        if let Some(peer) = peer_of_libp2p(id) {
            self.dial_for_company(peer, Instant::now());
        }
    }
}
