//! What workers say of the executions that they were given.

use super::Requester;
use super::partition::Partition;

use crate::commitment;
use crate::id::{ExecutionId, PeerId};
use crate::machine::Context;
use crate::message::{Commit, Ending, Fail, Message, Progress, Refuse, Reveal, Settle, Stage};
use crate::record::{ExecutionState, Step};
use crate::task::{Failure, Work};
use crate::wire;

/// Refusals that are remembered of one round.
const MAX_REFUSALS: usize = 256;

impl Requester {
    pub(super) fn refused(&mut self, ctx: &mut Context<'_>, from: PeerId, refuse: &Refuse) {
        let known = self.bidding.refusals.contains_key(&from);
        if known || refuse.round + 1 != self.record.rounds || self.bidding.refusals.len() >= MAX_REFUSALS {
            return;
        }
        self.event(ctx, Step::Refuse, None, Some(from), refuse.reason.to_string());
        self.bidding.refusals.insert(from, refuse.reason.clone());
    }

    pub(super) fn progressed(&mut self, ctx: &mut Context<'_>, from: PeerId, progress: &Progress) {
        let Some((index, execution)) = self.execution(from, progress.execution) else { return };
        if !execution.record.state.is_open() {
            return self.answer_late(ctx, from, progress.execution);
        }
        (execution.heard, execution.answered) = (ctx.now, true);
        let (state, step) = match progress.stage {
            Stage::Fetching => (ExecutionState::Fetching, Step::Fetch),
            Stage::Preparing => (ExecutionState::Preparing, Step::Prepare),
            Stage::Running => (ExecutionState::Running, Step::Execute),
        };
        let (is_new, is_further) = (execution.record.state < state, execution.comes_further(state, progress.amount));
        if is_new {
            self.change(ctx, progress.execution, state);
        }
        if is_new || is_further {
            let detail = progress.amount.map(|amount| amount.to_string()).unwrap_or_default();
            self.event(ctx, step, Some(progress.execution), Some(from), detail);
        }
        self.reschedule(index);
    }

    pub(super) fn failed(&mut self, ctx: &mut Context<'_>, from: PeerId, fail: &Fail) {
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

    /// A worker speaks another version, in which the award cannot be said.
    pub(crate) fn not_understood(&mut self, ctx: &mut Context<'_>, from: PeerId, id: ExecutionId, version: u8) {
        let Some((index, execution)) = self.execution(from, id) else { return };
        // It may have been restarted with another build, which will say so itself if it has forgotten the execution.
        if !execution.record.state.is_open() || execution.answered {
            return;
        }
        self.bidding.drop(from);
        self.fail(ctx, id, Failure::OtherVersion(version));
        self.advance(ctx, index);
    }

    pub(super) fn committed(&mut self, ctx: &mut Context<'_>, from: PeerId, commit: &Commit) {
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

    pub(super) fn revealed(&mut self, ctx: &mut Context<'_>, from: PeerId, reveal: &Reveal, evidence: &[u8]) {
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
        execution.record.account = Some(reveal.account.clone());
        let seal = commitment::commit(job, reveal.execution, from, &reveal.claim, &reveal.salt);
        let opens = execution.record.committed.is_some_and(|(commitment, _)| commitment == seal);
        let invocation = wire::parse::<Work>(&work).map(|work| work.partition(index).id());
        if opens && invocation == Ok(reveal.invocation) {
            self.know_compared(reveal.execution, reveal.claim);
            self.change(ctx, reveal.execution, ExecutionState::Revealed);
            let detail = format!("{}, result {}", reveal.claim.outcome, reveal.claim.result);
            self.event(ctx, Step::Reveal, Some(reveal.execution), Some(from), detail);
        } else {
            self.fail(ctx, reveal.execution, Failure::FalseReveal);
        }
        self.advance(ctx, index);
    }

    /// A worker speaks of an execution that is over for us: it need not keep anything for it.
    pub(super) fn answer_late(&self, ctx: &mut Context<'_>, to: PeerId, execution: ExecutionId) {
        let Some(known) = self.known(execution) else { return };
        let here = self.partitions.get(&known.record.partition).is_some_and(Partition::is_here);
        let ending = match known.record.state {
            // What was said before its commitment has been overtaken.
            live if live.is_live() => return,
            ExecutionState::Agreed if here => self.agreed(),
            // Its result may still have to be fetched.
            ExecutionState::Agreed | ExecutionState::Revealed => return,
            ExecutionState::Dissented => Ending::Dissented,
            ExecutionState::Cancelled => Ending::Cancelled,
            _ if known.record.committed.is_none() => Ending::Cancelled,
            _ => Ending::Unused,
        };
        ctx.send(to, Message::Settle(Settle { job: self.record.job, execution, ending }));
    }
}
