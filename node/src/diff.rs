//! Finds where an execution's run parts from this node's own: both run it again, and note ever less of ever more detail.

use std::pin::pin;

use shoal_protocol::id::{ExecutionId, JobId, PeerId};
use shoal_protocol::machine::{Input, Inquiry};
use shoal_protocol::message::Award;
use shoal_protocol::record::{ExecutionRecord, JobRecord};
use shoal_protocol::task::Failure;
use shoal_protocol::trace::{Finding, Rerun, Search, TraceRequest};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::driver::Event;
use crate::node::Node;
use crate::replay::ReplayError;
use crate::runner::Ran;

/// Where two runs of one invocation part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Which partition.
    pub partition: u32,
    /// The execution that was run again by its worker.
    pub execution: ExecutionId,
    /// Its worker.
    pub worker: PeerId,
    /// Whether that came to what the worker had revealed.
    pub as_revealed: bool,
    /// What came of it on this node; the last of several runs.
    pub here: Rerun,
    /// What came of it at the worker.
    pub there: Rerun,
    /// The first host call that differs.
    pub calls: Finding,
    /// The first checkpoint that differs.
    pub checkpoints: Finding,
}

/// Why two runs could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// It cannot be run again here.
    #[error(transparent)]
    Here(#[from] ReplayError),
    /// No execution is called that.
    #[error(
        "partition {partition} of job {job} has no execution {name:?} that revealed something; `shoal job executions \
         {job}` lists them"
    )]
    NoExecution {
        /// The job.
        job: JobId,
        /// The partition.
        partition: u32,
        /// What was asked for: the beginning of an id.
        name: String,
    },
    /// There is no difference to look for.
    #[error(
        "no execution of partition {1} of job {0} revealed anything else than what came of it here: there is nothing \
         to find; name an execution to have its worker run it again all the same"
    )]
    NoDifference(JobId, u32),
    /// The worker did not run it again.
    #[error("worker {} did not run execution {execution} again: {failure}", worker.short())]
    There {
        /// The execution.
        execution: ExecutionId,
        /// Its worker.
        worker: PeerId,
        /// Why not.
        failure: Failure,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl Node {
    /// Finds where the run of an execution, named by the beginning of its id, parts from this node's own; without a
    /// name, of the first that revealed something else. At one time one job is replayed or compared.
    pub async fn diff(&self, job: JobId, partition: u32, execution: Option<String>) -> Result<Diff, DiffError> {
        let record = self.job_with(job, partition)?;
        self.in_turn(async move |node: Node, cancel| {
            let comparison = Comparison { node, job: record, partition, cancel };
            comparison.search(execution).await
        })
        .await?
    }
}

/// A comparison under way.
struct Comparison {
    node: Node,
    job: JobRecord,
    partition: u32,
    cancel: CancellationToken,
}

impl Comparison {
    async fn search(self, name: Option<String>) -> Result<Diff, DiffError> {
        // How much there is to look at is known from a run that looks at nothing.
        let first = self.here(TraceRequest::NOTHING).await?;
        let execution = self.choose(name, &first)?;
        let Rerun { account, trace, .. } = &first;
        let mut search = Search::new(account.calls, trace.checkpoints_passed, account.memory_bytes);
        loop {
            let (request, is_last) = (search.request(), search.is_over());
            let (here, there) = self.both(&execution, request).await?;
            search.compare(&here, &there);
            if is_last || (search.is_over() && !search.found_something()) {
                return Ok(self.tell(&execution, search, here, there));
            }
        }
    }

    /// Runs it on both sides at once; when one fails the other is stopped.
    async fn both(&self, execution: &ExecutionRecord, request: TraceRequest) -> Result<(Rerun, Rerun), DiffError> {
        let (mut here, mut there) = (pin!(self.here(request)), pin!(self.there(execution, request)));
        tokio::select! {
            here = &mut here => Ok((here?, *there.await?)),
            there = &mut there => match there {
                Ok(there) => Ok((here.await?, *there)),
                Err(error) => {
                    // Waited for, because its program must be gone before its folder is.
                    self.cancel.cancel();
                    let _ = here.await;
                    Err(error)
                }
            },
        }
    }

    fn choose(&self, name: Option<String>, here: &Rerun) -> Result<ExecutionRecord, DiffError> {
        let (job, partition) = (self.job.job, self.partition);
        let executions = self.node.executions(job).map_err(ReplayError::from)?;
        let mut revealed = executions.into_iter().filter(|one| one.partition == partition && one.revealed.is_some());
        match name {
            Some(name) => revealed
                .find(|one| one.execution.to_string().starts_with(&name))
                .ok_or(DiffError::NoExecution { job, partition, name }),
            None => revealed.find(|one| !is_revealed(one, here)).ok_or(DiffError::NoDifference(job, partition)),
        }
    }

    async fn here(&self, request: TraceRequest) -> Result<Rerun, ReplayError> {
        let ran = self.node.run_again(&self.job, self.partition, Some(request), self.cancel.clone()).await?;
        let Ran { claim, account, trace, .. } = ran;
        Ok(Rerun { claim, account, trace: trace.unwrap_or_default() })
    }

    async fn there(&self, execution: &ExecutionRecord, request: TraceRequest) -> Result<Box<Rerun>, DiffError> {
        let submission = &self.job.submission;
        let award = Award {
            job: self.job.job,
            execution: execution.execution,
            partition: execution.partition,
            attempt: execution.attempt,
            nonce: submission.nonce,
            work: submission.work.clone(),
            resources: submission.needs.resources,
            contact: self.node.network().contact(),
        };
        let inquiry = Inquiry { worker: execution.worker, contact: execution.contact.clone(), award, request };
        let asked = ask(&self.node.0.inbox, inquiry);
        let answer = self.cancel.run_until_cancelled(asked).await.unwrap_or(Ok(Err(Failure::Cancelled)));
        answer?.map_err(|failure| DiffError::There {
            execution: execution.execution,
            worker: execution.worker,
            failure,
        })
    }

    fn tell(&self, execution: &ExecutionRecord, search: Search, here: Rerun, there: Rerun) -> Diff {
        Diff {
            partition: self.partition,
            execution: execution.execution,
            worker: execution.worker,
            as_revealed: is_revealed(execution, &there),
            here,
            there,
            calls: search.calls,
            checkpoints: search.checkpoints,
        }
    }
}

impl Diff {
    /// Whether anything differs.
    pub fn is_same(&self) -> bool {
        (self.calls, self.checkpoints) == (Finding::Same, Finding::Same) && self.here.claim == self.there.claim
    }
}

/// Whether a run came to what an execution had revealed: outcome, result and calls.
fn is_revealed(execution: &ExecutionRecord, run: &Rerun) -> bool {
    let claim = execution.revealed.map(|(claim, _)| claim);
    let calls = execution.account.as_ref().map(|account| (account.calls, account.calls_digest));
    claim == Some(run.claim) && calls == Some((run.account.calls, run.account.calls_digest))
}

/// Asks a worker, and tells it when nobody waits for the answer any more.
async fn ask(inbox: &mpsc::Sender<Event>, inquiry: Inquiry) -> Result<Result<Box<Rerun>, Failure>, DiffError> {
    let _waiting = Waiting { inbox: inbox.clone(), execution: inquiry.award.execution };
    let (answer, answered) = oneshot::channel();
    inbox.send(Event::Inquire(Box::new(inquiry), answer)).await.map_err(|_| DiffError::Stopping)?;
    answered.await.map_err(|_| DiffError::Stopping)
}

struct Waiting {
    inbox: mpsc::Sender<Event>,
    execution: ExecutionId,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // A full inbox loses it: the worker then runs to the end of its time for nobody.
        let _ = self.inbox.try_send(Event::Input(Input::EndInquiry(self.execution)));
    }
}
