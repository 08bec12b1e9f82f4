//! What the task alone knows of connected peers, kept where handles can read it.

use shoal_protocol::id::PeerId;

use super::super::agent;
use super::super::identity::libp2p_id;
use super::Task;

/// What is known of a connected peer beside its connections.
#[derive(Debug, Default, Clone, PartialEq)]
pub(in crate::network) struct Described {
    /// The version of its build, once it has told.
    pub(in crate::network) version: Option<String>,
    /// The version of the protocol that it speaks, once it has told.
    pub(in crate::network) protocol: Option<u8>,
    /// What gossip thinks of it: below 0 it has done something wrong lately.
    pub(in crate::network) score: f64,
}

impl Task {
    /// Describes everybody who is connected now.
    pub(super) fn describe_company(&self) {
        let described = self.connections.keys().map(|peer| (*peer, self.describe(*peer)));
        *self.shared.described() = described.collect();
    }

    fn describe(&self, peer: PeerId) -> Described {
        let agent = self.agents.get(&peer);
        let (version, protocol) =
            (agent.and_then(|said| agent::build(said)), agent.and_then(|said| agent::protocol(said)));
        let score = self.swarm.behaviour().gossip.peer_score(&libp2p_id(peer));
        Described { version, protocol, score: score.unwrap_or_default() }
    }
}
