//! One job, seen by its requester: announce → award → verify → result → publish.
//!
//! `advance` is the heart: after every input it asks each partition concerned what is next, and seeks workers for
//! those that miss some.

mod reports;

mod comparing;

mod verdicts;

mod publishing;

mod partition;

mod search;

mod itself;

mod bidding;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bidding::Bidding;
use partition::{Execution, Partition, Phase, backoff};

use crate::auction::plural;
use crate::credibility::Sign;
use crate::id::{BlobHash, ExecutionId, JobId, PeerId};
use crate::limits::{MAX_COLLECTS, MAX_EVENTS, MAX_EXECUTIONS, MAX_TEXT_BYTES};
use crate::machine::{Context, Output};
use crate::message::{Bid, Ending, Message, Reason, Settle};
use crate::record::{
    Event, ExecutionRecord, ExecutionState, JobRecord, JobState, Placement, Policy, Record, Step, Submission,
};
use crate::task::{Compare, Failure, Work};
use crate::text;
use crate::time::Time;
use crate::timers::{Resend, Timers};
use crate::verdict::Vote;
use crate::wire::{self, Sealed};

#[derive(Debug)]
pub(crate) struct Requester {
    record: JobRecord,
    /// What of two results must agree.
    compare: Compare,
    /// The module that says whether results agree that are not the same.
    validator: Option<BlobHash>,
    partitions: BTreeMap<u32, Partition>,
    index: BTreeMap<ExecutionId, (u32, usize)>,
    /// Partitions that miss executions, and how many.
    hungry: BTreeMap<u32, u32>,
    /// Partitions whose result is published.
    published: BTreeSet<u32>,
    bidding: Bidding,
    /// Workers whose operators do not want the job, and why: they are not asked again.
    unwilling: BTreeMap<PeerId, Reason>,
    timers: Timers<Key>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Total,
    Bidding,
    Partition(u32),
}

impl Requester {
    pub(crate) fn new(job: JobId, submission: Submission, now: Time) -> Self {
        let (state, reason) = (JobState::Pending, String::new());
        let record = JobRecord { job, submission, created: now, modified: now, state, reason, events: 0, rounds: 0 };
        Self::with(record)
    }

    /// Takes up a job that was saved, with its executions in any order.
    pub(crate) fn restore(record: JobRecord, mut executions: Vec<ExecutionRecord>, published: BTreeSet<u32>) -> Self {
        let mut requester = Self { published, ..Self::with(record) };
        executions.sort_by_key(|execution| (execution.partition, execution.attempt));
        for record in executions {
            let Some(partition) = requester.partitions.get_mut(&record.partition) else { continue };
            if record.is_believed() {
                partition.phase = Phase::Accepted { tries: 0, again: Some(Time(0)) };
            }
            if let Some(reason) = record.failure.as_ref().and_then(turned_down) {
                requester.unwilling.insert(record.worker, reason);
            }
            requester.index.insert(record.execution, (record.partition, partition.executions.len()));
            partition.executions.push(Execution::new(record, Time(0), Resend::at_once(Time(0))));
        }
        requester
    }

    fn with(record: JobRecord) -> Self {
        let work = wire::parse::<Work>(&record.submission.work);
        let (compare, validator) = work.map(|work| (work.compare, work.validator)).unwrap_or_default();
        let partition = || Partition::new(validator.is_some());
        let partitions = (0..record.submission.partitions).map(|index| (index, partition())).collect();
        Self {
            record,
            compare,
            validator,
            partitions,
            index: BTreeMap::new(),
            hungry: BTreeMap::new(),
            published: BTreeSet::new(),
            bidding: Bidding::default(),
            unwilling: BTreeMap::new(),
            timers: Timers::default(),
        }
    }

    /// The job was just submitted.
    pub(crate) fn begin(&mut self, ctx: &mut Context<'_>) {
        // The job first: an event without its job would belong to nothing.
        self.save(ctx);
        self.event(ctx, Step::Submit, None, None, String::new());
        self.start(ctx);
    }

