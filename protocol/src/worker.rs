//! A node that runs jobs of others: it bids, and holds the executions that it was awarded.
//!
//! Capacity is counted here: a bid reserves it until it lapses, an execution until its program has ended.

mod execution;
mod offer;
mod recent;

mod refused;

mod rerun;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use execution::{Execution, Step};
use offer::Offer;
use recent::RecentBids;
use refused::Refused;
use rerun::Again;

use crate::auction::{self, MAX_COST, Offering};
use crate::budget::Bucket;
use crate::credibility::{Grade, Sign};
use crate::id::{BlobHash, ExecutionId, JobId, PeerId};
use crate::job::spec::NetworkKind;
use crate::limits::{
    MAX_ENDED, MAX_EXECUTIONS, MAX_HELD, MAX_HELD_PER_REQUESTER, MAX_OFFERS, MAX_OFFERS_PER_REQUESTER, MAX_RUNNING,
    REFUSALS, WANTED_REFUSALS,
};
use crate::machine::{Context, Means, Output};
use crate::message::{Amount, Announce, Award, Bid, Ending, ExecutorKind, Fail, Message, Reason, Refuse, Resources};
use crate::record::{HeldRecord, Placement};
use crate::suppression;
use crate::task::{Engine, Failure, Invocation, Limits, Work};
use crate::time::Time;
use crate::timers::Timers;
use crate::wire::{self, Sealed};

pub use execution::Finished;

/// All that a node does for others.
#[derive(Debug)]
pub(crate) struct Worker {
    offering: Offering,
    /// Announcements that may still lead to a bid, or to an award. Silence is forgotten at once: should the same
    /// announcement come again, the bids that it caused are remembered.
    offers: BTreeMap<JobId, Offer>,
    /// How many of them each requester has.
    offers_of: BTreeMap<PeerId, usize>,
    recent_bids: RecentBids,
    /// Jobs that the operator turned down once he had seen them.
    refused: Refused,
    held: BTreeMap<ExecutionId, Execution>,
    /// The offers that were bid for, in the order of their first bids.
    spoken: VecDeque<JobId>,
    /// Executions that ended lately: an award of one that comes late must not start it again. With each, how often it
    /// was looked into since.
    ended: BTreeMap<ExecutionId, u8>,
    ended_order: VecDeque<ExecutionId>,
    /// The one of them that is looked into, or was last.
    again: Option<Again>,
    used: Resources,
    /// Executions whose program has not ended.
    running: u16,
    /// What is left of the refusals that it explains.
    refusals: Bucket,
    timers: Timers<Key>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Offer(JobId),
    Held(ExecutionId),
}

impl Worker {
    pub(crate) fn new(offering: Offering) -> Self {
        Self {
            offering,
            offers: BTreeMap::new(),
            offers_of: BTreeMap::new(),
            recent_bids: RecentBids::default(),
            refused: Refused::default(),
            held: BTreeMap::new(),
            spoken: VecDeque::new(),
            ended: BTreeMap::new(),
            ended_order: VecDeque::new(),
            again: None,
            used: Resources::default(),
            running: 0,
            refusals: Bucket::full(REFUSALS, Time(0)),
            timers: Timers::default(),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// What bids and executions use up together.
    pub(crate) fn used(&self) -> Resources {
        self.used
    }

    pub(crate) fn offering(&self) -> &Offering {
        &self.offering
    }

    /// An executor has come, or is gone: what was bid for before may still be awarded, and is declined then.
    pub(crate) fn offer(&mut self, kind: ExecutorKind, profile: Option<String>) {
        match profile {
            Some(profile) => drop(self.offering.executors.insert(kind, profile)),
            None => drop(self.offering.executors.remove(&kind)),
        }
    }

    /// What networks containers get has changed.
    pub(crate) fn offer_networks(&mut self, networks: BTreeSet<NetworkKind>) {
        self.offering.networks = networks;
    }

    /// How many GPUs there are now.
    pub(crate) fn offer_gpus(&mut self, gpus: u16) {
        self.offering.capacity.gpus = gpus;
    }

    #[cfg(test)]
    pub(crate) fn offers(&self) -> usize {
        assert_eq!(self.offers_of.values().sum::<usize>(), self.offers.len());
        self.offers.len()
    }

    /// Executions that have not been settled yet.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Who announced a job that this node considers, or has bid for.
    pub(crate) fn requester_of(&self, job: JobId) -> Option<PeerId> {
        self.offers.get(&job).map(Offer::requester)
    }

    pub(crate) fn tick(&mut self, ctx: &mut Context<'_>) {
        while let Some(key) = self.timers.pop(ctx.now) {
            match key {
                Key::Offer(job) => self.offer_due(ctx, job),
                Key::Held(execution) => self.step(ctx, execution, Step::Tick),
            }
        }
    }

    /// Takes up an execution again after a restart. One whose program ended with the node is given up: it may be what
    /// stopped the node, and another worker can run it as well.
    pub(crate) fn restore(&mut self, ctx: &mut Context<'_>, record: HeldRecord) {
        let id = record.execution;
        if let Some(execution) = Execution::restore(ctx, record) {
            self.used = self.used.plus(execution.occupies());
            self.running += u16::from(execution.is_running());
            self.held.insert(id, execution);
            self.reschedule(id);
        }
    }

    // --- bids

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
            () if !self.has_room(needs) => Err(Reason::Busy),
            () if needs.disk_bytes > means.disk_bytes => Err(Reason::DiskFull(needs.disk_bytes, means.disk_bytes)),
            () => Ok(()),
        }
    }

