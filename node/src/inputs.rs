//! What the inputs of a job are: each source is read once, and what it holds is here and guarded.

mod image;

mod part;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use shoal_protocol::id::BlobHash;
use shoal_protocol::job::resolve::{ResolvedInput, module_folders};
use shoal_protocol::job::spec::{InputSource, Job, Resolve, Source};
use shoal_protocol::record::InputRecord;
use shoal_protocol::task::{Content, ContentKind};
use shoal_store::blobs::{Altered, Guard};
use shoal_store::sources::{Asker, DataError, Progress, Request};

use crate::node::Node;
use crate::submit::{SubmitError, store};

pub(crate) use image::Program;

/// Hears how far the inputs are, often: which one, where the program will find it, and its bytes.
pub type Watcher<'a> = &'a (dyn Fn(usize, &str, Progress) + Send + Sync);

/// The inputs of a job, in the order of its specification.
pub(crate) struct Inputs {
    pub(crate) resolved: Vec<ResolvedInput>,
    /// For people.
    pub(crate) records: Vec<InputRecord>,
    pub(crate) guards: Vec<Guard>,
}

/// What one source holds.
struct Obtained {
    parts: Vec<(Content, u64)>,
    origin: String,
    guards: Vec<Guard>,
}

impl Node {
    /// Makes sure that all that a job reads is here. Whoever drops this leaves nothing behind.
    pub(crate) async fn inputs(&self, job: &Job, watch: Watcher<'_>) -> Result<Inputs, SubmitError> {
        let (mut resolved, mut records, mut guards) = (Vec::new(), Vec::new(), Vec::new());
        let folders = module_folders(job);
        // All of it goes to the disk that the operator gives to jobs.
        let mut left = self.0.config.capacity.disk_bytes;
        for (index, input) in job.task.input_sources.iter().enumerate() {
            let told = |progress| watch(index, &input.target, progress);
            let obtained = match input.resolve {
                Resolve::Requester => self.obtain(input, job.count, left, &told).await?,
                Resolve::Worker => Obtained::by_workers(),
            };
            left = left.saturating_sub(obtained.bytes());
            records.push(obtained.record(input));
            let files = match obtained.parts.as_slice() {
                [(only, _)] if only.kind == ContentKind::Collection && folders.contains(&index) => {
                    self.files(only.hash).await?
                }
                _ => BTreeMap::new(),
            };
            resolved.push(ResolvedInput { parts: obtained.parts, files });
            guards.extend(obtained.guards);
        }
        Ok(Inputs { resolved, records, guards })
    }

    async fn obtain(
        &self,
        input: &InputSource,
        partitions: u32,
        max_bytes: u64,
        told: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Obtained, SubmitError> {
        let unreadable = |reason| SubmitError::Source { target: input.target.clone(), reason };
        if let Source::Blob(blob) = &input.source {
            let obtained = self.part(blob, &input.target, max_bytes, told).await?;
            for (content, _) in &obtained.parts {
                self.blobs().look_at(*content).await.map_err(|error| altered(&input.target, *content, &error))?;
            }
            return Ok(obtained);
        }
        let request = Request { source: &input.source, asker: Asker::Owner, max_bytes, partitions, progress: told };
        let obtained = self.0.sources.obtain(&request).await.map_err(unreadable)?;
        let parts = obtained.parts.iter().map(|part| (part.content, part.bytes)).collect();
        let guards = obtained.parts.into_iter().map(|part| part.guard).collect();
        Ok(Obtained { parts, origin: obtained.origin, guards })
    }

    async fn files(&self, folder: BlobHash) -> Result<BTreeMap<String, (BlobHash, u64)>, SubmitError> {
        let files = self.blobs().files(folder).await.map_err(store)?;
        Ok(files.into_iter().map(|file| (file.name, (file.hash, file.status.bytes()))).collect())
    }
}

impl Obtained {
    /// Nobody knows yet what it holds.
    fn by_workers() -> Self {
        Self { parts: Vec::new(), origin: "read by each worker".into(), guards: Vec::new() }
    }

    fn bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    fn record(&self, input: &InputSource) -> InputRecord {
        InputRecord::new(input, &self.origin, &self.parts)
    }
}

/// Counts the bytes of several things that are fetched one after the other.
struct Counter<'a> {
    before: AtomicU64,
    told: &'a (dyn Fn(Progress) + Send + Sync),
}

impl<'a> Counter<'a> {
    fn new(told: &'a (dyn Fn(Progress) + Send + Sync)) -> Self {
        Self { before: AtomicU64::new(0), told }
    }

    /// The present thing is so far.
    fn tell(&self, bytes: u64, total: Option<u64>) {
        let before = self.before.load(Ordering::Relaxed);
        (self.told)(Progress { bytes: before + bytes, total: total.map(|total| before + total) });
    }

    /// The present thing is here.
    fn next(&self, bytes: u64) {
        self.before.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A file that the node referred to is not what it was.
fn altered(target: &str, content: Content, error: &Altered) -> SubmitError {
    unreadable(target, &format!("blob {}", content.hash), error.to_string(), "then submit the job again")
}

/// Why a source cannot be read, for whoever wrote it.
fn unreadable(target: &str, thing: &str, reason: impl Into<String>, remedy: &str) -> SubmitError {
    SubmitError::Source { target: target.to_owned(), reason: DataError::new(thing, reason, remedy) }
}
