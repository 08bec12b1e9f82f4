//! What must not be collected, and for whom: modules, inputs and results while a job or an execution needs them.
//!
//! Guards end with the process, and cost no write to the disk. After a restart the records tell what is still needed,
//! before anything is collected. What a person may want later is pinned instead.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shoal_protocol::id::{ExecutionId, JobId};
use shoal_protocol::record::Record;
use shoal_protocol::task::{Content, ContentKind, Work};
use shoal_protocol::wire;
use shoal_store::blobs::{Blobs, Guard, StoreFailed};

/// Who needs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// A job of this node, until it is over: its modules and inputs, for workers to fetch.
    Job(JobId),
    /// An execution for another node, until it is settled: what it fetched, and its result.
    Execution(ExecutionId),
}

/// Guards by whom they are for. A clone is the same collection.
#[derive(Debug, Default, Clone)]
pub(crate) struct Kept(Arc<Mutex<BTreeMap<Owner, Vec<Guard>>>>);

impl Kept {
    /// Guards what the records of an earlier run say is still needed.
    pub(crate) async fn restore(blobs: &Blobs, saved: &[Record]) -> Result<Self, StoreFailed> {
        let kept = Self::default();
        for record in saved {
            let Some((owner, contents)) = needed(record) else { continue };
            kept.begin(owner);
            for content in contents {
                kept.keep(owner, blobs.protect(content).await?);
            }
        }
        Ok(kept)
    }

    /// From now on `owner` keeps what it is given.
    pub(crate) fn begin(&self, owner: Owner) {
        self.lock().entry(owner).or_default();
    }

    /// Keeps something until `owner` ends. What comes after that is let go at once.
    pub(crate) fn keep(&self, owner: Owner, guard: Guard) {
        if let Some(guards) = self.lock().get_mut(&owner) {
            guards.push(guard);
        }
    }

    /// Lets go of all that was kept for `owner`.
    pub(crate) fn end(&self, owner: Owner) {
        // Dropped without the lock: each guard tells the store.
        let guards = self.lock().remove(&owner);
        drop(guards);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Owner, Vec<Guard>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a saved record needs. An execution without an answer is given up at the start.
fn needed(record: &Record) -> Option<(Owner, Vec<Content>)> {
    match record {
        Record::Job(job) if !job.state.is_over() => {
            let work = wire::parse::<Work>(&job.submission.work).ok()?;
            Some((Owner::Job(job.job), work.contents()))
        }
        Record::Held(held) => {
            let hash = held.answer.as_ref()?.claim.result;
            Some((Owner::Execution(held.execution), vec![Content { hash, kind: ContentKind::Collection }]))
        }
        Record::Job(_) | Record::Execution(_) | Record::Event(_) | Record::Publication(_) | Record::Standing(..) => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use shoal_store::blobs::BlobsConfig;

    use super::*;

    #[tokio::test]
    async fn content_is_kept_until_its_owner_ends_and_not_after() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path(), BlobsConfig::default()).await.unwrap();
        let (kept, job) = (Kept::default(), Owner::Job(JobId([1; 16])));
        kept.begin(job);
        let input = blobs.add_bytes("an input").await.unwrap();
        kept.keep(job, input.guard);
        assert_eq!(blobs.gc().await.unwrap().blobs, 0);

        kept.end(job);
        assert_eq!(blobs.gc().await.unwrap().blobs, 1);
        let late = blobs.add_bytes("fetched too late").await.unwrap();
        kept.keep(job, late.guard);
        assert_eq!(blobs.gc().await.unwrap().blobs, 1);
    }
}
