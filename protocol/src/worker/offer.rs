//! What a worker does about one announcement: wait its random time, then bid or stay silent.

use std::collections::BTreeSet;

use crate::admission::Announced;
use crate::auction;
use crate::id::PeerId;
use crate::limits::{BID_HOLD_MS, MAX_BELIEVED_WINDOW_MS, MAX_BIDS, MIN_BELIEVED_WINDOW_MS};
use crate::machine::Context;
use crate::message::{Announce, Award, Bid, PeerPrefix, Resources};
use crate::record::Placement;
use crate::shard::Audience;
use crate::suppression;
use crate::time::{Millis, Time};

#[derive(Debug)]
pub(super) struct Offer {
    requester: PeerId,
    /// Whether others were asked as well.
    pub(super) placement: Placement,
    pub(super) round: u32,
    /// When it was heard.
    heard: Time,
    /// Whom the announcement was for, who are to hear the bid.
    pub(super) audience: Audience,
    pub(super) resources: Resources,
    pub(super) cost: u16,
    /// What its executions could have on the disk when it was announced.
    disk_bytes: u64,
    wanted: u16,
    partitions: u32,
    /// When its window ends, as far as that is believed.
    closes: Time,
    better: u32,
    /// Whose bids were counted.
    bidders: BTreeSet<PeerId>,
    /// Whose bids will not be taken.
    excluded: Vec<PeerPrefix>,
    /// What it said of the work.
    pub(super) announced: Announced,
    spoke: bool,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Speaks at this time, unless enough others do.
    Waiting(Time),
    /// Spoke: so many slots are reserved until then.
    Bid { slots: u16, until: Time },
    /// Says nothing more: enough others spoke, there is no room, or the reservation has lapsed.
    Silent,
}

impl Offer {
    pub(super) fn new(
        ctx: &mut Context<'_>,
        requester: PeerId,
        announce: &Announce,
        cost: u16,
        disk_bytes: u64,
    ) -> Self {
        let window_ms = Millis::from(announce.window_ms);
        // A reservation costs whoever announces nothing, so a window is believed that this node would not think long.
        let (gossip_ms, mesh_size) = (ctx.gossip_ms(announce.level), ctx.view.shard_size(announce.level));
        let own_ms = suppression::window(gossip_ms, mesh_size, announce.wanted);
        let believed_ms = window_ms.min((4 * own_ms).clamp(MIN_BELIEVED_WINDOW_MS, MAX_BELIEVED_WINDOW_MS));
        let share = f64::from(cost) / f64::from(auction::MAX_COST);
        let delay = suppression::bid_delay(window_ms, announce.mesh_size, announce.wanted, share, ctx.chance());
        Self {
            requester,
            placement: Placement::Mesh,
            round: announce.round,
            heard: ctx.now,
            audience: announce.audience(),
            resources: announce.needs.resources,
            cost,
            disk_bytes,
            wanted: announce.wanted,
            partitions: announce.partitions,
            closes: ctx.now + believed_ms,
            better: 0,
            bidders: BTreeSet::new(),
            excluded: announce.excluded.clone(),
            announced: Announced::of(&announce.needs),
            spoke: false,
            phase: Phase::Waiting(ctx.now + delay),
        }
    }

    /// Whether an announcement is news: a later round by the same requester.
    pub(super) fn is_superseded_by(&self, from: PeerId, announce: &Announce) -> bool {
        from == self.requester && announce.round > self.round
    }

    /// A later round of the same job: a bid of an earlier one may still be taken up.
    pub(super) fn follows(&mut self, earlier: &Offer) {
        self.spoke = earlier.spoke && earlier.requester == self.requester;
    }

    /// Who announced it.
    pub(super) fn requester(&self) -> PeerId {
        self.requester
    }

    /// Whether an award is for what was bid.
    pub(super) fn matches(&self, from: PeerId, award: &Award) -> bool {
        self.spoke && from == self.requester && award.resources == self.resources
    }

    /// Whether it was bid for: an award may still come.
    pub(super) fn has_spoken(&self) -> bool {
        self.spoke
    }

    /// Whether nothing is reserved for it any more.
    pub(super) fn has_lapsed(&self) -> bool {
        self.phase == Phase::Silent
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_))
    }

    /// Notes another worker's bid, once: nobody silences others by saying it again, or with bids that are not taken.
    pub(super) fn overheard(&mut self, from: PeerId, bid: &Bid) {
        if bid.round != self.round || bid.cost > self.cost.saturating_add(auction::COST_STEP) || !self.is_waiting() {
            return;
        }
        let excluded = self.excluded.iter().any(|prefix| from.0.starts_with(prefix));
        if excluded || self.bidders.len() >= MAX_BIDS || !self.bidders.insert(from) {
            return;
        }
        self.better += u32::from(bid.slots).min(self.partitions);
        if self.better >= u32::from(self.wanted) {
            self.phase = Phase::Silent;
            (self.bidders, self.excluded) = (BTreeSet::new(), Vec::new());
        }
    }

    /// Its time has come: returns how many slots are reserved, if there is room for any.
    pub(super) fn speak(&mut self, now: Time, free: u16, gossip_ms: Millis) -> Option<u16> {
        // The requester waits for bids two delays beyond the window, and both ways take one.
        let hold_ms = BID_HOLD_MS + 4 * gossip_ms;
        let partitions = u16::try_from(self.partitions).unwrap_or(u16::MAX);
        let on_disk = self.disk_bytes.checked_div(self.resources.disk_bytes).unwrap_or(u64::MAX);
        let free = free.min(u16::try_from(on_disk).unwrap_or(u16::MAX));
        let slots = free.min(partitions).min(self.wanted);
        self.phase = Phase::Silent;
        (slots > 0).then(|| {
            self.phase = Phase::Bid { slots, until: self.closes.max(now) + hold_ms };
            self.spoke = true;
            slots
        })
    }

    /// How long it has been here.
    pub(super) fn waited_ms(&self, now: Time) -> u32 {
        u32::try_from(now.since(self.heard)).unwrap_or(u32::MAX)
    }

    /// Uses one reserved slot, if there is one left.
    pub(super) fn take_slot(&mut self) -> bool {
        match &mut self.phase {
            Phase::Bid { slots, .. } if *slots > 0 => {
                *slots -= 1;
                true
            }
            _ => false,
        }
    }

    /// Ends the reservation; returns how many slots were left of it.
    pub(super) fn lapse(&mut self) -> u16 {
        match std::mem::replace(&mut self.phase, Phase::Silent) {
            Phase::Bid { slots, .. } => slots,
            Phase::Waiting(_) | Phase::Silent => 0,
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Waiting(at) | Phase::Bid { until: at, .. } => Some(at),
            Phase::Silent => None,
        }
    }
}
