//! One partition of a job, seen by its requester: the executions it has bought, and what is next for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::auction::plural;
use crate::id::{BlobHash, ExecutionId, PeerId};
use crate::limits::{
    FIRST_ROUND_PAUSE_MS, LEASE_MS, LONGEST_ROUND_PAUSE_MS, MAX_ATTEMPTS_PER_WORKER, MAX_TOLD_FAILURES, REVEAL_MS,
    STRAGGLER_FACTOR, STRAGGLER_MS,
};
use crate::message::Amount;
use crate::record::{ExecutionRecord, ExecutionState, Policy};
use crate::task::Failure;
use crate::time::{Millis, Time};
use crate::timers::Resend;
use crate::verdict::{self, Camp, Verdict, Vote};

#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) phase: Phase,
    /// By attempt.
    pub(super) executions: Vec<Execution>,
    /// Since when enough answers are sealed for stragglers to be waited for no longer than it takes.
    enough_at: Option<Time>,
    /// Whether a validator says which votes agree that are not the same.
    has_validator: bool,
    /// What it said of two compared parts of results, in either order.
    pub(super) opinions: BTreeMap<(BlobHash, BlobHash), bool>,
    /// How far it is with the next two.
    pub(super) validation: Effort,
    /// Votes at the last verdict, so that the same one is not told twice.
    judged: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No result is believed yet.
    #[default]
    Open,
    /// A result is believed and being fetched; after a failure again at some time.
    Accepted { tries: u32, again: Option<Time> },
    /// The result is here, and is being published; after a failure again at some time.
    Publishing { tries: u32, again: Option<Time> },
    /// The result is where it is to be.
    Done,
}

#[derive(Debug)]
pub(super) struct Execution {
    pub(super) record: ExecutionRecord,
    /// When its worker was last heard of.
    pub(super) heard: Time,
    /// Whether the worker has answered the award.
    pub(super) answered: bool,
    /// How many tenths of its image the history tells of.
    tenths: u8,
    /// When it was first asked to reveal.
    pub(super) asked: Option<Time>,
    /// When to repeat what has not been answered.
    pub(super) resend: Resend,
    /// How far it is known what of its result is compared.
    pub(super) examination: Effort,
}

/// Something that is tried until it succeeds, or too often.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effort {
    /// Whether an answer is on its way.
    pub(super) is_under_way: bool,
    /// How often it has failed.
    pub(super) failures: u32,
    /// When to try again.
    pub(super) again: Option<Time>,
}

/// What a partition needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Time, messages or workers.
    Wait,
    /// Enough answers are sealed: open them, without those that are still at work.
    AskReveals,
    /// Enough answers are open and agree: do without those that stay sealed.
    CloseReveals,
    /// All answers are open.
    Judge(Verdict),
}

impl Execution {
    pub(super) fn new(record: ExecutionRecord, now: Time, resend: Resend) -> Self {
        let examination = Effort::default();
        Self { record, heard: now, answered: false, tenths: 0, asked: None, resend, examination }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match (self.record.state, self.asked) {
            (state, _) if state.is_open() && self.answered => Some(self.heard + LEASE_MS),
            (state, _) if state.is_open() => Some((self.heard + LEASE_MS).min(self.resend.at)),
            (ExecutionState::Committed, Some(asked)) => Some((asked + REVEAL_MS).min(self.resend.at)),
            _ if self.is_unexamined() => self.examination.again,
            _ => None,
        }
    }

    /// Waits for its worker as if that had only just been heard or asked.
    pub(super) fn begin_to_wait(&mut self, now: Time) {
        self.heard = now;
        self.asked = self.asked.map(|_| now);
        self.resend.at = self.resend.at.max(now);
    }

    /// Whether its worker is another tenth of its image further, which is worth telling.
    pub(super) fn comes_further(&mut self, state: ExecutionState, amount: Option<Amount>) -> bool {
        let tenths = amount.map(Amount::tenths).filter(|_| state == self.record.state).unwrap_or_default();
        let further = state == ExecutionState::Preparing && tenths > self.tenths;
        self.tenths = self.tenths.max(tenths);
        further
    }

