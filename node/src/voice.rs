//! What this node says to all, no faster than others would pass it on: beyond that they would blame it.

use shoal_protocol::budget::Bucket;
use shoal_protocol::limits::OWN_GOSSIP;
use shoal_protocol::shard::Audience;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::network::Network;

/// Messages that may wait for their turn. More are dropped: announcements come again, and bids would be too late.
const MAX_WAITING: usize = 4_096;

/// Takes what is to be said. It is said until the last handle is gone.
#[derive(Clone)]
pub(crate) struct Voice(mpsc::Sender<(Audience, Vec<u8>)>);

impl Voice {
    pub(crate) fn new(network: Network, clock: Clock) -> Self {
        let (sender, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(speak(network, clock, waiting));
        Self(sender)
    }

    pub(crate) fn say(&self, audience: Audience, message: Vec<u8>) {
        if self.0.try_send((audience, message)).is_err() {
            tracing::debug!("not said to all: too much waits to be said");
        }
    }
}

async fn speak(network: Network, clock: Clock, mut waiting: mpsc::Receiver<(Audience, Vec<u8>)>) {
    let mut left = Bucket::full(OWN_GOSSIP, clock.now());
    while let Some((audience, message)) = waiting.recv().await {
        while !left.take(OWN_GOSSIP, clock.now()) {
            let wait = left.wait_ms(OWN_GOSSIP, clock.now());
            tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
        }
        network.gossip(audience, message).await;
    }
}
