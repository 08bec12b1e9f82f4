//! One job, seen by its requester: announce → award → verify → result.
//!
//! `advance` is the heart: after every input it asks each partition concerned what is next, and seeks workers for
//! those that miss some.

mod bidding;
mod partition;

use std::collections::{BTreeMap, BTreeSet};

use bidding::Bidding;
use partition::{Execution, Next, Partition, Phase, backoff};

use crate::auction::{self, plural};
use crate::commitment;
use crate::credibility::Sign;
use crate::id::{BlobHash, ExecutionId, JobId, PeerId};
use crate::limits::{
    LEASE_MS, MAX_COLLECTS, MAX_EMPTY_ROUNDS, MAX_EVENTS, MAX_EXCLUDED, MAX_EXECUTIONS, MAX_FAILURES, REVEAL_MS,
    WANTED_REFUSALS,
};
use crate::machine::{Context, Output};
use crate::message::{
    Announce, Award, Bid, Commit, Contact, Ending, Fail, Message, Progress, Refuse, Reveal, RevealPlease, Settle, Stage,
};
use crate::record::{Event, ExecutionRecord, ExecutionState, JobRecord, JobState, Policy, Record, Step, Submission};
use crate::suppression;
use crate::task::{Claim, Failure, Work};
use crate::time::Time;
use crate::timers::{Resend, Timers};
use crate::verdict::Verdict;
use crate::wire::{self, Sealed};

/// Most executions that one announcement seeks; job arrays ask again as they go.
const MAX_WANTED: u32 = 64;
/// Refusals that are remembered of one round.
const MAX_REFUSALS: usize = 256;

#[derive(Debug)]
pub(crate) struct Requester {
    record: JobRecord,
    partitions: BTreeMap<u32, Partition>,
    index: BTreeMap<ExecutionId, (u32, usize)>,
    /// Partitions that miss executions, and how many.
    hungry: BTreeMap<u32, u32>,
    bidding: Bidding,
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
    pub(crate) fn restore(record: JobRecord, mut executions: Vec<ExecutionRecord>) -> Self {
        let mut requester = Self::with(record);
        executions.sort_by_key(|execution| (execution.partition, execution.attempt));
        for record in executions {
            let Some(partition) = requester.partitions.get_mut(&record.partition) else { continue };
            if let (ExecutionState::Agreed, Some((claim, _))) = (record.state, record.revealed) {
                partition.phase = Phase::Accepted { claim, tries: 0, again: Some(Time(0)) };
            }
            requester.index.insert(record.execution, (record.partition, partition.executions.len()));
            partition.executions.push(Execution::new(record, Time(0), Resend::at_once(Time(0))));
        }
        requester
    }

