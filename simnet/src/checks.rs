//! What may never happen, looked at after each step; and what must have happened in the end.

use std::collections::BTreeMap;

use shoal_protocol::commitment::{self, Commitment};
use shoal_protocol::id::{BlobHash, ExecutionId, JobId, PeerId};
use shoal_protocol::limits::{MAX_ANNOUNCE_BYTES, MAX_EXECUTIONS};
use shoal_protocol::machine::Machine;
use shoal_protocol::message::{Ending, Message, Resources, TraceAnswer};
use shoal_protocol::record::{ExecutionRecord, ExecutionState, JobRecord, JobState, Record};
use shoal_protocol::task::{Claim, Work};
use shoal_protocol::time::Time;
use shoal_protocol::wire;

use crate::disk::Disk;
use crate::peers;

/// Violations that are told one by one; more are counted.
const MAX_TOLD: usize = 12;
/// Outputs of one input, beside those that each partition of a job may cause.
const BASE_OUTPUTS: usize = 200;
/// Outputs that one partition may cause at once: each execution may be changed, told and noted.
const OUTPUTS_PER_PARTITION: usize = 40;

/// What was seen that should not be.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    awards: BTreeMap<ExecutionId, PeerId>,
    commitments: BTreeMap<ExecutionId, Commitment>,
    published: BTreeMap<(JobId, u32), Leaving>,
    pub(crate) told: Vec<String>,
    pub(crate) count: u64,
}

/// Which node, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) node: u32,
    pub(crate) now: Time,
}

/// A result that is about to leave the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) job: JobId,
    pub(crate) partition: u32,
    pub(crate) execution: ExecutionId,
    pub(crate) result: BlobHash,
    pub(crate) at: Time,
}

impl Checks {
    /// Notes a violation.
    pub(crate) fn never(&mut self, place: Place, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.told.len() < MAX_TOLD {
            self.told.push(format!("at {} ms, node {}: {}", place.now.0, place.node, what()));
        }
    }

