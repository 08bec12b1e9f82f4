//! A node that runs jobs of others: it bids, and holds the executions that it was awarded.
//!
//! Both take of its capacity: an execution until its program has ended, a bid for a while.

mod bids;
mod offer;
mod recent;

mod room;

mod execution;
mod refused;

mod rerun;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use execution::{Execution, Step};
use offer::Offer;
use recent::RecentBids;
use refused::Refused;
use rerun::Again;
use room::Room;

use crate::auction::{self, Offering};
use crate::budget::Bucket;
use crate::credibility::Sign;
use crate::id::{BlobHash, ExecutionId, JobId, PeerId};
use crate::job::spec::NetworkKind;
use crate::limits::{MAX_ENDED, MAX_EXECUTIONS, MAX_HELD, MAX_HELD_PER_REQUESTER, REFUSALS};
use crate::machine::Context;
use crate::message::{Amount, Award, Ending, ExecutorKind, Fail, Message, Resources};
use crate::record::{HeldRecord, Placement};
use crate::task::{Engine, Failure, Invocation, Limits, Work};
use crate::time::Time;
use crate::timers::Timers;
use crate::wire;

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
    room: Room,
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
            room: Room::default(),
            refusals: Bucket::full(REFUSALS, Time(0)),
            timers: Timers::default(),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// What executions use up, and bids are expected to.
    pub(crate) fn used(&self) -> Resources {
        self.room.load(&self.offering.capacity)
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
            self.room.take(execution.occupies(), execution.is_running());
            self.held.insert(id, execution);
            self.reschedule(id);
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
        let capacity = &self.offering.capacity;
        if auction::slots(&award.resources, capacity) == 0 {
            return Err("it needs more than this worker has");
        }
        // Whoever awards first has it: what others were offered, they may never want.
        if !self.room.is_free(capacity, &award.resources) {
            return Err("busy");
        }
        let is_reserved = offer.take_slot();
        self.room.award(capacity, award.resources, is_reserved);
        self.room.take(award.resources, true);
        Ok(())
    }

    fn hold(&mut self, ctx: &mut Context<'_>, from: PeerId, award: Award, work: Work) {
        let id = award.execution;
        let offer = self.offers.get(&award.job);
        let offered = offer.map(|offer| (offer.placement, offer.announced.image_name.clone()));
        let offered = offered.unwrap_or((Placement::Mesh, String::new()));
        self.held.insert(id, Execution::fetch(ctx, from, award, work, offered));
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
        self.room.free(before.minus(execution.occupies()), ran && !execution.is_running());
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
