//! Drives the protocol machine: one closed [`Event`] in, one `match` that performs each output.
//!
//! Whatever waits when the driver looks is handled together, so that one write to the disk serves many inputs. What
//! nobody waits for is postponed until something urgent is written: the write costs more than all else the driver does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shoal_protocol::id::{ExecutionId, JobId, MeshId, PeerId};
use shoal_protocol::job::spec::NetworkKind;
use shoal_protocol::limits::MAX_OPEN_JOBS;
use shoal_protocol::machine::{Input, Inquiry, Machine, Output, View};
use shoal_protocol::message::{ExecutorKind, Message};
use shoal_protocol::record::{self, Record, Standing, Submission};
use shoal_protocol::task::Failure;
use shoal_protocol::time::{Millis, Time};
use shoal_protocol::trace::Rerun;
use shoal_protocol::wire::Dialect;
use shoal_store::state::{Change, State, StateError};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::clock::Clock;
use crate::hands::{Again, Hands, Needed, Resumed};
use crate::network::Network;
use crate::outbox::Outbox;
use crate::publish::Leaving;
use crate::records;
use crate::validator::Question;
use crate::voice::Voice;

/// Events that may wait for the driver.
pub(crate) const MAX_EVENTS: usize = 4_096;
/// Events that are handled before one write to the disk.
const MAX_BATCH: usize = 256;
/// The driver hears how things are every second. After a pause so much longer, in milliseconds, this node was away.
const AWAY_MS: Millis = 3_000;
/// How long outputs that nobody waits for may be postponed.
const PATIENCE: Duration = Duration::from_millis(25);
/// Outputs that may be postponed.
const MAX_POSTPONED: usize = 1_024;

/// What the driver is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something for the protocol.
    Input(Input),
    /// A person wants something done; answered once that is durable.
    Submit(Box<Submission>, oneshot::Sender<Submitted>),
    /// A person does not want a job any more; answered once that is durable.
    Stop(JobId, oneshot::Sender<()>),
    /// A person looks into an execution; answered once its worker has answered.
    Inquire(Box<Inquiry>, oneshot::Sender<Traced>),
    /// What is known of the mesh has changed.
    View(View),
    /// An executor is there, of this profile, or is not.
    Offer(ExecutorKind, Option<String>),
    /// The networks that containers get have changed.
    OfferNetworks(BTreeSet<NetworkKind>),
    /// So many GPUs are there.
    Gpus(u16),
    /// Ends the driver.
    Shutdown,
}

/// The id of a job that was taken.
type Submitted = Result<JobId, TooManyJobs>;

/// What came of running an execution again.
type Traced = Result<Box<Rerun>, Failure>;

/// This node has as many open jobs as it can.
#[derive(Debug, thiserror::Error)]
#[error("this node already has {MAX_OPEN_JOBS} open jobs; wait until some have ended, or stop some")]
pub struct TooManyJobs;

/// The machine and what it needs to act.
pub(crate) struct Driver {
    pub(crate) machine: Machine,
    pub(crate) clock: Clock,
    pub(crate) key: ed25519_dalek::SigningKey,
    pub(crate) dialect: Dialect,
    pub(crate) mesh: MeshId,
    pub(crate) state: Arc<State>,
    pub(crate) network: Network,
    pub(crate) voice: Voice,
    pub(crate) hands: Hands,
    pub(crate) inbox: mpsc::Receiver<Event>,
    pub(crate) happenings: broadcast::Sender<record::Event>,
    pub(crate) outbox: Outbox,
    /// Who waits for what came of an inquiry.
    pub(crate) inquiries: BTreeMap<ExecutionId, oneshot::Sender<Traced>>,
    pub(crate) postponed: Postponed,
    /// When something was heard last.
    pub(crate) heard: Option<Time>,
}

/// Outputs of which nothing urgent is one, and when they are performed all the same.
#[derive(Default)]
pub(crate) struct Postponed {
    outputs: Vec<Output>,
    until: Option<Instant>,
}

impl Driver {
    /// Runs until it is told to end, or until the disk fails.
    pub(crate) async fn run(mut self) -> Result<(), StateError> {
        self.machine.ledger().doubted(self.clock.now()).for_each(|(peer, standing)| self.keep_away(peer, &standing));
        self.perform(Haste::Now).await?;
        loop {
            let mut event = self.next().await;
            self.notice_absence();
            let mut answers = Answers::default();
            for _ in 0..MAX_BATCH {
                if let Event::Shutdown = event {
                    self.perform(Haste::Now).await?;
                    self.hands.stop_all();
                    return Ok(());
                }
                self.take(event, &mut answers);
                match self.inbox.try_recv() {
                    Ok(next) => event = next,
                    Err(_) => break,
                }
            }
            self.perform(if answers.is_empty() { Haste::WhenUrgent } else { Haste::Now }).await?;
            answers.send();
        }
    }

    /// Tells the machine that it was asleep, before it takes its own absence for that of others.
    fn notice_absence(&mut self) {
        let now = self.clock.now();
        if self.heard.replace(now).is_some_and(|heard| now.since(heard) > AWAY_MS) {
            tracing::info!("this node was asleep or halted: its workers are waited for anew");
            self.machine.handle(now, Input::Away);
        }
    }

