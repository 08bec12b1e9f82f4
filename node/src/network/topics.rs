//! The gossip that a node takes part in beside what all hear: jobs, by class of executor and by shard.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use libp2p::PeerId as Libp2pId;
use libp2p::gossipsub::{IdentTopic, TopicHash};
use libp2p::kad::KBucketKey;
use shoal_protocol::limits::MAX_LEVEL;
use shoal_protocol::message::ExecutorKind;
use shoal_protocol::shard::{self, Audience, Shard};

use super::swarm::Names;

/// How long a node that has no executor of a class goes on hearing of its jobs after it has announced one.
const LINGER: Duration = Duration::from_secs(600);

/// Where a node is in the key space, for the DHT and for shards alike.
pub(super) fn place(id: &Libp2pId) -> [u8; 32] {
    let key = KBucketKey::from(*id);
    key.hashed_bytes().try_into().expect("the hash has 32 bytes")
}

/// The topics of a node's own shards, and which of them it has reason to hear.
#[derive(Debug)]
pub(super) struct Topics {
    place: [u8; 32],
    topics: BTreeMap<Audience, IdentTopic>,
    audiences: HashMap<TopicHash, Audience>,
    heard: BTreeMap<ExecutorKind, Reason>,
    /// The deepest level that is heard.
    deepest: u8,
}

/// Why jobs of a class are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// This node runs them.
    Runs,
    /// It has announced one, and hears until then what comes of it.
    Announced(Instant),
}

impl Topics {
    pub(super) fn new(own: &Libp2pId, names: &Names) -> Self {
        let place = place(own);
        let audiences =
            ExecutorKind::ALL.into_iter().flat_map(|class| (0..=MAX_LEVEL).map(move |level| Audience { class, level }));
        let topic = |audience: Audience| names.jobs(audience.class, Shard::around(&place, audience.level));
        let topics: BTreeMap<Audience, IdentTopic> = audiences.map(|audience| (audience, topic(audience))).collect();
        let audiences = topics.iter().map(|(audience, topic)| (topic.hash(), *audience)).collect();
        Self { place, topics, audiences, heard: BTreeMap::new(), deepest: 0 }
    }

    /// All that this node may ever hear.
    pub(super) fn all(&self) -> impl Iterator<Item = &IdentTopic> {
        self.topics.values()
    }

    pub(super) fn of(&self, audience: Audience) -> Option<&IdentTopic> {
        self.topics.get(&audience)
    }

    /// Whom what is said on a topic is for, if that is one of these.
    pub(super) fn audience(&self, topic: &TopicHash) -> Option<Audience> {
        self.audiences.get(topic).copied()
    }

    /// What is heard now.
    pub(super) fn heard(&self) -> impl Iterator<Item = Audience> {
        self.heard.keys().flat_map(|class| (0..=self.deepest).map(|level| Audience { class: *class, level }))
    }

    /// Whether this node runs jobs of a class.
    pub(super) fn runs(&self, class: ExecutorKind) -> bool {
        self.heard.get(&class) == Some(&Reason::Runs)
    }

    /// This node runs jobs of a class, or does not any more.
    pub(super) fn set_runs(&mut self, class: ExecutorKind, runs: bool, now: Instant) {
        if runs {
            self.heard.insert(class, Reason::Runs);
        } else if self.runs(class) {
            // Those that it bid for lately may still be its.
            self.heard.insert(class, Reason::Announced(now + LINGER));
        }
    }

    /// This node announces a job of a class.
    pub(super) fn announces(&mut self, class: ExecutorKind, now: Instant) {
        if !self.runs(class) {
            self.heard.insert(class, Reason::Announced(now + LINGER));
        }
    }

    /// Forgets what was announced long ago, and goes by how large the mesh is now.
    pub(super) fn look(&mut self, mesh_size: u32, shard_nodes: u32, now: Instant) {
        self.heard.retain(|_, reason| !matches!(reason, Reason::Announced(until) if *until <= now));
        self.deepest = shard::deepest_level(mesh_size, shard_nodes, self.deepest);
    }

    /// Whether a node is in this node's shard of a level.
    pub(super) fn is_near(&self, id: &Libp2pId, level: u8) -> bool {
        Shard::around(&self.place, level).contains(&place(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_protocol::id::MeshId;

    fn topics() -> Topics {
        Topics::new(&Libp2pId::random(), &Names::new(MeshId::of("topics"), false))
    }

    fn heard(topics: &Topics) -> Vec<(ExecutorKind, u8)> {
        topics.heard().map(|audience| (audience.class, audience.level)).collect()
    }

    #[test]
    fn a_node_hears_the_classes_that_it_runs_as_deep_as_the_mesh_is_large() {
        let (mut topics, now) = (topics(), Instant::now());
        assert_eq!(heard(&topics), []);
        topics.set_runs(ExecutorKind::Wasm, true, now);
        topics.look(10, 256, now);
        assert_eq!(heard(&topics), [(ExecutorKind::Wasm, 0)]);
        topics.look(1_500, 256, now);
        assert_eq!(heard(&topics), [(ExecutorKind::Wasm, 0), (ExecutorKind::Wasm, 1)]);
        topics.look(200, 256, now);
        assert_eq!(heard(&topics), [(ExecutorKind::Wasm, 0)]);
    }

    #[test]
    fn whoever_only_announces_hears_for_a_while() {
        let (mut topics, now) = (topics(), Instant::now());
        topics.announces(ExecutorKind::Docker, now);
        topics.look(10, 256, now);
        assert_eq!(heard(&topics), [(ExecutorKind::Docker, 0)]);
        topics.look(10, 256, now + LINGER);
        assert_eq!(heard(&topics), []);
    }

    #[test]
    fn an_executor_that_goes_is_heard_of_until_its_bids_are_old() {
        let (mut topics, now) = (topics(), Instant::now());
        topics.set_runs(ExecutorKind::Docker, true, now);
        topics.announces(ExecutorKind::Docker, now);
        topics.set_runs(ExecutorKind::Docker, false, now);
        assert!(!topics.runs(ExecutorKind::Docker));
        topics.look(10, 256, now + LINGER / 2);
        assert_eq!(heard(&topics).len(), 1);
        topics.look(10, 256, now + LINGER);
        assert_eq!(heard(&topics), []);
    }

    #[test]
    fn a_topic_says_whom_it_is_for() {
        let topics = topics();
        for topic in topics.all() {
            let audience = topics.audience(&topic.hash()).unwrap();
            assert_eq!(topics.of(audience).map(IdentTopic::hash), Some(topic.hash()));
        }
        assert_eq!(topics.all().count(), ExecutorKind::ALL.len() * usize::from(MAX_LEVEL + 1));
    }
}
