//! Blobs by hash: imported, pinned, fetched into, staged for executions, and swept when nobody wants them.
//!
//! A blob stays while a [`Guard`] or a pin covers it; the rest is a cache, and may go at any time. So the order is
//! always: guard, write or fetch, pin, drop the guard. Guards end with the process, pins do not.
//!
//! Adding and pinning return before the store's own database is on disk (it commits at least twice a second);
//! [`Blobs::sync`] waits for that, for callers who are about to tell somebody that they have something.
//!
//! Sizes are those of everything that a fetch would transfer: for a folder its files, the list of their hashes and
//! the list of their names.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iroh_blobs::api::blobs::BlobStatus;
use iroh_blobs::api::{Store, TempTag};
use iroh_blobs::store::fs::{FsStore, options::Options};
use iroh_blobs::{BlobFormat, Hash, HashAndFormat};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::{Content, ContentKind};
use shoal_protocol::time::Time;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

pub use counted::ImportProgress;
pub use folder::{FolderError, MAX_FILES, MAX_LIST_BYTES, MAX_NAMES_BYTES};
pub(crate) use import::blocking;
pub use import::{ImportError, Imported};
pub use in_place::{Altered, MAX_IN_PLACE};
pub use keep::Usage;
pub use names::{MAX_DEPTH, MAX_NAME_BYTES, NameError};
pub(crate) use names::{check_name, check_names};
pub use parts::{ComposeError, FolderFile, LocalFile, folder_hash, local_files};
pub use pins::{Pin, PinError, YIELDING};
pub use reader::BlobReader;
pub use result::{ResultFiles, ResultPart};
pub use room::{FREE_FLOOR_BYTES, NoRoom, Reservation};
pub use stage::StageError;

use in_place::References;
use room::Room;
use uses::Uses;

use crate::reserve::Reserve;

mod names;

mod folder;

mod import;

mod counted;

mod in_place;

mod parts;

mod reader;

mod result;

mod stage;

mod pins;

mod keep;

mod uses;

mod room;

mod gc;

#[cfg(test)]
mod tests;

/// The largest blob that is looked for before it is added, in bytes: what the store keeps inside its database.
const MAX_LOOKED_UP: usize = 16 << 10;

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct BlobsConfig {
    /// Pause between two looks whether something has to make way.
    pub gc_interval: Duration,
    /// What time it is, for pins that expire.
    pub clock: Clock,
    /// What blobs and executions may use together, in bytes.
    pub quota: u64,
    /// The reserve for a disk that is full, if there is to be one.
    pub reserve: Option<Reserve>,
}

/// Tells the time. The store has no clock of its own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Time + Send + Sync>);

/// The blob store of a node. A clone is the same store.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: FsStore,
    threads: Handle,
    collector: gc::Collector,
    clock: Clock,
    dir: Arc<Path>,
    uses: Arc<Uses>,
    references: Arc<References>,
    room: Room,
    reserve: Option<Reserve>,
    /// Whose turn it is to change pins.
    pinning: Arc<Mutex<()>>,
    /// Whose turn it is to make room.
    making_room: Arc<Mutex<()>>,
    /// The last look at what is kept, for who asks often.
    looked: Arc<Mutex<Option<keep::Looked>>>,
    /// Held by each import, so that its temporary files are left alone.
    importing: Arc<RwLock<()>>,
    closed: CancellationToken,
}

/// Keeps content from being collected, present or not, until dropped.
#[derive(Debug)]
#[must_use = "the content may be collected once this is dropped"]
pub struct Guard {
    _tag: TempTag,
    content: Content,
    uses: Arc<Uses>,
}

/// How much of some content is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing.
    Missing,
    /// Some of it, so that a fetch needs only the rest.
    Partial {
        /// How much is here.
        bytes: u64,
    },
    /// All of it; for a folder: every file.
    Complete {
        /// How much that is.
        bytes: u64,
    },
}

/// What a collection removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreFailed {
    /// There is no room for it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// It failed itself: its disk, its database, or it was shut down.
    #[error("the blob store failed: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