    /// The node was restarted: asks every worker how far it is, and fetches results again.
    pub(crate) fn resume(&mut self, ctx: &mut Context<'_>) {
        let executions = self.partitions.values_mut().flat_map(|partition| &mut partition.executions);
        for execution in executions {
            (execution.heard, execution.resend) = (ctx.now, Resend::at_once(ctx.now));
            ctx.out(Output::Learn(execution.record.worker, execution.record.contact.clone()));
        }
        // The first award was saved, and perhaps nothing after it.
        if !self.index.is_empty() && self.record.state != JobState::Running {
            self.set_state(ctx, JobState::Running, String::new());
        }
        self.finish_verdicts(ctx);
        self.start(ctx);
    }

    /// A crash in the middle of a verdict leaves votes that were not told of it. Those that dissented come first.
    fn finish_verdicts(&mut self, ctx: &mut Context<'_>) {
        let accepted = self.partitions.iter().filter(|(_, partition)| partition.phase != Phase::Open);
        for index in accepted.map(|(index, _)| *index).collect::<Vec<_>>() {
            let agreed = self.executions_in(index, |state| state == ExecutionState::Revealed);
            self.tell_verdict(ctx, index, &agreed.into_iter().collect());
        }
    }

    fn start(&mut self, ctx: &mut Context<'_>) {
        let total = self.record.submission.total_timeout_ms;
        self.timers.set(Key::Total, (total > 0).then_some(self.record.created + total));
        let partitions: Vec<u32> = self.partitions.keys().copied().collect();
        for index in partitions {
            self.settle_partition(ctx, index);
        }
        self.seek(ctx);
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.record.state.is_over()
    }

    /// Whether it waits for workers that are busy with something else.
    pub(crate) fn is_starved(&self) -> bool {
        self.record.state == JobState::Queued && self.bidding.is_busy()
    }

    pub(crate) fn placement(&self) -> Placement {
        self.record.submission.placement
    }

    pub(crate) fn priority(&self) -> i64 {
        self.record.submission.priority
    }

    // --- inputs

    /// The owner does not want it any more.
    pub(crate) fn stop(&mut self, ctx: &mut Context<'_>) {
        self.finish(ctx, JobState::Stopped, "stopped by its owner".into());
    }

    /// This node was away: its workers have from now on as long as ever to be heard, and to open their answers.
    pub(crate) fn was_away(&mut self, ctx: &mut Context<'_>) {
        let partitions: Vec<u32> = self.partitions.keys().copied().collect();
        for index in partitions {
            let executions = self.partitions.get_mut(&index).map(|partition| &mut partition.executions);
            executions.into_iter().flatten().for_each(|execution| execution.begin_to_wait(ctx.now));
            self.reschedule(index);
        }
    }

    pub(crate) fn tick(&mut self, ctx: &mut Context<'_>) {
        while let Some(key) = self.timers.pop(ctx.now).filter(|_| !self.is_over()) {
            match key {
                Key::Total => {
                    let seconds = self.record.submission.total_timeout_ms / 1_000;
                    self.finish(ctx, JobState::Failed, format!("the total timeout of {seconds} s was reached"));
                }
                Key::Bidding => self.bidding_due(ctx),
                Key::Partition(index) => self.partition_due(ctx, index),
            }
        }
    }

    /// A worker offers.
    pub(crate) fn bid(&mut self, ctx: &mut Context<'_>, from: PeerId, bid: &Bid) {
        if from == ctx.me || bid.round >= self.record.rounds || !ctx.ledger.is_trusted(ctx.now, from) {
            return;
        }
        if self.unwilling.contains_key(&from) {
            return;
        }
        if self.bidding.add(ctx, from, bid) {
            ctx.out(Output::Learn(from, bid.contact.clone()));
            self.event(ctx, Step::Bid, None, Some(from), format!("cost {}", bid.cost));
            self.seek(ctx);
        }
    }

    /// A worker says something about an execution of this job, or why it does not offer.
    pub(crate) fn heard(&mut self, ctx: &mut Context<'_>, sealed: &Sealed) {
        let from = sealed.from();
        match sealed.message() {
            Message::Refuse(refuse) => self.refused(ctx, from, refuse),
            Message::Progress(progress) => self.progressed(ctx, from, progress),
            Message::Fail(fail) => self.failed(ctx, from, fail),
            Message::Commit(commit) => self.committed(ctx, from, commit),
            Message::Reveal(reveal) => self.revealed(ctx, from, reveal, sealed.bytes()),
            _ => {}
        }
    }

