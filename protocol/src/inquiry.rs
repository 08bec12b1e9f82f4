//! Runs that a person wants to look into: asks their workers for a trace until they answer.
//!
//! Nothing of it is saved: whoever asked is gone when the node is.

use std::collections::BTreeMap;

use crate::id::{ExecutionId, PeerId};
use crate::limits::LEASE_MS;
use crate::machine::{Context, Output};
use crate::message::{Award, Contact, Ending, Message, Settle, Trace, TraceAnswer, TracePlease};
use crate::task::Failure;
use crate::time::Time;
use crate::timers::{Resend, Timers};
use crate::trace::TraceRequest;

/// Inquiries that are open at once.
const MAX_INQUIRIES: usize = 8;

/// What a person wants to know of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// Who ran it.
    pub worker: PeerId,
    /// Where the worker was reached.
    pub contact: Contact,
    /// The execution, as it was awarded.
    pub award: Award,
    /// What its run is to note.
    pub request: TraceRequest,
}

#[derive(Debug)]
struct Open {
    worker: PeerId,
    please: TracePlease,
    heard: Time,
    resend: Resend,
}

/// All inquiries of a node that are open.
#[derive(Debug, Default)]
pub(crate) struct Inquiries {
    open: BTreeMap<ExecutionId, Open>,
    timers: Timers<ExecutionId>,
}

impl Inquiries {
    /// Asks; a later question about the same execution takes the place of an earlier one.
    pub(crate) fn begin(&mut self, ctx: &mut Context<'_>, inquiry: Inquiry) {
        let Inquiry { worker, contact, award, request } = inquiry;
        let execution = award.execution;
        if self.open.len() >= MAX_INQUIRIES && !self.open.contains_key(&execution) {
            let failure = Failure::Declined("this node has too many open questions".into());
            return ctx.out(Output::Traced(execution, Err(failure)));
        }
        ctx.out(Output::Learn(worker, contact));
        let please = TracePlease { award, number: ctx.lot(), request };
        ctx.send(worker, Message::TracePlease(please.clone()));
        let open = Open { worker, please, heard: ctx.now, resend: Resend::after(ctx.now) };
        self.timers.set(execution, Some(open.deadline()));
        self.open.insert(execution, open);
    }

    /// Nobody wants the answer any more.
    pub(crate) fn end(&mut self, ctx: &mut Context<'_>, execution: ExecutionId) {
        if let Some(open) = self.close(execution) {
            let settle = Settle { job: open.please.award.job, execution, ending: Ending::Cancelled };
            ctx.send(open.worker, Message::Settle(settle));
        }
    }

    pub(crate) fn answered(&mut self, ctx: &mut Context<'_>, from: PeerId, trace: Trace) {
        let asked = |open: &&mut Open| (open.worker, open.please.number) == (from, trace.number);
        let Some(open) = self.open.get_mut(&trace.execution).filter(asked) else { return };
        let answer = match trace.answer {
            TraceAnswer::Running => {
                open.heard = ctx.now;
                return self.timers.set(trace.execution, Some(open.deadline()));
            }
            TraceAnswer::Done(rerun) => Ok(rerun),
            TraceAnswer::Failed(failure) => Err(failure),
        };
        self.close(trace.execution);
        ctx.out(Output::Traced(trace.execution, answer));
    }

