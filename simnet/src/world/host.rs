//! A fake host: fetches and runs take time and can fail, and the result is a hash of what was asked.

use std::collections::BTreeMap;

use shoal_protocol::id::{BlobHash, ExecutionId, JobId, PeerId};
use shoal_protocol::machine::{Finished, Input};
use shoal_protocol::message::{Announce, Resources};
use shoal_protocol::record::Published;
use shoal_protocol::task::{Account, Claim, Content, Failure, Invocation};

use super::{Event, What, World};
use crate::chance::mix;
use crate::checks::Leaving;
use crate::jobs;
use crate::links::Distance;
use crate::peers::Behaviour;
use crate::scenarios::Sabotage;

/// Tries to reach somebody who has the bytes, a second apart.
const MAX_TRIES: u32 = 10;
/// Pause between two tries, in milliseconds.
const RETRY_MS: u64 = 1_000;
/// Size that a result claims to have, in bytes.
const RESULT_BYTES: u64 = 1_000;

/// What the host will say when it has ended something.
#[derive(Debug)]
pub(super) struct Note {
    life: u32,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Price { announce: Box<Announce> },
    Fetch { execution: ExecutionId, from: PeerId, tries: u32 },
    Run { execution: ExecutionId, claim: Claim, run_ms: u64, failure: Option<Failure> },
    Collect { job: JobId, partition: u32, result: BlobHash, from: Vec<PeerId> },
    Publish { job: JobId, partition: u32, result: BlobHash },
}

impl World {
    /// Finds out what a node has for a job of its own.
    pub(super) fn price(&mut self, number: u32, announce: Box<Announce>) {
        let delay = self.chance.between(1, 20);
        self.begin(number, delay, Work::Price { announce });
    }

    pub(super) fn fetch(&mut self, number: u32, execution: ExecutionId, contents: &[Content], from: PeerId) {
        let vanishes = self.nodes[number as usize].behaviour == Behaviour::Vanisher;
        if vanishes || self.has_sabotage(Sabotage::DeadWorkers) {
            self.nodes[number as usize].gone = true;
            return self.crash(number);
        }
        let seed = contents.iter().fold(0, |seed, content| mix(seed, u64::from(content.hash.0[0])));
        let most = if self.scenario.profile.distance == Distance::Lan { 20 } else { 1_500 };
        let delay = 1 + mix(seed, u64::from(number)) % most;
        let doubled = self.nodes[number as usize].fetching.insert(execution, from).is_some();
        if doubled {
            let place = self.place(number);
            self.checks.never(place, || format!("{execution} is fetched twice at once"));
        }
        self.begin(number, delay, Work::Fetch { execution, from, tries: 0 });
    }

    pub(super) fn execute(&mut self, number: u32, execution: ExecutionId, invocation: &Invocation, timeout_ms: u64) {
        let node = &self.nodes[number as usize];
        let length = mix(u64::from_le_bytes(std::array::from_fn(|i| invocation.id().0[i])), 1) % 150 + 50;
        let typical = self.scenario.load.run_ms * length / 100 * node.pace / 100 * node.behaviour.slowness();
        let mut run_ms = typical + self.chance.between(0, typical / 10 + 1);
        if node.behaviour == Behaviour::Copier {
            run_ms = 1;
        }
        let claim = node.behaviour.claim(number, execution, invocation);
        let fails = self.chance.happens(self.scenario.host_failures);
        let failure = match () {
            () if run_ms > timeout_ms => Some(Failure::TimedOut),
            () if fails => Some(Failure::HostFailed("simulated".into())),
            () => None,
        };
        self.occupy(number, execution);
        self.begin(number, run_ms.min(timeout_ms), Work::Run { execution, claim, run_ms, failure });
    }

    /// Counts what programs use at once, apart from what the machine counts.
    fn occupy(&mut self, number: u32, execution: ExecutionId) {
        let place = self.place(number);
        let node = &mut self.nodes[number as usize];
        let Some(held) = node.disk.held(execution) else {
            return self.checks.never(place, || format!("{execution} runs without having been saved"));
        };
        if node.running.insert(execution, held.resources).is_some() {
            self.checks.never(place, || format!("{execution} runs twice at once"));
        }
        let used = node.running.values().fold(Resources::default(), |sum, resources| sum.plus(*resources));
        self.checks.running(place, &used, &node.offering.capacity);
    }

    pub(super) fn abort(&mut self, number: u32, execution: ExecutionId) {
        let node = &mut self.nodes[number as usize];
        node.running.remove(&execution);
        node.fetching.remove(&execution);
    }

