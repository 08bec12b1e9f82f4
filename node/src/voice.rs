//! What this node says to all, no faster than others would pass it on: beyond that they would blame it.
//!
//! What it says on whose behalf waits in a queue for each, and they take turns: whoever has it bid for more jobs than it
//! may say delays neither its own announcements nor bids for others.

use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::budget::Bucket;
use shoal_protocol::id::PeerId;
use shoal_protocol::limits::OWN_GOSSIP;
use shoal_protocol::shard::Audience;
use tokio::task::AbortHandle;

use crate::clock::Clock;
use crate::network::Network;
use crate::turns::Lines;

/// Messages that may wait for their turn. Of more, those are dropped on whose behalf most is to be said: announcements come
/// again, and bids would be too late.
const MAX_WAITING: usize = 4_096;

/// Takes what is to be said. It is said as long as this is there.
pub(crate) struct Voice {
    waiting: Arc<Waiting>,
    speaking: AbortHandle,
}

type Waiting = Lines<Option<PeerId>, (Audience, Vec<u8>)>;

impl Voice {
    pub(crate) fn new(network: Network, clock: Clock) -> Self {
        let waiting = Arc::new(Lines::new(MAX_WAITING, MAX_WAITING));
        let speaking = tokio::spawn(speak(network, clock, Arc::clone(&waiting))).abort_handle();
        Self { waiting, speaking }
    }

    /// Says something on behalf of `patron`, or of nobody in particular.
    pub(crate) fn say(&self, patron: Option<PeerId>, audience: Audience, message: Vec<u8>) {
        if self.waiting.push(patron, (audience, message)).is_some() {
            tracing::debug!("not said to all: too much waits to be said");
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.speaking.abort();
    }
}

async fn speak(network: Network, clock: Clock, waiting: Arc<Waiting>) {
    let mut left = Bucket::full(OWN_GOSSIP, clock.now());
    loop {
        // Whose turn it is, is decided when something may be said.
        while !left.take(OWN_GOSSIP, clock.now()) {
            let wait = left.wait_ms(OWN_GOSSIP, clock.now());
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        let (audience, message) = waiting.next().await;
        network.gossip(audience, message).await;
    }
}