    /// A result was fetched, or could not be.
    pub(crate) fn collected(&mut self, ctx: &mut Context<'_>, index: u32, result: Result<(), String>) {
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        let Phase::Accepted { tries, .. } = partition.phase else { return };
        match result {
            Ok(()) => {
                let detail = format!("partition {index}: {} is here", partition.result_name());
                self.event(ctx, Step::Result, None, None, detail);
                self.release_workers(ctx, index);
                self.is_here(ctx, index);
            }
            Err(why) if tries + 1 >= MAX_COLLECTS => {
                let name = partition.result_name();
                if !self.pass_over(ctx, index) {
                    let reason = format!("the result {name} was agreed on but could not be fetched: {why}");
                    return self.finish(ctx, JobState::Failed, reason);
                }
                let detail = format!("partition {index}: {name} could not be fetched: {why}; another is taken");
                self.event(ctx, Step::Result, None, None, detail);
                self.collect(ctx, index, 0);
            }
            Err(why) => {
                let again = Some(ctx.now + backoff(tries));
                partition.phase = Phase::Accepted { tries: tries + 1, again };
                self.event(ctx, Step::Result, None, None, format!("partition {index}: not fetched yet: {why}"));
            }
        }
        self.reschedule(index);
    }

    // --- bookkeeping

    /// Ends an execution without a vote.
    fn fail(&mut self, ctx: &mut Context<'_>, id: ExecutionId, failure: Failure) {
        let Some((_, execution)) = self.by_id(id) else { return };
        let worker = execution.record.worker;
        execution.record.failure = Some(failure.clone());
        if let Some(reason) = turned_down(&failure) {
            self.unwilling.insert(worker, reason);
        }
        self.change(ctx, id, ExecutionState::Failed);
        self.event(ctx, Step::Fail, Some(id), Some(worker), failure.to_string());
        match failure {
            // Its worker signed what cannot be true.
            Failure::FalseResult => ctx.note(worker, Sign::Dissented),
            _ if failure.is_fault() => ctx.note(worker, Sign::Fault),
            _ => {}
        }
        match failure {
            Failure::Withheld | Failure::FalseResult => self.settle(ctx, id, Ending::Unused),
            Failure::TooLate | Failure::Lost | Failure::Unrevealed | Failure::FalseReveal => {
                self.settle(ctx, id, Ending::Cancelled);
            }
            _ => {}
        }
        if self.placement() == Placement::Here {
            self.bidding.phase = bidding::Phase::Paused(ctx.now + backoff(1));
        }
    }

    /// Ends the job: tells every worker that still waits for something, and saves why.
    fn finish(&mut self, ctx: &mut Context<'_>, state: JobState, reason: String) {
        if self.is_over() {
            return;
        }
        let all: Vec<ExecutionId> = self.index.keys().copied().collect();
        for id in all {
            match self.known(id).map(|execution| execution.record.state) {
                Some(live) if live.is_live() => {
                    self.change(ctx, id, ExecutionState::Cancelled);
                    self.settle(ctx, id, Ending::Cancelled);
                }
                Some(ExecutionState::Revealed) => self.settle(ctx, id, Ending::Unused),
                Some(ExecutionState::Agreed) if state != JobState::Completed => self.settle(ctx, id, Ending::Unused),
                _ => {}
            }
        }
        self.event(ctx, Step::End, None, None, format!("{state:?}: {reason}").trim_end_matches(": ").to_owned());
        self.set_state(ctx, state, reason);
        let kept_until = self.record.kept_until().expect("it is over");
        ctx.out(Output::End(self.record.job, kept_until));
    }

    /// What workers are told whose result is the job's.
    fn agreed(&self) -> Ending {
        Ending::Agreed { keep_ms: self.record.submission.retention_ms }
    }

    fn settle(&self, ctx: &mut Context<'_>, id: ExecutionId, ending: Ending) {
        if let Some(execution) = self.known(id) {
            let settle = Settle { job: self.record.job, execution: id, ending };
            ctx.send(execution.record.worker, Message::Settle(settle));
        }
    }

