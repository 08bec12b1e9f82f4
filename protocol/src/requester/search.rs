//! Seeks workers for what is missing: rounds of announcement and bids, and awards to those who offered.

use std::collections::BTreeSet;

use super::bidding;
use super::partition::{Execution, Partition, backoff};
use super::{Key, Requester};

use crate::auction::plural;
use crate::delays::Speaker;
use crate::id::{BlobHash, ExecutionId, PeerId};
use crate::limits::{FAIR_ROUNDS, FAIR_ROUNDS_ALONE, MAX_EMPTY_ROUNDS, MAX_EXCLUDED, MAX_WANTED, WANTED_REFUSALS};
use crate::machine::{Context, Output, View};
use crate::message::{Announce, Award, Contact, Message};
use crate::record::{ExecutionRecord, ExecutionState, JobState, Placement, Step};
use crate::suppression;
use crate::time::{Millis, Time};
use crate::timers::Resend;

/// Longest delay of gossip that is believed, in milliseconds.
const LONGEST_GOSSIP_MS: Millis = 2_000;

/// Workers of a partition, and their groups.
type Taken = (BTreeSet<PeerId>, BTreeSet<String>);

/// How long something said to a shard around this node is waited for.
fn gossip_ms(ctx: &Context<'_>, level: u8) -> Millis {
    ctx.gossip_ms(level).min(LONGEST_GOSSIP_MS)
}

/// How many rounds of which nothing came give others a fair chance.
fn fair_rounds(view: &View) -> u32 {
    if view.mesh_size > 1 { FAIR_ROUNDS } else { FAIR_ROUNDS_ALONE }
}

/// What an announcement asks whom for, for a person.
fn told(announce: &Announce) -> String {
    let Announce { round, wanted, level, mesh_size, .. } = announce;
    match level {
        0 => format!("round {round}, {wanted} wanted"),
        _ => format!("round {round}, {wanted} wanted of about {mesh_size} nodes"),
    }
}

impl Requester {
    /// Seeks workers for what is missing.
    pub(super) fn seek(&mut self, ctx: &mut Context<'_>) {
        if self.is_over() {
            return;
        }
        if self.hungry.is_empty() {
            self.bidding.phase = bidding::Phase::Idle;
        } else {
            match self.placement() {
                Placement::Here => self.seek_here(ctx),
                Placement::Mesh => self.seek_peers(ctx),
            }
        }
        self.timers.set(Key::Bidding, self.bidding.deadline());
    }

    pub(super) fn seek_peers(&mut self, ctx: &mut Context<'_>) {
        match self.bidding.phase {
            bidding::Phase::Open(closes) => {
                // A short grace lets better bids that are on their way be heard: others fall silent as soon as they
                // have heard these.
                if self.bidding.slots(ctx.now) >= self.wanted() && self.could_fill(ctx.now) {
                    let grace = ctx.now + gossip_ms(ctx, self.bidding.level.unwrap_or(0));
                    self.bidding.phase = bidding::Phase::Open(closes.min(grace));
                }
            }
            bidding::Phase::Paused(_) => {
                self.award_candidates(ctx);
            }
            bidding::Phase::Idle => {
                self.award_candidates(ctx);
                if !self.hungry.is_empty() && !self.is_over() {
                    self.announce(ctx);
                }
            }
        }
    }

    pub(super) fn bidding_due(&mut self, ctx: &mut Context<'_>) {
        match self.bidding.phase {
            bidding::Phase::Open(_) => self.close_round(ctx),
            bidding::Phase::Paused(_) if self.hungry.is_empty() => self.bidding.phase = bidding::Phase::Idle,
            bidding::Phase::Paused(_) => match self.placement() {
                Placement::Here => self.seek(ctx),
                Placement::Mesh => self.announce(ctx),
            },
            bidding::Phase::Idle => {}
        }
        if !self.is_over() {
            self.timers.set(Key::Bidding, self.bidding.deadline());
        }
    }

    /// Asks the mesh who can run what is missing.
    pub(super) fn announce(&mut self, ctx: &mut Context<'_>) {
        if ctx.yields {
            self.bidding.phase = bidding::Phase::Paused(ctx.now + backoff(3));
            return;
        }
        self.bidding.level.get_or_insert(ctx.view.level);
        let announce = self.announcement(ctx);
        self.bidding.unasked = ctx.view.without.get(&announce.needs.executor).copied().unwrap_or(0);
        self.record.rounds += 1;
        // The announcement travels first, and then the bids do.
        self.bidding.open(ctx.now, ctx.now + Millis::from(announce.window_ms) + 2 * gossip_ms(ctx, announce.level));
        self.event(ctx, Step::Announce, None, None, told(&announce));
        self.save(ctx);
        ctx.delays.announced(ctx.now, (announce.job, announce.round), announce.level, Speaker::Me);
        ctx.out(Output::Gossip(announce.audience(), Message::Announce(announce)));
    }

