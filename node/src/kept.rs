//! What must not be collected, and for whom: modules, inputs and results while a job or an execution needs them.
//!
//! What is kept like that may be fetched by anybody: workers are anybody. Guards end with the process, and cost no write to the disk. After a restart the records tell what is still needed,
//! before anything is collected. What a person may want later is pinned instead.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shoal_protocol::id::{BlobHash, ExecutionId, JobId, PeerId};
use shoal_protocol::record::Record;
use shoal_protocol::task::{Content, ContentKind, Work};
use shoal_protocol::wire;
use shoal_store::blobs::{Blobs, Guard, Reservation, StoreFailed};

use crate::announcer;
use crate::offers::{Offer, Offers};

/// Who needs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// A job of this node, until it is over: its modules and inputs, for workers to fetch.
    Job(JobId),
    /// An execution for another node, until it is settled: what it fetched, and its result.
    Execution(ExecutionId),
}

/// What is kept, by whom it is for. A clone is the same collection.
#[derive(Debug, Default, Clone)]
pub(crate) struct Kept {
    kept: Arc<Mutex<BTreeMap<Owner, Things>>>,
    offers: Offers,
}

/// What is kept for one owner.
#[derive(Debug, Default)]
pub(crate) struct Things {
    /// With the right of others to fetch what they guard.
    guards: Vec<(Guard, Offer)>,
    room: Vec<Reservation>,
}

impl Kept {
    /// Guards what the records of an earlier run say is still needed.
    pub(crate) async fn restore(blobs: &Blobs, saved: &[Record], offers: &Offers) -> Result<Self, StoreFailed> {
        let kept = Self { offers: offers.clone(), ..Self::default() };
        for record in saved {
            if let Record::Held(held) = record
                && let Some(answer) = &held.answer
            {
                let guard = blobs.protect(collection(answer.claim.result)).await?;
                kept.begin(Owner::Execution(held.execution));
                kept.keep_result(Owner::Execution(held.execution), guard, held.requester, blobs).await;
                continue;
            }
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
        let offer = self.offers.offer([guard.content().hash]);
        self.add(owner, guard, offer);
    }

    /// The same for what nobody else may fetch.
    pub(crate) fn keep_secret(&self, owner: Owner, guard: Guard) {
        self.add(owner, guard, self.offers.offer([]));
    }

    /// The same for a result, which only its requester may fetch.
    pub(crate) async fn keep_result(&self, owner: Owner, guard: Guard, requester: PeerId, blobs: &Blobs) {
        self.offers.offer_result(requester, announcer::hashes(blobs, guard.content()).await);
        self.keep_secret(owner, guard);
    }

    /// Holds room on the disk until `owner` ends.
    pub(crate) fn hold(&self, owner: Owner, room: Reservation) {
        if let Some(things) = self.lock().get_mut(&owner) {
            things.room.push(room);
        }
    }

    fn add(&self, owner: Owner, guard: Guard, offer: Offer) {
        if let Some(things) = self.lock().get_mut(&owner) {
            things.guards.push((guard, offer));
        }
    }

    /// Whether `owner` has begun and not ended.
    pub(crate) fn is_open(&self, owner: Owner) -> bool {
        self.lock().contains_key(&owner)
    }

    /// Lets go of all that was kept for `owner`.
    pub(crate) fn end(&self, owner: Owner) {
        // Dropped without the lock: each guard tells the store.
        drop(self.take(owner));
    }

    /// Ends `owner`; what was kept for it is kept until the answer is dropped.
    pub(crate) fn take(&self, owner: Owner) -> Option<Things> {
        self.lock().remove(&owner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Owner, Things>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn collection(hash: BlobHash) -> Content {
    Content { hash, kind: ContentKind::Collection }
}

/// What a saved job needs.
fn needed(record: &Record) -> Option<(Owner, Vec<Content>)> {
    match record {
        Record::Job(job) if !job.state.is_over() => {
            let work = wire::parse::<Work>(&job.submission.work).ok()?;
            let validator = work.validator.map(|hash| Content { hash, kind: ContentKind::Raw });
            Some((Owner::Job(job.job), work.contents().into_iter().chain(validator).collect()))
        }
        Record::Job(_)
        | Record::Held(_)
        | Record::Execution(_)
        | Record::Event(_)
        | Record::Publication(_)
        | Record::Standing(..) => None,
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
