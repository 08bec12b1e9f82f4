//! How much gossip is passed on of each peer, decided before it is: a flood ends at its first hop.
//!
//! What counts is who spoke, not who passes it on, because through one neighbour comes what all of the mesh say:
//!
//! - each **speaker** has an allowance;
//! - all **newcomers** that one neighbour passes on share one, so that a swarm of fresh names says no more than one peer,
//!   and so do those of all neighbours together, once this node has been here long enough to know anybody;
//! - so do the **early bids** of one neighbour, for jobs that nobody has announced here: bids carry no time, and those that
//!   are replayed are for jobs long forgotten;
//! - each **neighbour** has one for what it is first to bring, and a smaller share when the next runs low: names that were
//!   sown in time are speakers like any other, however many there are;
//! - and there is one for **everything** that this node passes on.
//!
//! A speaker's clock may be wrong, but it runs: what comes a minute later than its other messages did is a replay. Younger
//! ones than that are in gossip's own memory of what it has seen.
//!
//! A neighbour is blamed only for what an honest one would not pass on: what it says itself beyond its allowance, and more
//! of somebody else, or of newcomers, than a node that keeps to all this can have let pass.

mod bucket;
mod speakers;

use std::collections::{BTreeMap, VecDeque};

use crate::conduct::Offence;
use crate::id::{JobId, PeerId};
use crate::limits::{
    ALL_GOSSIP, ALL_NEWCOMERS_GOSSIP, EARLY_BIDS, MAX_NEIGHBOURS, MAX_RECENT_JOBS, MAX_SUSPECTS, NEIGHBOURS_GOSSIP,
    NEIGHBOURS_SHARE, NEWCOMER_MS, NEWCOMERS_GOSSIP, PASSED_ON_GOSSIP, RECENT_JOB_MS,
};
use crate::machine::{self, Opinion};
use crate::message::Message;
use crate::time::Time;
use crate::wire::Sealed;

pub use bucket::{Allowance, Bucket};
use speakers::{Heard, Speakers};

/// What becomes of a gossiped message that is well formed and signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It is looked at and passed on.
    Accept,
    /// It is dropped, and whoever passed it on may be honest.
    Ignore(Excess),
    /// It is dropped, and no honest peer would have passed it on.
    Blame(Offence),
}

/// Why a message is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// It is too old, or of a clock that is wrong.
    Stale,
    /// Its speaker has said too much.
    Speaker,
    /// Those that are new here have said too much.
    Newcomers,
    /// Too many bids for jobs that nobody has announced.
    EarlyBids,
    /// One neighbour is first to bring too much, for what others bring.
    Neighbour,
    /// The mesh says more than this node passes on.
    All,
}

/// What is left of everybody's allowance.
#[derive(Debug)]
pub struct Budgets {
    /// From when on there are newcomers: before, all are.
    settled: Time,
    all: Bucket,
    newcomers: Bucket,
    speakers: Speakers,
    neighbours: BTreeMap<PeerId, Neighbour>,
    /// What each neighbour has passed on of a speaker beyond that one's allowance.
    suspects: BTreeMap<(PeerId, PeerId), Bucket>,
    jobs: RecentJobs,
}

#[derive(Debug)]
struct Neighbour {
    newcomers: Bucket,
    /// Newcomers beyond that.
    swarm: Bucket,
    early_bids: Bucket,
    /// What it is first to bring.
    all: Bucket,
    /// The same when much is said.
    share: Bucket,
}

impl Budgets {
    /// Nobody has said anything yet.
    pub fn new(now: Time) -> Self {
        Self {
            settled: now + NEWCOMER_MS,
            all: Bucket::full(ALL_GOSSIP, now),
            newcomers: Bucket::full(ALL_NEWCOMERS_GOSSIP, now),
            speakers: Speakers::default(),
            neighbours: BTreeMap::new(),
            suspects: BTreeMap::new(),
            jobs: RecentJobs::default(),
        }
    }

