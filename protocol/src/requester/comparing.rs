//! What of the results is compared: known at once where that is all of them, else read from the lists of their files.
//! And whether it agrees: where it is not the same, a job's validator is asked, of two results at a time.
//!
//! Nobody is believed about it. A result's hash is committed to and names its list, and the list names every file.

use super::Requester;
use super::partition::{Effort, Phase, backoff};

use crate::id::{BlobHash, ExecutionId};
use crate::limits::MAX_EXAMINATIONS;
use crate::machine::{Ballot, Comparison, Context, Output, Unfit, Unvalidated};
use crate::record::{JobState, Record, Step};
use crate::task::{Claim, Compare, Failure};

impl Requester {
    /// An answer is open: notes what of it is compared, if the answer says that itself.
    pub(super) fn know_compared(&mut self, id: ExecutionId, claim: Claim) {
        let compared = (!self.examines()).then_some(claim.result);
        if let Some((_, execution)) = self.by_id(id) {
            execution.record.compared = compared;
        }
    }

    /// Whether results have to be looked at before they are votes. With one vote there is nothing to compare.
    fn examines(&self) -> bool {
        (self.compare != Compare::All || self.validator.is_some()) && self.policy().max_executions > 1
    }

    /// Has those votes examined that are open and were not yet.
    pub(super) fn examine_votes(&mut self, ctx: &mut Context<'_>, index: u32) {
        if !self.examines() {
            return;
        }
        let (job, compare) = (self.record.job, self.compare.clone());
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        for execution in partition.executions.iter_mut().filter(|execution| execution.is_unexamined()) {
            let Some(claim) = execution.record.claim() else { continue };
            let effort = &mut execution.examination;
            if effort.is_under_way || effort.again.is_some_and(|at| at > ctx.now) {
                continue;
            }
            (effort.is_under_way, effort.again) = (true, None);
            let (execution, from) = (execution.record.execution, execution.record.worker);
            ctx.out(Output::Examine { job, execution, from, claim, compare: compare.clone() });
        }
    }

    /// It was found out what of a result is compared, or could not be.
    pub(crate) fn examined(&mut self, ctx: &mut Context<'_>, id: ExecutionId, result: Result<BlobHash, Unfit>) {
        let Some((index, execution)) = self.by_id(id).filter(|(_, execution)| execution.is_unexamined()) else {
            return;
        };
        let failures = execution.examination.failures;
        execution.examination = Effort { failures, ..Effort::default() };
        match result {
            Ok(compared) => {
                execution.record.compared = Some(compared);
                let record = Record::Execution(Box::new(execution.record.clone()));
                ctx.save(record);
            }
            Err(unfit) => self.is_unfit(ctx, id, unfit),
        }
        self.advance(ctx, index);
    }

    /// Asks the validator of the next two results that have to be compared. It is asked again after a restart: it says
    /// the same each time.
    pub(super) fn validate_votes(&mut self, ctx: &mut Context<'_>, index: u32) {
        let (Some(validator), job, compare) = (self.validator, self.record.job, self.compare.clone()) else { return };
        let max_bytes = self.record.submission.output_bytes;
        let Some(partition) = self.partitions.get_mut(&index).filter(|p| p.phase == Phase::Open) else { return };
        if partition.validation.is_under_way || partition.validation.again.is_some_and(|at| at > ctx.now) {
            return;
        }
        partition.validation.again = None;
        let Err((first, other)) = partition.camps() else { return };
        let votes = partition.votes();
        let ballot = |place: usize| {
            let record = partition.executions.iter().map(|e| &e.record).find(|e| e.execution == votes[place].0)?;
            Some(Ballot { execution: record.execution, worker: record.worker, result: record.result()? })
        };
        let (Some(first), Some(other)) = (ballot(first), ballot(other)) else { return };
        partition.validation.is_under_way = true;
        let pair = [first, other];
        ctx.out(Output::Validate { job, partition: index, validator, compare, max_bytes, pair });
    }

    /// The validator has said whether two results agree, or could not.
    pub(crate) fn validated(
        &mut self,
        ctx: &mut Context<'_>,
        index: u32,
        pair: [ExecutionId; 2],
        result: Result<Comparison, Unvalidated>,
    ) {
        let Some(partition) = self.partitions.get_mut(&index).filter(|p| p.validation.is_under_way) else { return };
        partition.validation.is_under_way = false;
        match result {
            Ok(said) => self.note_comparison(ctx, index, pair, &said),
            Err(Unvalidated::Result(id, unfit)) => {
                self.is_unfit(ctx, id, unfit);
                let again = self.known(id).and_then(|execution| execution.examination.again);
                if let Some(partition) = self.partitions.get_mut(&index) {
                    partition.validation.again = again;
                }
            }
            Err(Unvalidated::Validator(why)) => {
                return self.finish(ctx, JobState::Failed, format!("partition {index}: the validator {why}"));
            }
            Err(Unvalidated::Host(why)) => {
                let effort = &mut partition.validation;
                effort.failures += 1;
                if effort.failures >= MAX_EXAMINATIONS {
                    let reason = format!("partition {index}: the validator could not be run on this node: {why}");
                    return self.finish(ctx, JobState::Failed, reason);
                }
                effort.again = Some(ctx.now + backoff(effort.failures - 1));
                self.event(ctx, Step::Verify, None, None, format!("partition {index}: not validated yet: {why}"));
            }
        }
        self.advance(ctx, index);
    }

    fn note_comparison(&mut self, ctx: &mut Context<'_>, index: u32, pair: [ExecutionId; 2], said: &Comparison) {
        let compared = pair.map(|id| self.known(id).and_then(|execution| execution.record.compared));
        let ([Some(a), Some(b)], Some(partition)) = (compared, self.partitions.get_mut(&index)) else { return };
        partition.opinions.extend([((a, b), said.agree), ((b, a), said.agree)]);
        let verb = if said.agree { "agree" } else { "do not agree" };
        let detail = format!("partition {index}: {} and {} {verb}: {}", a.short(), b.short(), said.words);
        self.event(ctx, Step::Verify, None, None, detail.trim_end_matches(": ").to_owned());
    }

    /// A result cannot be compared: tries again, or does without its vote.
    pub(super) fn is_unfit(&mut self, ctx: &mut Context<'_>, id: ExecutionId, unfit: Unfit) {
        let vote = self.by_id(id).filter(|(_, execution)| execution.record.state.is_vote());
        let Some((index, execution)) = vote else { return };
        let worker = execution.record.worker;
        let (why, failure) = match unfit {
            Unfit::False(why) => (why, Failure::FalseResult),
            Unfit::Missing(why) => (why, Failure::Withheld),
        };
        let effort = &mut execution.examination;
        effort.failures += 1;
        if failure == Failure::Withheld && effort.failures < MAX_EXAMINATIONS {
            effort.again = Some(ctx.now + backoff(effort.failures - 1));
            return self.event(ctx, Step::Verify, Some(id), Some(worker), format!("not compared yet: {why}"));
        }
        self.event(ctx, Step::Verify, Some(id), Some(worker), why);
        self.fail(ctx, id, failure);
        if let Some(partition) = self.partitions.get_mut(&index) {
            partition.reconsider();
        }
    }
}
