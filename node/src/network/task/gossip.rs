//! Gossip: what we say to all, and what neighbours pass on.

use std::sync::atomic::Ordering;
use std::time::Instant;

use libp2p::gossipsub::{self, MessageAcceptance, PublishError};
use shoal_protocol::conduct::Offence;
use shoal_protocol::id::PeerId;
use shoal_protocol::limits::MAX_GOSSIP_BYTES;

use super::super::identity::{libp2p_id, peer_of_libp2p};
use super::super::queue::Waiting;
use super::super::{GossipId, Validity};
use super::Task;

impl Task {
    pub(super) fn validate(&mut self, id: &GossipId, source: PeerId, validity: Validity) {
        if validity != Validity::Accept {
            self.shared.counted.gossip.fetch_add(1, Ordering::Relaxed);
        }
        let acceptance = match validity {
            Validity::Accept => MessageAcceptance::Accept,
            Validity::Ignore => MessageAcceptance::Ignore,
            Validity::Reject => MessageAcceptance::Reject,
        };
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        if !gossip.report_message_validation_result(&id.0, &libp2p_id(source), acceptance) {
            tracing::debug!("gossip was judged too late to be passed on");
        }
    }

    pub(super) fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let Some(source) = peer_of_libp2p(&propagation_source) else { return };
                let id = GossipId(message_id);
                if self.revocations.as_ref() == Some(&message.topic) {
                    let validity = self.on_revocation(&message.data);
                    return self.validate(&id, source, validity);
                }
                if message.topic == self.relays {
                    return self.on_relay(id, source, &message.data);
                }
                let Some(audience) = self.shards.audience(&message.topic) else {
                    return self.validate(&id, source, Validity::Ignore);
                };
                self.hand_over(Waiting { id, source, audience, bytes: message.data });
            }
            gossipsub::Event::Subscribed { peer_id, topic, .. } if topic == self.relays => {
                self.on_heard(&peer_id, true);
            }
            gossipsub::Event::Unsubscribed { peer_id, topic } if topic == self.relays => self.on_heard(&peer_id, false),
            gossipsub::Event::Subscribed { topic, .. } => self.say_what_waited(&topic),
            gossipsub::Event::SlowPeer { peer_id, failed_messages } => {
                tracing::debug!(peer = %peer_id, ?failed_messages, "peer takes gossip too slowly");
            }
            _ => {}
        }
    }

    /// Tells all of this node's own relay.
    pub(super) fn announce_relay(&mut self, bytes: Vec<u8>) {
        match self.swarm.behaviour_mut().gossip.publish(self.relays.clone(), bytes) {
            Ok(_) | Err(PublishError::Duplicate | PublishError::NoPeersSubscribedToTopic) => {}
            Err(error) => tracing::debug!(%error, "the relay was not announced to everybody"),
        }
    }

    fn on_relay(&mut self, id: GossipId, source: PeerId, bytes: &[u8]) {
        let validity = if self.gossip_rates.take(source, Instant::now()) {
            self.shared.relays.hear(bytes, id.clone(), source)
        } else {
            Some(Validity::Ignore)
        };
        if let Some(validity) = validity {
            self.validate(&id, source, validity);
        }
    }

    /// Gives the message to the node, or says at once what becomes of it.
    fn hand_over(&mut self, message: Waiting) {
        if message.bytes.len() > MAX_GOSSIP_BYTES {
            return self.validate(&message.id, message.source, Validity::Reject);
        }
        if !self.gossip_rates.take(message.source, Instant::now()) {
            tracing::debug!(peer = %message.source.short(), "peer passes on more gossip than allowed");
            self.on_offence(message.source, Offence::Excess);
            return self.validate(&message.id, message.source, Validity::Ignore);
        }
        if let Some(dropped) = self.events.push(message) {
            self.validate(&dropped.id, dropped.source, Validity::Ignore);
        }
    }

    /// A peer that hears what all hear is up; a connection alone is not enough to talk to all.
    fn on_heard(&mut self, id: &libp2p::PeerId, hears: bool) {
        if let Some(peer) = peer_of_libp2p(id) {
            self.set_up(peer, hears && self.swarm.is_connected(id));
        }
    }
}