    /// What becomes of a message that `neighbour` passes on and that names `from`, if its signature makes no difference:
    /// checking it costs more than all else here. Whatever is not signed by `from` takes nothing from what it may say.
    pub fn foresee(&mut self, now: Time, neighbour: PeerId, from: PeerId) -> Option<Ruling> {
        if self.speakers.is_spent(now, from) {
            return Some(self.suspect(now, neighbour, from));
        }
        if now >= self.settled && self.speakers.is_new(now, from) {
            let is_spent = self.neighbour(now, neighbour).newcomers.is_empty(NEWCOMERS_GOSSIP, now)
                || self.newcomers.is_empty(ALL_NEWCOMERS_GOSSIP, now);
            if is_spent && neighbour == from && self.speakers.overdraws(now, from) {
                return Some(Ruling::Blame(Offence::Excess));
            }
            if is_spent {
                return Some(self.swarm(now, neighbour));
            }
        }
        let (is_low, of) = (self.all.is_low(ALL_GOSSIP, now), self.neighbour(now, neighbour));
        if of.all.is_empty(NEIGHBOURS_GOSSIP, now) || is_low && of.share.is_empty(NEIGHBOURS_SHARE, now) {
            return Some(Ruling::Ignore(Excess::Neighbour));
        }
        self.all.is_empty(ALL_GOSSIP, now).then_some(Ruling::Ignore(Excess::All))
    }

    /// Whether a message that `neighbour` passes on is to go any further. Accepting it is what it costs.
    pub fn rule(&mut self, now: Time, neighbour: PeerId, sealed: &Sealed) -> Ruling {
        let (from, message) = (sealed.from(), sealed.message());
        if machine::judge(now, sealed) == Opinion::Ignore {
            return Ruling::Ignore(Excess::Stale);
        }
        if let Err(ruling) = self.charge(now, neighbour, from, said_at(message)) {
            return ruling;
        }
        if let Message::Bid(bid) = message
            && !self.jobs.contains(now, bid.job)
            && !self.neighbour(now, neighbour).early_bids.take(EARLY_BIDS, now)
        {
            return Ruling::Ignore(Excess::EarlyBids);
        }
        let (is_low, of) = (self.all.is_low(ALL_GOSSIP, now), self.neighbour(now, neighbour));
        let (has_any, has_share) = (of.all.take(NEIGHBOURS_GOSSIP, now), of.share.take(NEIGHBOURS_SHARE, now));
        if !has_any || is_low && !has_share {
            return Ruling::Ignore(Excess::Neighbour);
        }
        if !self.all.take(ALL_GOSSIP, now) {
            return Ruling::Ignore(Excess::All);
        }
        if let Message::Announce(announce) = message {
            self.jobs.note(now, announce.job);
        }
        Ruling::Accept
    }

    /// Charges a message that this node cannot read, and so does not pass on, like any other; says whether `neighbour` is
    /// to blame. Neighbours of another version may pass such messages on, within the same bounds as any other.
    pub fn strange(&mut self, now: Time, neighbour: PeerId, from: PeerId) -> Option<Offence> {
        match self.charge(now, neighbour, from, None) {
            Err(Ruling::Blame(offence)) => return Some(offence),
            Err(_) => {}
            // To check who signed it has cost as much.
            Ok(()) => drop(self.all.take(ALL_GOSSIP, now)),
        }
        None
    }

    /// Takes what a message costs from its speaker's allowance, and from that of newcomers if it is one.
    fn charge(&mut self, now: Time, neighbour: PeerId, from: PeerId, said_at: Option<Time>) -> Result<(), Ruling> {
        let is_new = match self.speakers.hear(now, from, said_at) {
            Heard::Replayed => return Err(Ruling::Blame(Offence::Replayed)),
            Heard::Late => return Err(Ruling::Ignore(Excess::Stale)),
            Heard::Known => false,
            Heard::New => true,
        };
        if !self.speakers.spend(now, from) {
            return Err(self.suspect(now, neighbour, from));
        }
        if is_new && now >= self.settled { self.newcomer(now, neighbour) } else { Ok(()) }
    }

    /// A newcomer speaks.
    fn newcomer(&mut self, now: Time, neighbour: PeerId) -> Result<(), Ruling> {
        if !self.neighbour(now, neighbour).newcomers.take(NEWCOMERS_GOSSIP, now) {
            return Err(self.swarm(now, neighbour));
        }
        let has_room = self.newcomers.take(ALL_NEWCOMERS_GOSSIP, now);
        if has_room { Ok(()) } else { Err(Ruling::Ignore(Excess::Newcomers)) }
    }