    async fn next(&mut self) -> Event {
        let deadline = self.machine.deadline().map(|at| self.clock.instant(at));
        let deadline = deadline.into_iter().chain(self.postponed.until).min();
        let sleep = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = self.inbox.recv() => event.unwrap_or(Event::Shutdown),
            () = sleep => Event::Input(Input::Tick),
        }
    }

    fn take(&mut self, event: Event, answers: &mut Answers) {
        let now = self.clock.now();
        match event {
            Event::Input(input) => self.machine.handle(now, input),
            Event::View(view) => self.machine.observe(view),
            Event::Offer(kind, profile) => {
                self.machine.offer(kind, profile);
                self.network.set_runs(self.machine.offering().executors.keys().copied().collect());
            }
            Event::OfferNetworks(networks) => self.machine.offer_networks(networks),
            Event::Gpus(count) => self.machine.offer_gpus(count),
            Event::Submit(submission, answer) => {
                if self.machine.open_jobs() >= MAX_OPEN_JOBS {
                    return answers.submitted.push((answer, Err(TooManyJobs)));
                }
                let job = submission.job(self.machine.me());
                self.machine.handle(now, Input::Submit(submission));
                answers.submitted.push((answer, Ok(job)));
            }
            Event::Inquire(inquiry, answer) => {
                self.inquiries.insert(inquiry.award.execution, answer);
                self.machine.handle(now, Input::Inquire(inquiry));
            }
            Event::Stop(job, answer) => {
                self.machine.handle(now, Input::Stop(job));
                answers.stopped.push(answer);
            }
            Event::Shutdown => {}
        }
    }

    /// Performs every output: first everything that must be durable, then the rest in order. What is not urgent may
    /// wait, all of it and in order, until its time has come.
    async fn perform(&mut self, haste: Haste) -> Result<(), StateError> {
        loop {
            self.postponed.outputs.extend(std::iter::from_fn(|| self.machine.poll()));
            if self.postponed.outputs.is_empty()
                || (haste == Haste::WhenUrgent && self.postponed.may_wait(Instant::now()))
            {
                return Ok(());
            }
            let Postponed { outputs, .. } = std::mem::take(&mut self.postponed);
            self.save(&outputs).await?;
            self.die_if_told(&outputs);
            for output in outputs {
                self.act(output).await;
            }
        }
    }

    async fn save(&self, outputs: &[Output]) -> Result<(), StateError> {
        let changes: Vec<Change> = outputs
            .iter()
            .flat_map(|output| match output {
                Output::Save(record) => records::save(record),
                Output::Forget(key) => vec![records::forget(*key)],
                _ => Vec::new(),
            })
            .collect();
        if changes.is_empty() {
            return Ok(());
        }
        let state = Arc::clone(&self.state);
        let write = tokio::task::spawn_blocking(move || state.apply(&changes));
        write.await.expect("writing records does not panic")
    }

    /// For tests of what is lost when a node is killed: nothing.
    #[cfg(debug_assertions)]
    fn die_if_told(&self, outputs: &[Output]) {
        let Some(crate::config::Misbehaviour::DieAfter(step)) = self.hands.misbehaviour else { return };
        if outputs.iter().any(|output| matches!(output, Output::Save(Record::Event(event)) if event.step == step)) {
            crate::config::die();
        }
    }

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "release builds have no such switch")]
    fn die_if_told(&self, _: &[Output]) {}

    async fn act(&mut self, output: Output) {
        match output {
            // Durable by now, so that whoever hears of it finds it.
            Output::Save(Record::Event(event)) => drop(self.happenings.send(event)),
            Output::Save(Record::Standing(peer, standing)) => self.keep_away(peer, &standing),
            Output::Save(_) | Output::Forget(_) => {}
            Output::Gossip(audience, message) => {
                let patron = self.machine.patron(message.job());
                let sealed = self.dialect.seal(&self.key, self.mesh, None, message);
                self.voice.say(patron, audience, sealed.bytes().to_vec());
            }
            Output::Send(to, message) => self.send(to, message),
            Output::Price(announce) => self.hands.price(announce),
            Output::Learn(peer, contact) => self.network.learn(peer, &contact),
            Output::Fetch {
                execution,
                job,
                from,
                placement,
                invocation,
                image_name,
                resources,
                timeout_ms,
                partition,
            } => {
                let needed = Needed { job, from, placement, invocation, image_name, resources, timeout_ms, partition };
                self.hands.fetch(execution, needed);
            }
            Output::Execute { execution, requester, invocation, timeout_ms } => {
                self.hands.execute(execution, requester, invocation, timeout_ms);
            }
            Output::Resume { execution, requester, invocation, timeout_ms, max_bytes } => {
                let timeout = Duration::from_millis(timeout_ms);
                self.hands.resume(execution, Resumed { requester, invocation, timeout, max_bytes });
            }
            Output::Abort(execution) => self.hands.abort(execution),
            Output::Keep { execution, result, keep_ms } => self.hands.keep(execution, result, keep_ms),
            Output::Release(execution) => self.hands.release(execution),
            Output::Examine { job, execution, from, claim, compare } => {
                self.hands.examine(job, execution, from, claim, compare);
            }
            Output::Validate { job, partition, validator, compare, max_bytes, pair } => {
                self.hands.validate(job, partition, Question { validator, compare, max_bytes, pair });
            }
            Output::Collect { job, partition, result, max_bytes, from } => {
                self.hands.collect(job, partition, result, max_bytes, from);
            }
            Output::Publish { job, partition, execution, worker, result, at } => {
                self.hands.publish(Leaving { job, partition, execution, worker, result, at });
            }
            Output::End(job, kept_until) => self.hands.end(job, kept_until),
            Output::Rerun { execution, requester, contents, max_bytes, invocation, timeout_ms, request } => {
                let timeout = Duration::from_millis(timeout_ms);
                let again = Again { requester, contents, max_bytes, invocation, timeout, request };
                self.hands.rerun(execution, again);
            }
            Output::Traced(execution, traced) => {
                // Whoever asked may have gone away.
                let _ = self.inquiries.remove(&execution).map(|answer| answer.send(traced));
            }
        }
    }

    /// Asks nothing of a peer that is not trusted now, and others first where something counts against it.
    fn keep_away(&self, peer: PeerId, standing: &Standing) {
        let (bad_for_ms, low_for_ms) = (standing.bad_for_ms(self.clock.now()), standing.low_for_ms(self.clock.now()));
        if low_for_ms > 0 {
            self.network.doubt(peer, low_for_ms);
        }
        if bad_for_ms > 0 {
            tracing::info!(peer = %peer.short(), bad_for_ms, "not trusted for a while");
            self.network.avoid(peer, bad_for_ms);
        }
    }

    fn send(&mut self, to: PeerId, message: Message) {
        let sealed = self.dialect.seal(&self.key, self.mesh, Some(to), message);
        if to == self.machine.me() {
            return self.machine.handle(self.clock.now(), Input::Heard(sealed));
        }
        self.outbox.send(to, sealed);
    }
}

