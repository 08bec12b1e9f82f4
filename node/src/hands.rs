//! Does what the protocol decides: fetches, runs, keeps and lets go. Each task reports back with one input.

mod resume;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shoal_executors::{Executor, Stage};
use shoal_protocol::id::{BlobHash, ExecutionId, JobId, PeerId};
use shoal_protocol::machine::{Finished, Input};
use shoal_protocol::message::{Announce, ExecutorKind, Resources};
use shoal_protocol::record::Placement;
use shoal_protocol::task::{Account, Claim, Compare, Content, ContentKind, Failure, Invocation, Mount};
use shoal_protocol::time::{Millis, Time};
use shoal_protocol::trace::{Rerun, TraceRequest};
use shoal_store::blobs::{Blobs, ResultPart};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::admission::Gate;
use crate::agreed::Agreed;
use crate::announcer::Announcer;
use crate::comparing::Comparing;
use crate::driver::Event;
use crate::engine::Containers;
use crate::history::History;
use crate::kept::{Kept, Owner};
use crate::means;
use crate::network::{FetchError, Network};
use crate::pins;
use crate::publish::{Leaving, Publishing};
use crate::pulling::Pulling;
use crate::reading::Reading;
use crate::room;
use crate::runner::{self, host, reason, remove};
use crate::validator::{Question, Validators};

pub(crate) use resume::Resumed;

/// What a program may leave beside what it wrote: names of files and the like, in bytes.
const RESULT_SLACK_BYTES: u64 = 16 << 20;

/// Pause between two words about an image that is on its way.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// The executors of a node.
pub(crate) type Executors = Arc<BTreeMap<ExecutorKind, Arc<dyn Executor>>>;

/// Performs what takes time.
#[derive(Clone)]
pub(crate) struct Hands {
    pub(crate) blobs: Blobs,
    pub(crate) network: Network,
    pub(crate) executors: Executors,
    pub(crate) containers: Option<Containers>,
    pub(crate) work_dir: PathBuf,
    pub(crate) inbox: mpsc::Sender<Event>,
    pub(crate) runs: Runs,
    pub(crate) kept: Kept,
    pub(crate) agreed: Agreed,
    pub(crate) comparing: Comparing,
    pub(crate) validators: Validators,
    pub(crate) announcer: Announcer,
    pub(crate) publishing: Publishing,
    pub(crate) reading: Reading,
    pub(crate) pulling: Pulling,
    pub(crate) gate: Gate,
    pub(crate) history: History,
    #[cfg(debug_assertions)]
    pub(crate) misbehaviour: Option<crate::config::Misbehaviour>,
}

/// What to run once more, and what to note.
pub(crate) struct Again {
    pub(crate) requester: PeerId,
    pub(crate) contents: Vec<Content>,
    pub(crate) max_bytes: u64,
    pub(crate) invocation: Invocation,
    pub(crate) timeout: Duration,
    pub(crate) request: TraceRequest,
}

/// The executions that this node holds: who may read their logs, and how to stop them.
#[derive(Default, Clone)]
pub(crate) struct Runs(Arc<Mutex<BTreeMap<ExecutionId, Run>>>);

/// One execution that this node holds.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Whom it is for.
    pub(crate) requester: PeerId,
    /// Where its program writes.
    pub(crate) dir: PathBuf,
    /// Fires when it is not wanted any more, or has ended.
    pub(crate) over: CancellationToken,
    /// What the sources held that this node read for it.
    pub(crate) read: Vec<Mount>,
}

/// What an execution needs before it can run.
pub(crate) struct Needed {
    pub(crate) job: JobId,
    /// Whom it is for, who has the contents.
    pub(crate) from: PeerId,
    /// Whether others were asked as well.
    pub(crate) placement: Placement,
    pub(crate) invocation: Box<Invocation>,
    /// What the requester calls the image.
    pub(crate) image_name: String,
    pub(crate) resources: Resources,
    pub(crate) timeout_ms: Millis,
    /// Which partition, of how many.
    pub(crate) partition: (u32, u32),
}

