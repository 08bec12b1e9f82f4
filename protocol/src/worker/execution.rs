//! One execution, seen by its worker: fetch → prepare → execute → commit → reveal.

use std::mem;

use crate::commitment::{self, Salt};
use crate::credibility::Sign;
use crate::id::{JobId, PeerId};
use crate::limits::{FIRST_PROGRESS_MS, PROGRESS_MS, UNSETTLED_MS};
use crate::machine::{Context, Key, Output};
use crate::message::{Amount, Award, Commit, Ending, Fail, Message, Progress, Resources, Reveal, Stage};
use crate::record::{Answer, HeldRecord, Placement, Record};
use crate::task::{Account, Claim, Engine, Failure, Work};
use crate::time::{Millis, Time};
use crate::timers::Resend;

/// What came of running a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended and what it left.
    pub claim: Claim,
    /// Size of the result, in bytes.
    pub result_bytes: u64,
    /// How long it took, in milliseconds.
    pub run_ms: Millis,
    /// What it used and called.
    pub account: Account,
}

#[derive(Debug)]
pub(super) struct Execution {
    record: HeldRecord,
    work: Work,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Fetching {
        progress: Time,
    },
    /// The engine is given the image. A module needs none of this.
    Preparing {
        progress: Time,
        amount: Option<Amount>,
    },
    Running {
        progress: Time,
    },
    Committed {
        answer: Answer,
        resend: Resend,
        until: Time,
    },
    Revealed {
        answer: Answer,
        resend: Resend,
        until: Time,
    },
    Over,
}

impl Phase {
    /// Whether the program has yet to end.
    fn has_not_ended(&self) -> bool {
        matches!(self, Phase::Fetching { .. } | Phase::Preparing { .. } | Phase::Running { .. })
    }
}

/// What can happen to an execution.
#[derive(Debug)]
pub(super) enum Step {
    Award,
    Fetched(Result<(), Failure>),
    Preparing(Amount),
    Started,
    Executed(Result<Finished, Failure>),
    RevealPlease,
    Settle(Ending),
    Tick,
}

impl Execution {
    /// Begins: everything the program needs is fetched.
    pub(super) fn fetch(
        ctx: &mut Context<'_>,
        requester: PeerId,
        award: Award,
        work: Work,
        (placement, image_name): (Placement, String),
    ) -> Self {
        let record = HeldRecord {
            job: award.job,
            execution: award.execution,
            requester,
            contact: award.contact,
            partition: award.partition,
            work: award.work,
            resources: award.resources,
            awarded: ctx.now,
            answer: None,
        };
        // Saved first: after a crash the requester is told at once, instead of waiting for the lease to end.
        ctx.save(Record::Held(Box::new(record.clone())));
        ctx.out(Output::Learn(requester, record.contact.clone()));
        ctx.out(Output::Fetch {
            execution: record.execution,
            job: record.job,
            from: requester,
            placement,
            invocation: Box::new(work.partition(record.partition)),
            image_name,
            resources: record.resources,
            timeout_ms: work.execution_timeout_ms,
            partition: (record.partition, work.partitions),
        });
        Self { record, work, phase: Phase::Fetching { progress: ctx.now + FIRST_PROGRESS_MS } }
    }

    /// Takes up what was saved: a sealed answer, or a program that outlives its node.
    pub(super) fn restore(ctx: &mut Context<'_>, record: HeldRecord) -> Option<Self> {
        let goes_on = record.may_have_gone_on();
        let (work, phase) = match (crate::wire::parse(&record.work).ok(), record.answer.clone()) {
            (Some(work), Some(answer)) => {
                let (resend, until) = (Resend::at_once(ctx.now), ctx.now + UNSETTLED_MS);
                (work, Phase::Committed { answer, resend, until })
            }
            // What becomes of it is soon known, so the requester is told nothing yet.
            (Some(work), None) if goes_on => (work, Phase::Running { progress: ctx.now + FIRST_PROGRESS_MS }),
            _ => {
                give_up(ctx, &record);
                return None;
            }
        };
        ctx.out(Output::Learn(record.requester, record.contact.clone()));
        let restored = Self { record, work, phase };
        if restored.is_running() {
            restored.resume(ctx);
        }
        Some(restored)
    }

