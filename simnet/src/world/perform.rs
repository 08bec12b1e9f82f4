//! Performs what machines want: saves, says, and hands the rest to the host.

use ed25519_dalek::SigningKey;
use shoal_protocol::id::{BlobHash, ExecutionId, MeshId, PeerId};
use shoal_protocol::machine::{Key, Output};
use shoal_protocol::message::Message;
use shoal_protocol::record::{ExecutionState, Record};
use shoal_protocol::shard::{self, Audience};
use shoal_protocol::wire::{self, Sealed, canonical};

use super::{Event, Letter, What, World};
use crate::checks::Leaving;
use crate::node::Node;
use crate::peers::{self, Behaviour};
use crate::scenarios::Sabotage;

/// Whom a message is for.
#[derive(Clone, Copy)]
pub(super) enum To {
    One(PeerId),
    All(Audience),
}

/// In whose name a node says something.
#[derive(Clone, Copy)]
pub(super) enum Speaker {
    Itself,
    /// A key that was made from this just now.
    Fresh([u8; 32]),
}

impl To {
    fn peer(self) -> Option<PeerId> {
        match self {
            To::One(peer) => Some(peer),
            To::All(_) => None,
        }
    }
}

/// What signing adds to a message: version, sender, receiver, signature.
const HEADER_BYTES: usize = 129;

impl World {
    pub(super) fn perform(&mut self, node: u32, output: Output) {
        match output {
            Output::Save(record) => self.save(node, record),
            Output::Forget(key) => self.forget(node, key),
            Output::Gossip(audience, message) => self.say(node, To::All(audience), message),
            Output::Send(to, message) => self.say(node, To::One(to), message),
            Output::Learn(..) | Output::End(..) => {}
            Output::Price(announce) => self.price(node, announce),
            Output::Fetch { execution, from, invocation, .. } => {
                self.fetch(node, execution, &invocation.contents(), from);
            }
            Output::Execute { execution, invocation, timeout_ms, .. } => {
                self.execute(node, execution, &invocation, timeout_ms);
            }
            Output::Abort(execution) => self.abort(node, execution),
            Output::Keep { execution, result, .. } => self.keep(node, execution, result),
            Output::Release(execution) => drop(self.nodes[node as usize].disk.made.remove(&execution)),
            Output::Collect { job, partition, result, from, .. } => self.collect(node, job, partition, result, &from),
            Output::Publish { job, partition, execution, result, at, .. } => {
                self.publish(node, Leaving { job, partition, execution, result, at });
            }
            Output::Examine { execution, .. } => {
                let place = self.place(node);
                self.checks
                    .never(place, || format!("{execution} is examined, and all of each result is compared here"));
            }
            Output::Validate { job, .. } => {
                let place = self.place(node);
                self.checks.never(place, || format!("{job} has a validator, and no job does here"));
            }
            Output::Rerun { execution, .. } | Output::Traced(execution, _) => {
                let place = self.place(node);
                self.checks.never(place, || format!("{execution} is looked into, and nobody here asks for that"));
            }
            Output::Resume { execution, .. } => {
                let place = self.place(node);
                self.checks.never(place, || format!("{execution} is taken up, and nothing here outlives its node"));
            }
        }
    }

    fn save(&mut self, node: u32, record: Record) {
        let place = self.place(node);
        let disk = &mut self.nodes[node as usize].disk;
        self.checks.saving(place, disk, &record);
        match &record {
            Record::Job(job) => self.stats.saved(job),
            Record::Execution(execution) if execution.state == ExecutionState::Revealed && self.has.copiers => {
                let (worker, execution) = (execution.worker, execution.clone());
                disk.save(record);
                return self.check_no_copy(node, worker, &execution);
            }
            Record::Held(_) if self.scenario.sabotage == Some(Sabotage::ForgetfulDisk) => return,
            _ => {}
        }
        disk.save(record);
    }

    /// A copier computes nothing, so a right answer of its is a copied one.
    fn check_no_copy(&mut self, node: u32, worker: PeerId, execution: &shoal_protocol::record::ExecutionRecord) {
        let Some(number) = self.by_peer.get(&worker).copied() else { return };
        if self.nodes[number as usize].behaviour != Behaviour::Copier {
            return;
        }
        let saved = self.nodes[node as usize].disk.job(execution.job);
        let work = saved.and_then(|job| wire::parse::<shoal_protocol::task::Work>(&job.submission.work).ok());
        let right = work.map(|work| peers::truth(&work.partition(execution.partition)));
        if right.is_some() && execution.claim() == right {
            let place = self.place(node);
            self.checks.never(place, || format!("{} is a copied answer that counts", execution.execution));
        }
    }

    fn keep(&mut self, node: u32, execution: ExecutionId, result: BlobHash) {
        let place = self.place(node);
        let disk = &mut self.nodes[node as usize].disk;
        self.checks.keeping(place, disk, execution, result);
        disk.kept.insert(result);
    }

    fn forget(&mut self, node: u32, key: Key) {
        self.nodes[node as usize].disk.forget(key);
    }

