//! What goes wrong in a world, and when: late joins, crashes between any two outputs, partitions, floods.

use shoal_protocol::commitment::{Commitment, Salt};
use shoal_protocol::id::PeerId;
use shoal_protocol::id::{BlobHash, InvocationId};
use shoal_protocol::limits::{MAX_PARTITIONS, MAX_WINDOW_MS};
use shoal_protocol::message::{
    Announce, Bid, Commit, Contact, Ending, ExecutorKind, Fail, Message, Progress, Reveal, RevealPlease, Settle, Stage,
    Trace, TraceAnswer, TracePlease,
};
use shoal_protocol::shard::Audience;
use shoal_protocol::task::{Account, Claim, Failure, Outcome};
use shoal_protocol::trace::TraceRequest;

use super::perform::{Speaker, To};
use super::{Event, What, World};
use crate::checks::most_outputs;
use crate::jobs;
use crate::peers::Behaviour;
use crate::scenarios::Sabotage;

/// A node that is about to crash does so within so many outputs, drawn anew each time.
const MAX_FUSE: u64 = 12;
/// Or after this time, in milliseconds, if it has nothing to do.
const FUSE_MS: u64 = 5_000;
/// Longest time that a crashed node is down, in milliseconds.
const MAX_DOWN_MS: u64 = 25_000;
/// Pause between two bursts of a flooder, in milliseconds, and messages of one burst.
const FLOOD_MS: u64 = 250;
const FLOOD_BURST: usize = 4;
/// Pause between two announcements of a hoarder, in milliseconds.
const HOARD_MS: u64 = 50;
/// Executions that it seeks: as many as an honest requester at most.
const HOARD_WANTED: u16 = 64;
/// Whom a forged bid is for.
const EVERYBODY: Audience = Audience { class: ExecutorKind::Wasm, level: 0 };