    /// Whether its answer counts, and it is not known yet what of that is compared.
    pub(super) fn is_unexamined(&self) -> bool {
        self.record.state.is_vote() && self.record.compared.is_none()
    }

    fn is_sealed(&self) -> bool {
        self.record.state == ExecutionState::Committed
    }
}

impl Partition {
    pub(super) fn new(has_validator: bool) -> Self {
        Self { has_validator, ..Self::default() }
    }

    /// What the partition needs now.
    pub(super) fn next(&mut self, now: Time, policy: Policy) -> Next {
        if self.phase != Phase::Open {
            return Next::Wait;
        }
        let (open, revealed) = (self.count(|e| e.record.state.is_open()), self.count(|e| e.record.state.is_vote()));
        let (sealed, asked) = (self.count(Execution::is_sealed), self.count(|e| e.is_sealed() && e.asked.is_some()));
        if sealed > asked && sealed + revealed >= policy.agreement as usize {
            let enough_at = *self.enough_at.get_or_insert(now);
            let waited = enough_at + self.patience() <= now;
            return if open == 0 || waited { Next::AskReveals } else { Next::Wait };
        }
        self.enough_at = None;
        if asked > 0 {
            let patient = self.reveals_close(policy).is_none_or(|at| now < at);
            return if patient { Next::Wait } else { Next::CloseReveals };
        }
        if revealed == 0 || open > 0 || revealed == self.judged || self.unexamined() > 0 {
            return Next::Wait;
        }
        let Ok(camps) = self.camps() else { return Next::Wait };
        self.judged = revealed;
        Next::Judge(verdict::judge(&camps, policy))
    }

    /// How many more executions it needs.
    pub(super) fn missing(&self, policy: Policy) -> u32 {
        if self.phase != Phase::Open || self.executions.iter().any(|e| e.is_sealed() && e.asked.is_some()) {
            return 0;
        }
        // What is being compared may suffice.
        let Ok(camps) = self.camps() else { return 0 };
        let live = self.count(|e| e.record.state.is_live() || e.is_unexamined());
        let target = match verdict::judge(&camps, policy) {
            Verdict::More(_) if camps.is_empty() => policy.executions,
            Verdict::More(more) => more,
            Verdict::Accepted(_) | Verdict::Disputed => 0,
        };
        target.saturating_sub(u32::try_from(live).unwrap_or(u32::MAX))
    }

    /// When to look again, if nothing happens before.
    pub(super) fn deadline(&self, policy: Policy) -> Option<Time> {
        let again = match self.phase {
            Phase::Accepted { again, .. } | Phase::Publishing { again, .. } => again,
            Phase::Open => self.validation.again,
            Phase::Done => None,
        };
        let stragglers = self.enough_at.map(|at| at + self.patience());
        let executions = self.executions.iter().filter_map(Execution::deadline);
        executions.chain(again).chain(stragglers).chain(self.reveals_close(policy)).min()
    }

    /// Workers that may not get this partition, and groups that are in it already.
    pub(super) fn taken(&self) -> (BTreeSet<PeerId>, BTreeSet<String>) {
        let workers = self.executions.iter().map(|e| e.record.worker).filter(|worker| self.is_taken(*worker));
        let present = self.executions.iter().filter(|e| e.record.state.is_live() || e.record.state.is_vote());
        (workers.collect(), present.filter_map(|e| e.record.group.clone()).collect())
    }

    /// How often a worker has failed at this partition.
    pub(super) fn failures_of(&self, worker: PeerId) -> u32 {
        let failed = |e: &Execution| e.record.worker == worker && e.record.state == ExecutionState::Failed;
        u32::try_from(self.count(failed)).unwrap_or(u32::MAX)
    }