    /// Takes one step. This table is the worker's whole part after the award.
    pub(super) fn handle(&mut self, ctx: &mut Context<'_>, step: Step) {
        self.phase = match (mem::replace(&mut self.phase, Phase::Over), step) {
            (Phase::Over, _) => Phase::Over,
            (phase, Step::Settle(ending)) => {
                tracing::debug!(execution = %self.record.execution, ?ending, "settled");
                self.keep(ctx, &phase, ending);
                self.release(ctx, &phase)
            }
            (Phase::Fetching { .. }, Step::Fetched(Ok(()))) => self.execute(ctx),
            (Phase::Fetching { .. }, Step::Fetched(Err(failure))) => self.fail(ctx, failure),
            (Phase::Preparing { progress, .. }, Step::Preparing(amount)) => {
                Phase::Preparing { progress, amount: Some(amount) }
            }
            (Phase::Preparing { .. }, Step::Started) => Phase::Running { progress: ctx.now + FIRST_PROGRESS_MS },
            (Phase::Preparing { .. } | Phase::Running { .. }, Step::Executed(Ok(finished))) => {
                self.commit(ctx, finished)
            }
            (Phase::Preparing { .. } | Phase::Running { .. }, Step::Executed(Err(failure))) => self.fail(ctx, failure),
            (Phase::Committed { answer, until, .. } | Phase::Revealed { answer, until, .. }, Step::RevealPlease) => {
                self.reveal(ctx, answer, until)
            }
            (phase, Step::Award) => self.repeat(ctx, phase),
            (phase, Step::Tick) => self.tick(ctx, phase),
            (phase, step) => {
                tracing::debug!(execution = %self.record.execution, ?phase, ?step, "ignored");
                phase
            }
        };
    }

    pub(super) fn deadline(&self) -> Time {
        match &self.phase {
            Phase::Fetching { progress } | Phase::Preparing { progress, .. } | Phase::Running { progress } => *progress,
            Phase::Committed { resend, until, .. } | Phase::Revealed { resend, until, .. } => resend.at.min(*until),
            Phase::Over => Time::NEVER,
        }
    }

    pub(super) fn job(&self) -> JobId {
        self.record.job
    }