/// Why a blob was not read into memory.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not here, or not all of it.
    #[error("blob {0} is not complete here")]
    Missing(BlobHash),
    /// It is larger than the caller allows.
    #[error("blob {hash} has {bytes} bytes, only {limit} are allowed")]
    TooLarge {
        /// The blob.
        hash: BlobHash,
        /// Its size.
        bytes: u64,
        /// The caller's bound.
        limit: u64,
    },
    /// It is a file that was added in place, and not what it was.
    #[error(transparent)]
    Altered(#[from] Altered),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl Blobs {
    /// Opens the store in the folder `dir`, which is made if it is not there.
    pub async fn open(dir: &Path, config: BlobsConfig) -> Result<Self, StoreFailed> {
        let dir = std::path::absolute(dir).map_err(failed)?;
        let (collector, gc) = gc::collector();
        let mut options = Options::new(&dir);
        options.gc = Some(gc);
        let opened = FsStore::load_with_opts(dir.join("blobs.db"), options).await;
        let store = opened.map_err(|error| failed(io::Error::other(error.to_string())))?;
        collector.attach(store.deref().clone());
        let threads = collector.threads().await?;
        let BlobsConfig { gc_interval, clock, quota, reserve } = config;
        let blobs = Self {
            store,
            threads,
            collector,
            uses: Arc::new(Uses::load(&dir.join("uses"), clock.clone())),
            references: Arc::new(References::load(&dir.join("in-place"))),
            room: Room::new(&dir, quota),
            reserve,
            clock,
            dir: dir.into(),
            pinning: Arc::default(),
            making_room: Arc::default(),
            looked: Arc::default(),
            importing: Arc::default(),
            closed: CancellationToken::new(),
        };
        blobs.clear_leftovers().await?;
        tokio::spawn(blobs.clone().keep_house(gc_interval, blobs.closed.clone()));
        Ok(blobs)
    }

    /// The store underneath: what the network serves and fetches with.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The threads that the store runs on. Whoever talks to it at every step does so from a task there: to wake a task
    /// of the store from other threads is dear.
    pub fn threads(&self) -> &Handle {
        &self.threads
    }

    /// What time it is for the store.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Adds bytes as one blob.
    pub async fn add_bytes(&self, bytes: impl Into<Bytes>) -> Result<Imported, StoreFailed> {
        self.add(bytes.into(), ContentKind::Raw).await
    }

    /// Adds bytes: those of a blob, or the list of a folder whose blobs are here.
    async fn add(&self, bytes: Bytes, kind: ContentKind) -> Result<Imported, StoreFailed> {
        let size = bytes.len() as u64;
        // Looking a small blob up costs less than adding it once more, and nothing is written.
        if bytes.len() <= MAX_LOOKED_UP {
            let hash = BlobHash::of(&bytes);
            if let Some(guard) = self.guard_known(Content { hash, kind }, [hash]).await? {
                return Ok(Imported { content: guard.content, bytes: size, guard });
            }
        }
        let format = hash_and_format(Content { hash: BlobHash([0; 32]), kind }).format;
        let tag = self.store.blobs().add_bytes_with_opts((bytes, format)).temp_tag().await.map_err(failed)?;
        Ok(self.imported(tag, size))
    }

    /// Guards content of which all `parts` are here, and cannot go; none if that is not sure.
    async fn guard_known(
        &self,
        content: Content,
        parts: impl IntoIterator<Item = BlobHash>,
    ) -> Result<Option<Guard>, StoreFailed> {
        let Some(runs) = self.collector.at_rest() else { return Ok(None) };
        let guard = self.protect(content).await?;
        for part in parts {
            if !self.blob_status(part).await?.is_complete() {
                return Ok(None);
            }
        }
        Ok(Some(guard).filter(|_| self.collector.at_rest() == Some(runs)))
    }

    /// Guards content. Call it before the first byte is fetched: what no guard or pin covers may go at any time.
    pub async fn protect(&self, content: Content) -> Result<Guard, StoreFailed> {
        let tag = self.store.tags().temp_tag(hash_and_format(content)).await.map_err(failed)?;
        Ok(self.guard(tag))
    }

    /// How much of some content is here. A folder's files count once each time they are listed.
    pub async fn status(&self, content: Content) -> Result<Status, FolderError> {
        let root = self.blob_status(content.hash).await?;
        match (content.kind, root) {
            (ContentKind::Collection, Status::Complete { bytes }) => self.folder_status(content.hash, bytes).await,
            _ => Ok(root),
        }
    }

    /// The size of some content; none unless it is complete.
    pub async fn size(&self, content: Content) -> Result<Option<u64>, FolderError> {
        match self.status(content).await? {
            Status::Complete { bytes } => Ok(Some(bytes)),
            Status::Missing | Status::Partial { .. } => Ok(None),
        }
    }

    /// A whole blob, if it has at most `max_bytes`.
    pub async fn read(&self, hash: BlobHash, max_bytes: u64) -> Result<Bytes, ReadError> {
        match self.blob_status(hash).await? {
            Status::Complete { bytes } if bytes > max_bytes => {
                Err(ReadError::TooLarge { hash, bytes, limit: max_bytes })
            }
            Status::Complete { .. } => self.store.blobs().get_bytes(iroh(hash)).await.map_err(|error| {
                self.references.why(hash, true).map_or_else(|| failed(error).into(), ReadError::Altered)
            }),
            Status::Missing | Status::Partial { .. } => Err(ReadError::Missing(hash)),
        }
    }

    /// Every blob, by hash, complete or not. A folder shows as its parts.
    pub async fn list(&self) -> Result<BTreeMap<BlobHash, Status>, StoreFailed> {
        self.page(None, usize::MAX).await
    }

    /// At most `limit` blobs behind `after`, by hash.
    pub async fn page(&self, after: Option<BlobHash>, limit: usize) -> Result<BTreeMap<BlobHash, Status>, StoreFailed> {
        let mut hashes = self.hashes().await?;
        hashes.sort_unstable();
        let first = after.map_or(0, |after| hashes.partition_point(|hash| *hash <= after));
        let mut blobs = BTreeMap::new();
        for hash in hashes.into_iter().skip(first).take(limit) {
            blobs.insert(hash, self.blob_status(hash).await?);
        }
        Ok(blobs)
    }

    /// Waits until all that was added and pinned before is on disk.
    pub async fn sync(&self) -> Result<(), StoreFailed> {
        self.store.sync_db().await.map_err(failed)
    }

    /// Whether the store still works: it stops for good when the disk fails it, for example when that is full.
    pub async fn check(&self) -> Result<(), StoreFailed> {
        self.store.tags().get("check").await.map(drop).map_err(failed)
    }

    /// Closes the store, so that it can be opened again. Every clone is closed with it.
    pub async fn shutdown(&self) -> Result<(), StoreFailed> {
        self.closed.cancel();
        if let Err(error) = self.uses.tidy(|_| true) {
            tracing::debug!(%error, "last uses were not remembered");
        }
        self.store.shutdown().await.map_err(failed)
    }

    fn guard(&self, tag: TempTag) -> Guard {
        let content = content(tag.hash_and_format());
        Guard { _tag: tag, content, uses: Arc::clone(&self.uses) }
    }

    fn imported(&self, tag: TempTag, bytes: u64) -> Imported {
        let guard = self.guard(tag);
        Imported { content: guard.content, bytes, guard }
    }

    async fn blob_status(&self, hash: BlobHash) -> Result<Status, StoreFailed> {
        match self.store.blobs().status(iroh(hash)).await.map_err(failed)? {
            BlobStatus::NotFound => Ok(Status::Missing),
            BlobStatus::Complete { size } => Ok(Status::Complete { bytes: size }),
            BlobStatus::Partial { .. } => {
                let local = self.store.remote().local(HashAndFormat::raw(iroh(hash))).await.map_err(failed)?;
                Ok(Status::Partial { bytes: local.local_bytes() })
            }
        }
    }
}

