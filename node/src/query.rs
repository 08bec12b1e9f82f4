//! What a person asks of a node: jobs, their executions, history, logs and results.

use shoal_protocol::id::{BlobHash, ExecutionId, JobId, PeerId};
use shoal_protocol::record::{Event, ExecutionRecord, ExecutionState, JobRecord, JobState, Publication};
use shoal_protocol::task::{Content, ContentKind};
use shoal_protocol::time::Time;
use shoal_store::blobs::{ComposeError, FolderError, Guard, PinError, Status, StoreFailed};
use shoal_store::state::StateError;
use tokio::sync::broadcast;

use crate::direct::{self, LogPiece, LogRequest, MAX_LOG_BYTES, Request, Stream};
use crate::network::{FetchError, Progress};
use crate::node::Node;
use crate::records::{self, LookupError};
use crate::{lists, logs, pins, room, tickets};

/// The result of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultInfo {
    /// Its collection: that of the only partition, or one folder for each. None for a folder that cannot be put
    /// together any more, because what is in it was not kept.
    pub hash: Option<BlobHash>,
    /// Until when it is kept here.
    pub kept_until: Time,
    /// With it any peer can fetch the result.
    pub ticket: Option<String>,
    /// Where else it is, by partition.
    pub published: Vec<Publication>,
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Whose log it is.
    pub execution: ExecutionId,
    /// Where in the stream it begins, in bytes.
    pub offset: u64,
    /// The piece; empty when nothing new was printed yet.
    pub bytes: Vec<u8>,
    /// Whether nothing will follow.
    pub end: bool,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// Nothing was awarded yet.
    #[error("job {0} has no execution yet")]
    NoExecution(JobId),
    /// The job has no such execution.
    #[error("job {0} has no execution {1}; `shoal job executions {0}` shows those it has")]
    NotFound(JobId, ExecutionId),
    /// The worker cannot be asked, or has nothing.
    #[error("the log of execution {execution} cannot be had from worker {worker}: {reason}", worker = .worker.short())]
    Unavailable {
        /// Which execution.
        execution: ExecutionId,
        /// Who ran it.
        worker: PeerId,
        /// Why.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] FolderError),
    /// The file failed.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// The state file cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Why a result cannot be named.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// A folder of the result cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The folder of all results cannot be kept.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The partitions' results cannot be put together.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// The state file cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Why the list of a folder's files cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It is no folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Nobody gives it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl Node {
    /// The newest jobs, newest first.
    pub fn jobs(&self, limit: usize) -> Result<Vec<JobRecord>, StateError> {
        records::jobs(&self.0.state, limit)
    }

    /// One job.
    pub fn job(&self, job: JobId) -> Result<Option<JobRecord>, StateError> {
        records::job(&self.0.state, job)
    }

    /// The executions of a job, by partition and attempt.
    pub fn executions(&self, job: JobId) -> Result<Vec<ExecutionRecord>, StateError> {
        records::executions(&self.0.state, job)
    }

    /// What happened to a job, from the `from`-th event on.
    pub fn history(&self, job: JobId, from: u32) -> Result<Vec<Event>, StateError> {
        records::history(&self.0.state, job, from)
    }

    /// What happens to this node's jobs from now on. A listener that falls behind must read the history again.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.happenings.subscribe()
    }

    /// The job whose id begins with `text`.
    pub fn resolve_job(&self, text: &str) -> Result<JobId, LookupError> {
        records::resolve(&self.0.state, text)
    }

    /// The result of a job that is over; none before. A job that failed because its result could not be published has
    /// one as well.
    pub async fn result(&self, job: JobId) -> Result<Option<ResultInfo>, ResultError> {
        let Some(record) = self.job(job)? else { return Ok(None) };
        let Some(kept_until) = record.kept_until() else { return Ok(None) };
        let executions = self.executions(job)?;
        let mut parts = Vec::new();
        for index in 0..record.submission.partitions {
            let believed = executions.iter().find(|e| e.partition == index && e.is_believed());
            let Some(hash) = believed.and_then(ExecutionRecord::result) else { return Ok(None) };
            if record.state != JobState::Completed && !self.has_result(hash).await {
                return Ok(None);
            }
            parts.push((index.to_string(), hash));
        }
        let hash = match parts.as_slice() {
            [] => return Ok(None),
            [(_, only)] => Some(*only),
            _ => self.join_results(job, parts, kept_until).await?,
        };
        let ticket = |hash| tickets::write(&self.0.network, Content { hash, kind: ContentKind::Collection });
        let published = records::publications(&self.0.state, job)?;
        Ok(Some(ResultInfo { hash, kept_until, ticket: hash.map(ticket), published }))
    }

    async fn has_result(&self, hash: BlobHash) -> bool {
        let content = Content { hash, kind: ContentKind::Collection };
        matches!(self.0.blobs.status(content).await, Ok(Status::Complete { .. }))
    }

    /// One folder for each partition's result; none if they are not here any more.
    async fn join_results(
        &self,
        job: JobId,
        parts: Vec<(String, BlobHash)>,
        kept_until: Time,
    ) -> Result<Option<BlobHash>, ResultError> {
        let mut files = Vec::new();
        for (partition, root) in parts {
            let entries = match self.0.blobs.files(root).await {
                Err(FolderError::Missing(_)) => return Ok(None),
                entries => entries?,
            };
            files.extend(entries.into_iter().map(|file| (format!("{partition}/{}", file.name), file.hash)));
        }
        let joined = match self.0.blobs.compose(files).await {
            Err(ComposeError::Missing(_)) => return Ok(None),
            joined => joined?,
        };
        self.0.blobs.pin_until(&pins::all_results(job), joined.content, kept_until).await?;
        self.0.announcer.pinned(joined.content).await;
        Ok(Some(joined.content.hash))
    }

    /// Fetches content from `providers` or whoever the mesh knows, at most `max_bytes`; returns its size.
    /// `progress` hears how far it has come, often.
    pub async fn fetch_blob(
        &self,
        content: Content,
        providers: Vec<PeerId>,
        max_bytes: u64,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<u64, FetchError> {
        room::fetch((&self.0.network, &self.0.blobs), content, providers, max_bytes, progress).await
    }

    /// The same for a part of a folder: when nobody gives it, whoever has the folder is asked. Only folders as a whole
    /// are in the mesh's directory.
    pub async fn fetch_part(
        &self,
        content: Content,
        folder: BlobHash,
        providers: Vec<PeerId>,
        max_bytes: u64,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<u64, FetchError> {
        match self.fetch_blob(content, providers, max_bytes, &progress).await {
            Err(FetchError::Nowhere { .. }) => {
                let providers = self.0.network.providers(folder).await;
                self.fetch_blob(content, providers, max_bytes, &progress).await
            }
            fetched => fetched,
        }
    }

    /// Fetches the names and hashes of a folder's files, not the files. Returns what keeps them, and their size in
    /// bytes.
    pub async fn fetch_list(&self, folder: BlobHash, mut providers: Vec<PeerId>) -> Result<(Guard, u64), ListError> {
        let guard = self.0.blobs.protect(Content { hash: folder, kind: ContentKind::Collection }).await?;
        let named = !providers.is_empty();
        if !named && self.0.blobs.files(folder).await.is_err() {
            providers = self.0.network.providers(folder).await;
        }
        let have = async |providers: &[PeerId]| lists::have((&self.0.network, &self.0.blobs), folder, providers).await;
        let bytes = match have(&providers).await {
            Err(ListError::Fetch(FetchError::Nowhere { .. })) if named => {
                let providers = self.0.network.providers(folder).await;
                have(&providers).await?
            }
            bytes => bytes?,
        };
        Ok((guard, bytes))
    }

    /// A piece of what a program printed: of `execution`, or of the one that tells most.
    pub async fn logs(
        &self,
        job: JobId,
        execution: Option<ExecutionId>,
        stream: Stream,
        offset: u64,
    ) -> Result<LogChunk, LogsError> {
        let executions = self.executions(job)?;
        let found = match execution {
            Some(id) => executions.iter().find(|e| e.execution == id).ok_or(LogsError::NotFound(job, id))?,
            None => executions.iter().max_by_key(|e| telling(e)).ok_or(LogsError::NoExecution(job))?,
        };
        if let Some(bytes) = self.collected_log(found, stream, offset).await? {
            let end = bytes.len() < MAX_LOG_BYTES;
            return Ok(LogChunk { execution: found.execution, offset, bytes, end });
        }
        let request = LogRequest { execution: found.execution, stream, offset };
        let piece = self.worker_log(found, request).await?;
        // A worker that is told that the job is over forgets its logs.
        Ok(LogChunk { execution: found.execution, offset, bytes: piece.bytes, end: piece.end })
    }

    /// From the result, if that is here.
    async fn collected_log(
        &self,
        execution: &ExecutionRecord,
        stream: Stream,
        offset: u64,
    ) -> Result<Option<Vec<u8>>, LogsError> {
        let Some(hash) = execution.result() else { return Ok(None) };
        if !self.has_result(hash).await {
            return Ok(None);
        }
        let files = self.0.blobs.files(hash).await?;
        let Some(file) = files.into_iter().find(|file| file.name == stream.name()) else { return Ok(Some(Vec::new())) };
        Ok(Some(logs::read_piece(self.0.blobs.reader(file.hash), offset).await?))
    }

    async fn worker_log(&self, execution: &ExecutionRecord, request: LogRequest) -> Result<LogPiece, LogsError> {
        let unavailable = |reason: String| LogsError::Unavailable {
            execution: execution.execution,
            worker: execution.worker,
            reason,
        };
        if execution.worker == self.0.me {
            let piece = logs::read_run(&self.0.runs, self.0.me, request).await;
            return piece.ok_or_else(|| unavailable("it was released".into()));
        }
        let request = direct::encode(&Request::Log(request));
        let answer = self.0.network.request(execution.worker, request).await;
        let answer = answer.map_err(|error| unavailable(error.to_string()))?;
        direct::decode(&answer).ok_or_else(|| unavailable("its answer is malformed".into()))
    }
}

/// Which execution a person wants to hear when none is named: one that agreed, else one that is furthest.
fn telling(execution: &ExecutionRecord) -> u8 {
    match execution.state {
        ExecutionState::Agreed => 8,
        ExecutionState::Revealed => 7,
        ExecutionState::Committed => 6,
        ExecutionState::Running => 5,
        ExecutionState::Preparing => 4,
        ExecutionState::Fetching => 3,
        ExecutionState::Awarded => 2,
        ExecutionState::Dissented => 1,
        ExecutionState::Failed | ExecutionState::Cancelled => 0,
    }
}