    /// Newcomers have said too much through one neighbour. An honest one that has only just started passes on what it does
    /// of anybody.
    fn swarm(&mut self, now: Time, neighbour: PeerId) -> Ruling {
        let is_honest = self.neighbour(now, neighbour).swarm.take(ALL_GOSSIP, now);
        if is_honest { Ruling::Ignore(Excess::Newcomers) } else { Ruling::Blame(Offence::Excess) }
    }

    /// A speaker has said too much. An honest neighbour passes on one allowance of it, which may not be the same messages
    /// as ours, nor come as evenly; whoever passes on more does not check, and whoever is the speaker knows better.
    fn suspect(&mut self, now: Time, neighbour: PeerId, speaker: PeerId) -> Ruling {
        if neighbour == speaker {
            return Ruling::Blame(Offence::Excess);
        }
        let key = (neighbour, speaker);
        if self.suspects.len() >= MAX_SUSPECTS && !self.suspects.contains_key(&key) {
            self.suspects.retain(|_, bucket| !bucket.is_full(PASSED_ON_GOSSIP, now));
            if self.suspects.len() >= MAX_SUSPECTS {
                return Ruling::Ignore(Excess::Speaker);
            }
        }
        let passed = self.suspects.entry(key).or_insert_with(|| Bucket::full(PASSED_ON_GOSSIP, now));
        let is_honest = passed.take(PASSED_ON_GOSSIP, now);
        if is_honest { Ruling::Ignore(Excess::Speaker) } else { Ruling::Blame(Offence::Excess) }
    }

    fn neighbour(&mut self, now: Time, peer: PeerId) -> &mut Neighbour {
        if self.neighbours.len() >= MAX_NEIGHBOURS && !self.neighbours.contains_key(&peer) {
            self.neighbours.retain(|_, of| !of.is_idle(now));
            if self.neighbours.len() >= MAX_NEIGHBOURS {
                self.neighbours.pop_first();
            }
        }
        self.neighbours.entry(peer).or_insert_with(|| Neighbour::new(now))
    }
}

impl Neighbour {
    fn new(now: Time) -> Self {
        Self {
            newcomers: Bucket::full(NEWCOMERS_GOSSIP, now),
            swarm: Bucket::full(ALL_GOSSIP, now),
            early_bids: Bucket::full(EARLY_BIDS, now),
            all: Bucket::full(NEIGHBOURS_GOSSIP, now),
            share: Bucket::full(NEIGHBOURS_SHARE, now),
        }
    }

    /// Whether forgetting it changes nothing.
    fn is_idle(&mut self, now: Time) -> bool {
        self.newcomers.is_full(NEWCOMERS_GOSSIP, now)
            && self.swarm.is_full(ALL_GOSSIP, now)
            && self.early_bids.is_full(EARLY_BIDS, now)
            && self.all.is_full(NEIGHBOURS_GOSSIP, now)
            && self.share.is_full(NEIGHBOURS_SHARE, now)
    }
}

/// When its speaker's clock says that it was said.
fn said_at(message: &Message) -> Option<Time> {
    match message {
        Message::Announce(announce) => Some(announce.at),
        _ => None,
    }
}

/// Jobs that were announced lately.
#[derive(Debug, Default)]
struct RecentJobs {
    until: BTreeMap<JobId, Time>,
    order: VecDeque<(Time, JobId)>,
}

impl RecentJobs {
    fn note(&mut self, now: Time, job: JobId) {
        let until = now + RECENT_JOB_MS;
        self.until.insert(job, until);
        self.order.push_back((until, job));
        while self.order.len() > MAX_RECENT_JOBS || self.order.front().is_some_and(|(until, _)| *until <= now) {
            let Some((until, job)) = self.order.pop_front() else { break };
            // Unless it was announced again since.
            if self.until.get(&job) == Some(&until) {
                self.until.remove(&job);
            }
        }
    }

    fn contains(&self, now: Time, job: JobId) -> bool {
        self.until.get(&job).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests;