    fn set_state(&mut self, ctx: &mut Context<'_>, state: JobState, reason: String) {
        (self.record.state, self.record.reason) = (state, reason);
        self.save(ctx);
    }

    fn save(&mut self, ctx: &mut Context<'_>) {
        self.record.modified = ctx.now;
        ctx.save(Record::Job(Box::new(self.record.clone())));
    }

    fn change(&mut self, ctx: &mut Context<'_>, id: ExecutionId, state: ExecutionState) {
        let Some((_, execution)) = self.by_id(id) else { return };
        (execution.record.state, execution.record.modified) = (state, ctx.now);
        ctx.save(Record::Execution(Box::new(execution.record.clone())));
    }

    fn event(
        &mut self,
        ctx: &mut Context<'_>,
        step: Step,
        execution: Option<ExecutionId>,
        peer: Option<PeerId>,
        detail: String,
    ) {
        let sequence = self.record.events;
        if sequence < MAX_EVENTS || step == Step::End {
            let (job, at) = (self.record.job, ctx.now);
            self.record.events += 1;
            ctx.save(Record::Event(Event { job, sequence, at, step, execution, peer, detail }));
        }
    }

    /// Notes when the partition is due and what it misses.
    fn reschedule(&mut self, index: u32) {
        let policy = self.policy();
        let Some(partition) = self.partitions.get(&index) else { return };
        self.timers.set(Key::Partition(index), partition.deadline(policy));
        let room = (MAX_EXECUTIONS as usize).saturating_sub(partition.executions.len());
        match partition.missing(policy).min(u32::try_from(room).unwrap_or(0)) {
            0 => self.hungry.remove(&index),
            missing => self.hungry.insert(index, missing),
        };
    }

    /// How the votes of a partition fall: "2 agree on 12ab34…, 1 on 56cd78…".
    fn tally(&self, index: u32) -> String {
        let partition = &self.partitions[&index];
        let votes = partition.votes();
        let camps = partition.camps().unwrap_or_default().into_iter();
        let mut counts: Vec<(usize, Vote)> = camps.map(|camp| (camp.len(), votes[camp[0]].1)).collect();
        counts.sort_by_key(|(count, vote)| (std::cmp::Reverse(*count), *vote));
        let lines = counts.iter().map(|(count, vote)| {
            let count = u32::try_from(*count).unwrap_or(u32::MAX);
            format!("{} for {} ({})", plural(count, "vote"), vote.compared.short(), vote.outcome)
        });
        lines.collect::<Vec<_>>().join(", ")
    }

    fn wanted(&self) -> u32 {
        self.hungry.values().sum()
    }

    fn policy(&self) -> Policy {
        self.record.submission.policy
    }

    /// The execution, if `worker` runs it.
    fn execution(&mut self, worker: PeerId, id: ExecutionId) -> Option<(u32, &mut Execution)> {
        self.by_id(id).filter(|(_, execution)| execution.record.worker == worker)
    }

    fn by_id(&mut self, id: ExecutionId) -> Option<(u32, &mut Execution)> {
        let (index, slot) = *self.index.get(&id)?;
        Some((index, &mut self.partitions.get_mut(&index)?.executions[slot]))
    }

    fn known(&self, id: ExecutionId) -> Option<&Execution> {
        let (index, slot) = self.index.get(&id)?;
        Some(&self.partitions.get(index)?.executions[*slot])
    }

    fn executions_in(&self, index: u32, which: impl Fn(ExecutionState) -> bool) -> Vec<ExecutionId> {
        let executions = self.partitions.get(&index).into_iter().flat_map(|partition| &partition.executions);
        executions.filter(|e| which(e.record.state)).map(|e| e.record.execution).collect()
    }
}

/// Why a worker does not take the job that was awarded to it, as a reason among others.
fn turned_down(failure: &Failure) -> Option<Reason> {
    match failure {
        Failure::Refused(why) => Some(Reason::Policy(text::ends(why, MAX_TEXT_BYTES))),
        Failure::OtherVersion(version) => Some(Reason::OtherVersion(*version)),
        _ => None,
    }
}