    /// How many executions have ended that their requester has yet to settle.
    fn owed_by(&self, requester: PeerId) -> usize {
        self.held.values().filter(|held| held.requester() == requester && !held.is_running()).count()
    }

    /// Whether one more execution could start now.
    fn has_room(&self, resources: &Resources) -> bool {
        let free = self.offering.capacity.minus(self.used);
        self.running < MAX_RUNNING && auction::slots(resources, &free) > 0
    }

    fn consider(&mut self, ctx: &mut Context<'_>, from: PeerId, announce: &Announce, means: Means) {
        self.make_room(from);
        let job = announce.job;
        let cost = auction::cost(means.missing_bytes, &self.used, &self.offering.capacity);
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

    fn offer_due(&mut self, ctx: &mut Context<'_>, job: JobId) {
        let Some(offer) = self.offers.get(&job) else { return };
        let (round, cost, audience) = (offer.round, offer.cost, offer.audience);
        if !offer.is_waiting() {
            self.lapse(job);
        } else if let Some(slots) = self.speak(ctx, job) {
            let (operator, contact) = (self.offering.operator.clone(), ctx.view.contact.clone());
            let bid = Bid { job, round, slots, cost, operator, contact };
            ctx.out(Output::Gossip(audience, Message::Bid(bid)));
        }
    }

    /// Reserves what is offered for a job: so many slots, if there is room for any.
    fn speak(&mut self, ctx: &Context<'_>, job: JobId) -> Option<u16> {
        let free = self.offering.capacity.minus(self.used);
        let offer = self.offers.get_mut(&job)?;
        let spoke = offer.has_spoken();
        let slots = offer.speak(ctx.now, &free, ctx.view.gossip_ms());
        if let Some(slots) = slots {
            if !spoke {
                self.spoken.push_back(job);
            }
            self.used = self.used.plus(offer.resources.times(slots));
        }
        self.rest(job);
        slots
    }

    /// Ends the reservation of an offer, which an award may still take up if there is room.
    fn lapse(&mut self, job: JobId) {
        let Some(offer) = self.offers.get_mut(&job) else { return };
        self.used = self.used.minus(offer.lapse());
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

    /// The offer that makes room for another one of `requester`: of one with too many, its own; else the one that was bid
    /// for the longest time ago, or the one that would speak last.
    fn superfluous(&self, requester: PeerId) -> Option<JobId> {
        let mut latest_first = self.timers.latest_first().filter_map(|key| match key {
            Key::Offer(job) => Some(job),
            Key::Held(_) => None,
        });
        let is_own = |job: &JobId| self.offers.get(job).is_some_and(|offer| offer.requester() == requester);
        match self.offers_of.get(&requester) {
            Some(MAX_OFFERS_PER_REQUESTER..) => {
                latest_first.find(is_own).or_else(|| self.spoken.iter().copied().find(is_own))
            }
            _ if self.offers.len() >= MAX_OFFERS => self.spoken.front().copied().or_else(|| latest_first.next()),
            _ => None,
        }
    }

    // --- executions

    /// This node was awarded an execution, perhaps not for the first time.
    pub(crate) fn awarded(&mut self, ctx: &mut Context<'_>, from: PeerId, award: Award) {
        if let Some(held) = self.held.get(&award.execution) {
            if held.requester() == from {
                self.step(ctx, award.execution, Step::Award);
            }
            return;
        }
        let (job, execution) = (award.job, award.execution);
        match self.accept(from, &award) {
            Ok(work) => self.hold(ctx, from, award, work),
            Err(failure) => ctx.send(from, Message::Fail(Fail { job, execution, failure })),
        }
    }

    /// The requester says something about an execution that this node may hold.
    pub(crate) fn told(&mut self, ctx: &mut Context<'_>, from: PeerId, message: Message) {
        let (job, execution, step) = match message {
            Message::RevealPlease(m) => (m.job, m.execution, Step::RevealPlease),
            Message::Settle(m) => (m.job, m.execution, Step::Settle(self.bounded(m.ending))),
            _ => return,
        };
        if self.held.get(&execution).is_some_and(|held| held.requester() == from) {
            self.step(ctx, execution, step);
        } else if matches!(step, Step::Settle(_)) {
            self.stop_again(ctx, from, execution);
        } else if matches!(step, Step::RevealPlease) {
            // It was forgotten here; saying so spares the requester the wait.
            ctx.send(from, Message::Fail(Fail { job, execution, failure: Failure::Unrevealed }));
        }
    }

    /// What the requester says became of an execution, as far as this node goes along with it.
    fn bounded(&self, ending: Ending) -> Ending {
        match ending {
            Ending::Agreed { keep_ms } => Ending::Agreed { keep_ms: keep_ms.min(self.offering.keep_ms) },
            other => other,
        }
    }

    /// Modules and inputs of an execution are here, or will not come.
    pub(crate) fn fetched(&mut self, ctx: &mut Context<'_>, execution: ExecutionId, result: Result<(), Failure>) {
        if let (Err(Failure::Refused(why)), Some(held)) = (&result, self.held.get(&execution)) {
            self.refused.note(held.job(), why);
        }
        self.step(ctx, execution, Step::Fetched(result));
    }

    /// An execution is so far with its image.
    pub(crate) fn preparing(&mut self, ctx: &mut Context<'_>, execution: ExecutionId, amount: Amount) {
        self.step(ctx, execution, Step::Preparing(amount));
    }

    /// The program of an execution has been started.
    pub(crate) fn started(&mut self, ctx: &mut Context<'_>, execution: ExecutionId) {
        self.step(ctx, execution, Step::Started);
    }

    /// The program of an execution has ended.
    pub(crate) fn executed(
        &mut self,
        ctx: &mut Context<'_>,
        execution: ExecutionId,
        result: Result<Finished, Failure>,
    ) {
        self.step(ctx, execution, Step::Executed(result));
    }

    /// Checks an award against what was offered; reserves capacity for it.
    fn accept(&mut self, from: PeerId, award: &Award) -> Result<Work, Failure> {
        let work = self.check(from, award).map_err(declined)?;
        if let Some(why) = self.refused.why(award.job) {
            return Err(Failure::Refused(why.to_owned()));
        }
        if self.ended.contains_key(&award.execution) {
            return Err(declined("it has ended here"));
        }
        let of_requester = self.held.values().filter(|held| held.requester() == from).count();
        if self.held.len() >= MAX_HELD || of_requester >= MAX_HELD_PER_REQUESTER {
            return Err(declined("too many executions are unsettled"));
        }
        self.reserve(from, award, &work).map_err(declined)?;
        Ok(work)
    }

    /// Checks that an award is its requester's, and one that this node could run.
    fn check(&self, from: PeerId, award: &Award) -> Result<Work, &'static str> {
        let work: Work = wire::parse(&award.work).map_err(|_| "the work is malformed")?;
        if !work.is_sound() {
            return Err("the work is malformed");
        }
        let job = JobId::derive(from, BlobHash::of(&award.work), award.nonce);
        let execution = ExecutionId::derive(job, award.partition, award.attempt);
        if (job, execution) != (award.job, award.execution) || award.attempt >= MAX_EXECUTIONS {
            return Err("the ids do not belong to the work");
        }
        if award.partition >= work.partitions {
            return Err("there is no such partition");
        }
        if self.placement(award.job) == Placement::Mesh {
            self.check_terms(from, &work.invocation.engine)?;
        }
        if exceed(&work.invocation, &award.resources) {
            return Err("the limits exceed the resources");
        }
        Ok(work)
    }

    /// What may have changed since it was bid for.
    fn check_terms(&self, from: PeerId, engine: &Engine) -> Result<(), &'static str> {
        let offered = self.offering.executors.get(&engine.kind()).is_some_and(|profile| profile == engine.profile());
        if !offered {
            return Err("no executor of this profile");
        }
        let allowed = self.offering.admission.requester(from);
        allowed.map_err(|_| "its operator does not allow jobs of this requester")
    }