    pub(crate) fn tick(&mut self, ctx: &mut Context<'_>) {
        while let Some(execution) = self.timers.pop(ctx.now) {
            let Some(open) = self.open.get_mut(&execution) else { continue };
            if open.heard + LEASE_MS <= ctx.now {
                self.close(execution);
                ctx.out(Output::Traced(execution, Err(Failure::Lost)));
                continue;
            }
            open.resend.repeated(ctx.now);
            ctx.send(open.worker, Message::TracePlease(open.please.clone()));
            self.timers.set(execution, Some(open.deadline()));
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    fn close(&mut self, execution: ExecutionId) -> Option<Open> {
        self.timers.set(execution, None);
        self.open.remove(&execution)
    }
}

impl Open {
    fn deadline(&self) -> Time {
        self.resend.at.min(self.heard + LEASE_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auction::Offering;
    use crate::id::JobId;
    use crate::machine::{Input, Machine};
    use crate::message::Resources;
    use crate::wire::Sealed;

    const ME: PeerId = PeerId([1; 32]);
    const WORKER: PeerId = PeerId([2; 32]);
    const OTHER: PeerId = PeerId([3; 32]);
    const JOB: JobId = JobId([4; 16]);
    const EXECUTION: ExecutionId = ExecutionId([5; 16]);

    fn inquire(execution: ExecutionId) -> Input {
        let award = Award {
            job: JOB,
            execution,
            partition: 0,
            attempt: 0,
            nonce: 0,
            work: Vec::new(),
            resources: Resources::default(),
            contact: Contact::default(),
        };
        let (contact, request) = (Contact::default(), TraceRequest::NOTHING);
        Input::Inquire(Box::new(Inquiry { worker: WORKER, contact, award, request }))
    }

    fn trace(from: PeerId, number: u64, answer: TraceAnswer) -> Input {
        let trace = Trace { job: JOB, execution: EXECUTION, number, answer };
        Input::Heard(Sealed::assume(from, Some(ME), Message::Trace(trace)))
    }

    fn outputs(machine: &mut Machine, now: u64, input: Input) -> String {
        machine.handle(Time(now), input);
        let name = |output| match output {
            Output::Send(_, message) => message.name().to_owned(),
            Output::Learn(..) => "learn".to_owned(),
            Output::Traced(_, Ok(_)) => "traced".to_owned(),
            Output::Traced(_, Err(failure)) => failure.to_string(),
            other => format!("{other:?}"),
        };
        std::iter::from_fn(|| machine.poll()).map(name).collect::<Vec<_>>().join(", ")
    }

    fn machine() -> Machine {
        Machine::new(ME, Offering::default(), [3; 32])
    }

    #[test]
    fn a_worker_is_asked_until_it_answers() {
        let mut machine = machine();
        machine.handle(Time(0), inquire(EXECUTION));
        let numbers = std::iter::from_fn(|| machine.poll()).filter_map(|output| match output {
            Output::Send(WORKER, Message::TracePlease(please)) => Some(please.number),
            _ => None,
        });
        let number = numbers.last().expect("it asks at once");
        let failed = || TraceAnswer::Failed(Failure::TimedOut);
        let table = [
            (500, Input::Tick, "trace-please"),
            (600, trace(WORKER, number, TraceAnswer::Running), ""),
            (1_500, Input::Tick, "trace-please"),
            (1_600, trace(OTHER, number, failed()), ""),
            (1_600, trace(WORKER, !number, failed()), ""),
            (1_700, trace(WORKER, number, failed()), "execution timeout reached"),
            (1_800, trace(WORKER, number, failed()), ""),
        ];
        for (now, input, expected) in table {
            assert_eq!(outputs(&mut machine, now, input.clone()), expected, "at {now}: {input:?}");
        }
        assert_eq!(machine.deadline(), None);
    }

    #[test]
    fn a_worker_that_says_nothing_is_given_up() {
        let mut machine = machine();
        outputs(&mut machine, 0, inquire(EXECUTION));
        let mut last = String::new();
        while let Some(at) = machine.deadline() {
            assert!(at.0 <= LEASE_MS, "{at:?}");
            last = outputs(&mut machine, at.0, Input::Tick);
        }
        assert_eq!(last, "worker not heard of");
    }

    #[test]
    fn a_worker_that_does_not_understand_the_question_is_given_up_at_once() {
        let mut machine = machine();
        machine.handle(Time(0), inquire(EXECUTION));
        let asked = std::iter::from_fn(|| machine.poll()).find_map(|output| match output {
            Output::Send(WORKER, message) => Some(Sealed::assume(ME, Some(WORKER), message)),
            _ => None,
        });
        let misunderstood = Input::NotUnderstood(WORKER, asked.expect("it asks at once"), 5);
        let told = outputs(&mut machine, 1, misunderstood);
        assert_eq!(told, "refused: it speaks protocol version 5, which lacks something that the job needs");
        assert_eq!(machine.deadline(), None);
    }

    #[test]
    fn who_gives_up_tells_the_worker() {
        let mut machine = machine();
        outputs(&mut machine, 0, inquire(EXECUTION));
        assert_eq!(outputs(&mut machine, 1, Input::EndInquiry(EXECUTION)), "settle");
        assert_eq!((outputs(&mut machine, 2, Input::EndInquiry(EXECUTION)), machine.deadline()), (String::new(), None));
    }

    #[test]
    fn questions_are_bounded() {
        let mut machine = machine();
        for one in 0..MAX_INQUIRIES {
            let execution = ExecutionId([u8::try_from(one).unwrap(); 16]);
            assert_eq!(outputs(&mut machine, 0, inquire(execution)), "learn, trace-please");
        }
        let refused = outputs(&mut machine, 0, inquire(ExecutionId([99; 16])));
        assert_eq!(refused, "declined: this node has too many open questions");
    }
}
