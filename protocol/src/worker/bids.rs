//! What a worker does about announcements: it waits, bids or stays silent, and remembers what may still be awarded.

use std::collections::btree_map::Entry;

use super::offer::Offer;
use super::{Key, Worker};

use crate::auction::{self, MAX_COST};
use crate::credibility::Grade;
use crate::id::{JobId, PeerId};
use crate::limits::{MAX_OFFERS, MAX_OFFERS_PER_REQUESTER, REFUSALS, WANTED_REFUSALS};
use crate::machine::{Context, Means, Output};
use crate::message::{Announce, Bid, Message, Reason, Refuse};
use crate::record::Placement;
use crate::suppression;
use crate::time::Time;
use crate::wire::Sealed;

impl Worker {
    /// A job was announced, for which this node has `means`.
    pub(crate) fn announced(&mut self, ctx: &mut Context<'_>, from: PeerId, announce: &Announce, means: Means) {
        if self.offers.get(&announce.job).is_some_and(|offer| !offer.is_superseded_by(from, announce)) {
            return;
        }
        // Nothing new is wanted of this node, but an award of what it offered before may be on its way.
        if announce.excluded.iter().any(|prefix| ctx.me.0.starts_with(prefix)) {
            return;
        }
        self.lapse(announce.job);
        let answer =
            self.could_run(ctx, from, announce, means).and_then(|()| self.room_for(ctx, from, announce, means));
        match answer {
            Ok(()) => self.consider(ctx, from, announce, means),
            Err(reason) => self.refuse(ctx, from, announce, reason),
        }
    }

    /// This node's own job needs a worker: how many of its executions it takes, on the terms that any job is taken on.
    /// For want of a mesh it takes what it can run, whatever it allows others.
    pub(crate) fn asked(
        &mut self,
        ctx: &mut Context<'_>,
        announce: &Announce,
        means: Means,
        placement: Placement,
    ) -> Result<u16, Reason> {
        self.lapse(announce.job);
        match placement {
            Placement::Mesh => self.could_run(ctx, ctx.me, announce, means)?,
            Placement::Here => auction::could_give(&self.offering, &announce.needs)?,
        }
        self.room_for(ctx, ctx.me, announce, means)?;
        self.consider(ctx, ctx.me, announce, means);
        if let Some(offer) = self.offers.get_mut(&announce.job) {
            offer.placement = placement;
        }
        self.speak(ctx, announce.job).ok_or(Reason::Busy)
    }

    /// Another worker bids: a reason to stay silent, if it is as good.
    pub(crate) fn overheard(&mut self, now: Time, sealed: &Sealed) {
        let Message::Bid(bid) = sealed.message() else { return };
        self.recent_bids.note(now, sealed);
        let Some(offer) = self.offers.get_mut(&bid.job).filter(|offer| offer.is_waiting()) else { return };
        offer.overheard(sealed.from(), bid);
        if !offer.is_waiting() {
            self.rest(bid.job);
        }
    }

    /// Tells why this node does not bid, if enough others do not. How many are to do so is its requester's wish, which
    /// may be a request for messages to many names that nobody has.
    fn refuse(&mut self, ctx: &mut Context<'_>, from: PeerId, announce: &Announce, reason: Reason) {
        let (wanted, chance) = (announce.refusals.min(WANTED_REFUSALS), ctx.chance());
        let mesh_size = announce.mesh_size.max(ctx.view.shard_size(announce.level));
        if suppression::should_refuse(wanted, mesh_size, chance) && self.refusals.take(REFUSALS, ctx.now) {
            ctx.send(from, Message::Refuse(Refuse { job: announce.job, round: announce.round, reason }));
        }
    }

    /// Whether this node could run the job, and its operator lets it.
    fn could_run(&self, ctx: &Context<'_>, from: PeerId, announce: &Announce, means: Means) -> Result<(), Reason> {
        auction::could_run(&self.offering, &announce.needs)?;
        let standing = ctx.ledger.standing(from);
        if standing.grade(ctx.now) == Grade::Bad {
            return Err(Reason::Unsettled(standing.unsettled));
        }
        self.offering.admission.announced(from, &announce.needs, means.data_here)?;
        self.refused.why(announce.job).map_or(Ok(()), |why| Err(Reason::Policy(why.to_owned())))
    }

    fn room_for(&self, ctx: &Context<'_>, from: PeerId, announce: &Announce, means: Means) -> Result<(), Reason> {
        let owed = if from == ctx.me { 0 } else { self.owed_by(from) };
        let needs = &announce.needs.resources;
        if let Some(image) = announce.needs.image.filter(|_| !means.has_image) {
            return Err(Reason::NoImage(image.source));
        }
        match () {
            () if owed >= ctx.ledger.standing(from).credit() => {
                Err(Reason::Owing(u32::try_from(owed).unwrap_or(u32::MAX)))
            }
            () if self.room.slots(&self.offering.capacity, needs) == 0 => Err(Reason::Busy),
            () if needs.disk_bytes > means.disk_bytes => Err(Reason::DiskFull(needs.disk_bytes, means.disk_bytes)),
            () => Ok(()),
        }
    }