    /// Why executions failed, counted: "3 executions failed: input missing: …; 1: execution timeout reached". Empty if
    /// none did. Refusals are told with those of peers that did not even bid.
    pub(super) fn why_failed(&self) -> String {
        let mut counts = BTreeMap::<String, u32>::new();
        let failures = self.executions.iter().filter_map(|e| e.record.failure.as_ref());
        let failures = failures.filter(|failure| !failure.is_refusal());
        failures.for_each(|failure| *counts.entry(failure.to_string()).or_default() += 1);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| Reverse(*count));
        let rest: u32 = counts.drain(counts.len().min(MAX_TOLD_FAILURES)..).map(|(_, count)| count).sum();
        counts.extend((rest > 0).then(|| ("for other reasons".to_owned(), rest)));
        let lines = counts.into_iter().enumerate().map(|(place, (why, count))| match place {
            0 => format!("{} failed: {why}", plural(count, "execution")),
            _ => format!("{count}: {why}"),
        });
        lines.collect::<Vec<_>>().join("; ")
    }

    /// The votes of which it is known what is compared, by attempt.
    pub(super) fn votes(&self) -> Vec<(ExecutionId, Vote)> {
        self.executions.iter().filter_map(|e| Some((e.record.execution, e.record.vote()?))).collect()
    }

    /// The votes, sorted into those that agree, by their places; or the two of which the validator has to be asked.
    pub(super) fn camps(&self) -> Result<Vec<Camp>, (usize, usize)> {
        let votes: Vec<Vote> = self.votes().into_iter().map(|(_, vote)| vote).collect();
        verdict::camps(
            &votes,
            |a, b| if self.has_validator { self.opinions.get(&(a, b)).copied() } else { Some(false) },
        )
    }

    /// A vote is none any more: what was said with it has to be said anew.
    pub(super) fn reconsider(&mut self) {
        self.judged = 0;
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Whether its result was fetched, so that its workers need not keep it.
    pub(super) fn is_here(&self) -> bool {
        matches!(self.phase, Phase::Publishing { .. } | Phase::Done)
    }

    /// The execution that stands for those that agree: always the first whose result can be had, since nothing is
    /// revealed after the verdict.
    pub(super) fn believed(&self) -> Option<&ExecutionRecord> {
        self.executions.iter().map(|execution| &execution.record).find(|record| record.is_believed())
    }

    /// The believed result's hash, for a person.
    pub(super) fn result_name(&self) -> String {
        self.believed().and_then(ExecutionRecord::result).map(|hash| hash.to_string()).unwrap_or_default()
    }

    /// Whether anybody is at work on it.
    pub(super) fn has_open_executions(&self) -> bool {
        self.executions.iter().any(|e| e.record.state.is_open())
    }

    /// A worker runs one partition once; it may try again if nothing came of it, but not after a fault.
    fn is_taken(&self, worker: PeerId) -> bool {
        let of_worker = || self.executions.iter().filter(move |e| e.record.worker == worker);
        let present = |e: &Execution| e.record.state.is_live() || e.record.state.is_vote();
        let fault = |e: &Execution| e.record.failure.as_ref().is_some_and(Failure::is_fault);
        of_worker().any(|e| present(e) || fault(e)) || self.failures_of(worker) >= MAX_ATTEMPTS_PER_WORKER
    }

    /// How long stragglers are waited for once enough answers are sealed.
    fn patience(&self) -> Millis {
        let runs = self.executions.iter().filter_map(|e| e.record.committed).map(|(_, run_ms)| run_ms);
        STRAGGLER_MS + runs.max().unwrap_or(0).saturating_mul(STRAGGLER_FACTOR - 1)
    }

    /// When answers that stay sealed are given up, because enough are open and agree.
    fn reveals_close(&self, policy: Policy) -> Option<Time> {
        let asked = self.executions.iter().filter(|e| e.is_sealed()).filter_map(|e| e.asked).max()?;
        let camps = self.camps().ok()?;
        let settled = matches!(verdict::judge(&camps, policy), Verdict::Accepted(_));
        let unanimous = camps.len() == 1 && self.unexamined() == 0;
        (settled && unanimous).then_some(asked + STRAGGLER_MS)
    }

    /// Votes of which it is not known yet what is compared.
    fn unexamined(&self) -> usize {
        self.count(Execution::is_unexamined)
    }

    fn count(&self, which: impl Fn(&Execution) -> bool) -> usize {
        self.executions.iter().filter(|execution| which(execution)).count()
    }
}

/// The pause before the next try, after `tries` that failed.
pub(super) fn backoff(tries: u32) -> Millis {
    (FIRST_ROUND_PAUSE_MS << tries.min(16)).min(LONGEST_ROUND_PAUSE_MS)
}
