//! What the network hears, on its way to the node.
//!
//! Gossip waits in a queue for each neighbour that passes it on, and they take turns: of a flood, whoever passes it on
//! loses what does not fit, and everybody else's messages are as quick as without it. Requests wait apart from gossip.

use std::sync::Arc;

use shoal_protocol::id::PeerId;
use shoal_protocol::shard::Audience;
use tokio::sync::mpsc;

use super::{GossipId, NetworkEvent};
use crate::turns::Lines;

/// Events other than gossip that may wait for the node. When they do, requests are answered with "busy".
const MAX_EVENTS: usize = 1_024;
/// Gossip that may wait for the node.
const MAX_GOSSIP: usize = 1_024;
/// The same of one neighbour.
const MAX_GOSSIP_PER_PEER: usize = 256;

/// Gossip that waits to be judged.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: GossipId,
    pub(super) source: PeerId,
    pub(super) audience: Audience,
    pub(super) bytes: Vec<u8>,
}

/// The end at which the network puts events in.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) others: mpsc::Sender<NetworkEvent>,
    gossip: Arc<Lines<PeerId, Waiting>>,
}

/// The end at which the node takes them out.
#[derive(Debug)]
pub struct Events {
    others: mpsc::Receiver<NetworkEvent>,
    gossip: Arc<Lines<PeerId, Waiting>>,
}

/// An empty queue.
pub(super) fn queue() -> (Queue, Events) {
    let (sender, others) = mpsc::channel(MAX_EVENTS);
    let gossip = Arc::new(Lines::new(MAX_GOSSIP, MAX_GOSSIP_PER_PEER));
    (Queue { others: sender, gossip: Arc::clone(&gossip) }, Events { others, gossip })
}

impl Queue {
    /// Puts gossip in. Returns a message that there is no room for: this one, or one of a neighbour that has more waiting.
    pub(super) fn push(&self, message: Waiting) -> Option<Waiting> {
        self.gossip.push(message.source, message)
    }
}

impl Events {
    /// The next event; none when the network has ended.
    pub async fn recv(&mut self) -> Option<NetworkEvent> {
        tokio::select! {
            event = self.others.recv() => event,
            Waiting { id, source, audience, bytes } = self.gossip.next() => {
                Some(NetworkEvent::Gossip { id, source, audience, bytes })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::gossipsub::MessageId;
    use shoal_protocol::message::ExecutorKind;

    use super::*;

    fn message(source: u8, number: usize) -> Waiting {
        Waiting {
            id: GossipId(MessageId::new(&number.to_le_bytes())),
            source: PeerId([source; 32]),
            audience: Audience { class: ExecutorKind::Wasm, level: 0 },
            bytes: Vec::new(),
        }
    }

    async fn next(events: &mut Events) -> Option<u8> {
        match events.recv().await {
            Some(NetworkEvent::Gossip { source, .. }) => Some(source.0[0]),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_flood_of_one_neighbour_delays_no_other() {
        let (queue, mut events) = queue();
        let dropped = (0..10_000).filter_map(|number| queue.push(message(1, number))).count();
        assert_eq!(dropped, 10_000 - MAX_GOSSIP_PER_PEER);
        assert!(queue.push(message(2, 0)).is_none());
        assert_eq!([next(&mut events).await, next(&mut events).await], [Some(1), Some(2)]);
        queue.others.try_send(NetworkEvent::PeerUp(PeerId([3; 32]))).unwrap();
        let mut heard = 0;
        while next(&mut events).await.is_some() {
            heard += 1;
        }
        assert!(heard < MAX_GOSSIP_PER_PEER, "news has not waited for all the gossip");
    }

    #[tokio::test]
    async fn the_end_of_the_network_is_heard() {
        let (queue, mut events) = queue();
        drop(queue);
        assert!(events.recv().await.is_none());
    }
}
