//! What of the results is compared: known at once where that is all of them, else read from the lists of their files.
//!
//! Nobody is believed about it. A result's hash is committed to and names its list, and the list names every file.

use super::Requester;
use super::partition::{Effort, backoff};

use crate::id::{BlobHash, ExecutionId};
use crate::limits::MAX_EXAMINATIONS;
use crate::machine::{Context, Output, Unfit};
use crate::record::{Record, Step};
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
        self.compare != Compare::All && self.policy().max_executions > 1
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

    /// A result cannot be compared: tries again, or does without its vote.
    pub(super) fn is_unfit(&mut self, ctx: &mut Context<'_>, id: ExecutionId, unfit: Unfit) {
        let Some((index, execution)) = self.by_id(id) else { return };
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