impl Runs {
    /// The execution, if its requester asks.
    pub(crate) fn of_requester(&self, execution: ExecutionId, requester: PeerId) -> Option<Run> {
        self.lock().get(&execution).filter(|run| run.requester == requester).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ExecutionId, Run>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hands {
    /// Finds out what this node has for a job of its own.
    pub(crate) fn price(&self, announce: Box<Announce>) {
        let hands = self.clone();
        tokio::spawn(async move {
            let Hands { blobs, containers, pulling, .. } = &hands;
            let means = means::means(blobs, containers.as_ref(), pulling.is_open, &announce.needs).await;
            hands.tell(Input::Priced(announce, means)).await;
        });
    }

    /// Fetches and keeps what an execution needs.
    pub(crate) fn fetch(&self, execution: ExecutionId, needed: Needed) {
        let over = CancellationToken::new();
        let run = Run { requester: needed.from, dir: self.dir(execution), over: over.clone(), read: Vec::new() };
        self.runs.lock().insert(execution, run);
        self.kept.begin(Owner::Execution(execution));
        let hands = self.clone();
        tokio::spawn(async move {
            if let Some(result) = over.run_until_cancelled(hands.have_all(execution, needed)).await {
                hands.tell(Input::Fetched(execution, result)).await;
            }
        });
    }

    async fn have_all(&self, execution: ExecutionId, needed: Needed) -> Result<(), Failure> {
        let own = needed.from == self.network.peer_id();
        // Boxed, like the next, because few jobs need so large a future.
        if needed.placement == Placement::Mesh {
            Box::pin(self.gate.admit(&needed)).await?;
        }
        let Needed { from, invocation, resources, partition, .. } = needed;
        let left = self.fetch_all(execution, invocation.contents(), from, resources.disk_bytes).await?;
        let missing = |why: String| Failure::InputMissing(reason(&why));
        self.reading.writable(own, &invocation).await.map_err(missing)?;
        let read = Box::pin(self.reading.read(own, &invocation.unread, partition, left)).await;
        let read = read.map_err(missing)?;
        let mounts = read.iter().map(|(mount, _)| mount.clone()).collect();
        // What this node can read may be nobody else's business.
        read.into_iter().for_each(|(_, guard)| self.kept.keep_secret(Owner::Execution(execution), guard));
        if let Some(run) = self.runs.lock().get_mut(&execution) {
            run.read = mounts;
        }
        Ok(())
    }

    /// Runs a program.
    pub(crate) fn execute(&self, execution: ExecutionId, requester: PeerId, invocation: Invocation, timeout: Millis) {
        let mut runs = self.runs.lock();
        let read = runs.remove(&execution).map(|fetched| fetched.read).unwrap_or_default();
        let run = Run { requester, dir: self.dir(execution), over: CancellationToken::new(), read };
        runs.insert(execution, run.clone());
        drop(runs);
        let hands = self.clone();
        tokio::spawn(async move {
            let result = hands.run(execution, &run, invocation, Duration::from_millis(timeout)).await;
            let own = run.requester == hands.network.peer_id();
            let result = if own { result.map_err(lasting) } else { result };
            hands.ended(execution, run, result).await;
        });
    }

    async fn ended(&self, execution: ExecutionId, run: Run, result: Result<Finished, Failure>) {
        if run.over.is_cancelled() {
            // What it wrote while it was being stopped came after its folder was removed.
            return remove(run.dir).await;
        }
        run.over.cancel();
        if let (Err(Failure::HostFailed(_)), Some(containers)) = (&result, &self.containers) {
            // Perhaps the engine is gone. Known before the failure is told, lest this node bid for the same job again.
            containers.look(&self.inbox).await;
        }
        self.tell(Input::Executed(execution, result)).await;
    }

    /// Runs a program of the past once more, and notes what is asked for.
    pub(crate) fn rerun(&self, execution: ExecutionId, again: Again) {
        let over = CancellationToken::new();
        let run = Run { requester: again.requester, dir: self.dir(execution), over: over.clone(), read: Vec::new() };
        self.runs.lock().insert(execution, run.clone());
        self.kept.begin(Owner::Execution(execution));
        let hands = self.clone();
        tokio::spawn(async move {
            let ran = hands.run_again(execution, &run, again).await;
            if !over.is_cancelled() {
                hands.tell(Input::Reran(execution, ran.map(Box::new))).await;
            }
        });
    }

    /// Stops fetching or running.
    pub(crate) fn abort(&self, execution: ExecutionId) {
        if let Some(run) = self.runs.lock().get(&execution) {
            run.over.cancel();
        }
    }

    /// Stops everything.
    pub(crate) fn stop_all(&self) {
        self.runs.lock().values().for_each(|run| run.over.cancel());
        self.validators.stop_all();
    }

    /// Keeps a result for others that its requester has by now, and offers it to them.
    pub(crate) fn keep(&self, execution: ExecutionId, result: BlobHash, keep_ms: Millis) {
        let (hands, until_now) = (self.clone(), self.kept.take(Owner::Execution(execution)));
        tokio::spawn(async move {
            let content = Content { hash: result, kind: ContentKind::Collection };
            let until = hands.blobs.now() + keep_ms;
            match hands.agreed.keep(execution, content, until).await {
                Ok(()) => hands.announcer.agreed(content).await,
                Err(error) => tracing::warn!(%execution, %error, "a result is not kept for others"),
            }
            drop(until_now);
        });
    }

    /// Lets go of what an execution fetched and made.
    pub(crate) fn release(&self, execution: ExecutionId) {
        self.runs.lock().remove(&execution);
        self.kept.end(Owner::Execution(execution));
        self.announcer.released(execution);
        tokio::spawn(remove(self.dir(execution)));
    }

    /// Finds out what is compared of a result.
    pub(crate) fn examine(&self, job: JobId, execution: ExecutionId, from: PeerId, claim: Claim, compare: Compare) {
        let hands = self.clone();
        tokio::spawn(async move {
            let examined = hands.comparing.examine(from, claim, &compare).await;
            hands.tell(Input::Examined(job, execution, examined)).await;
        });
    }

    /// Asks a validator about two results.
    pub(crate) fn validate(&self, job: JobId, partition: u32, question: Question) {
        // Before anything that follows, such as the end of the job.
        let (hands, cancel) = (self.clone(), self.validators.begin(job));
        tokio::spawn(async move {
            let pair = question.pair.map(|ballot| ballot.execution);
            let said = hands.validators.ask((job, partition), question, cancel).await;
            hands.tell(Input::Validated(job, partition, pair, said)).await;
        });
    }

    /// Fetches and pins a result.
    pub(crate) fn collect(&self, job: JobId, partition: u32, result: BlobHash, max_bytes: u64, from: Vec<PeerId>) {
        let hands = self.clone();
        tokio::spawn(async move {
            let content = Content { hash: result, kind: ContentKind::Collection };
            let max_bytes = max_bytes.saturating_add(RESULT_SLACK_BYTES);
            let collected = async {
                // Pinned before the first byte, so that no collection of garbage takes what has arrived.
                hands.pin_result(job, partition, content).await?;
                hands.have(content, from, max_bytes).await.map_err(|error| error.to_string())?;
                // On disk before the workers are told to let go of it.
                hands.blobs.sync().await.map_err(|error| error.to_string())?;
                hands.announcer.pinned(content).await;
                hands.die_collecting();
                Ok(())
            };
            hands.tell(Input::Collected(job, partition, collected.await)).await;
        });
    }

    /// Publishes a result that is here.
    pub(crate) fn publish(&self, leaving: Leaving) {
        let hands = self.clone();
        tokio::spawn(async move {
            let (job, partition) = (leaving.job, leaving.partition);
            let published = hands.publishing.publish(leaving).await;
            hands.tell(Input::Published(job, partition, published)).await;
        });
    }

    /// Lets go of a job's inputs and perhaps of an older job, and gives what its results are kept by an end.
    pub(crate) fn end(&self, job: JobId, kept_until: Time) {
        self.kept.end(Owner::Job(job));
        self.validators.end(job);
        self.history.ended();
        let blobs = self.blobs.clone();
        tokio::spawn(async move {
            if let Err(error) = pins::end(&blobs, job, kept_until).await {
                tracing::warn!(%job, %error, "its results are kept until the next start");
            }
        });
    }

    /// Keeps a result without end, as long as its job is not over.
    async fn pin_result(&self, job: JobId, partition: u32, content: Content) -> Result<(), String> {
        let name = pins::result(job, partition);
        self.blobs.pin(&name, content).await.map_err(|error| error.to_string())?;
        // Asked after it was pinned: a job that ends later finds the pin.
        if self.kept.is_open(Owner::Job(job)) {
            return Ok(());
        }
        self.blobs.unpin(&name).await.map_err(|error| error.to_string())?;
        Err("its job is over".into())
    }

    async fn run_again(&self, execution: ExecutionId, run: &Run, again: Again) -> Result<Rerun, Failure> {
        let Again { requester, contents, max_bytes, invocation, timeout, request } = again;
        if invocation.engine.kind() != ExecutorKind::Wasm {
            return Err(Failure::Declined("only modules are looked into".into()));
        }
        let fetch = self.fetch_all(execution, contents, requester, max_bytes);
        run.over.run_until_cancelled(fetch).await.ok_or(Failure::Cancelled)??;
        let executor = self.executor(&invocation)?;
        let invocation = self.diverge(invocation);
        let (trace, cancel) = (Some(request), run.over.clone());
        let (stage, note) = Default::default();
        let (dir, writable, images) = (run.dir.as_path(), Vec::new(), None);
        let run = runner::Run { dir, invocation, timeout, trace, writable, images, stage, note, cancel };
        let ran = run.perform(executor.as_ref(), &self.blobs, |_| {}).await?;
        let runner::Ran { claim, account, trace, .. } = ran;
        Ok(Rerun { claim, account, trace: trace.unwrap_or_default() })
    }

    fn executor(&self, invocation: &Invocation) -> Result<&Arc<dyn Executor>, Failure> {
        let kind = invocation.engine.kind();
        self.executors.get(&kind).ok_or_else(|| Failure::Declined(format!("no {kind} executor")))
    }

    async fn fetch_all(
        &self,
        execution: ExecutionId,
        contents: Vec<Content>,
        from: PeerId,
        max_bytes: u64,
    ) -> Result<u64, Failure> {
        // For inputs and outputs, until the execution lets go of its folder.
        let room = self.blobs.reserve(max_bytes).await.map_err(host)?;
        self.kept.hold(Owner::Execution(execution), room);
        let mut left = max_bytes;
        for content in contents {
            // Guarded before the first byte, so that no collection of garbage takes what has arrived.
            let guard = self.blobs.protect(content).await.map_err(host)?;
            self.kept.keep(Owner::Execution(execution), guard);
            let size = self.have(content, vec![from], left).await.map_err(|error| match error {
                FetchError::Store { .. } => host(error),
                _ => Failure::InputMissing(reason(&error.to_string())),
            })?;
            self.announcer.fetched(execution, content.hash, size);
            left = left.saturating_sub(size);
        }
        Ok(left)
    }

    /// Fetches what is missing of some content that is guarded or pinned; returns its size.
    async fn have(&self, content: Content, from: Vec<PeerId>, max_bytes: u64) -> Result<u64, FetchError> {
        // Mostly it is here, and the network need not be bothered.
        if let Ok(Some(size)) = self.blobs.size(content).await
            && size <= max_bytes
        {
            return Ok(size);
        }
        let others = from.into_iter().filter(|peer| *peer != self.network.peer_id()).collect();
        room::fetch((&self.network, &self.blobs), content, others, max_bytes, |_| {}).await
    }

    async fn run(
        &self,
        execution: ExecutionId,
        run: &Run,
        invocation: Invocation,
        timeout: Duration,
    ) -> Result<Finished, Failure> {
        let executor = self.executor(&invocation)?;
        let mut invocation = self.diverge(invocation);
        invocation.inputs.extend(run.read.iter().cloned());
        let (dir, note, cancel) = (run.dir.as_path(), resume::note(&run.read), run.over.clone());
        let (stage, stages) = watch::channel(Stage::default());
        let own = run.requester == self.network.peer_id();
        // Once more, just before it is mounted: the operator's folder may have changed since it was looked at first.
        let writable =
            self.reading.writable(own, &invocation).await.map_err(|why| Failure::InputMissing(reason(&why)))?;
        let images = Some((own, self.pulling.clone()));
        let performed = runner::Run { dir, invocation, timeout, trace: None, writable, images, stage, note, cancel };
        let ran = performed.perform(executor.as_ref(), &self.blobs, |stdout| self.misbehave(stdout));
        let ran = tokio::select! {
            ran = ran => ran?,
            never = self.tell_stages(execution, stages) => match never {},
        };
        self.finished(execution, run, ran).await
    }

    /// Makes a run's result durable, before anybody hears of it.
    async fn finished(&self, execution: ExecutionId, run: &Run, ran: runner::Ran) -> Result<Finished, Failure> {
        let runner::Ran { claim, account, run_ms, result, .. } = ran;
        let account = Account { inputs: run.read.iter().map(|mount| mount.content.hash).collect(), ..account };
        self.kept.keep_result(Owner::Execution(execution), result.guard, run.requester, &self.blobs).await;
        // On disk before it is committed to.
        self.blobs.sync().await.map_err(host)?;
        Ok(Finished { claim, result_bytes: result.bytes, run_ms, account })
    }

    #[cfg(debug_assertions)]
    fn misbehave(&self, stdout: &mut ResultPart) {
        use crate::config::Misbehaviour;
        match self.misbehaviour {
            Some(Misbehaviour::LieTogether) => *stdout = ResultPart::Bytes("a lie\n".into()),
            Some(Misbehaviour::LieAlone) => {
                *stdout = ResultPart::Bytes(format!("a lie of {}\n", self.network.peer_id()).into());
            }
            _ => {}
        }
    }

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "release builds are honest")]
    fn misbehave(&self, _: &mut ResultPart) {}