    pub(super) fn requester(&self) -> PeerId {
        self.record.requester
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Whether its program has not ended.
    pub(super) fn is_running(&self) -> bool {
        self.phase.has_not_ended()
    }

    /// The capacity that it uses up: none once its program has ended.
    pub(super) fn occupies(&self) -> Resources {
        if self.is_running() { self.record.resources } else { Resources::default() }
    }

    fn execute(&mut self, ctx: &mut Context<'_>) -> Phase {
        ctx.out(Output::Execute {
            execution: self.record.execution,
            requester: self.record.requester,
            invocation: self.work.partition(self.record.partition),
            timeout_ms: self.work.execution_timeout_ms,
        });
        let progress = ctx.now + FIRST_PROGRESS_MS;
        match &self.work.invocation.engine {
            Engine::Wasm(_) => Phase::Running { progress },
            Engine::Docker(_) => Phase::Preparing { progress, amount: None },
        }
    }

    fn resume(&self, ctx: &mut Context<'_>) {
        ctx.out(Output::Resume {
            execution: self.record.execution,
            requester: self.record.requester,
            invocation: self.work.partition(self.record.partition),
            timeout_ms: self.work.execution_timeout_ms,
            max_bytes: self.record.resources.disk_bytes,
        });
    }

    fn commit(&mut self, ctx: &mut Context<'_>, finished: Finished) -> Phase {
        let Finished { claim, result_bytes, run_ms, account } = finished;
        let answer = Answer { claim, result_bytes, run_ms, account, salt: Salt(ctx.secret()) };
        self.record.answer = Some(answer.clone());
        // Saved first: a worker that forgets its salt can never reveal.
        ctx.save(Record::Held(Box::new(self.record.clone())));
        self.send_commit(ctx, &answer);
        Phase::Committed { answer, resend: Resend::after(ctx.now), until: ctx.now + UNSETTLED_MS }
    }

    fn reveal(&mut self, ctx: &mut Context<'_>, answer: Answer, until: Time) -> Phase {
        self.send_reveal(ctx, &answer);
        Phase::Revealed { answer, resend: Resend::after(ctx.now), until }
    }

    /// The award came again: the requester does not know how far this is.
    fn repeat(&mut self, ctx: &mut Context<'_>, phase: Phase) -> Phase {
        match &phase {
            Phase::Fetching { .. } | Phase::Preparing { .. } | Phase::Running { .. } => self.send_progress(ctx, &phase),
            Phase::Committed { answer, .. } | Phase::Revealed { answer, .. } => self.send_commit(ctx, answer),
            Phase::Over => {}
        }
        phase
    }

    fn tick(&mut self, ctx: &mut Context<'_>, mut phase: Phase) -> Phase {
        match &mut phase {
            Phase::Fetching { progress } | Phase::Preparing { progress, .. } | Phase::Running { progress }
                if *progress <= ctx.now =>
            {
                *progress = ctx.now + PROGRESS_MS;
                self.send_progress(ctx, &phase);
            }
            Phase::Committed { until, .. } | Phase::Revealed { until, .. } if *until <= ctx.now => {
                tracing::debug!(execution = %self.record.execution, "never settled");
                if self.record.requester != ctx.me {
                    ctx.note(self.record.requester, Sign::Unsettled);
                }
                return self.release(ctx, &phase);
            }
            Phase::Committed { answer, resend, .. } if resend.is_due(ctx.now) => {
                resend.repeated(ctx.now);
                self.send_commit(ctx, answer);
            }
            Phase::Revealed { answer, resend, .. } if resend.is_due(ctx.now) => {
                resend.repeated(ctx.now);
                self.send_reveal(ctx, answer);
            }
            _ => {}
        }
        phase
    }

    fn fail(&mut self, ctx: &mut Context<'_>, failure: Failure) -> Phase {
        self.let_go(ctx);
        let (job, execution) = (self.record.job, self.record.execution);
        ctx.send(self.record.requester, Message::Fail(Fail { job, execution, failure }));
        Phase::Over
    }

    /// A result that was agreed on stays for a while, for others than its requester, who has it.
    fn keep(&self, ctx: &mut Context<'_>, phase: &Phase, ending: Ending) {
        let (Phase::Committed { answer, .. } | Phase::Revealed { answer, .. }) = phase else { return };
        if let Ending::Agreed { keep_ms: keep_ms @ 1.. } = ending
            && self.record.requester != ctx.me
        {
            let (execution, result) = (self.record.execution, answer.claim.result);
            ctx.out(Output::Keep { execution, result, keep_ms });
        }
    }

    fn release(&mut self, ctx: &mut Context<'_>, phase: &Phase) -> Phase {
        if phase.has_not_ended() {
            ctx.out(Output::Abort(self.record.execution));
        }
        self.let_go(ctx);
        Phase::Over
    }

    fn let_go(&self, ctx: &mut Context<'_>) {
        // Forgotten first: after a crash between the two it would be asked for what it has let go of.
        ctx.out(Output::Forget(Key::Held(self.record.execution)));
        ctx.out(Output::Release(self.record.execution));
    }

    fn send_progress(&self, ctx: &mut Context<'_>, phase: &Phase) {
        let (stage, amount) = match phase {
            Phase::Fetching { .. } => (Stage::Fetching, None),
            Phase::Preparing { amount, .. } => (Stage::Preparing, *amount),
            _ => (Stage::Running, None),
        };
        let (job, execution) = (self.record.job, self.record.execution);
        ctx.send(self.record.requester, Message::Progress(Progress { job, execution, stage, amount }));
    }

    fn send_commit(&self, ctx: &mut Context<'_>, answer: &Answer) {
        let (job, execution) = (self.record.job, self.record.execution);
        let commitment = commitment::commit(job, execution, ctx.me, &answer.claim, &answer.salt);
        let run_ms = answer.run_ms;
        ctx.send(self.record.requester, Message::Commit(Commit { job, execution, commitment, run_ms }));
    }

    fn send_reveal(&self, ctx: &mut Context<'_>, answer: &Answer) {
        let reveal = Reveal {
            job: self.record.job,
            execution: self.record.execution,
            invocation: self.work.partition(self.record.partition).id(),
            claim: answer.claim,
            salt: answer.salt,
            result_bytes: answer.result_bytes,
            account: answer.account.clone(),
        };
        ctx.send(self.record.requester, Message::Reveal(reveal));
    }
}

/// A run that was cut off by the end of its node.
fn give_up(ctx: &mut Context<'_>, record: &HeldRecord) {
    let (job, execution) = (record.job, record.execution);
    let failure = Failure::HostFailed("the node was restarted during the run".into());
    ctx.send(record.requester, Message::Fail(Fail { job, execution, failure }));
    ctx.out(Output::Forget(Key::Held(execution)));
    ctx.out(Output::Release(execution));
}