    /// A machine says something; what leaves the node may be something else.
    fn say(&mut self, number: u32, to: To, mut message: Message) {
        let place = self.place(number);
        let node = &self.nodes[number as usize];
        self.checks.said(place, node.me, &node.disk, to.peer(), &message);
        self.stats.said(place.now, &message);
        let (me, behaviour) = (node.me, node.behaviour);
        if let (Message::Award(award), To::One(to)) = (&message, to) {
            self.remember_award(me, to, award);
        }
        if self.has.copiers {
            self.overhear(behaviour, &mut message);
        }
        if behaviour.speaks(&message) {
            self.post(number, to, message);
        }
    }

    /// Copiers hear what others say of the same partition, and say it themselves.
    fn overhear(&mut self, behaviour: Behaviour, message: &mut Message) {
        let execution = match message {
            Message::Commit(m) => m.execution,
            Message::Reveal(m) => m.execution,
            _ => return,
        };
        let Some(partition) = self.partition_of.get(&execution) else { return };
        let overheard = self.overheard.entry(*partition).or_default();
        match behaviour {
            Behaviour::Copier => overheard.copy_into(message),
            _ => overheard.hear(message),
        }
    }

    /// Puts a message on its way.
    pub(super) fn post(&mut self, number: u32, to: To, message: Message) {
        self.post_as(number, Speaker::Itself, to, message);
    }

    /// Puts a message on its way in somebody's name.
    pub(super) fn post_as(&mut self, number: u32, speaker: Speaker, to: To, message: Message) {
        let place = self.place(number);
        let payload = canonical(&message);
        let bytes = payload.len() + HEADER_BYTES;
        let hash = u64::from_le_bytes(std::array::from_fn(|i| blake3::hash(&payload).as_bytes()[i]));
        self.stats.trace(hash, u64::from(number));
        self.stats.sent(&message, bytes);
        self.checks.fits(place, &message, bytes);
        let Some(sealed) = self.seal(number, speaker, to.peer(), message) else { return };
        match to {
            To::All(audience) => self.gossip(number, audience, sealed, bytes),
            To::One(to) => self.direct(number, to, sealed),
        }
    }

    /// Signs, encodes and opens a message, if this run is true to the byte.
    fn seal(&mut self, number: u32, speaker: Speaker, to: Option<PeerId>, message: Message) -> Option<Sealed> {
        let node = &self.nodes[number as usize];
        let (key, name) = match speaker {
            Speaker::Itself => (node.key.clone(), node.me),
            Speaker::Fresh(seed) => (node.key.as_ref().map(|_| SigningKey::from_bytes(&seed)), PeerId(seed)),
        };
        let Some(key) = key else { return Some(Sealed::assume(name, to, message)) };
        let mesh = MeshId::of("simulated");
        let sealed = wire::seal(&key, mesh, to, message);
        match wire::open(mesh, sealed.bytes()) {
            Ok(opened) if opened == sealed => Some(opened),
            other => {
                let place = self.place(number);
                self.checks.never(place, || format!("{} cannot be opened: {other:?}", sealed.message().name()));
                None
            }
        }
    }

    fn direct(&mut self, from: u32, to: PeerId, sealed: Sealed) {
        let Some(to) = self.by_peer.get(&to).copied() else { return };
        // What a node says to itself needs no network.
        if to == from {
            return self.deliver(sealed, &[(to, 0)]);
        }
        let delays = self.links.direct(from as usize, to as usize);
        let arrivals = delays.into_iter().flatten().map(|delay| (to, delay)).collect::<Vec<_>>();
        self.deliver(sealed, &arrivals);
    }

    fn gossip(&mut self, from: u32, audience: Audience, sealed: Sealed, bytes: usize) {
        let mut arrivals = Vec::new();
        for to in self.hearers(from, audience) {
            let delays = self.links.gossip(from as usize, to as usize, audience.level);
            arrivals.extend(delays.into_iter().flatten().map(|delay| (to, delay)));
        }
        self.stats.gossiped(sealed.message(), bytes, &arrivals);
        self.deliver(sealed, &arrivals);
    }

    /// Those in the shard of `from` that hear it: who runs jobs of the class, and who waits for bids.
    fn hearers(&self, from: u32, audience: Audience) -> Vec<u32> {
        let all = self.neighbourhoods.around(&self.nodes[from as usize], audience.level);
        let hears = |node: &Node| {
            let waits = node.machine.as_ref().is_some_and(|machine| machine.open_jobs() > 0);
            let heard = shard::deepest_level(node.view.mesh_size, self.scenario.shard_nodes, 0).max(node.view.level);
            audience.level <= heard && (waits || node.offering.executors.contains_key(&audience.class))
        };
        all.iter().copied().filter(|to| *to != from && hears(&self.nodes[*to as usize])).collect()
    }

    fn deliver(&mut self, sealed: Sealed, arrivals: &[(u32, u64)]) {
        if arrivals.is_empty() {
            return;
        }
        let left = u32::try_from(arrivals.len()).unwrap_or(u32::MAX);
        let letter = self.letters.insert(Letter { sealed, left });
        let now = self.queue.now();
        for (node, delay) in arrivals {
            self.queue.plan(now + delay, Event { node: *node, what: What::Hear(letter) });
        }
    }
}
