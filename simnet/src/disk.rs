//! What a node has saved. A crash loses everything else.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::id::{BlobHash, ExecutionId, JobId, PeerId};
use shoal_protocol::machine::Key;
use shoal_protocol::record::{Event, ExecutionRecord, HeldRecord, JobRecord, Publication, Record, Standing};

/// A node's durable state.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    jobs: BTreeMap<JobId, Saved>,
    held: BTreeMap<ExecutionId, HeldRecord>,
    standings: BTreeMap<PeerId, Standing>,
    /// Results of its own runs, until they are released.
    pub(crate) made: BTreeMap<ExecutionId, BlobHash>,
    /// Results of its own runs that it keeps for others.
    pub(crate) kept: BTreeSet<BlobHash>,
    /// Results that it collected for its jobs.
    pub(crate) collected: BTreeSet<BlobHash>,
}

/// One job of this node.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    pub(crate) record: Option<JobRecord>,
    pub(crate) executions: BTreeMap<ExecutionId, ExecutionRecord>,
    pub(crate) publications: BTreeMap<u32, Publication>,
    /// The last event; the earlier ones are not needed to go on.
    pub(crate) last_event: Option<Event>,
}

impl Disk {
    /// Makes a record durable.
    pub(crate) fn save(&mut self, record: Record) {
        match record {
            Record::Job(job) => {
                let saved = self.jobs.entry(job.job).or_default();
                saved.record = Some(*job);
            }
            Record::Execution(execution) => {
                let saved = self.jobs.entry(execution.job).or_default();
                saved.executions.insert(execution.execution, *execution);
            }
            Record::Event(event) => {
                let saved = self.jobs.entry(event.job).or_default();
                saved.last_event = Some(event);
            }
            Record::Publication(publication) => {
                let saved = self.jobs.entry(publication.job).or_default();
                saved.publications.insert(publication.partition, *publication);
            }
            Record::Held(held) => drop(self.held.insert(held.execution, *held)),
            Record::Standing(peer, standing) => drop(self.standings.insert(peer, standing)),
        }
    }

    /// Removes what was saved under a key.
    pub(crate) fn forget(&mut self, key: Key) {
        match key {
            Key::Held(execution) => drop(self.held.remove(&execution)),
            Key::Standing(peer) => drop(self.standings.remove(&peer)),
        }
    }

    /// Everything that was saved, for a restart.
    pub(crate) fn records(&self) -> Vec<Record> {
        let jobs = self.jobs.values().flat_map(|saved| {
            let job = saved.record.iter().map(|job| Record::Job(Box::new(job.clone())));
            let executions = saved.executions.values().map(|execution| Record::Execution(Box::new(execution.clone())));
            let publications = saved.publications.values();
            let publications = publications.map(|publication| Record::Publication(Box::new(publication.clone())));
            // The other way round than they were saved: order must not matter.
            publications.chain(executions).chain(saved.last_event.iter().cloned().map(Record::Event)).chain(job)
        });
        let held = self.held.values().map(|held| Record::Held(Box::new(held.clone())));
        let standings = self.standings.iter().map(|(peer, standing)| Record::Standing(*peer, *standing));
        jobs.chain(held).chain(standings).collect()
    }

    /// Whether others can have a result from here.
    pub(crate) fn has_result(&self, result: BlobHash) -> bool {
        self.kept.contains(&result) || self.made.values().any(|made| *made == result)
    }

    pub(crate) fn job(&self, job: JobId) -> Option<&JobRecord> {
        self.jobs.get(&job)?.record.as_ref()
    }

    pub(crate) fn saved(&self, job: JobId) -> Option<&Saved> {
        self.jobs.get(&job)
    }

    pub(crate) fn execution(&self, job: JobId, execution: ExecutionId) -> Option<&ExecutionRecord> {
        self.jobs.get(&job)?.executions.get(&execution)
    }

    pub(crate) fn held(&self, execution: ExecutionId) -> Option<&HeldRecord> {
        self.held.get(&execution)
    }

    pub(crate) fn held_count(&self) -> usize {
        self.held.len()
    }
}