    /// What is missing, as others are told of it.
    pub(super) fn announcement(&self, ctx: &Context<'_>) -> Announce {
        let (submission, round) = (&self.record.submission, self.record.rounds);
        let level = self.bidding.level.unwrap_or(ctx.view.level);
        let mesh_size = ctx.view.shard_size(level);
        let wanted = u16::try_from(self.wanted()).unwrap_or(u16::MAX).min(MAX_WANTED);
        let window_ms = suppression::window(ctx.gossip_ms(level), mesh_size, wanted);
        Announce {
            job: self.record.job,
            at: ctx.now,
            round,
            wanted,
            partitions: u32::try_from(self.hungry.len()).unwrap_or(u32::MAX),
            excluded: self.excluded(ctx),
            work: BlobHash::of(&submission.work),
            needs: submission.needs.clone(),
            window_ms: u32::try_from(window_ms).unwrap_or(u32::MAX),
            level,
            mesh_size,
            refusals: if round == 0 { 0 } else { WANTED_REFUSALS },
            contact: ctx.view.contact.clone(),
        }
    }

    /// Peers that must not answer: their bids would silence others and could not be taken.
    pub(super) fn excluded(&self, ctx: &Context<'_>) -> Vec<[u8; 6]> {
        let taken = match self.hungry.keys().next() {
            Some(index) if self.hungry.len() == 1 => self.partitions[index].taken().0,
            _ => BTreeSet::new(),
        };
        let prefixes = taken.into_iter().chain(self.unwilling.keys().copied()).chain(ctx.ledger.distrusted(ctx.now));
        prefixes.map(|peer| std::array::from_fn(|i| peer.0[i])).take(MAX_EXCLUDED).collect()
    }

    pub(super) fn close_round(&mut self, ctx: &mut Context<'_>) {
        let sought = self.wanted().min(u32::from(MAX_WANTED));
        let awarded = self.award_candidates(ctx);
        if self.hungry.is_empty() || self.is_over() {
            self.bidding.phase = bidding::Phase::Idle;
            return;
        }
        if awarded < sought && self.bidding.widen() {
            // Nobody has failed yet: others are asked, at once.
            self.bidding.phase = bidding::Phase::Paused(ctx.now);
            return;
        }
        let at_work = self.partitions.values().any(Partition::has_open_executions);
        self.bidding.empty_rounds = if awarded > 0 || at_work { 0 } else { self.bidding.empty_rounds + 1 };
        self.bidding.fruitless = if awarded > 0 { 0 } else { self.bidding.fruitless + 1 };
        let gives_up = self.bidding.empty_rounds > 0 && self.should_give_up(ctx.now);
        if gives_up && !self.has_a_last_resort(ctx.me) {
            return self.finish(ctx, JobState::Failed, self.why_unplaced(ctx.me));
        }
        if self.record.state == JobState::Pending && self.bidding.empty_rounds > 1 {
            let why = self.why_unplaced(ctx.me);
            self.event(ctx, Step::Queue, None, None, why.clone());
            self.set_state(ctx, JobState::Queued, why);
        }
        self.bidding.phase = bidding::Phase::Paused(ctx.now + backoff(self.bidding.fruitless));
        if gives_up || self.bidding.fruitless >= fair_rounds(ctx.view) {
            self.ask_itself(ctx);
        }
    }

    pub(super) fn should_give_up(&self, now: Time) -> bool {
        let queue = self.record.submission.queue_timeout_ms;
        let waited = now >= self.record.created + queue;
        let patience = if queue > 0 { waited } else { !self.bidding.is_busy() };
        patience && self.bidding.empty_rounds >= if queue > 0 { 1 } else { MAX_EMPTY_ROUNDS }
    }

    /// Why some execution has no worker, for a person.
    pub(super) fn why_unplaced(&self, me: PeerId) -> String {
        let Some((index, partition)) = self.hungry.keys().next().map(|index| (index, &self.partitions[index])) else {
            return self.why_nobody(me, "", &Taken::default());
        };
        let nobody = self.why_nobody(me, &partition.why_failed(), &partition.taken());
        let votes = partition.votes();
        let differ = partition.camps().is_ok_and(|camps| camps.len() > 1);
        let live = partition.executions.iter().filter(|e| e.record.state.is_live()).count();
        if differ {
            format!("disputed: partition {index}: {}, and nobody else to ask: {nobody}", self.tally(*index))
        } else if votes.len() + live > 0 {
            let (found, wanted) = (votes.len() + live, self.policy().agreement);
            format!("only {found} of {wanted} independent workers that must agree could be found: {nobody}")
        } else {
            nobody
        }
    }