    fn with(record: JobRecord) -> Self {
        let partitions = (0..record.submission.partitions).map(|index| (index, Partition::default())).collect();
        Self {
            record,
            partitions,
            index: BTreeMap::new(),
            hungry: BTreeMap::new(),
            bidding: Bidding::default(),
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
        self.finish_verdicts(ctx);
        self.start(ctx);
    }

    /// A crash in the middle of a verdict leaves votes that were not told of it.
    fn finish_verdicts(&mut self, ctx: &mut Context<'_>) {
        let accepted = self.partitions.iter().filter_map(|(index, partition)| match partition.phase {
            Phase::Accepted { claim, .. } => Some((*index, claim)),
            Phase::Open | Phase::Done(_) => None,
        });
        for (index, claim) in accepted.collect::<Vec<_>>() {
            self.tell_verdict(ctx, index, claim);
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

    pub(crate) fn priority(&self) -> i64 {
        self.record.submission.priority
    }

    // --- inputs

    /// The owner does not want it any more.
    pub(crate) fn stop(&mut self, ctx: &mut Context<'_>) {
        self.finish(ctx, JobState::Stopped, "stopped by its owner".into());
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
        let Phase::Accepted { claim, tries, .. } = partition.phase else { return };
        match result {
            Ok(()) => {
                partition.phase = Phase::Done(claim);
                self.event(ctx, Step::Result, None, None, format!("partition {index}: {} is here", claim.result));
                self.release_workers(ctx, index);
                if self.partitions.values().all(Partition::is_done) {
                    return self.finish(ctx, JobState::Completed, String::new());
                }
            }
            Err(why) if tries + 1 >= MAX_COLLECTS => {
                let reason = format!("the result {} was agreed on but could not be fetched: {why}", claim.result);
                return self.finish(ctx, JobState::Failed, reason);
            }
            Err(why) => {
                let again = Some(ctx.now + backoff(tries));
                partition.phase = Phase::Accepted { claim, tries: tries + 1, again };
                self.event(ctx, Step::Result, None, None, format!("partition {index}: not fetched yet: {why}"));
            }
        }
        self.reschedule(index);
    }

    // --- what workers say

    fn refused(&mut self, ctx: &mut Context<'_>, from: PeerId, refuse: &Refuse) {
        let known = self.bidding.refusals.contains_key(&from);
        if known || refuse.round + 1 != self.record.rounds || self.bidding.refusals.len() >= MAX_REFUSALS {
            return;
        }
        self.event(ctx, Step::Refuse, None, Some(from), refuse.reason.to_string());
        self.bidding.refusals.insert(from, refuse.reason.clone());
    }

    fn progressed(&mut self, ctx: &mut Context<'_>, from: PeerId, progress: &Progress) {
        let Some((index, execution)) = self.execution(from, progress.execution) else { return };
        if !execution.record.state.is_open() {
            return self.answer_late(ctx, from, progress.execution);
        }
        (execution.heard, execution.answered) = (ctx.now, true);
        let (state, step) = match progress.stage {
            Stage::Fetching => (ExecutionState::Fetching, Step::Fetch),
            Stage::Running => (ExecutionState::Running, Step::Execute),
        };
        if execution.record.state < state {
            self.change(ctx, progress.execution, state);
            self.event(ctx, step, Some(progress.execution), Some(from), String::new());
        }
        self.reschedule(index);
    }

    fn failed(&mut self, ctx: &mut Context<'_>, from: PeerId, fail: &Fail) {
        let Some((index, execution)) = self.execution(from, fail.execution) else { return };
        if !execution.record.state.is_live() {
            return;
        }
        // A worker that has sealed an answer can only say that it will not open it.
        let sealed = execution.record.state == ExecutionState::Committed;
        let failure = if sealed { Failure::Unrevealed } else { fail.failure.clone() };
        self.bidding.drop(from);
        self.fail(ctx, fail.execution, failure);
        self.advance(ctx, index);
    }

    fn committed(&mut self, ctx: &mut Context<'_>, from: PeerId, commit: &Commit) {
        let Some((index, execution)) = self.execution(from, commit.execution) else { return };
        if execution.record.state == ExecutionState::Committed {
            // Repeated because it was not answered; the first one counts.
            return;
        }
        if !execution.record.state.is_open() {
            return self.answer_late(ctx, from, commit.execution);
        }
        (execution.heard, execution.answered) = (ctx.now, true);
        execution.record.committed = Some((commit.commitment, commit.run_ms));
        self.change(ctx, commit.execution, ExecutionState::Committed);
        self.event(ctx, Step::Commit, Some(commit.execution), Some(from), format!("ran {} ms", commit.run_ms));
        self.bidding.renew(ctx.now, from);
        self.advance(ctx, index);
    }

    fn revealed(&mut self, ctx: &mut Context<'_>, from: PeerId, reveal: &Reveal, evidence: &[u8]) {
        let work = self.record.submission.work.clone();
        let job = self.record.job;
        let Some((index, execution)) = self.execution(from, reveal.execution) else { return };
        let (ExecutionState::Committed, Some(_)) = (execution.record.state, execution.asked) else {
            if !execution.record.state.is_live() {
                self.answer_late(ctx, from, reveal.execution);
            }
            return;
        };
        execution.record.evidence = evidence.to_vec();
        execution.record.revealed = Some((reveal.claim, reveal.result_bytes));
        let seal = commitment::commit(job, reveal.execution, from, &reveal.claim, &reveal.salt);
        let opens = execution.record.committed.is_some_and(|(commitment, _)| commitment == seal);
        let invocation = wire::parse::<Work>(&work).map(|work| work.partition(index).id());
        if opens && invocation == Ok(reveal.invocation) {
            self.change(ctx, reveal.execution, ExecutionState::Revealed);
            let detail = format!("{}, result {}", reveal.claim.outcome, reveal.claim.result);
            self.event(ctx, Step::Reveal, Some(reveal.execution), Some(from), detail);
        } else {
            self.fail(ctx, reveal.execution, Failure::FalseReveal);
        }
        self.advance(ctx, index);
    }

    /// A worker speaks of an execution that is over for us: it need not keep anything for it.
    fn answer_late(&self, ctx: &mut Context<'_>, to: PeerId, execution: ExecutionId) {
        let Some(known) = self.known(execution) else { return };
        let ending = match known.record.state {
            // Its result may still have to be fetched.
            ExecutionState::Agreed | ExecutionState::Revealed => return,
            // What was said before its commitment has been overtaken.
            live if live.is_live() => return,
            ExecutionState::Dissented => Ending::Dissented,
            ExecutionState::Cancelled => Ending::Cancelled,
            _ if known.record.committed.is_none() => Ending::Cancelled,
            _ => Ending::Unused,
        };
        ctx.send(to, Message::Settle(Settle { job: self.record.job, execution, ending }));
    }

    // --- partitions

    /// Does what a partition needs next, until that is to wait.
    fn advance(&mut self, ctx: &mut Context<'_>, index: u32) {
        self.settle_partition(ctx, index);
        self.seek(ctx);
    }

    fn settle_partition(&mut self, ctx: &mut Context<'_>, index: u32) {
        let policy = self.policy();
        while let Some(partition) = self.partitions.get_mut(&index) {
            match partition.next(ctx.now, policy) {
                Next::Wait => break,
                Next::AskReveals => self.ask_reveals(ctx, index),
                Next::CloseReveals => {
                    let sealed = self.executions_in(index, |state| state == ExecutionState::Committed);
                    sealed.into_iter().for_each(|id| self.fail(ctx, id, Failure::Unrevealed));
                }
                Next::Judge(verdict) => self.judged(ctx, index, verdict),
            }
            if self.is_over() {
                return;
            }
        }
        self.check_failures(ctx, index);
        self.reschedule(index);
    }

    fn ask_reveals(&mut self, ctx: &mut Context<'_>, index: u32) {
        for late in self.executions_in(index, ExecutionState::is_open) {
            self.fail(ctx, late, Failure::TooLate);
        }
        let job = self.record.job;
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        for execution in &mut partition.executions {
            if execution.record.state == ExecutionState::Committed && execution.asked.is_none() {
                (execution.asked, execution.resend) = (Some(ctx.now), Resend::after(ctx.now));
                let please = RevealPlease { job, execution: execution.record.execution };
                ctx.send(execution.record.worker, Message::RevealPlease(please));
            }
        }
    }

    fn judged(&mut self, ctx: &mut Context<'_>, index: u32, verdict: Verdict) {
        match verdict {
            Verdict::Accepted(claim) => self.accept(ctx, index, claim),
            Verdict::More(more) => {
                let detail = format!("partition {index}: {}, {more} more wanted", self.tally(index));
                self.event(ctx, Step::Verify, None, None, detail);
            }
            Verdict::Disputed => {
                let reason = format!("disputed: partition {index}: {}", self.tally(index));
                self.event(ctx, Step::Verify, None, None, reason.clone());
                self.finish(ctx, JobState::Failed, reason);
            }
        }
    }

    /// A result is believed: remembers who said so and who did not, and fetches it.
    fn accept(&mut self, ctx: &mut Context<'_>, index: u32, claim: Claim) {
        self.tell_verdict(ctx, index, claim);
        let detail = match self.policy().agreement > 1 {
            true => format!("partition {index}: {}", self.tally(index)),
            false => format!("partition {index}: one execution, compared with no other"),
        };
        self.event(ctx, Step::Verify, None, None, detail);
        self.collect(ctx, index, claim, 0);
    }

    /// Sorts the open answers into those that are the result and those that are not.
    fn tell_verdict(&mut self, ctx: &mut Context<'_>, index: u32, claim: Claim) {
        let verified = self.policy().agreement > 1;
        for id in self.executions_in(index, |state| state == ExecutionState::Revealed) {
            let Some(execution) = self.known(id) else { continue };
            let (worker, agrees) = (execution.record.worker, execution.record.vote() == Some(claim));
            let (state, sign) = match agrees {
                true => (ExecutionState::Agreed, Sign::Agreed),
                false => (ExecutionState::Dissented, Sign::Dissented),
            };
            self.change(ctx, id, state);
            if verified {
                ctx.note(worker, sign);
            }
            if !agrees {
                self.settle(ctx, id, Ending::Dissented);
            }
        }
    }

    fn collect(&mut self, ctx: &mut Context<'_>, index: u32, claim: Claim, tries: u32) {
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        partition.phase = Phase::Accepted { claim, tries, again: None };
        let agreed = partition.executions.iter().filter(|e| e.record.state == ExecutionState::Agreed);
        let from = agreed.map(|e| e.record.worker).collect();
        let max_bytes = self.record.submission.output_bytes;
        ctx.out(Output::Collect { job: self.record.job, partition: index, result: claim.result, max_bytes, from });
    }

    fn partition_due(&mut self, ctx: &mut Context<'_>, index: u32) {
        let Some(partition) = self.partitions.get(&index) else { return };
        if let Phase::Accepted { claim, tries, again: Some(at) } = partition.phase
            && at <= ctx.now
        {
            self.collect(ctx, index, claim, tries);
        }
        for id in self.executions_in(index, ExecutionState::is_live) {
            self.execution_due(ctx, id);
        }
        self.advance(ctx, index);
    }

    /// Repeats what was not answered; gives up a worker that was silent for too long.
    fn execution_due(&mut self, ctx: &mut Context<'_>, id: ExecutionId) {
        let Some((index, slot)) = self.index.get(&id).copied() else { return };
        let Some(execution) = self.partitions.get_mut(&index).map(|p| &mut p.executions[slot]) else { return };
        match (execution.record.state, execution.asked) {
            (ExecutionState::Committed, Some(asked)) if asked + REVEAL_MS <= ctx.now => {
                self.fail(ctx, id, Failure::Unrevealed);
            }
            (ExecutionState::Committed, Some(_)) if execution.resend.is_due(ctx.now) => {
                execution.resend.repeated(ctx.now);
                let please = RevealPlease { job: self.record.job, execution: id };
                ctx.send(execution.record.worker, Message::RevealPlease(please));
            }
            (state, _) if state.is_open() && execution.heard + LEASE_MS <= ctx.now => {
                self.bidding.drop(execution.record.worker);
                self.fail(ctx, id, Failure::Lost);
            }
            (state, _) if state.is_open() && !execution.answered && execution.resend.is_due(ctx.now) => {
                execution.resend.repeated(ctx.now);
                self.send_award(ctx, id);
            }
            _ => {}
        }
    }

    /// A partition that keeps failing is not tried for ever.
    fn check_failures(&mut self, ctx: &mut Context<'_>, index: u32) {
        let Some(partition) = self.partitions.get(&index).filter(|p| p.phase == Phase::Open) else { return };
        let failures = partition.executions.iter().filter_map(|e| e.record.failure.as_ref());
        let of_machines = |failure: &&Failure| {
            matches!(failure, Failure::HostFailed(_) | Failure::InputMissing(_) | Failure::TimedOut)
        };
        let hopeless = failures.clone().filter(of_machines).count() >= MAX_FAILURES;
        let exhausted = partition.executions.len() >= MAX_EXECUTIONS as usize && partition.missing(self.policy()) > 0;
        if hopeless || exhausted {
            let mut counts = BTreeMap::<String, u32>::new();
            failures.for_each(|failure| *counts.entry(failure.to_string()).or_default() += 1);
            let counts: Vec<_> = counts.iter().map(|(why, n)| format!("{}: {why}", plural(*n, "execution"))).collect();
            let reason = format!("partition {index} keeps failing: {}", counts.join("; "));
            self.finish(ctx, JobState::Failed, reason);
        }
    }

    /// The result is here: workers need not keep it any more.
    fn release_workers(&mut self, ctx: &mut Context<'_>, index: u32) {
        for id in self.executions_in(index, |state| state == ExecutionState::Agreed) {
            self.settle(ctx, id, Ending::Agreed);
        }
    }

    // --- bidding

    /// Seeks workers for what is missing.
    fn seek(&mut self, ctx: &mut Context<'_>) {
        if self.is_over() {
            return;
        }
        if self.hungry.is_empty() {
            self.bidding.phase = bidding::Phase::Idle;
        } else if self.record.submission.is_local() {
            self.award_here(ctx);
        } else {
            self.seek_peers(ctx);
        }
        self.timers.set(Key::Bidding, self.bidding.deadline());
    }

    fn seek_peers(&mut self, ctx: &mut Context<'_>) {
        match self.bidding.phase {
            bidding::Phase::Open(closes) => {
                // A short grace lets better bids that are on their way be heard.
                if self.bidding.slots(ctx.now) >= self.wanted() && self.could_fill(ctx.now) {
                    let grace = ctx.now + u64::from(2 * ctx.view.delay_ms.clamp(1, 1_000));
                    self.bidding.phase = bidding::Phase::Open(closes.min(grace));
                }
            }
            bidding::Phase::Paused(_) => {
                self.award_candidates(ctx);
            }
            bidding::Phase::Idle => {
                self.award_candidates(ctx);
                if !self.hungry.is_empty() && !self.is_over() {
                    self.announce(ctx);
                }
            }
        }
    }

    fn bidding_due(&mut self, ctx: &mut Context<'_>) {
        match self.bidding.phase {
            bidding::Phase::Open(_) => self.close_round(ctx),
            bidding::Phase::Paused(_) if self.record.submission.is_local() => self.seek(ctx),
            bidding::Phase::Paused(_) => self.announce(ctx),
            bidding::Phase::Idle => {}
        }
        if !self.is_over() {
            self.timers.set(Key::Bidding, self.bidding.deadline());
        }
    }

    /// Asks the mesh who can run what is missing.
    fn announce(&mut self, ctx: &mut Context<'_>) {
        if ctx.yields {
            self.bidding.phase = bidding::Phase::Paused(ctx.now + backoff(3));
            return;
        }
        let round = self.record.rounds;
        let window_ms = suppression::window(ctx.view.mesh_size, ctx.view.delay_ms);
        self.record.rounds += 1;
        self.bidding.open(ctx.now, ctx.now + window_ms + u64::from(2 * ctx.view.delay_ms.min(1_000)));
        let submission = &self.record.submission;
        let announce = Announce {
            job: self.record.job,
            at: ctx.now,
            round,
            wanted: u16::try_from(self.wanted().min(MAX_WANTED)).unwrap_or(u16::MAX),
            partitions: u32::try_from(self.hungry.len()).unwrap_or(u32::MAX),
            excluded: self.excluded(ctx),
            work: BlobHash::of(&submission.work),
            needs: submission.needs.clone(),
            window_ms: u32::try_from(window_ms).unwrap_or(u32::MAX),
            mesh_size: ctx.view.mesh_size,
            refusals: if round == 0 { 0 } else { WANTED_REFUSALS },
            contact: ctx.view.contact.clone(),
        };
        self.event(ctx, Step::Announce, None, None, format!("round {round}, {} wanted", announce.wanted));
        self.save(ctx);
        ctx.out(Output::Gossip(Message::Announce(announce)));
    }

    /// Peers that must not answer: their bids would silence others and could not be taken.
    fn excluded(&self, ctx: &Context<'_>) -> Vec<[u8; 6]> {
        let taken = match self.hungry.keys().next() {
            Some(index) if self.hungry.len() == 1 => self.partitions[index].taken().0,
            _ => BTreeSet::new(),
        };
        let prefixes = taken.into_iter().chain(ctx.ledger.distrusted(ctx.now));
        prefixes.map(|peer| std::array::from_fn(|i| peer.0[i])).take(MAX_EXCLUDED).collect()
    }

    fn close_round(&mut self, ctx: &mut Context<'_>) {
        let awarded = self.award_candidates(ctx);
        if self.hungry.is_empty() || self.is_over() {
            self.bidding.phase = bidding::Phase::Idle;
            return;
        }
        let at_work = self.partitions.values().any(Partition::has_open_executions);
        self.bidding.empty_rounds = if awarded > 0 || at_work { 0 } else { self.bidding.empty_rounds + 1 };
        self.bidding.fruitless = if awarded > 0 { 0 } else { self.bidding.fruitless + 1 };
        if self.bidding.empty_rounds > 0 && self.should_give_up(ctx.now) {
            return self.finish(ctx, JobState::Failed, self.why_unplaced());
        }
        if self.record.state == JobState::Pending && self.bidding.empty_rounds > 1 {
            let why = self.why_unplaced();
            self.event(ctx, Step::Queue, None, None, why.clone());
            self.set_state(ctx, JobState::Queued, why);
        }
        self.bidding.phase = bidding::Phase::Paused(ctx.now + backoff(self.bidding.fruitless));
    }

    fn should_give_up(&self, now: Time) -> bool {
        let queue = self.record.submission.queue_timeout_ms;
        let waited = now >= self.record.created + queue;
        let patience = if queue > 0 { waited } else { !self.bidding.is_busy() };
        patience && self.bidding.empty_rounds >= if queue > 0 { 1 } else { MAX_EMPTY_ROUNDS }
    }

    /// Why some execution has no worker, for a person.
    fn why_unplaced(&self) -> String {
        let reasons = auction::summary(self.bidding.refusals.values());
        let nobody = match reasons.is_empty() {
            true => format!("no peer could take it in {}", plural(self.record.rounds, "announcement")),
            false => reasons,
        };
        let Some((index, partition)) = self.hungry.keys().next().map(|index| (index, &self.partitions[index])) else {
            return nobody;
        };
        let votes = partition.votes();
        let differ = votes.windows(2).any(|pair| pair[0] != pair[1]);
        let live = partition.executions.iter().filter(|e| e.record.state.is_live()).count();
        if differ {
            format!("disputed: partition {index}: {}, and nobody else to ask: {nobody}", self.tally(*index))
        } else if votes.len() + live > 0 {
            let (found, wanted) = (votes.len() + live, self.policy().agreement);
            format!("only {found} of {wanted} independent workers that must agree could be found: {nobody}")
        } else {
            nobody
        }
    }

    /// Gives out what is missing to those who offered; returns how many executions were awarded.
    fn award_candidates(&mut self, ctx: &mut Context<'_>) -> u32 {
        let mut awarded = 0;
        let hungry: Vec<(u32, u32)> = self.hungry.iter().map(|(index, missing)| (*index, *missing)).collect();
        for (index, missing) in hungry {
            for _ in 0..missing {
                if self.bidding.slots(ctx.now) == 0 {
                    return awarded;
                }
                let partition = &self.partitions[&index];
                let (taken, groups) = partition.taken();
                let failures = |worker| partition.failures_of(worker);
                let Some(picked) = self.bidding.pick(ctx.now, &taken, &groups, failures) else { break };
                let group = picked.group();
                self.award(ctx, index, picked.worker, picked.bid.contact, group);
                awarded += 1;
            }
        }
        awarded
    }

    /// For want of a mesh this node runs the job itself, as much at once as it has room for.
    fn award_here(&mut self, ctx: &mut Context<'_>) {
        if matches!(self.bidding.phase, bidding::Phase::Paused(at) if at > ctx.now) {
            return;
        }
        self.bidding.phase = bidding::Phase::Idle;
        let room = usize::from(auction::slots(&self.record.submission.needs.resources, &ctx.own_capacity).max(1));
        let open = |partition: &&Partition| partition.has_open_executions();
        let at_work = self.partitions.values().filter(open).count();
        let hungry: Vec<u32> = self.hungry.keys().copied().take(room.saturating_sub(at_work)).collect();
        for index in hungry {
            self.award(ctx, index, ctx.me, Contact::default(), None);
        }
    }

    /// Whether the candidates suffice for every partition, as far as can be told without giving anything out.
    fn could_fill(&self, now: Time) -> bool {
        let single = self.hungry.keys().next().filter(|_| self.hungry.len() == 1);
        let Some(index) = single else { return true };
        let (mut taken, mut groups) = self.partitions[index].taken();
        (0..self.hungry[index]).all(|_| {
            let picked = self.bidding.best(now, &taken, &groups);
            picked.is_some_and(|candidate| {
                groups.extend(candidate.group());
                taken.insert(candidate.worker)
            })
        })
    }

    fn award(&mut self, ctx: &mut Context<'_>, index: u32, worker: PeerId, contact: Contact, group: Option<String>) {
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        let attempt = u32::try_from(partition.executions.len()).unwrap_or(u32::MAX);
        let id = ExecutionId::derive(self.record.job, index, attempt);
        let record = ExecutionRecord {
            job: self.record.job,
            execution: id,
            partition: index,
            attempt,
            worker,
            contact,
            group,
            state: ExecutionState::Awarded,
            awarded: ctx.now,
            modified: ctx.now,
            committed: None,
            revealed: None,
            evidence: Vec::new(),
            failure: None,
        };
        self.index.insert(id, (index, partition.executions.len()));
        partition.executions.push(Execution::new(record, ctx.now, Resend::after(ctx.now)));
        (self.bidding.empty_rounds, self.bidding.fruitless) = (0, 0);
        // Saved first: an award that is forgotten would be given to somebody else as well.
        self.change(ctx, id, ExecutionState::Awarded);
        self.event(ctx, Step::Award, Some(id), Some(worker), format!("partition {index}"));
        if matches!(self.record.state, JobState::Pending | JobState::Queued) {
            self.set_state(ctx, JobState::Running, String::new());
        }
        self.send_award(ctx, id);
        self.reschedule(index);
    }

    fn send_award(&self, ctx: &mut Context<'_>, id: ExecutionId) {
        let Some(execution) = self.known(id) else { return };
        let submission = &self.record.submission;
        let award = Award {
            job: self.record.job,
            execution: id,
            partition: execution.record.partition,
            attempt: execution.record.attempt,
            nonce: submission.nonce,
            work: submission.work.clone(),
            resources: submission.needs.resources,
            contact: ctx.view.contact.clone(),
        };
        ctx.send(execution.record.worker, Message::Award(award));
    }

    // --- bookkeeping

    /// Ends an execution without a vote.
    fn fail(&mut self, ctx: &mut Context<'_>, id: ExecutionId, failure: Failure) {
        let Some((_, execution)) = self.by_id(id) else { return };
        let worker = execution.record.worker;
        execution.record.failure = Some(failure.clone());
        self.change(ctx, id, ExecutionState::Failed);
        self.event(ctx, Step::Fail, Some(id), Some(worker), failure.to_string());
        if matches!(failure, Failure::Unrevealed | Failure::FalseReveal) {
            ctx.note(worker, Sign::Fault);
        }
        if matches!(failure, Failure::TooLate | Failure::Lost | Failure::Unrevealed | Failure::FalseReveal) {
            self.settle(ctx, id, Ending::Cancelled);
        }
        if self.record.submission.is_local() {
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
        ctx.out(Output::End(self.record.job));
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
        let mut counts: BTreeMap<Claim, u32> = BTreeMap::new();
        self.partitions[&index].votes().into_iter().for_each(|claim| *counts.entry(claim).or_default() += 1);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(claim, count)| (std::cmp::Reverse(*count), *claim));
        let lines = counts.iter().map(|(claim, count)| {
            format!("{} for {} ({})", plural(*count, "vote"), claim.result.short(), claim.outcome)
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

#[cfg(test)]
mod tests;