    /// Where a job that was bid for is placed.
    fn placement(&self, job: JobId) -> Placement {
        self.offers.get(&job).map_or(Placement::Mesh, |offer| offer.placement)
    }

    fn reserve(&mut self, from: PeerId, award: &Award, work: &Work) -> Result<(), &'static str> {
        let offer = self.offers.get_mut(&award.job).filter(|offer| offer.matches(from, award));
        let offer = offer.ok_or("no such bid was made")?;
        if offer.placement == Placement::Mesh {
            self.offering.admission.awarded(&offer.announced, &work.partition(award.partition))?;
        }
        if offer.take_slot() {
            return Ok(());
        }
        if auction::slots(&award.resources, &self.offering.capacity) == 0 {
            return Err("it needs more than this worker has");
        }
        if !self.has_room(&award.resources) {
            return Err("busy");
        }
        self.used = self.used.plus(award.resources);
        Ok(())
    }

    fn hold(&mut self, ctx: &mut Context<'_>, from: PeerId, award: Award, work: Work) {
        let id = award.execution;
        let offer = self.offers.get(&award.job);
        let offered = offer.map(|offer| (offer.placement, offer.announced.image_name.clone()));
        let offered = offered.unwrap_or((Placement::Mesh, String::new()));
        self.held.insert(id, Execution::fetch(ctx, from, award, work, offered));
        self.running += 1;
        self.reschedule(id);
    }

    fn step(&mut self, ctx: &mut Context<'_>, id: ExecutionId, step: Step) {
        let Some(execution) = self.held.get_mut(&id) else { return };
        let (before, ran) = (execution.occupies(), execution.is_running());
        let settles = matches!(step, Step::Settle(_)) && !ran && execution.requester() != ctx.me;
        if settles {
            ctx.note(execution.requester(), Sign::Settled);
        }
        execution.handle(ctx, step);
        let freed = before.minus(execution.occupies());
        self.used = self.used.minus(freed);
        self.running -= u16::from(ran && !execution.is_running());
        if execution.is_over() {
            self.held.remove(&id);
            self.remember_end(id);
        }
        self.reschedule(id);
    }

    fn remember_end(&mut self, id: ExecutionId) {
        if self.ended.insert(id, 0).is_none() {
            self.ended_order.push_back(id);
        }
        if self.ended_order.len() > MAX_ENDED {
            self.ended_order.pop_front().map(|oldest| self.ended.remove(&oldest));
        }
    }

    fn reschedule(&mut self, id: ExecutionId) {
        self.timers.set(Key::Held(id), self.held.get(&id).map(Execution::deadline));
    }
}

fn declined(why: &str) -> Failure {
    Failure::Declined(why.into())
}

/// Whether a run could use up more than is set aside for it.
fn exceed(invocation: &Invocation, resources: &Resources) -> bool {
    let Limits { memory_bytes, output_bytes, .. } = invocation.limits;
    let (cpu_millis, gpus) = match &invocation.engine {
        Engine::Wasm(_) => (0, 0),
        Engine::Docker(docker) => (docker.cpu_millis, docker.gpus),
    };
    let bounded = memory_bytes <= resources.memory_bytes && output_bytes <= resources.disk_bytes;
    !bounded || cpu_millis > resources.cpu_millis || gpus > resources.gpus
}

#[cfg(test)]
mod tests;
