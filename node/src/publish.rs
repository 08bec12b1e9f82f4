//! Publishes results of this node's jobs: what the protocol knows of one, and what its specification says.

use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::id::{BlobHash, ExecutionId, JobId, PeerId};
use shoal_protocol::job::spec::{Job, Publisher};
use shoal_protocol::record::{JobRecord, Published};
use shoal_protocol::task::{Content, ContentKind};
use shoal_protocol::time::Time;
use shoal_store::blobs::StoreFailed;
use shoal_store::publishers::{Publication, Publishers};
use shoal_store::state::State;
use tokio::sync::Semaphore;

use crate::records;

/// Results that are published at once.
const MAX_AT_ONCE: usize = 4;
/// How long publishing one result may take, however large it is and however slow its place.
const LONGEST: Duration = Duration::from_secs(6 * 3_600);

/// Publishes results. A clone is the same.
#[derive(Clone)]
pub(crate) struct Publishing {
    publishers: Publishers,
    state: Arc<State>,
    turns: Arc<Semaphore>,
}

/// A result that is to be published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaving {
    pub(crate) job: JobId,
    pub(crate) partition: u32,
    pub(crate) execution: ExecutionId,
    pub(crate) worker: PeerId,
    pub(crate) result: BlobHash,
    pub(crate) at: Time,
}

impl Publishing {
    pub(crate) fn new(publishers: Publishers, state: Arc<State>) -> Self {
        Self { publishers, state, turns: Arc::new(Semaphore::new(MAX_AT_ONCE)) }
    }

    /// Removes local copies of results that are not kept any more, and tells how many bytes that freed.
    pub(crate) async fn sweep(&self) -> Result<u64, StoreFailed> {
        self.publishers.sweep().await
    }

    /// Publishes a result that is here; nothing if it stays in the mesh. The error is for a person.
    pub(crate) async fn publish(&self, leaving: Leaving) -> Result<Option<Published>, String> {
        let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
        let record = self.record(leaving.job).await?;
        let job: Job = serde_json::from_str(&record.submission.spec).map_err(|error| error.to_string())?;
        let publication = Publication {
            publisher: &job.task.publisher,
            result: Content { hash: leaving.result, kind: ContentKind::Collection },
            job: leaving.job,
            partition: (leaving.partition, record.submission.partitions),
            execution: leaving.execution,
            worker: leaving.worker,
            at: leaving.at,
        };
        let publish = tokio::time::timeout(LONGEST, self.publishers.publish(&publication));
        let published =
            publish.await.map_err(|_| format!("it takes longer than {} hours", LONGEST.as_secs() / 3_600))?;
        let Some(published) = published.map_err(|error| error.to_string())? else { return Ok(None) };
        let noted = Published::new(published.uri, published.details);
        noted.map(Some).ok_or_else(|| "its address is too long to be kept; use a shorter key".to_owned())
    }

    async fn record(&self, job: JobId) -> Result<JobRecord, String> {
        let state = Arc::clone(&self.state);
        let read = tokio::task::spawn_blocking(move || records::job(&state, job));
        let record = read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        record.ok_or_else(|| format!("job {job} is not on record"))
    }
}

/// Whether results leave the mesh, so that the job is over only when they have.
pub(crate) fn leaves_mesh(publisher: &Publisher) -> bool {
    !matches!(publisher, Publisher::Blob(_) | Publisher::Noop)
}