/// Whether outputs may be postponed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// Those that nobody waits for.
    WhenUrgent,
    /// None.
    Now,
}

impl Postponed {
    /// Whether nobody waits for any of it, and it has not waited for too long.
    fn may_wait(&mut self, now: Instant) -> bool {
        let until = *self.until.get_or_insert(now + PATIENCE);
        now < until && self.outputs.len() < MAX_POSTPONED && !self.outputs.iter().any(is_urgent)
    }
}

/// Whether a peer, a person or this node's own work waits for it.
fn is_urgent(output: &Output) -> bool {
    match output {
        Output::Save(_)
        | Output::Forget(_)
        | Output::Learn(..)
        | Output::Keep { .. }
        | Output::Release(_)
        | Output::End(..) => false,
        Output::Gossip(..)
        | Output::Send(..)
        | Output::Price(_)
        | Output::Fetch { .. }
        | Output::Execute { .. }
        | Output::Resume { .. }
        | Output::Abort(_)
        | Output::Examine { .. }
        | Output::Validate { .. }
        | Output::Collect { .. }
        | Output::Publish { .. }
        | Output::Rerun { .. }
        | Output::Traced(..) => true,
    }
}

/// Answers that wait until what they confirm is durable.
#[derive(Default)]
struct Answers {
    submitted: Vec<(oneshot::Sender<Submitted>, Submitted)>,
    stopped: Vec<oneshot::Sender<()>>,
}

impl Answers {
    fn is_empty(&self) -> bool {
        self.submitted.is_empty() && self.stopped.is_empty()
    }

    fn send(self) {
        for (answer, result) in self.submitted {
            let _ = answer.send(result);
        }
        for answer in self.stopped {
            let _ = answer.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use shoal_protocol::id::ExecutionId;

    use super::*;

    const EXECUTION: ExecutionId = ExecutionId([1; 16]);

    fn postponed(outputs: Vec<Output>) -> Postponed {
        Postponed { outputs, until: None }
    }

    #[test]
    fn what_nobody_waits_for_waits_until_its_time_has_come() {
        let (mut release, start) = (postponed(vec![Output::Release(EXECUTION)]), Instant::now());
        assert!(release.may_wait(start) && release.may_wait(start + PATIENCE / 2));
        release.outputs.push(Output::Release(EXECUTION));
        assert!(!release.may_wait(start + PATIENCE), "what comes later does not prolong it");
    }

    #[test]
    fn something_urgent_takes_all_that_waits_along() {
        let (mut outputs, now) = (postponed(vec![Output::Release(EXECUTION)]), Instant::now());
        assert!(outputs.may_wait(now));
        outputs.outputs.push(Output::Abort(EXECUTION));
        assert!(!outputs.may_wait(now));
    }

    #[test]
    fn no_more_waits_than_there_is_room_for() {
        assert!(!postponed(vec![Output::Release(EXECUTION); MAX_POSTPONED]).may_wait(Instant::now()));
    }
}
