//! After this machine has got another address: whom it does not hear any more.
//!
//! iroh takes up a connection where it was if this side made it, or if it has a path through a relay as well. Of the others
//! neither side learns where the other is now, and both would wait until they give up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shoal_protocol::id::PeerId;

use super::Task;

/// How long a peer may be silent after this machine has moved: longer than the pause between two pings.
const SILENT_AFTER_MOVE: Duration = Duration::from_secs(5);

/// A change of address.
pub(super) struct Moved {
    at: Instant,
    /// How much had come from each connected peer.
    received: BTreeMap<PeerId, u64>,
}

impl Task {
    /// Notes that this machine has another address.
    pub(super) fn on_moved(&mut self, now: Instant) {
        let links = &self.shared.links;
        let received = self.connections.keys().map(|peer| (*peer, links.passed(*peer).received())).collect();
        self.moved = Some(Moved { at: now, received });
    }

    /// Begins again with those that have not been heard since: they are dialled where they are, or by their relay.
    pub(super) fn begin_again_with_silent(&mut self, now: Instant) {
        let Some(moved) = self.moved.take_if(|moved| now.saturating_duration_since(moved.at) > SILENT_AFTER_MOVE)
        else {
            return;
        };
        for (peer, received) in moved.received {
            if self.connections.contains_key(&peer) && self.shared.links.passed(peer).received() <= received {
                self.begin_again(peer);
            }
        }
    }
}
