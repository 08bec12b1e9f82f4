//! Who is heard: what is left of each speaker's allowance, and how late its messages come.

use std::collections::{BTreeMap, BTreeSet};

use super::Bucket;
use crate::id::PeerId;
use crate::limits::{MAX_CLOCK_SKEW_MS, MAX_KNOWN_SPEAKERS, MAX_NEW_SPEAKERS, NEWCOMER_MS, REPLAY_MS, SPEAKERS_GOSSIP};
use crate::time::{Millis, Time};

/// How a message is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Its speaker has been here for a while.
    Known,
    /// Its speaker is new here.
    New,
    /// It comes later than others of its speaker did.
    Late,
    /// It comes so late that whoever passes it on kept it.
    Replayed,
}

/// Everybody who was heard lately. Newcomers have a table of their own: a swarm of them displaces only itself.
#[derive(Debug)]
pub(super) struct Speakers {
    known: Table,
    new: Table,
}

/// Speakers, and by when they were last heard.
#[derive(Debug)]
struct Table {
    most: usize,
    speakers: BTreeMap<PeerId, Speaker>,
    order: BTreeSet<(Time, PeerId)>,
}

#[derive(Debug, Clone, Copy)]
struct Speaker {
    bucket: Bucket,
    first: Time,
    last: Time,
    pace: Option<Pace>,
}

/// How far a speaker's clock is ahead of ours at most, as far as its quickest message of late has shown.
#[derive(Debug, Clone, Copy)]
struct Pace {
    ahead: i64,
    since: Time,
}

impl Default for Speakers {
    fn default() -> Self {
        Self { known: Table::new(MAX_KNOWN_SPEAKERS), new: Table::new(MAX_NEW_SPEAKERS) }
    }
}

impl Speakers {
    /// Notes that `peer` is heard, with what it said at `said_at` by its own clock.
    pub(super) fn hear(&mut self, now: Time, peer: PeerId, said_at: Option<Time>) -> Heard {
        let known = self.known.take(peer).map(|speaker| (speaker, true));
        let found = known.or_else(|| self.new.take(peer).map(|speaker| (speaker, false)));
        let (mut speaker, was_known) = found.unwrap_or((Speaker::new(now), false));
        let is_known = was_known || now.since(speaker.first) >= NEWCOMER_MS;
        let late = said_at.map_or(0, |at| speaker.lateness(now, at));
        speaker.last = speaker.last.max(now);
        let table = if is_known { &mut self.known } else { &mut self.new };
        table.put(peer, speaker);
        match late {
            late if late > 2 * REPLAY_MS => Heard::Replayed,
            late if late > REPLAY_MS => Heard::Late,
            _ if is_known => Heard::Known,
            _ => Heard::New,
        }
    }

    /// Whether `peer` is a newcomer.
    pub(super) fn is_new(&self, now: Time, peer: PeerId) -> bool {
        let is_old = |speaker: &Speaker| now.since(speaker.first) >= NEWCOMER_MS;
        !self.known.speakers.contains_key(&peer) && !self.new.speakers.get(&peer).is_some_and(is_old)
    }

    /// Whether `peer` has said all that it may.
    pub(super) fn is_spent(&mut self, now: Time, peer: PeerId) -> bool {
        self.find(peer).is_some_and(|speaker| speaker.bucket.is_empty(SPEAKERS_GOSSIP, now))
    }

    /// Takes one message from the allowance of `peer`, if it was heard before. Says whether it had none left.
    pub(super) fn overdraws(&mut self, now: Time, peer: PeerId) -> bool {
        self.find(peer).is_some_and(|speaker| !speaker.bucket.take(SPEAKERS_GOSSIP, now))
    }

    /// Takes one message from the allowance of `peer`, which was just heard.
    pub(super) fn spend(&mut self, now: Time, peer: PeerId) -> bool {
        self.find(peer).is_some_and(|speaker| speaker.bucket.take(SPEAKERS_GOSSIP, now))
    }

    fn find(&mut self, peer: PeerId) -> Option<&mut Speaker> {
        self.known.speakers.get_mut(&peer).or_else(|| self.new.speakers.get_mut(&peer))
    }
}

#[cfg(test)]
impl Speakers {
    pub(super) fn remembered(&self) -> usize {
        assert!([&self.known, &self.new].iter().all(|table| table.order.len() == table.speakers.len()));
        self.known.speakers.len() + self.new.speakers.len()
    }
}

impl Table {
    fn new(most: usize) -> Self {
        Self { most, speakers: BTreeMap::new(), order: BTreeSet::new() }
    }

    fn take(&mut self, peer: PeerId) -> Option<Speaker> {
        let speaker = self.speakers.remove(&peer)?;
        self.order.remove(&(speaker.last, peer));
        Some(speaker)
    }

    /// Puts a speaker in; whoever has been silent for longest makes room.
    fn put(&mut self, peer: PeerId, speaker: Speaker) {
        if self.speakers.len() >= self.most
            && let Some((_, silent)) = self.order.pop_first()
        {
            self.speakers.remove(&silent);
        }
        self.order.insert((speaker.last, peer));
        self.speakers.insert(peer, speaker);
    }
}

impl Speaker {
    fn new(now: Time) -> Self {
        Self { bucket: Bucket::full(SPEAKERS_GOSSIP, now), first: now, last: now, pace: None }
    }

    /// How much later than the quickest of its messages this one comes, in milliseconds. A clock that was set back
    /// makes everything late, so what is known of it is forgotten in time.
    fn lateness(&mut self, now: Time, said_at: Time) -> Millis {
        let ahead = now.until(said_at);
        let pace = *self.pace.get_or_insert(Pace { ahead, since: now });
        if ahead > pace.ahead || now.since(pace.since) > MAX_CLOCK_SKEW_MS {
            self.pace = Some(Pace { ahead, since: now });
            return 0;
        }
        u64::try_from(pace.ahead - ahead).unwrap_or(0)
    }
}
