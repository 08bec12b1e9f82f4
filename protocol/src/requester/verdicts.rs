//! What is next for a partition: open the answers, judge them, fetch the result, or give up.

use std::collections::BTreeSet;

use super::Requester;
use super::partition::{Next, Phase};

use crate::credibility::Sign;
use crate::id::ExecutionId;
use crate::limits::{LEASE_MS, MAX_EXECUTIONS, MAX_FAILURES, REVEAL_MS};
use crate::machine::{Context, Output};
use crate::message::{Ending, ExecutorKind, Message, RevealPlease};
use crate::record::{ExecutionRecord, ExecutionState, JobState, Placement, Record, Step};
use crate::task::Failure;
use crate::timers::Resend;
use crate::verdict::Verdict;

impl Requester {
    /// Does what a partition needs next, until that is to wait.
    pub(super) fn advance(&mut self, ctx: &mut Context<'_>, index: u32) {
        self.settle_partition(ctx, index);
        self.seek(ctx);
    }

    pub(super) fn settle_partition(&mut self, ctx: &mut Context<'_>, index: u32) {
        let policy = self.policy();
        self.examine_votes(ctx, index);
        self.validate_votes(ctx, index);
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

    pub(super) fn ask_reveals(&mut self, ctx: &mut Context<'_>, index: u32) {
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

    pub(super) fn judged(&mut self, ctx: &mut Context<'_>, index: u32, verdict: Verdict) {
        match verdict {
            Verdict::Accepted(camp) => self.accept(ctx, index, camp),
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

    /// A camp is believed: remembers who is of it and who is not, and fetches its result.
    pub(super) fn accept(&mut self, ctx: &mut Context<'_>, index: u32, camp: usize) {
        let Some(partition) = self.partitions.get(&index) else { return };
        let (votes, Ok(camps)) = (partition.votes(), partition.camps()) else { return };
        let agreed: BTreeSet<ExecutionId> = camps[camp].iter().map(|place| votes[*place].0).collect();
        self.tell_verdict(ctx, index, &agreed);
        let detail = match self.policy().agreement > 1 {
            true => format!("partition {index}: {}", self.tally(index)),
            false => format!("partition {index}: one execution, compared with no other"),
        };
        self.event(ctx, Step::Verify, None, None, detail);
        self.collect(ctx, index, 0);
    }

    /// Sorts the open answers into those that agree with the result and those that do not.
    pub(super) fn tell_verdict(&mut self, ctx: &mut Context<'_>, index: u32, agreed: &BTreeSet<ExecutionId>) {
        let open = self.executions_in(index, |state| state == ExecutionState::Revealed);
        let (agreed, dissented): (Vec<_>, Vec<_>) = open.into_iter().partition(|id| agreed.contains(id));
        // Those first: once somebody has agreed, whoever is left has too, and nothing has to be compared to know that.
        for id in &dissented {
            self.mark(ctx, *id, ExecutionState::Dissented, self.dissent());
        }
        for id in agreed {
            self.mark(ctx, id, ExecutionState::Agreed, Sign::Agreed);
        }
        for id in dissented {
            self.settle(ctx, id, Ending::Dissented);
        }
    }

    /// What dissent shows. Where results need not be the same, honest ones may be too far apart.
    fn dissent(&self) -> Sign {
        match self.record.submission.needs.executor {
            ExecutorKind::Wasm if self.validator.is_none() => Sign::Dissented,
            ExecutorKind::Wasm | ExecutorKind::Docker => Sign::Fault,
        }
    }

    fn mark(&mut self, ctx: &mut Context<'_>, id: ExecutionId, state: ExecutionState, sign: Sign) {
        let Some(worker) = self.known(id).map(|execution| execution.record.worker) else { return };
        self.change(ctx, id, state);
        if self.policy().agreement > 1 {
            ctx.note(worker, sign);
        }
    }

    /// Fetches the result of the first of those that agree, from whoever has the same.
    pub(super) fn collect(&mut self, ctx: &mut Context<'_>, index: u32, tries: u32) {
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        partition.phase = Phase::Accepted { tries, again: None };
        let Some(result) = partition.believed().and_then(ExecutionRecord::result) else { return };
        let have = partition.executions.iter().map(|execution| &execution.record);
        let have = have.filter(|record| record.is_believed() && record.result() == Some(result));
        let from = have.map(|record| record.worker).collect();
        let max_bytes = self.record.submission.output_bytes;
        ctx.out(Output::Collect { job: self.record.job, partition: index, result, max_bytes, from });
    }

    /// A result was agreed on, and nobody gives it. Others may agree with it whose results are not the same in every
    /// byte: says whether there is one.
    pub(super) fn pass_over(&mut self, ctx: &mut Context<'_>, index: u32) -> bool {
        let Some(partition) = self.partitions.get(&index) else { return false };
        let withheld = partition.believed().and_then(ExecutionRecord::result);
        let believed = partition.executions.iter().map(|execution| &execution.record);
        let (same, others): (Vec<_>, Vec<_>) =
            believed.filter(|record| record.is_believed()).partition(|record| record.result() == withheld);
        if others.is_empty() {
            return false;
        }
        for id in same.into_iter().map(|record| record.execution).collect::<Vec<_>>() {
            let Some((_, execution)) = self.by_id(id) else { continue };
            execution.record.failure = Some(Failure::Withheld);
            ctx.save(Record::Execution(Box::new(execution.record.clone())));
            ctx.note(execution.record.worker, Sign::Fault);
        }
        true
    }

    pub(super) fn partition_due(&mut self, ctx: &mut Context<'_>, index: u32) {
        let Some(partition) = self.partitions.get(&index) else { return };
        match partition.phase {
            Phase::Accepted { tries, again: Some(at) } if at <= ctx.now => self.collect(ctx, index, tries),
            Phase::Publishing { tries, again: Some(at) } if at <= ctx.now => self.publish(ctx, index, tries),
            _ => {}
        }
        for id in self.executions_in(index, ExecutionState::is_live) {
            self.execution_due(ctx, id);
        }
        self.advance(ctx, index);
    }

    /// Repeats what was not answered; gives up a worker that was silent for too long.
    pub(super) fn execution_due(&mut self, ctx: &mut Context<'_>, id: ExecutionId) {
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
                let (worker, answered) = (execution.record.worker, execution.answered);
                self.bidding.drop(worker);
                if !answered {
                    ctx.note(worker, Sign::Unstarted);
                }
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
    pub(super) fn check_failures(&mut self, ctx: &mut Context<'_>, index: u32) {
        let Some(partition) = self.partitions.get(&index).filter(|p| p.phase == Phase::Open) else { return };
        let failures = partition.executions.iter().filter_map(|e| e.record.failure.as_ref());
        let of_machines = |failure: &&Failure| {
            matches!(failure, Failure::HostFailed(_) | Failure::InputMissing(_) | Failure::TimedOut)
        };
        let hopeless = failures.filter(of_machines).count() >= MAX_FAILURES;
        let exhausted = partition.executions.len() >= MAX_EXECUTIONS as usize && partition.missing(self.policy()) > 0;
        // For want of a mesh there is nobody else.
        let only_here = self.placement() == Placement::Here && partition.missing(self.policy()) > 0;
        if hopeless || exhausted || only_here && self.has_done_its_best(ctx.me, partition) {
            let why = self.why_nobody(ctx.me, &partition.why_failed(), &partition.taken());
            let reason = format!("partition {index}: {why}");
            self.finish(ctx, JobState::Failed, reason);
        }
    }

    /// The result is here: nothing depends on workers that have it any more.
    pub(super) fn release_workers(&mut self, ctx: &mut Context<'_>, index: u32) {
        let ending = self.agreed();
        for id in self.executions_in(index, |state| state == ExecutionState::Agreed) {
            self.settle(ctx, id, ending);
        }
    }
}