    /// How many executions have ended that their requester has yet to settle.
    fn owed_by(&self, requester: PeerId) -> usize {
        self.held.values().filter(|held| held.requester() == requester && !held.is_running()).count()
    }

    fn consider(&mut self, ctx: &mut Context<'_>, from: PeerId, announce: &Announce, means: Means) {
        self.make_room(from);
        let job = announce.job;
        let cost = auction::cost(means.missing_bytes, &self.used(), &self.offering.capacity);
        // Whoever has let others work in vain is served after everybody else.
        let is_low = ctx.ledger.standing(from).grade(ctx.now) == Grade::Low;
        let cost = if is_low { (cost / 2).saturating_add(MAX_COST / 2) } else { cost };
        let mut offer = Offer::new(ctx, from, announce, cost, means.disk_bytes);
        self.offers.get(&job).into_iter().for_each(|earlier| offer.follows(earlier));
        self.recent_bids.forget_old(ctx.now);
        self.recent_bids.of(job).for_each(|(from, bid)| offer.overheard(from, bid));
        self.insert(job, offer);
        self.rest(job);
    }

    fn insert(&mut self, job: JobId, offer: Offer) {
        self.remove(job);
        *self.offers_of.entry(offer.requester()).or_default() += 1;
        self.offers.insert(job, offer);
    }

    fn remove(&mut self, job: JobId) {
        let Some(offer) = self.offers.remove(&job) else { return };
        if let Entry::Occupied(mut count) = self.offers_of.entry(offer.requester()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    pub(super) fn offer_due(&mut self, ctx: &mut Context<'_>, job: JobId) {
        let Some(offer) = self.offers.get(&job) else { return };
        let (round, cost, audience, waited_ms) = (offer.round, offer.cost, offer.audience, offer.waited_ms(ctx.now));
        if !offer.is_waiting() {
            self.lapse(job);
        } else if let Some(slots) = self.speak(ctx, job) {
            let (operator, contact) = (self.offering.operator.clone(), ctx.view.contact.clone());
            let bid = Bid { job, round, slots, cost, operator, contact, waited_ms };
            ctx.out(Output::Gossip(audience, Message::Bid(bid)));
        }
    }

    /// Reserves what is offered for a job: so many slots, if there is room for any.
    fn speak(&mut self, ctx: &Context<'_>, job: JobId) -> Option<u16> {
        let offer = self.offers.get_mut(&job)?;
        let spoke = offer.has_spoken();
        let free = self.room.slots(&self.offering.capacity, &offer.resources);
        let slots = offer.speak(ctx.now, free, ctx.gossip_ms(0));
        if let Some(slots) = slots {
            if !spoke {
                self.spoken.push_back(job);
            }
            self.room.reserve(offer.resources.times(slots));
        }
        self.rest(job);
        slots
    }

    /// Ends the reservation of an offer, which an award may still take up if there is room.
    fn lapse(&mut self, job: JobId) {
        let Some(offer) = self.offers.get_mut(&job) else { return };
        let slots = offer.lapse();
        if slots > 0 {
            self.room.lapse(&self.offering.capacity, offer.resources.times(slots));
        }
        self.rest(job);
    }

    /// Waits for what is next for an offer, or forgets it when nothing is.
    fn rest(&mut self, job: JobId) {
        let deadline = self.offers.get(&job).and_then(Offer::deadline);
        self.timers.set(Key::Offer(job), deadline);
        if deadline.is_none() && self.offers.get(&job).is_some_and(|offer| !offer.has_spoken()) {
            self.remove(job);
        }
    }

    /// Forgets an offer when there are too many. So a flood of announcements with long windows crowds out nothing but
    /// itself.
    fn make_room(&mut self, requester: PeerId) {
        if let Some(job) = self.superfluous(requester) {
            self.spoken.retain(|spoken| *spoken != job);
            self.lapse(job);
            self.remove(job);
        }
    }

    /// The offer that makes room for another one of `requester`: of one with too many, its own; else the first that was bid
    /// for and whose reservation has lapsed, or the one that would speak last. What is still reserved goes last, however old.
    fn superfluous(&self, requester: PeerId) -> Option<JobId> {
        let mut latest_first = self.timers.latest_first().filter_map(|key| match key {
            Key::Offer(job) => Some(job),
            Key::Held(_) => None,
        });
        let is_own = |job: &JobId| self.offers.get(job).is_some_and(|offer| offer.requester() == requester);
        let has_lapsed = |job: &JobId| self.offers.get(job).is_some_and(Offer::has_lapsed);
        let is_waiting = |job: &JobId| self.offers.get(job).is_some_and(Offer::is_waiting);
        let mut spoken = self.spoken.iter().copied();
        match self.offers_of.get(&requester) {
            Some(MAX_OFFERS_PER_REQUESTER..) => latest_first.find(is_own).or_else(|| spoken.find(is_own)),
            _ if self.offers.len() >= MAX_OFFERS => spoken
                .find(has_lapsed)
                .or_else(|| latest_first.find(is_waiting))
                .or_else(|| self.spoken.front().copied()),
            _ => None,
        }
    }
}
