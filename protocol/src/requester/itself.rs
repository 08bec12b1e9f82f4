//! A requester whose own node runs the job: where nobody verifies it anyway, the last resort when nobody else offers, or
//! the only one, for want of a mesh.
//!
//! Its worker is asked what any other is: whether it could run the job, its operator lets it, and there is room. It is
//! never one of those that must agree: who believes only himself verifies nothing.

use super::bidding;
use super::partition::{Partition, backoff};
use super::{JobState, Requester, Step};

use crate::id::PeerId;
use crate::machine::{Context, Output};
use crate::message::Reason;
use crate::record::Placement;

impl Requester {
    /// Whether its own worker was asked and has not answered yet.
    pub(crate) fn asks_itself(&self) -> bool {
        self.bidding.asks_itself
    }

    /// For want of a mesh this node runs the job itself, as much at once as it has room for.
    pub(super) fn seek_here(&mut self, ctx: &mut Context<'_>) {
        self.award_candidates(ctx);
        let pauses = matches!(self.bidding.phase, bidding::Phase::Paused(at) if at > ctx.now);
        if !self.hungry.is_empty() && !pauses {
            self.bidding.phase = bidding::Phase::Idle;
            self.ask_itself(ctx);
        }
    }

    /// Asks its own worker, if that may run what is missing.
    pub(super) fn ask_itself(&mut self, ctx: &mut Context<'_>) {
        if self.may_ask_itself(ctx.me) {
            self.bidding.asks_itself = true;
            ctx.out(Output::Price(Box::new(self.announcement(ctx))));
        }
    }

    /// Its own worker takes so many executions, or says why not.
    pub(crate) fn answered_itself(&mut self, ctx: &mut Context<'_>, answer: Result<u16, Reason>) {
        self.bidding.asks_itself = false;
        match answer {
            Ok(slots) => {
                self.event(ctx, Step::Bid, None, Some(ctx.me), "this node itself".into());
                self.bidding.add_itself(ctx, slots);
            }
            Err(reason) => self.refused_itself(ctx, reason),
        }
        self.seek(ctx);
    }

    fn refused_itself(&mut self, ctx: &mut Context<'_>, reason: Reason) {
        if self.bidding.refusal_of(ctx.me) != Some(&reason) {
            self.event(ctx, Step::Refuse, None, Some(ctx.me), reason.to_string());
        }
        // What others hold is given back one day; while this job has nothing at work, a full disk stays full.
        let at_work = self.partitions.values().any(Partition::has_open_executions);
        let passes = reason == Reason::Busy || at_work && matches!(reason, Reason::DiskFull(..));
        self.bidding.refusals.insert(ctx.me, reason);
        match self.placement() {
            // The next round asks again.
            Placement::Mesh => {}
            Placement::Here if passes => {
                self.bidding.fruitless += 1;
                self.bidding.phase = bidding::Phase::Paused(ctx.now + backoff(self.bidding.fruitless));
            }
            Placement::Here => self.finish(ctx, JobState::Failed, self.why_unplaced(ctx.me)),
        }
    }

    /// Whether its own worker may still take what nobody else does, as far as is known.
    pub(super) fn has_a_last_resort(&self, me: PeerId) -> bool {
        self.may_ask_itself(me) && self.bidding.refusal_of(me).is_none()
    }

    /// Whether this node has failed at a partition for good, or wants none of the job.
    pub(super) fn has_done_its_best(&self, me: PeerId, partition: &Partition) -> bool {
        self.unwilling.contains_key(&me) || partition.taken().0.contains(&me)
    }

    /// Why this node does not run it itself, for a person; empty if it was not asked, or would.
    pub(super) fn why_not_itself(&self, me: PeerId) -> String {
        match self.unwilling.get(&me).or_else(|| self.bidding.refusal_of(me)) {
            Some(Reason::Policy(words)) => format!("this node: {words}"),
            Some(reason) => match reason.setting() {
                Some(setting) => format!("this node: {reason} (its setting {setting}, see `shoal config show`)"),
                None => format!("this node: {reason}"),
            },
            None => String::new(),
        }
    }

    fn may_ask_itself(&self, me: PeerId) -> bool {
        let missing = || self.hungry.keys().map(|index| &self.partitions[index]);
        let unverified = self.policy().agreement == 1;
        unverified && !self.asks_itself() && missing().any(|partition| !self.has_done_its_best(me, partition))
    }
}