    pub(super) fn collect(&mut self, number: u32, job: JobId, partition: u32, result: BlobHash, from: &[PeerId]) {
        let here = self.nodes[number as usize].disk.collected.contains(&result);
        let delay = if here { 1 } else { self.chance.between(2, 300) };
        self.begin(number, delay, Work::Collect { job, partition, result, from: from.to_vec() });
    }

    /// What has left the mesh cannot be taken back, so it is looked at before anything else.
    pub(super) fn publish(&mut self, number: u32, leaving: Leaving) {
        let place = self.place(number);
        self.checks.publishing(place, &self.nodes[number as usize].disk, leaving);
        let Leaving { job, partition, result, .. } = leaving;
        let delay = self.chance.between(2, 500);
        self.begin(number, delay, Work::Publish { job, partition, result });
    }

    fn begin(&mut self, number: u32, delay: u64, work: Work) {
        let note = self.notes.insert(Note { life: self.nodes[number as usize].life, work });
        self.queue.plan(self.queue.now() + delay, Event { node: number, what: What::Host(note) });
    }

    /// The host of a node has ended something; what a former life began is forgotten.
    pub(super) fn host_ended(&mut self, number: u32, note: u32) {
        let Note { life, work } = self.notes.remove(note);
        if life != self.nodes[number as usize].life || !self.nodes[number as usize].is_up() {
            return;
        }
        match work {
            Work::Price { announce } => {
                let means = jobs::means(number, &announce.needs);
                self.step(number, Input::Priced(announce, means));
            }
            Work::Fetch { execution, from, tries } => self.fetched(number, execution, from, tries),
            Work::Run { execution, claim, run_ms, failure } => self.ran(number, execution, claim, run_ms, failure),
            Work::Collect { job, partition, result, from } => self.collected(number, job, partition, result, &from),
            Work::Publish { job, partition, result } => self.published(number, job, partition, result),
        }
    }

    fn fetched(&mut self, number: u32, execution: ExecutionId, from: PeerId, tries: u32) {
        if !self.nodes[number as usize].fetching.contains_key(&execution) {
            return;
        }
        let fails = self.chance.happens(self.scenario.host_failures);
        if !fails && !self.can_reach(number, from) && tries < MAX_TRIES {
            return self.begin(number, RETRY_MS, Work::Fetch { execution, from, tries: tries + 1 });
        }
        self.nodes[number as usize].fetching.remove(&execution);
        let arrived = !fails && tries < MAX_TRIES;
        let result = arrived.then_some(()).ok_or_else(|| Failure::InputMissing("nobody has it".into()));
        self.step(number, Input::Fetched(execution, result));
    }

    fn ran(&mut self, number: u32, execution: ExecutionId, claim: Claim, run_ms: u64, failure: Option<Failure>) {
        let node = &mut self.nodes[number as usize];
        if node.running.remove(&execution).is_none() {
            return;
        }
        if failure.is_none() {
            node.disk.made.insert(execution, claim.result);
        }
        let finished = Finished { claim, result_bytes: RESULT_BYTES, run_ms, account: Account::default() };
        self.step(number, Input::Executed(execution, failure.map_or(Ok(finished), Err)));
    }

    fn collected(&mut self, number: u32, job: JobId, partition: u32, result: BlobHash, from: &[PeerId]) {
        let has = |peer: &PeerId| {
            let provider = self.by_peer.get(peer).map(|provider| &self.nodes[*provider as usize]);
            provider.is_some_and(|provider| provider.disk.has_result(result))
        };
        let here = self.nodes[number as usize].disk.collected.contains(&result);
        let found = here || from.iter().any(|peer| self.can_reach(number, *peer) && has(peer));
        if found {
            self.nodes[number as usize].disk.collected.insert(result);
        }
        let answer = found.then_some(()).ok_or_else(|| "nobody who has it can be reached".to_owned());
        self.step(number, Input::Collected(job, partition, answer));
    }

    fn published(&mut self, number: u32, job: JobId, partition: u32, result: BlobHash) {
        let fails = self.chance.happens(self.scenario.publish_failures);
        let published = Published { uri: format!("simulated://{result}"), details: BTreeMap::new() };
        let answer = if fails { Err("simulated".to_owned()) } else { Ok(Some(published)) };
        self.step(number, Input::Published(job, partition, answer));
    }

    fn can_reach(&self, number: u32, peer: PeerId) -> bool {
        let Some(other) = self.by_peer.get(&peer).copied() else { return false };
        self.nodes[other as usize].is_up() && self.links.reach(number as usize, other as usize)
    }
}
