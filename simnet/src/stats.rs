//! What is counted while a run goes on.

use std::collections::BTreeMap;

use shoal_protocol::id::JobId;
use shoal_protocol::message::Message;
use shoal_protocol::record::{JobRecord, JobState};
use shoal_protocol::time::{Millis, Time};

use crate::chance::mix;

/// Arrivals of one announcement that are looked at.
const MAX_SAMPLES: usize = 1_000;

/// Counters of one run.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Bids by job and round.
    pub(crate) bids: BTreeMap<(JobId, u32), u64>,
    pub(crate) rounds: BTreeMap<JobId, u64>,
    /// Executions by job and partition.
    pub(crate) executions: BTreeMap<(JobId, u32), u64>,
    /// When each job was first announced, until its first award.
    announced: BTreeMap<JobId, Time>,
    /// From there to its first award.
    pub(crate) bidding: Vec<Millis>,
    pub(crate) latencies: Vec<Millis>,
    pub(crate) messages: BTreeMap<&'static str, u64>,
    pub(crate) largest: BTreeMap<&'static str, usize>,
    pub(crate) bytes: u64,
    /// After how many milliseconds announcements reached who hears them, and how many that were.
    pub(crate) reach: Vec<Millis>,
    pub(crate) hearers: Vec<u64>,
    /// Bytes of gossip that nodes heard.
    pub(crate) heard_bytes: u64,
    pub(crate) crashes: u64,
    pub(crate) events: u64,
    /// Names all that happened so far.
    pub(crate) digest: u64,
}

impl Stats {
    /// Adds to the digest.
    pub(crate) fn trace(&mut self, a: u64, b: u64) {
        self.digest = mix(self.digest.rotate_left(5) ^ a, b);
    }

    /// A message was sent, once.
    pub(crate) fn sent(&mut self, message: &Message, bytes: usize) {
        *self.messages.entry(message.name()).or_default() += 1;
        let largest = self.largest.entry(message.name()).or_default();
        *largest = bytes.max(*largest);
        self.bytes += bytes as u64;
    }

    /// Gossip reaches nodes after so many milliseconds each.
    pub(crate) fn gossiped(&mut self, message: &Message, bytes: usize, arrivals: &[(u32, Millis)]) {
        self.heard_bytes += (bytes * arrivals.len()) as u64;
        if let Message::Announce(_) = message {
            self.hearers.push(arrivals.len() as u64);
            let every = arrivals.len().div_ceil(MAX_SAMPLES).max(1);
            self.reach.extend(arrivals.iter().step_by(every).map(|(_, delay)| *delay));
        }
    }

    /// An honest machine's message, before the network has its way with it.
    pub(crate) fn said(&mut self, now: Time, message: &Message) {
        match message {
            Message::Announce(m) => {
                *self.rounds.entry(m.job).or_default() += 1;
                self.bids.entry((m.job, m.round)).or_default();
                if m.round == 0 {
                    self.announced.insert(m.job, now);
                }
            }
            // Those for what nobody means to award are no job's.
            Message::Bid(m) => self.bids.get_mut(&(m.job, m.round)).into_iter().for_each(|bids| *bids += 1),
            Message::Award(m) => {
                let attempts = self.executions.entry((m.job, m.partition)).or_default();
                *attempts = (*attempts).max(u64::from(m.attempt) + 1);
                self.bidding.extend(self.announced.remove(&m.job).map(|announced| now.since(announced)));
            }
            _ => {}
        }
    }

    /// A job was saved.
    pub(crate) fn saved(&mut self, job: &JobRecord) {
        if job.state == JobState::Completed {
            self.latencies.push(job.modified.since(job.created));
        }
    }
}