impl Default for BlobsConfig {
    /// No bound but the disk, and a clock that stands still.
    fn default() -> Self {
        let clock = Clock::new(|| Time(0));
        Self { gc_interval: Duration::from_secs(100_000), clock, quota: u64::MAX, reserve: None }
    }
}

impl Clock {
    /// A clock that is read with `now`.
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    fn now(&self) -> Time {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}

impl Guard {
    /// What it keeps.
    pub fn content(&self) -> Content {
        self.content
    }
}

/// What is let go of was wanted until now.
impl Drop for Guard {
    fn drop(&mut self) {
        self.uses.note(self.content);
    }
}

impl Status {
    /// How many bytes are here.
    pub fn bytes(self) -> u64 {
        match self {
            Status::Missing => 0,
            Status::Partial { bytes } | Status::Complete { bytes } => bytes,
        }
    }

    /// Whether nothing is left to fetch.
    pub fn is_complete(self) -> bool {
        matches!(self, Status::Complete { .. })
    }
}

/// Content as iroh names it.
pub fn hash_and_format(content: Content) -> HashAndFormat {
    match content.kind {
        ContentKind::Raw => HashAndFormat::raw(iroh(content.hash)),
        ContentKind::Collection => HashAndFormat::hash_seq(iroh(content.hash)),
    }
}

/// What iroh names, as the protocol does.
pub fn content(named: HashAndFormat) -> Content {
    let kind = match named.format {
        BlobFormat::Raw => ContentKind::Raw,
        BlobFormat::HashSeq => ContentKind::Collection,
    };
    Content { hash: BlobHash(*named.hash.as_bytes()), kind }
}

fn iroh(hash: BlobHash) -> Hash {
    Hash::from_bytes(hash.0)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> StoreFailed {
    StoreFailed::Broken(Box::new(error))
}
