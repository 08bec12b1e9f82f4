//! An execution of the past that its requester looks into: run → answer.
//!
//! One at a time, from spare capacity, and only for who had the execution run: it is work that nobody pays for.

use super::Worker;

use crate::id::{ExecutionId, JobId, PeerId};
use crate::limits::MAX_TRACES;
use crate::machine::{Context, Output};
use crate::message::{Message, Resources, Trace, TraceAnswer, TracePlease};
use crate::task::Failure;
use crate::trace::Rerun;

/// The run that is looked into, or was last.
#[derive(Debug)]
pub(super) struct Again {
    requester: PeerId,
    job: JobId,
    execution: ExecutionId,
    number: u64,
    resources: Resources,
    answer: TraceAnswer,
}

impl Again {
    fn is_running(&self) -> bool {
        self.answer == TraceAnswer::Running
    }

    fn tell(&self, ctx: &mut Context<'_>) {
        let (job, execution, number) = (self.job, self.execution, self.number);
        let answer = self.answer.clone();
        ctx.send(self.requester, Message::Trace(Trace { job, execution, number, answer }));
    }
}

impl Worker {
    /// The requester of an execution of the past wants a trace of it, perhaps not for the first time.
    pub(crate) fn trace_please(&mut self, ctx: &mut Context<'_>, from: PeerId, please: TracePlease) {
        let (job, execution, number) = (please.award.job, please.award.execution, please.number);
        if let Some(again) = &self.again
            && (again.requester, again.execution, again.number) == (from, execution, number)
        {
            return again.tell(ctx);
        }
        if let Err(why) = self.run_again(ctx, from, please) {
            let answer = TraceAnswer::Failed(Failure::Declined(why.into()));
            ctx.send(from, Message::Trace(Trace { job, execution, number, answer }));
        }
    }

    fn run_again(&mut self, ctx: &mut Context<'_>, from: PeerId, please: TracePlease) -> Result<(), &'static str> {
        let TracePlease { award, number, request } = please;
        let work = self.check(from, &award)?;
        if !work.invocation.unread.is_empty() {
            return Err("it read sources that may hold something else now");
        }
        let traces = *self.ended.get(&award.execution).ok_or("it remembers no such execution")?;
        if traces >= MAX_TRACES {
            return Err("it was looked into often enough");
        }
        if self.again.as_ref().is_some_and(Again::is_running) {
            return Err("another execution is being looked into");
        }
        if self.room.slots(&self.offering.capacity, &award.resources) == 0 {
            return Err("busy");
        }
        self.ended.insert(award.execution, traces + 1);
        self.room.take(award.resources, true);
        let again = Again {
            requester: from,
            job: award.job,
            execution: award.execution,
            number,
            resources: award.resources,
            answer: TraceAnswer::Running,
        };
        again.tell(ctx);
        self.again = Some(again);
        ctx.out(Output::Learn(from, award.contact));
        let invocation = work.partition(award.partition);
        ctx.out(Output::Rerun {
            execution: award.execution,
            requester: from,
            contents: invocation.contents(),
            max_bytes: award.resources.disk_bytes,
            invocation,
            timeout_ms: work.execution_timeout_ms,
            request,
        });
        Ok(())
    }

    /// The run that is looked into has ended.
    pub(crate) fn rerun(&mut self, ctx: &mut Context<'_>, execution: ExecutionId, ran: Result<Box<Rerun>, Failure>) {
        let Some(again) = self.again.as_mut().filter(|again| again.execution == execution && again.is_running()) else {
            return;
        };
        again.answer = ran.map_or_else(TraceAnswer::Failed, TraceAnswer::Done);
        again.tell(ctx);
        let resources = again.resources;
        self.end_again(ctx, execution, resources);
    }

    /// The requester does not want the trace any more.
    pub(super) fn stop_again(&mut self, ctx: &mut Context<'_>, from: PeerId, execution: ExecutionId) {
        let meant = |again: &&Again| (again.requester, again.execution) == (from, execution) && again.is_running();
        if let Some(again) = self.again.as_ref().filter(meant) {
            let resources = again.resources;
            self.again = None;
            ctx.out(Output::Abort(execution));
            self.end_again(ctx, execution, resources);
        }
    }

    fn end_again(&mut self, ctx: &mut Context<'_>, execution: ExecutionId, resources: Resources) {
        ctx.out(Output::Release(execution));
        self.room.free(resources, true);
    }
}
