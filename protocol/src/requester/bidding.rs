//! A job's search for workers: rounds of announcement and bids, and who may still be given something.

use std::collections::{BTreeMap, BTreeSet};

use crate::auction::{self, Candidate, MAX_COST, plural};
use crate::credibility::Grade;
use crate::id::{JobId, PeerId};
use crate::limits::{MAX_BIDS, OFFER_FRESH_MS};
use crate::machine::Context;
use crate::message::{Bid, Contact, ExecutorKind, Reason};
use crate::time::Time;

/// What counts against this node's own worker: more than against any other.
const LAST_RESORT: u16 = u16::MAX;

#[derive(Debug, Default)]
pub(super) struct Bidding {
    pub(super) phase: Phase,
    /// The shard around this node that is asked, once one was.
    pub(super) level: Option<u8>,
    /// How many connected peers were not asked, since they have no executor of the class.
    pub(super) unasked: u32,
    candidates: BTreeMap<PeerId, (Candidate, Time)>,
    /// Groups of those whose bids of the round before have lapsed.
    lapsed: BTreeMap<PeerId, String>,
    /// Reasons heard since the last round began.
    pub(super) refusals: BTreeMap<PeerId, Reason>,
    /// Those of the round before: a round may close before its refusals arrive.
    earlier_refusals: BTreeMap<PeerId, Reason>,
    /// Rounds in a row of which nothing came while nobody was at work: too many of them end the job.
    pub(super) empty_rounds: u32,
    /// Rounds in a row of which nothing came: each makes the next pause longer.
    pub(super) fruitless: u32,
    /// Whether this node's own worker was asked and has not answered yet.
    pub(super) asks_itself: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is sought.
    #[default]
    Idle,
    /// Bids are collected until then.
    Open(Time),
    /// The next round begins then.
    Paused(Time),
}

