//! A node's whole protocol state: it takes inputs, decides, and says what to do.
//!
//! *Handle one input → perform every output in order → sleep until the deadline or the next input.* `Save` is
//! durable before the next output starts. A peer's mistake is an input that is ignored, so `handle` returns
//! nothing; the same inputs at the same times with the same seed give the same outputs.

mod exchange;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::auction::Offering;
use crate::credibility::{Ledger, Sign};
use crate::delays::{Delays, Speaker};
use crate::id::{BlobHash, JobId, PeerId};
use crate::inquiry::Inquiries;
use crate::job::spec::NetworkKind;
use crate::limits::MAX_CLOCK_SKEW_MS;
use crate::message::{Announce, Contact, Ending, ExecutorKind, Message, Reason, Resources, Settle, Trace, TraceAnswer};
use crate::record::{Record, Submission};
use crate::requester::Requester;
use crate::shard;
use crate::suppression;
use crate::task::Failure;
use crate::time::{Millis, Time};
use crate::timers::Timers;
use crate::wire::Sealed;
use crate::worker::Worker;

pub use exchange::{Ballot, Comparison, Input, Key, Means, Output, Unfit, Unvalidated};

pub use crate::inquiry::Inquiry;
pub use crate::worker::Finished;

/// What a node knows of the mesh around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Estimated number of nodes, with this one.
    pub mesh_size: u32,
    /// The [`shard`] around this node that announcements begin with.
    pub level: u8,
    /// Estimated one-way delay to a peer, in milliseconds: what gossip takes at least for each hop.
    pub delay_ms: u32,
    /// How many of the connected peers have no executor of a class, so that they hear of no job for it.
    pub without: BTreeMap<ExecutorKind, u32>,
    /// Where this node can be reached.
    pub contact: Contact,
}

impl Default for View {
    fn default() -> Self {
        Self { mesh_size: 1, level: 0, delay_ms: 1, without: BTreeMap::new(), contact: Contact::default() }
    }
}

impl View {
    /// How many nodes the shard of this level around this node has.
    pub(crate) fn shard_size(&self, level: u8) -> u32 {
        shard::nodes(self.mesh_size, level)
    }
}

/// What a peer's gossip deserves, before it is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opinion {
    /// Forward it.
    Accept,
    /// Drop it; nobody is to blame.
    Ignore,
}

/// What a peer's gossip deserves, before it is forwarded.
pub fn judge(now: Time, sealed: &Sealed) -> Opinion {
    match sealed.message() {
        Message::Announce(m) if m.at > now + MAX_CLOCK_SKEW_MS || now > m.at + MAX_CLOCK_SKEW_MS => Opinion::Ignore,
        _ => Opinion::Accept,
    }
}

/// A node's whole protocol state.
#[derive(Debug)]
pub struct Machine {
    me: PeerId,
    view: View,
    rng: ChaCha20Rng,
    ledger: Ledger,
    delays: Delays,
    worker: Worker,
    jobs: BTreeMap<JobId, Requester>,
    inquiries: Inquiries,
    timers: Timers<JobId>,
    starved: BTreeSet<(i64, JobId)>,
    outputs: VecDeque<Output>,
}

/// What a machine inside the machine may use while it takes a step.
pub(crate) struct Context<'a> {
    pub(crate) now: Time,
    pub(crate) me: PeerId,
    pub(crate) view: &'a View,
    /// Whether a more important job of this node waits for busy workers.
    pub(crate) yields: bool,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) delays: &'a mut Delays,
    rng: &'a mut ChaCha20Rng,
    outputs: &'a mut VecDeque<Output>,
}

