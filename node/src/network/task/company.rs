//! What the task alone knows of connected peers, kept where handles can read it.

use shoal_protocol::id::PeerId;

use super::super::identity::libp2p_id;
use super::Task;

/// What is known of a connected peer beside its connections.
#[derive(Debug, Default, Clone, PartialEq)]
pub(in crate::network) struct Described {
    /// The version of its build, once it has told.
    pub(in crate::network) version: Option<String>,
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
        let version = self.agents.get(&peer).and_then(|agent| version_of(agent));
        let score = libp2p_id(peer).and_then(|id| self.swarm.behaviour().gossip.peer_score(&id));
        Described { version, score: score.unwrap_or_default() }
    }
}

/// The version in a description like `shoal/0.1.0 start/…`.
fn version_of(agent: &str) -> Option<String> {
    let version = agent.strip_prefix("shoal/")?.split(' ').next()?;
    (!version.is_empty()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_first_word_of_a_node_of_ours() {
        assert_eq!(version_of("shoal/0.1.0 start/00ff"), Some("0.1.0".into()));
        for agent in ["", "kubo/0.30", "shoal/", "shoal/ start/1"] {
            assert_eq!(version_of(agent), None, "{agent}");
        }
    }
}