impl Bidding {
    pub(super) fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Idle => None,
            Phase::Open(at) | Phase::Paused(at) => Some(at),
        }
    }

    /// Begins a round that collects bids until `closes`.
    pub(super) fn open(&mut self, now: Time, closes: Time) {
        self.phase = Phase::Open(closes);
        self.earlier_refusals = std::mem::take(&mut self.refusals);
        let lapsed = self.candidates.extract_if(.., |_, (_, until)| *until <= now);
        self.lapsed = lapsed.filter_map(|(peer, (candidate, _))| Some((peer, candidate.group()?))).collect();
    }

    /// Widens the circle of those that are asked, unless it is the whole mesh.
    pub(super) fn widen(&mut self) -> bool {
        let level = self.level.unwrap_or(0);
        self.level = Some(level.saturating_sub(1));
        level > 0
    }

    /// Takes a bid; says whether it is news.
    pub(super) fn add(&mut self, ctx: &mut Context<'_>, from: PeerId, bid: &Bid) -> bool {
        let known = self.candidates.get(&from).is_some_and(|(candidate, _)| candidate.bid.round >= bid.round);
        if known || bid.slots == 0 || (self.candidates.len() >= MAX_BIDS && !self.candidates.contains_key(&from)) {
            return false;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the scale")]
        let faults = (ctx.ledger.fault_rate(from) * f64::from(MAX_COST)) as u16;
        let is_low = ctx.ledger.standing(from).grade(ctx.now) == Grade::Low;
        let penalty = faults.saturating_add(if is_low { MAX_COST / 2 } else { 0 });
        let candidate = Candidate { worker: from, bid: bid.clone(), slots: bid.slots, penalty, lot: ctx.lot() };
        // An early bid waits for the window to close.
        let closes = self.deadline().unwrap_or(ctx.now).max(ctx.now);
        self.candidates.insert(from, (candidate, closes + OFFER_FRESH_MS));
        true
    }

    /// This node's own worker takes so many executions that nobody else does.
    pub(super) fn add_itself(&mut self, ctx: &mut Context<'_>, slots: u16) {
        let (job, round, cost, contact) = (JobId([0; 16]), 0, MAX_COST, Contact::default());
        let bid = Bid { job, round, slots, cost, operator: None, contact, waited_ms: 0 };
        let candidate = Candidate { worker: ctx.me, bid, slots, penalty: LAST_RESORT, lot: ctx.lot() };
        self.refusals.remove(&ctx.me);
        self.earlier_refusals.remove(&ctx.me);
        self.candidates.insert(ctx.me, (candidate, ctx.now + OFFER_FRESH_MS));
    }

    /// What a peer said last why it does not offer.
    pub(super) fn refusal_of(&self, peer: PeerId) -> Option<&Reason> {
        self.refusals.get(&peer).or_else(|| self.earlier_refusals.get(&peer))
    }

    /// A worker has ended what it was given, so it has room again.
    pub(super) fn renew(&mut self, now: Time, worker: PeerId) {
        if let Some((candidate, until)) = self.candidates.get_mut(&worker) {
            candidate.slots = candidate.slots.saturating_add(1).min(candidate.bid.slots);
            *until = now + OFFER_FRESH_MS;
        }
    }

    /// A worker has no room after all.
    pub(super) fn drop(&mut self, worker: PeerId) {
        self.candidates.remove(&worker);
    }

    /// Picks the best worker that is independent of those taken, and counts one slot of it as used.
    pub(super) fn pick(
        &mut self,
        now: Time,
        taken: &BTreeSet<PeerId>,
        groups: &BTreeSet<String>,
        failures: impl Fn(PeerId) -> u32,
    ) -> Option<Candidate> {
        let fresh = self.candidates.values().filter(|(_, until)| *until > now).map(|(candidate, _)| candidate);
        // Whoever failed at it before comes after whoever has not.
        let fewest = fresh.clone().filter(|c| auction::pick([*c].into_iter(), taken, groups).is_some());
        let fewest = fewest.map(|candidate| failures(candidate.worker)).min()?;
        let picked = auction::pick(fresh.filter(|c| failures(c.worker) == fewest), taken, groups)?.clone();
        if let Some((candidate, _)) = self.candidates.get_mut(&picked.worker) {
            candidate.slots -= 1;
        }
        Some(picked)
    }

    /// The best worker that is independent of those taken.
    pub(super) fn best(&self, now: Time, taken: &BTreeSet<PeerId>, groups: &BTreeSet<String>) -> Option<&Candidate> {
        let fresh = self.candidates.values().filter(|(_, until)| *until > now).map(|(candidate, _)| candidate);
        auction::pick(fresh, taken, groups)
    }

    /// Slots that could be given out now.
    pub(super) fn slots(&self, now: Time) -> u32 {
        let fresh = self.candidates.values().filter(|(_, until)| *until > now);
        fresh.map(|(candidate, _)| u32::from(candidate.slots)).sum()
    }

    /// Whether some peer could run the job, but not now.
    pub(super) fn is_busy(&self) -> bool {
        self.latest_refusals().values().any(|reason| matches!(reason, Reason::Busy | Reason::Owing(_)))
    }

    /// Why peers do not offer, or offer in vain because they are not independent of those taken, counted; empty if
    /// none but this node said so.
    pub(super) fn why_not(
        &self,
        me: PeerId,
        (taken, groups): (&BTreeSet<PeerId>, &BTreeSet<String>),
        unwilling: &BTreeMap<PeerId, Reason>,
        class: ExecutorKind,
    ) -> String {
        let mut refusals = self.latest_refusals();
        refusals.extend(unwilling.iter().map(|(peer, reason)| (*peer, reason)));
        refusals.remove(&me);
        let unasked = Reason::NoExecutor(class);
        let refused = refusals.into_values().chain(std::iter::repeat_n(&unasked, self.unasked as usize));
        let refused = auction::summary(refused);
        let mut lines: Vec<String> = self.dependent(taken, groups).into_iter().map(not_independent).collect();
        lines.extend(Some(refused).filter(|refused| !refused.is_empty()));
        lines.join("; ")
    }

    /// How many offered of each group that is taken.
    fn dependent(&self, taken: &BTreeSet<PeerId>, groups: &BTreeSet<String>) -> BTreeMap<String, u32> {
        let now = self.candidates.iter().filter_map(|(peer, (candidate, _))| Some((*peer, candidate.group()?)));
        let offered: BTreeMap<PeerId, String> = self.lapsed.clone().into_iter().chain(now).collect();
        let mut counts = BTreeMap::new();
        let vain = offered.into_iter().filter(|(peer, group)| !taken.contains(peer) && groups.contains(group));
        vain.for_each(|(_, group)| *counts.entry(group).or_default() += 1);
        counts
    }

    /// What each peer said last, in this round or the one before.
    fn latest_refusals(&self) -> BTreeMap<PeerId, &Reason> {
        let both = self.earlier_refusals.iter().chain(&self.refusals);
        both.map(|(peer, reason)| (*peer, reason)).collect()
    }
}

fn not_independent((group, count): (String, u32)) -> String {
    format!("{}: not independent of one that was taken ({group})", plural(count, "peer"))
}
