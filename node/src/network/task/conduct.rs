//! What becomes of a peer that does what no honest one does: it loses its place among gossip's neighbours, then its
//! connections, and gets both back in time.

use std::sync::atomic::Ordering;

use shoal_protocol::conduct::{Consequence, Offence};
use shoal_protocol::id::PeerId;

use super::super::identity::libp2p_id;
use super::Task;

impl Task {
    /// Notes what a peer did.
    pub(super) fn on_offence(&mut self, peer: PeerId, offence: Offence) {
        if self.shared.doorman.is_shunned(peer) {
            // What was under way when it was cut off.
            return;
        }
        match self.conduct.note(self.clock.now(), peer, offence) {
            Consequence::Score(score) => self.score(peer, score),
            Consequence::CutOff(until) => {
                tracing::info!(peer = %peer.short(), ?offence, "a peer floods or forges, and is cut off for a while");
                self.shared.counted.cut_off.fetch_add(1, Ordering::Relaxed);
                self.shared.doorman.shun(peer, self.clock.instant(until));
                self.shared.links.close(peer);
            }
        }
    }

    /// Lets marks fade.
    pub(super) fn forgive(&mut self) {
        for (peer, score) in self.conduct.fade(self.clock.now()) {
            self.score(peer, score);
        }
    }

    fn score(&mut self, peer: PeerId, score: f64) {
        self.swarm.behaviour_mut().gossip.set_application_score(&libp2p_id(peer), score);
    }
}
