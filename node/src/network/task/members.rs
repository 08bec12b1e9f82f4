//! A private mesh: revocations that are passed on, and certificates that are renewed.

use libp2p::gossipsub::PublishError;
use shoal_protocol::membership::Revocation;
use shoal_protocol::wire;

use super::super::Validity;
use super::super::identity::endpoint_id;
use super::Task;

impl Task {
    /// Tells all members of a revocation.
    pub(super) fn spread(&mut self, bytes: Vec<u8>) {
        let Some(topic) = self.revocations.clone() else { return };
        match self.swarm.behaviour_mut().gossip.publish(topic, bytes) {
            Ok(_) | Err(PublishError::Duplicate | PublishError::NoPeersSubscribedToTopic) => {}
            // Whoever missed it hears of it in the next handshake.
            Err(error) => tracing::debug!(%error, "a revocation was not sent to everybody"),
        }
    }

    /// A revocation that a neighbour passes on. It is saved, and its peer's connections are closed, before it goes on.
    pub(super) fn on_revocation(&self, bytes: &[u8]) -> Validity {
        let Some(gate) = &self.shared.gate else { return Validity::Ignore };
        match wire::parse::<Revocation>(bytes).ok().and_then(|revocation| gate.hear(revocation)) {
            Some(_) => Validity::Accept,
            None => Validity::Reject,
        }
    }

    /// Visits peers that can renew this node's certificate, if it is time to: the gate does the rest.
    pub(super) fn renew_certificate(&self) {
        let Some(gate) = &self.shared.gate else { return };
        for peer in gate.membership().renewers() {
            let Some(id) = endpoint_id(peer).filter(|_| self.shared.book.knows(peer)) else { continue };
            let (endpoint, alpn) = (self.shared.endpoint.clone(), self.shared.blobs_alpn.clone());
            tokio::spawn(async move {
                if let Err(error) = endpoint.connect(id, &alpn).await {
                    tracing::debug!(peer = %peer.short(), %error, "the certificate was not renewed there");
                }
            });
        }
    }
}