impl Machine {
    /// A node without a past. `seed` must be secret and fresh: the salts of commitments are drawn from it.
    pub fn new(me: PeerId, offering: Offering, seed: [u8; 32]) -> Self {
        Self {
            me,
            view: View::default(),
            rng: ChaCha20Rng::from_seed(seed),
            ledger: Ledger::default(),
            delays: Delays::default(),
            worker: Worker::new(offering),
            jobs: BTreeMap::new(),
            inquiries: Inquiries::default(),
            timers: Timers::default(),
            starved: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes up everything that was saved, in any order, and goes on with it.
    pub fn restore(&mut self, now: Time, records: impl IntoIterator<Item = Record>) {
        let mut executions = BTreeMap::<JobId, Vec<_>>::new();
        let mut published = BTreeMap::<JobId, BTreeSet<u32>>::new();
        let mut events = BTreeMap::<JobId, u32>::new();
        let (mut jobs, mut held) = (Vec::new(), Vec::new());
        for record in records {
            match record {
                Record::Job(job) if !job.state.is_over() => jobs.push(job),
                Record::Execution(execution) => executions.entry(execution.job).or_default().push(*execution),
                Record::Held(record) => held.push(*record),
                Record::Publication(one) => drop(published.entry(one.job).or_default().insert(one.partition)),
                Record::Standing(peer, standing) => self.ledger.restore(peer, standing),
                Record::Event(event) => {
                    let next = events.entry(event.job).or_default();
                    *next = event.sequence.saturating_add(1).max(*next);
                }
                Record::Job(_) => {}
            }
        }
        for record in held {
            self.with_worker(now, |worker, ctx| worker.restore(ctx, record));
        }
        for mut record in jobs {
            let job = record.job;
            // Events are saved on their own, so the count that was saved with the job may be behind.
            record.events = events.get(&job).map_or(record.events, |next| record.events.max(*next));
            let executions = executions.remove(&job).unwrap_or_default();
            let published = published.remove(&job).unwrap_or_default();
            self.jobs.insert(job, Requester::restore(*record, executions, published));
            self.with_job(now, job, Requester::resume);
        }
    }

    /// Tells the node what it should know of the mesh.
    pub fn observe(&mut self, view: View) {
        self.view = view;
    }

    /// Tells the node that one of its executors is there, and of which profile, or that it is not.
    pub fn offer(&mut self, kind: ExecutorKind, profile: Option<String>) {
        self.worker.offer(kind, profile);
    }

    /// Tells the node which networks its containers get, beside none.
    pub fn offer_networks(&mut self, networks: BTreeSet<NetworkKind>) {
        self.worker.offer_networks(networks);
    }

    /// Tells the node how many GPUs its executions can have now.
    pub fn offer_gpus(&mut self, gpus: u16) {
        self.worker.offer_gpus(gpus);
    }

    /// Takes one step.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Submit(submission) => self.submit(now, *submission),
            Input::Stop(job) => self.with_job(now, job, Requester::stop),
            Input::Heard(sealed) => self.heard(now, sealed),
            Input::Announced(sealed, means) => self.announced(now, &sealed, means),
            Input::NotUnderstood(peer, sealed, version) => self.not_understood(now, peer, sealed.message(), version),
            Input::Priced(announce, means) => self.priced(now, &announce, means),
            Input::Fetched(execution, result) => {
                self.with_worker(now, |worker, ctx| worker.fetched(ctx, execution, result));
            }
            Input::Preparing(execution, amount) => {
                self.with_worker(now, |worker, ctx| worker.preparing(ctx, execution, amount));
            }
            Input::Started(execution) => self.with_worker(now, |worker, ctx| worker.started(ctx, execution)),
            Input::Executed(execution, result) => {
                self.with_worker(now, |worker, ctx| worker.executed(ctx, execution, result));
            }
            Input::Examined(job, execution, result) => {
                self.with_job(now, job, |requester, ctx| requester.examined(ctx, execution, result));
            }
            Input::Validated(job, partition, pair, result) => {
                self.with_job(now, job, |requester, ctx| requester.validated(ctx, partition, pair, result));
            }
            Input::Collected(job, partition, result) => {
                self.with_job(now, job, |requester, ctx| requester.collected(ctx, partition, result));
            }
            Input::Published(job, partition, result) => {
                self.with_job(now, job, |requester, ctx| requester.published(ctx, partition, result));
            }
            Input::Inquire(inquiry) => self.with_inquiries(now, |all, ctx| all.begin(ctx, *inquiry)),
            Input::Corrupt(peer) => self.with_worker(now, |_, ctx| ctx.note(peer, Sign::Corrupt)),
            Input::EndInquiry(execution) => self.with_inquiries(now, |all, ctx| all.end(ctx, execution)),
            Input::Reran(execution, ran) => self.with_worker(now, |worker, ctx| worker.rerun(ctx, execution, ran)),
            Input::Away => {
                for job in self.jobs.keys().copied().collect::<Vec<_>>() {
                    self.with_job(now, job, Requester::was_away);
                }
            }
            Input::Tick => {
                self.with_worker(now, Worker::tick);
                self.with_inquiries(now, Inquiries::tick);
                while let Some(job) = self.timers.pop(now) {
                    self.with_job(now, job, Requester::tick);
                }
            }
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to come back with [`Input::Tick`].
    pub fn deadline(&self) -> Option<Time> {
        [self.worker.deadline(), self.inquiries.deadline(), self.timers.next()].into_iter().flatten().min()
    }

    /// This node.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// Jobs of this node that are not over.
    pub fn open_jobs(&self) -> usize {
        self.jobs.len()
    }

    #[cfg(test)]
    pub(crate) fn offers(&self) -> usize {
        self.worker.offers()
    }

    /// Executions that this node holds for others.
    pub fn held_executions(&self) -> usize {
        self.worker.held()
    }

    /// What bids and executions use up, and what there is.
    pub fn capacity(&self) -> (Resources, Resources) {
        (self.worker.used(), self.worker.offering().capacity)
    }

    /// On whose behalf something is said to all about a job: this node's own, or that of a requester which has settled
    /// executions here before. All others are one, since names cost nothing.
    pub fn patron(&self, job: JobId) -> Option<PeerId> {
        if self.jobs.contains_key(&job) {
            return Some(self.me);
        }
        self.worker.requester_of(job).filter(|requester| self.ledger.standing(*requester).settled > 0)
    }

    /// What this node offers.
    pub fn offering(&self) -> &Offering {
        self.worker.offering()
    }

    /// What this node thinks of its peers.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn submit(&mut self, now: Time, submission: Submission) {
        let job = submission.job(self.me);
        if self.jobs.contains_key(&job) {
            return;
        }
        self.jobs.insert(job, Requester::new(job, submission, now));
        self.with_job(now, job, Requester::begin);
    }

    fn announced(&mut self, now: Time, sealed: &Sealed, means: Means) {
        let (from, Message::Announce(announce)) = (sealed.from(), sealed.message()) else { return };
        if from != self.me {
            self.delays.announced(now, (announce.job, announce.round), announce.level, Speaker::Another);
            self.with_worker(now, |worker, ctx| worker.announced(ctx, from, announce, means));
        }
    }

    /// This node's own worker answers for a job of this node's own. Both halves are here, so nothing is said.
    fn priced(&mut self, now: Time, announce: &Announce, means: Means) {
        let job = announce.job;
        let Some(requester) = self.jobs.get(&job).filter(|requester| requester.asks_itself()) else { return };
        let placement = requester.placement();
        let mut answer = Err(Reason::Busy);
        self.with_worker(now, |worker, ctx| answer = worker.asked(ctx, announce, means, placement));
        self.with_job(now, job, |requester, ctx| requester.answered_itself(ctx, answer));
    }

    /// Brings a message to the part that it concerns.
    fn heard(&mut self, now: Time, sealed: Sealed) {
        let (from, job) = (sealed.from(), sealed.message().job());
        match sealed.message() {
            // Announcements come with what they would cost.
            Message::Announce(_) => {}
            Message::Bid(bid) => {
                self.delays.bid(now, from, bid, |level| self.view.shard_size(level));
                if self.jobs.contains_key(&job) {
                    self.with_job(now, job, |requester, ctx| requester.bid(ctx, from, bid));
                } else {
                    self.worker.overheard(now, &sealed);
                }
            }
            Message::Award(_) => {
                let Message::Award(award) = sealed.into_message() else { return };
                self.with_worker(now, |worker, ctx| worker.awarded(ctx, from, award));
            }
            Message::RevealPlease(_) | Message::Settle(_) => {
                self.with_worker(now, |worker, ctx| worker.told(ctx, from, sealed.into_message()));
            }
            Message::TracePlease(_) => {
                let Message::TracePlease(please) = sealed.into_message() else { return };
                self.with_worker(now, |worker, ctx| worker.trace_please(ctx, from, please));
            }
            Message::Trace(_) => {
                let Message::Trace(trace) = sealed.into_message() else { return };
                self.with_inquiries(now, |all, ctx| all.answered(ctx, from, trace));
            }
            Message::Refuse(_) | Message::Fail(_) => {
                self.with_job(now, job, |requester, ctx| requester.heard(ctx, &sealed));
            }
            Message::Progress(_) | Message::Commit(_) | Message::Reveal(_) => {
                if self.jobs.contains_key(&job) {
                    self.with_job(now, job, |requester, ctx| requester.heard(ctx, &sealed));
                } else {
                    self.dismiss(from, sealed.message());
                }
            }
        }
    }

    /// Brings what a peer has not understood back to the part that said it. What is only repeated until it is answered is
    /// given up when that is.
    fn not_understood(&mut self, now: Time, peer: PeerId, message: &Message, version: u8) {
        match message {
            Message::Award(award) => self.with_job(now, award.job, |requester, ctx| {
                requester.not_understood(ctx, peer, award.execution, version);
            }),
            Message::TracePlease(please) => self.with_inquiries(now, |all, ctx| {
                let answer = TraceAnswer::Failed(Failure::OtherVersion(version));
                let (job, execution, number) = (please.award.job, please.award.execution, please.number);
                all.answered(ctx, peer, Trace { job, execution, number, answer });
            }),
            other => tracing::debug!(peer = %peer.short(), message = other.name(), version, "not understood"),
        }
    }

    /// Answers a worker whose job is over or unknown: it need not keep anything.
    fn dismiss(&mut self, from: PeerId, message: &Message) {
        let (execution, ending) = match message {
            Message::Progress(m) => (m.execution, Ending::Cancelled),
            Message::Commit(m) => (m.execution, Ending::Unused),
            Message::Reveal(m) => (m.execution, Ending::Unused),
            _ => return,
        };
        let settle = Settle { job: message.job(), execution, ending };
        self.outputs.push_back(Output::Send(from, Message::Settle(settle)));
    }

    fn with_worker(&mut self, now: Time, step: impl FnOnce(&mut Worker, &mut Context<'_>)) {
        let mut ctx = Context {
            now,
            me: self.me,
            view: &self.view,
            yields: false,
            ledger: &mut self.ledger,
            delays: &mut self.delays,
            rng: &mut self.rng,
            outputs: &mut self.outputs,
        };
        step(&mut self.worker, &mut ctx);
    }

    fn with_inquiries(&mut self, now: Time, step: impl FnOnce(&mut Inquiries, &mut Context<'_>)) {
        let mut inquiries = std::mem::take(&mut self.inquiries);
        self.with_worker(now, |_, ctx| step(&mut inquiries, ctx));
        self.inquiries = inquiries;
    }

    fn with_job(&mut self, now: Time, job: JobId, step: impl FnOnce(&mut Requester, &mut Context<'_>)) {
        let Some(requester) = self.jobs.get_mut(&job) else { return };
        let priority = requester.priority();
        let mut ctx = Context {
            now,
            me: self.me,
            view: &self.view,
            yields: self.starved.last().is_some_and(|(highest, _)| *highest > priority),
            ledger: &mut self.ledger,
            delays: &mut self.delays,
            rng: &mut self.rng,
            outputs: &mut self.outputs,
        };
        step(requester, &mut ctx);
        if requester.is_starved() {
            self.starved.insert((priority, job));
        } else {
            self.starved.remove(&(priority, job));
        }
        self.timers.set(job, requester.deadline());
        if requester.is_over() {
            self.jobs.remove(&job);
            self.timers.set(job, None);
            self.starved.remove(&(priority, job));
        }
    }
}

impl Context<'_> {
    /// How long gossip takes to most of the shard of this level around this node, whose connections are not all that
    /// takes time.
    pub(crate) fn gossip_ms(&self, level: u8) -> Millis {
        suppression::gossip_delay(self.view.shard_size(level), self.delays.hop_ms(self.now, self.view.delay_ms))
    }

    pub(crate) fn out(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn save(&mut self, record: Record) {
        self.out(Output::Save(record));
    }

    pub(crate) fn send(&mut self, to: PeerId, message: Message) {
        self.out(Output::Send(to, message));
    }

    /// Notes what a peer showed, durably.
    pub(crate) fn note(&mut self, peer: PeerId, sign: Sign) {
        let before = self.ledger.standing(peer);
        let (standing, forgotten) = self.ledger.note(self.now, peer, sign);
        if let Some(peer) = forgotten {
            self.out(Output::Forget(Key::Standing(peer)));
        }
        if standing.is_news(self.now, &before, sign) {
            self.save(Record::Standing(peer, standing));
        }
    }

    /// A number uniform in [0, 1).
    pub(crate) fn chance(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let numerator = (self.rng.next_u64() >> 11) as f64;
        numerator / f64::powi(2.0, 53)
    }

    pub(crate) fn lot(&mut self) -> u64 {
        self.rng.next_u64()
    }

    pub(crate) fn secret(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }
}

impl Submission {
    /// The id of the job that `requester` makes of this.
    pub fn job(&self, requester: PeerId) -> JobId {
        JobId::derive(requester, BlobHash::of(&self.work), self.nonce)
    }
}