    /// What came of those who were asked: how their executions `failed`, why others do not offer, and why this node
    /// does not run it itself.
    pub(super) fn why_nobody(&self, me: PeerId, failed: &str, (taken, groups): &Taken) -> String {
        let class = self.record.submission.needs.executor;
        let refused = self.bidding.why_not(me, (taken, groups), &self.unwilling, class);
        let nobody = match (failed.is_empty(), self.record.rounds) {
            _ if !refused.is_empty() => refused,
            (false, _) => "and nobody else offers".into(),
            (true, 0) => String::new(),
            (true, rounds) => {
                let asked = plural(rounds, "announcement");
                format!("no peer answered {asked}: `shoal peer list` shows whether there are any")
            }
        };
        let told = [failed.to_owned(), nobody, self.why_not_itself(me)];
        told.into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// Gives out what is missing to those who offered; returns how many executions were awarded.
    pub(super) fn award_candidates(&mut self, ctx: &mut Context<'_>) -> u32 {
        let mut awarded = 0;
        let hungry: Vec<(u32, u32)> = self.hungry.iter().map(|(index, missing)| (*index, *missing)).collect();
        for (index, missing) in hungry {
            for _ in 0..missing {
                if self.bidding.slots(ctx.now) == 0 {
                    return awarded;
                }
                let partition = &self.partitions[&index];
                let (taken, groups) = partition.taken();
                let failures = |worker| partition.failures_of(worker);
                let Some(picked) = self.bidding.pick(ctx.now, &taken, &groups, failures) else { break };
                let group = picked.group();
                self.award(ctx, index, picked.worker, picked.bid.contact, group);
                awarded += 1;
            }
        }
        awarded
    }

    /// Whether the candidates suffice for every partition, as far as can be told without giving anything out.
    pub(super) fn could_fill(&self, now: Time) -> bool {
        let single = self.hungry.keys().next().filter(|_| self.hungry.len() == 1);
        let Some(index) = single else { return true };
        let (mut taken, mut groups) = self.partitions[index].taken();
        (0..self.hungry[index]).all(|_| {
            let picked = self.bidding.best(now, &taken, &groups);
            picked.is_some_and(|candidate| {
                groups.extend(candidate.group());
                taken.insert(candidate.worker)
            })
        })
    }

    pub(super) fn award(
        &mut self,
        ctx: &mut Context<'_>,
        index: u32,
        worker: PeerId,
        contact: Contact,
        group: Option<String>,
    ) {
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        let attempt = u32::try_from(partition.executions.len()).unwrap_or(u32::MAX);
        let id = ExecutionId::derive(self.record.job, index, attempt);
        let record = ExecutionRecord {
            job: self.record.job,
            execution: id,
            partition: index,
            attempt,
            worker,
            contact,
            group,
            state: ExecutionState::Awarded,
            awarded: ctx.now,
            modified: ctx.now,
            committed: None,
            revealed: None,
            account: None,
            evidence: Vec::new(),
            failure: None,
            compared: None,
        };
        self.index.insert(id, (index, partition.executions.len()));
        partition.executions.push(Execution::new(record, ctx.now, Resend::after(ctx.now)));
        (self.bidding.empty_rounds, self.bidding.fruitless) = (0, 0);
        // Saved first: an award that is forgotten would be given to somebody else as well.
        self.change(ctx, id, ExecutionState::Awarded);
        self.event(ctx, Step::Award, Some(id), Some(worker), format!("partition {index}"));
        if matches!(self.record.state, JobState::Pending | JobState::Queued) {
            self.set_state(ctx, JobState::Running, String::new());
        }
        self.send_award(ctx, id);
        self.reschedule(index);
    }

    pub(super) fn send_award(&self, ctx: &mut Context<'_>, id: ExecutionId) {
        let Some(execution) = self.known(id) else { return };
        let submission = &self.record.submission;
        let award = Award {
            job: self.record.job,
            execution: id,
            partition: execution.record.partition,
            attempt: execution.record.attempt,
            nonce: submission.nonce,
            work: submission.work.clone(),
            resources: submission.needs.resources,
            contact: ctx.view.contact.clone(),
        };
        ctx.send(execution.record.worker, Message::Award(award));
    }
}