    fn expect(&mut self, place: Place, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.never(place, what);
        }
    }

    /// A node is about to say something: all that it rests on must be on its disk.
    pub(crate) fn said(&mut self, place: Place, me: PeerId, disk: &Disk, to: Option<PeerId>, message: &Message) {
        let supported = match message {
            Message::Announce(m) => disk.job(m.job).is_some_and(|job| job.rounds > m.round && !job.state.is_over()),
            Message::Award(m) => disk.execution(m.job, m.execution).is_some_and(|e| Some(e.worker) == to),
            Message::RevealPlease(m) => {
                disk.execution(m.job, m.execution).is_some_and(|e| e.committed.is_some() && Some(e.worker) == to)
            }
            Message::Settle(m) => settles(disk, m.job, m.execution, m.ending),
            Message::Progress(m) => disk.held(m.execution).is_some(),
            Message::Commit(m) => disk.held(m.execution).is_some_and(|held| {
                let seal = |answer: &shoal_protocol::record::Answer| {
                    commitment::commit(m.job, m.execution, me, &answer.claim, &answer.salt)
                };
                held.answer.as_ref().map(seal) == Some(m.commitment)
            }),
            Message::Reveal(m) => disk.held(m.execution).is_some_and(|held| {
                held.answer.as_ref().is_some_and(|answer| answer.claim == m.claim && answer.salt == m.salt)
            }),
            Message::Bid(_) | Message::Refuse(_) | Message::Fail(_) => true,
            // Nobody honest looks into executions here, so all that is asked is refused.
            Message::TracePlease(_) => false,
            Message::Trace(m) => matches!(m.answer, TraceAnswer::Failed(_)),
        };
        let verifies_itself = matches!(message, Message::Award(m) if to == Some(me) && is_verified(disk, m.job));
        self.expect(place, !verifies_itself, || "a requester is one of those that must agree".into());
        self.expect(place, supported, || format!("said {} without having saved it: {message:?}", message.name()));
        self.remembered(place, me, to, message);
    }

    /// One execution has one worker and one answer.
    fn remembered(&mut self, place: Place, me: PeerId, to: Option<PeerId>, message: &Message) {
        match (message, to) {
            (Message::Award(award), Some(to)) => {
                let first = *self.awards.entry(award.execution).or_insert(to);
                self.expect(place, first == to, || format!("{} was awarded to two workers", award.execution));
            }
            (Message::Commit(commit), _) => {
                let first = *self.commitments.entry(commit.execution).or_insert(commit.commitment);
                let same = first == commit.commitment;
                self.expect(place, same, || format!("{} contradicts its commitment", commit.execution));
            }
            (Message::Reveal(m), _) => {
                let seal = commitment::commit(m.job, m.execution, me, &m.claim, &m.salt);
                let opens = self.commitments.get(&m.execution) == Some(&seal);
                self.expect(place, opens, || format!("{} reveals what it had not sealed", m.execution));
            }
            _ => {}
        }
    }

    /// A node is about to publish: only what is right and here, and each time under the same names.
    pub(crate) fn publishing(&mut self, place: Place, disk: &Disk, leaving: Leaving) {
        let Leaving { job, partition, execution, result, .. } = leaving;
        let first = *self.published.entry((job, partition)).or_insert(leaving);
        self.expect(place, first == leaving, || format!("{job}/{partition} is published as {first:?} and {leaving:?}"));
        self.expect(place, disk.collected.contains(&result), || format!("{job}/{partition} is published unseen"));
        let agreed = disk.execution(job, execution);
        let agreed = agreed.is_some_and(|e| e.state == ExecutionState::Agreed && e.result() == Some(result));
        self.expect(place, agreed, || format!("{job}/{partition} is published before it is believed"));
        let Some(job) = disk.job(job).filter(|job| job.submission.policy.agreement > 1) else { return };
        let right = truth(job, partition).is_some_and(|claim| claim.result == result);
        self.expect(place, right, || format!("a wrong result of {} is published", job.job));
    }

    /// A node is about to keep a result for others, which it must have.
    pub(crate) fn keeping(&mut self, place: Place, disk: &Disk, execution: ExecutionId, result: BlobHash) {
        let made = disk.made.get(&execution) == Some(&result);
        self.expect(place, made, || format!("{execution} is kept without its result"));
    }

    /// A message in its real encoding is as large as it may be.
    pub(crate) fn fits(&mut self, place: Place, message: &Message, bytes: usize) {
        let fits = !message.is_gossip() || bytes < MAX_ANNOUNCE_BYTES;
        self.expect(place, fits, || format!("{} takes {bytes} bytes", message.name()));
    }

    /// A node is about to save something: what it knew before may not be contradicted.
    pub(crate) fn saving(&mut self, place: Place, disk: &Disk, record: &Record) {
        match record {
            Record::Execution(execution) => self.saving_execution(place, disk, execution),
            Record::Event(event) => {
                let last = disk.saved(event.job).and_then(|saved| saved.last_event.as_ref());
                let follows = last.is_none_or(|last| last.sequence < event.sequence);
                self.expect(place, follows, || format!("event {} of {} is overwritten", event.sequence, event.job));
            }
            Record::Job(job) => self.saving_job(place, disk, job),
            Record::Publication(publication) => {
                let begun = self.published.contains_key(&(publication.job, publication.partition));
                self.expect(place, begun, || format!("{} notes what it did not publish", publication.job));
            }
            Record::Held(_) | Record::Standing(..) => {}
        }
    }

    fn saving_execution(&mut self, place: Place, disk: &Disk, new: &ExecutionRecord) {
        if let Some(old) = disk.execution(new.job, new.execution) {
            let moves = may_follow(old.state, new.state) && old.worker == new.worker;
            self.expect(place, moves, || format!("{} went from {:?} to {:?}", new.execution, old.state, new.state));
        }
        let Some(saved) = disk.saved(new.job) else { return };
        let siblings = saved.executions.values();
        let others = siblings.filter(|e| e.partition == new.partition && e.execution != new.execution);
        let present = |e: &ExecutionRecord| e.state.is_live() || e.state.is_vote();
        for other in others.clone().filter(|e| present(e) && present(new)) {
            let apart = other.worker != new.worker && (other.group.is_none() || other.group != new.group);
            let what = || format!("{} and {} are not independent", other.execution, new.execution);
            self.expect(place, apart, what);
        }
        let (all, votes) = (others.clone().count() + 1, others.filter(|e| e.state.is_vote()).count());
        let most = saved.record.as_ref().map_or(0, |job| job.submission.policy.max_executions as usize);
        let within = all <= MAX_EXECUTIONS as usize && votes + usize::from(new.state.is_vote()) <= most;
        self.expect(place, within, || format!("partition {} of {} has {all} executions", new.partition, new.job));
    }

    fn saving_job(&mut self, place: Place, disk: &Disk, new: &JobRecord) {
        let over = disk.job(new.job).is_some_and(|old| old.state.is_over());
        self.expect(place, !over, || format!("{} goes on after its end", new.job));
        if new.state != JobState::Completed {
            return;
        }
        let publications = disk.saved(new.job).map_or(0, |saved| saved.publications.len());
        let published = !new.submission.publishes || publications == new.submission.partitions as usize;
        self.expect(place, published, || format!("{} completed without having been published", new.job));
        for (partition, believed) in results(disk, new) {
            let Some(claim) = believed else {
                self.never(place, || format!("{} completed without a result for partition {partition}", new.job));
                continue;
            };
            let right = truth(new, partition) == Some(claim) || new.submission.policy.agreement < 2;
            self.expect(place, right, || format!("{} completed with a wrong result", new.job));
            self.expect(place, disk.collected.contains(&claim.result), || {
                format!("{} completed without having its result", new.job)
            });
        }
    }

    /// A node has taken a step.
    pub(crate) fn stepped(&mut self, place: Place, machine: &Machine, ticked: bool, outputs: usize, bound: usize) {
        let (used, capacity) = machine.capacity();
        self.expect(place, within(&used, &capacity), || {
            format!("capacity is oversubscribed: {used:?} of {capacity:?}")
        });
        let late = machine.deadline().is_some_and(|at| at <= place.now);
        self.expect(place, !(ticked && late), || "its deadline is in the past: it would spin".into());
        self.expect(place, outputs <= bound, || format!("one input caused {outputs} outputs, more than {bound}"));
    }

    /// Programs run at once on a node.
    pub(crate) fn running(&mut self, place: Place, used: &Resources, capacity: &Resources) {
        self.expect(place, within(used, capacity), || format!("programs use {used:?} of {capacity:?}"));
    }

    /// The world has come to rest.
    pub(crate) fn at_rest(&mut self, place: Place, machine: &Machine, disk: &Disk) {
        let (used, _) = machine.capacity();
        self.expect(place, machine.open_jobs() == 0, || format!("{} jobs never end", machine.open_jobs()));
        let held = machine.held_executions().max(disk.held_count());
        self.expect(place, held == 0, || format!("{held} executions are held for ever"));
        self.expect(place, used == Resources::default(), || format!("capacity is never given back: {used:?}"));
        self.expect(place, machine.deadline().is_none(), || "it still waits for something".into());
    }
}

