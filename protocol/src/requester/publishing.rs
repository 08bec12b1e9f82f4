//! A result that is here goes where its job says.
//!
//! Saved before said: a node that crashes between publishing and noting it publishes again, under the same names.

use super::Requester;
use super::partition::{Partition, Phase, backoff};

use crate::limits::MAX_PUBLISHES;
use crate::machine::{Context, Output};
use crate::record::{JobState, Publication, Published, Record, Step};

impl Requester {
    /// A partition's result is here: publishes it, unless it is where it is to be.
    pub(super) fn is_here(&mut self, ctx: &mut Context<'_>, index: u32) {
        if self.record.submission.publishes && !self.published.contains(&index) {
            self.publish(ctx, index, 0);
        } else {
            self.is_done(ctx, index);
        }
    }

    pub(super) fn publish(&mut self, ctx: &mut Context<'_>, index: u32, tries: u32) {
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        partition.phase = Phase::Publishing { tries, again: None };
        let Some(believed) = partition.believed() else { return };
        let Some(result) = believed.result() else { return };
        ctx.out(Output::Publish {
            job: believed.job,
            partition: index,
            execution: believed.execution,
            worker: believed.worker,
            result,
            // Saved with the verdict.
            at: believed.modified,
        });
    }

    /// A result was published, or could not be.
    pub(crate) fn published(&mut self, ctx: &mut Context<'_>, index: u32, result: Result<Option<Published>, String>) {
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        let Phase::Publishing { tries, .. } = partition.phase else { return };
        match result {
            Ok(published) => {
                if let Some(published) = published {
                    self.note(ctx, index, published);
                }
                self.is_done(ctx, index);
            }
            Err(why) if tries + 1 >= MAX_PUBLISHES => {
                let reason =
                    format!("the result {} is here, but could not be published: {why}", partition.result_name());
                return self.finish(ctx, JobState::Failed, reason);
            }
            Err(why) => {
                let again = Some(ctx.now + backoff(tries));
                partition.phase = Phase::Publishing { tries: tries + 1, again };
                self.event(ctx, Step::Publish, None, None, format!("partition {index}: not published yet: {why}"));
            }
        }
        self.reschedule(index);
    }

    fn note(&mut self, ctx: &mut Context<'_>, index: u32, published: Published) {
        let Some(believed) = self.partitions.get(&index).and_then(Partition::believed) else { return };
        let (job, execution) = (believed.job, believed.execution);
        let detail = format!("partition {index}: {}", published.uri);
        self.published.insert(index);
        ctx.save(Record::Publication(Box::new(Publication { job, partition: index, execution, published })));
        self.event(ctx, Step::Publish, None, None, detail);
    }

    fn is_done(&mut self, ctx: &mut Context<'_>, index: u32) {
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        partition.phase = Phase::Done;
        if self.partitions.values().all(Partition::is_done) {
            self.finish(ctx, JobState::Completed, String::new());
        }
    }
}