impl World {
    pub(super) fn plan_faults(&mut self) {
        let heal = self.scenario.heal_ms;
        for number in 0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX) {
            // Node 0 is there from the beginning: somebody must be.
            let late = number > 0 && self.chance.happens(self.scenario.late);
            let from = if late { self.chance.between(0, heal) } else { 0 };
            self.queue.plan(from, Event { node: number, what: What::Start });
            self.plan_crashes(number, from, heal);
            match self.nodes[number as usize].behaviour {
                Behaviour::Flooder => self.queue.plan(from, Event { node: number, what: What::Flood }),
                Behaviour::Hoarder | Behaviour::Sybil => {
                    self.queue.plan(from, Event { node: number, what: What::Hoard });
                }
                _ => {}
            }
        }
        for _ in 0..self.scenario.partitions {
            let from = self.chance.between(0, heal);
            let length = self.chance.between(1_000, 60_000);
            self.queue.plan(from, Event { node: 0, what: What::Part });
            self.queue.plan((from + length).min(heal), Event { node: 0, what: What::Join });
        }
        if heal != u64::MAX {
            self.queue.plan(heal, Event { node: 0, what: What::Heal });
        }
    }

    fn plan_crashes(&mut self, number: u32, from: u64, heal: u64) {
        let mut crashes = self.scenario.crashes;
        while self.chance.happens(crashes) && from < heal {
            let at = self.chance.between(from, heal);
            self.queue.plan(at, Event { node: number, what: What::Arm });
            crashes -= 1.0;
        }
    }

    pub(super) fn arm(&mut self, number: u32) {
        let node = &mut self.nodes[number as usize];
        if node.is_up() && node.fuse.is_none() {
            node.fuse = u32::try_from(self.chance.between(0, MAX_FUSE)).ok();
            self.queue.plan(self.queue.now() + FUSE_MS, Event { node: number, what: What::Crash });
        }
    }

    /// Counts an output that is about to be performed; says whether the node crashes instead.
    pub(super) fn burn(&mut self, number: u32) -> bool {
        let node = &mut self.nodes[number as usize];
        match node.fuse {
            None => false,
            Some(0) => {
                self.crash(number);
                true
            }
            Some(left) => {
                node.fuse = Some(left - 1);
                false
            }
        }
    }

    pub(super) fn crash_if_armed(&mut self, number: u32) {
        if self.nodes[number as usize].fuse.is_some() {
            self.crash(number);
        }
    }

    pub(super) fn crash(&mut self, number: u32) {
        self.stats.crashes += 1;
        let node = &mut self.nodes[number as usize];
        node.crash();
        if !node.gone {
            let down = self.chance.between(10, MAX_DOWN_MS);
            self.queue.plan(self.queue.now() + down, Event { node: number, what: What::Start });
        }
    }

    pub(super) fn start(&mut self, number: u32) {
        let (now, seed) = (self.now(), self.chance.bytes());
        let remember = !self.has_sabotage(Sabotage::Amnesia);
        let node = &mut self.nodes[number as usize];
        if node.is_up() {
            return;
        }
        node.start(now, seed, remember);
        let records = node.disk.records().len();
        let bound = most_outputs(self.scenario.load.partitions, records);
        self.perform_all(number, false, bound);
    }

    /// Sends some forged messages about what goes on in the mesh.
    pub(super) fn flood(&mut self, number: u32) {
        if self.queue.now() >= self.scenario.heal_ms {
            return;
        }
        self.queue.plan(self.queue.now() + FLOOD_MS, Event { node: number, what: What::Flood });
        for _ in 0..FLOOD_BURST {
            let known = self.recent_awards.len();
            if known == 0 || !self.nodes[number as usize].is_up() {
                return;
            }
            let (requester, worker, award) = self.recent_awards[self.chance.below(known)].clone();
            let (to, message) = self.forge(requester, worker, award);
            self.post(number, to, message);
        }
    }

    /// Announces a job that would fill every worker; nothing is ever awarded.
    pub(super) fn hoard(&mut self, number: u32) {
        if self.queue.now() >= self.scenario.heal_ms {
            return;
        }
        self.queue.plan(self.queue.now() + HOARD_MS, Event { node: number, what: What::Hoard });
        if !self.nodes[number as usize].is_up() {
            return;
        }
        let submission = jobs::draw(&self.scenario.load, self.chance.number(), &mut self.chance);
        let node = &self.nodes[number as usize];
        let speaker = match node.behaviour {
            Behaviour::Sybil => Speaker::Fresh(self.chance.bytes()),
            _ => Speaker::Itself,
        };
        let announce = Announce {
            job: submission.job(node.me),
            at: self.now(),
            round: 0,
            wanted: HOARD_WANTED,
            partitions: MAX_PARTITIONS,
            excluded: Vec::new(),
            work: BlobHash::of(&submission.work),
            needs: submission.needs,
            window_ms: u32::try_from(MAX_WINDOW_MS).unwrap_or(u32::MAX),
            level: EVERYBODY.level,
            mesh_size: node.view.mesh_size,
            refusals: 0,
            contact: Contact::default(),
        };
        self.post_as(number, speaker, To::All(EVERYBODY), Message::Announce(announce));
    }

    /// Answers an announcement at once with the best bids there can be, to silence everybody else.
    pub(super) fn outbid(&mut self, number: u32, message: &Message) {
        let Message::Announce(announce) = message else { return };
        if self.queue.now() >= self.scenario.heal_ms {
            return;
        }
        for _ in 0..FLOOD_BURST {
            let (job, round, contact) = (announce.job, announce.round, Contact::default());
            let bid = Bid { job, round, slots: u16::MAX, cost: 0, operator: None, contact, waited_ms: 0 };
            self.post(number, To::All(announce.audience()), Message::Bid(bid));
        }
    }

    fn forge(&mut self, requester: PeerId, worker: PeerId, award: shoal_protocol::message::Award) -> (To, Message) {
        let (job, execution) = (award.job, award.execution);
        let salt = Salt(self.chance.bytes());
        let claim = Claim { outcome: Outcome::Exited(0), result: BlobHash(self.chance.bytes()) };
        match self.chance.below(11) {
            0 | 1 => {
                let round = u32::try_from(self.chance.below(4)).unwrap_or(0);
                let contact = Contact::default();
                (
                    To::All(EVERYBODY),
                    Message::Bid(Bid { job, round, slots: u16::MAX, cost: 0, operator: None, contact, waited_ms: 0 }),
                )
            }
            2 => (
                To::One(requester),
                Message::Progress(Progress { job, execution, stage: Stage::Running, amount: None }),
            ),
            3 => {
                let commitment = Commitment(self.chance.bytes());
                (To::One(requester), Message::Commit(Commit { job, execution, commitment, run_ms: 1 }))
            }
            4 => {
                let invocation = InvocationId(self.chance.bytes());
                let reveal =
                    Reveal { job, execution, invocation, claim, salt, result_bytes: 1, account: Account::default() };
                (To::One(requester), Message::Reveal(reveal))
            }
            5 => (To::One(requester), Message::Fail(Fail { job, execution, failure: Failure::TimedOut })),
            6 => (To::One(worker), Message::Settle(Settle { job, execution, ending: Ending::Cancelled })),
            7 => (To::One(worker), Message::RevealPlease(RevealPlease { job, execution })),
            8 => {
                let (number, request) = (0, TraceRequest::NOTHING);
                (To::One(worker), Message::TracePlease(TracePlease { award, number, request }))
            }
            9 => {
                let answer = TraceAnswer::Failed(Failure::TimedOut);
                (To::One(requester), Message::Trace(Trace { job, execution, number: 0, answer }))
            }
            _ => (To::One(worker), Message::Award(award)),
        }
    }
}