/// How many outputs one input may cause on a node whose largest job has so many partitions.
pub(crate) fn most_outputs(partitions: u32, records: usize) -> usize {
    BASE_OUTPUTS + OUTPUTS_PER_PARTITION * (partitions as usize + records)
}

/// The believed claim of each partition.
pub(crate) fn results(disk: &Disk, job: &JobRecord) -> Vec<(u32, Option<Claim>)> {
    let agreement = job.submission.policy.agreement as usize;
    let executions = disk.saved(job.job).map(|saved| &saved.executions);
    let of = |partition| {
        let agreed = executions.into_iter().flatten().map(|(_, e)| e);
        let agreed: Vec<Claim> = agreed
            .filter(|e| e.partition == partition && e.state == ExecutionState::Agreed)
            .filter_map(ExecutionRecord::claim)
            .collect();
        let unanimous = agreed.windows(2).all(|pair| pair[0] == pair[1]);
        agreed.first().copied().filter(|_| unanimous && agreed.len() >= agreement)
    };
    (0..job.submission.partitions).map(|partition| (partition, of(partition))).collect()
}

fn truth(job: &JobRecord, partition: u32) -> Option<Claim> {
    let work: Work = wire::parse(&job.submission.work).ok()?;
    Some(peers::truth(&work.partition(partition)))
}

/// Whether executions of a job must agree.
fn is_verified(disk: &Disk, job: JobId) -> bool {
    disk.job(job).is_some_and(|job| job.submission.policy.agreement > 1)
}

/// Whether a settlement is what the disk says of the execution.
fn settles(disk: &Disk, job: JobId, execution: ExecutionId, ending: Ending) -> bool {
    use ExecutionState::{Agreed, Cancelled, Dissented, Failed, Revealed};
    let state = disk.execution(job, execution).map(|e| e.state);
    match ending {
        Ending::Agreed { .. } => state == Some(Agreed),
        Ending::Dissented => state == Some(Dissented),
        // A job that this node does not know, or does not want any more, needs nothing.
        Ending::Unused | Ending::Cancelled if disk.job(job).is_none_or(|job| job.state.is_over()) => true,
        Ending::Unused => matches!(state, Some(Failed | Cancelled | Revealed | Agreed)),
        Ending::Cancelled => matches!(state, Some(Failed | Cancelled)),
    }
}

fn may_follow(old: ExecutionState, new: ExecutionState) -> bool {
    use ExecutionState::{
        Agreed, Awarded, Cancelled, Committed, Dissented, Failed, Fetching, Preparing, Revealed, Running,
    };
    let rank = |state| match state {
        Awarded => 0,
        Fetching => 1,
        Preparing => 2,
        Running => 3,
        Committed => 4,
        Revealed => 5,
        Agreed | Dissented | Failed | Cancelled => 6,
    };
    rank(old) < rank(new) && (old != Revealed || matches!(new, Agreed | Dissented))
}

fn within(used: &Resources, capacity: &Resources) -> bool {
    used.cpu_millis <= capacity.cpu_millis
        && used.memory_bytes <= capacity.memory_bytes
        && used.disk_bytes <= capacity.disk_bytes
        && used.gpus <= capacity.gpus
}
