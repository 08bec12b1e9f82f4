//! Bids of others that were heard lately. Gossip keeps no order: an announcement may arrive after bids for it, and a
//! worker that had not counted those would wait for them in vain, then bid. That is one worker in some thousands, so
//! without this the number of bids grows with the mesh.

use std::collections::VecDeque;

use crate::id::{JobId, PeerId};
use crate::limits::{MAX_RECENT_BIDS, RECENT_BIDS_MS};
use crate::message::{Bid, Message};
use crate::time::Time;
use crate::wire::Sealed;

/// Oldest first. Most are never looked at again, so they are kept as they came: in no order that costs a search.
#[derive(Debug, Default)]
pub(super) struct RecentBids(VecDeque<(Time, Sealed)>);

impl RecentBids {
    pub(super) fn note(&mut self, now: Time, bid: &Sealed) {
        if self.0.len() >= MAX_RECENT_BIDS {
            self.0.pop_front();
        }
        self.0.push_back((now, bid.clone()));
    }

    pub(super) fn forget_old(&mut self, now: Time) {
        while self.0.front().is_some_and(|(heard, _)| now.since(*heard) > RECENT_BIDS_MS) {
            self.0.pop_front();
        }
    }

    /// Those for a job, with who made them, oldest first.
    pub(super) fn of(&self, job: JobId) -> impl Iterator<Item = (PeerId, &Bid)> {
        self.0.iter().filter_map(move |(_, sealed)| match sealed.message() {
            Message::Bid(bid) if bid.job == job => Some((sealed.from(), bid)),
            _ => None,
        })
    }
}