    /// For tests of machines that compute something else: this one's programs have one more variable.
    #[cfg(debug_assertions)]
    fn diverge(&self, mut invocation: Invocation) -> Invocation {
        if self.misbehaviour == Some(crate::config::Misbehaviour::Diverge) {
            invocation.environment.insert("DIVERGES".into(), "yes".into());
        }
        invocation
    }

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "release builds run what they are given")]
    fn diverge(&self, invocation: Invocation) -> Invocation {
        invocation
    }

    #[cfg(debug_assertions)]
    fn die_collecting(&self) {
        if self.misbehaviour == Some(crate::config::Misbehaviour::DieCollecting) {
            crate::config::die();
        }
    }

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "release builds have no such switch")]
    fn die_collecting(&self) {}

    async fn tell(&self, input: Input) {
        // The driver is gone only when the node stops.
        let _ = self.inbox.send(Event::Input(input)).await;
    }

    /// Says how far an execution is, not more often than is worth it. Ends only by being dropped.
    async fn tell_stages(&self, execution: ExecutionId, mut stages: watch::Receiver<Stage>) -> Infallible {
        while stages.changed().await.is_ok() {
            let stage = *stages.borrow_and_update();
            match stage {
                Stage::Waiting => {}
                Stage::Preparing(amount) => {
                    tracing::debug!(%execution, %amount, "preparing");
                    self.tell(Input::Preparing(execution, amount)).await;
                    let runs = stages.wait_for(|stage| *stage == Stage::Running);
                    if tokio::time::timeout(TELL_EVERY, runs).await.is_ok() {
                        stages.mark_changed();
                    }
                }
                Stage::Running => self.tell(Input::Started(execution)).await,
            }
        }
        std::future::pending().await
    }

    fn dir(&self, execution: ExecutionId) -> PathBuf {
        self.work_dir.join(execution.to_string())
    }
}

/// What an executor does not take it will not take later either. For a job of this node's own there may be nobody else, so
/// that is said at once, with the executor's own words.
fn lasting(failure: Failure) -> Failure {
    match failure {
        Failure::Declined(why) => Failure::Refused(why),
        other => other,
    }
}
