//! What is next for a partition: open the answers, judge them, fetch the result, or give up.

use super::Requester;
use super::partition::{Next, Phase};

use crate::credibility::Sign;
use crate::id::ExecutionId;
use crate::limits::{LEASE_MS, MAX_EXECUTIONS, MAX_FAILURES, REVEAL_MS};
use crate::machine::{Context, Output};
use crate::message::{Ending, Message, RevealPlease};
use crate::record::{ExecutionState, JobState, Step};
use crate::task::{Claim, Failure};
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
    pub(super) fn accept(&mut self, ctx: &mut Context<'_>, index: u32, claim: Claim) {
        self.tell_verdict(ctx, index, claim);
        let detail = match self.policy().agreement > 1 {
            true => format!("partition {index}: {}", self.tally(index)),
            false => format!("partition {index}: one execution, compared with no other"),
        };
        self.event(ctx, Step::Verify, None, None, detail);
        self.collect(ctx, index, claim, 0);
    }

    /// Sorts the open answers into those that are the result and those that are not.
    pub(super) fn tell_verdict(&mut self, ctx: &mut Context<'_>, index: u32, claim: Claim) {
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

    pub(super) fn collect(&mut self, ctx: &mut Context<'_>, index: u32, claim: Claim, tries: u32) {
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        partition.phase = Phase::Accepted { claim, tries, again: None };
        let agreed = partition.executions.iter().filter(|e| e.record.state == ExecutionState::Agreed);
        let from = agreed.map(|e| e.record.worker).collect();
        let max_bytes = self.record.submission.output_bytes;
        ctx.out(Output::Collect { job: self.record.job, partition: index, result: claim.result, max_bytes, from });
    }

    pub(super) fn partition_due(&mut self, ctx: &mut Context<'_>, index: u32) {
        let Some(partition) = self.partitions.get(&index) else { return };
        match partition.phase {
            Phase::Accepted { claim, tries, again: Some(at) } if at <= ctx.now => {
                self.collect(ctx, index, claim, tries);
            }
            Phase::Publishing { claim, tries, again: Some(at) } if at <= ctx.now => {
                self.publish(ctx, index, claim, tries);
            }
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
    pub(super) fn check_failures(&mut self, ctx: &mut Context<'_>, index: u32) {
        let Some(partition) = self.partitions.get(&index).filter(|p| p.phase == Phase::Open) else { return };
        let failures = partition.executions.iter().filter_map(|e| e.record.failure.as_ref());
        let of_machines = |failure: &&Failure| {
            matches!(failure, Failure::HostFailed(_) | Failure::InputMissing(_) | Failure::TimedOut)
        };
        let hopeless = failures.filter(of_machines).count() >= MAX_FAILURES;
        let exhausted = partition.executions.len() >= MAX_EXECUTIONS as usize && partition.missing(self.policy()) > 0;
        if hopeless || exhausted {
            let reason = format!("partition {index}: {}", partition.why_failed());
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
