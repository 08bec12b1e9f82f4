//! Inputs from anywhere become blobs.
//!
//! A source may hold something else tomorrow, or for somebody else. So it is read once, by the node that takes the
//! job, and what was read goes by its hash from then on: all executions see the same bytes.
//!
//! What a source names is hostile: every reader bounds size, time, redirects and retries, and what comes of it has
//! passed the same checks as any other import.

mod cache;
mod inline;
mod ipfs;
mod local;
mod reach;
mod registry;
mod s3;
mod unpack;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use shoal_protocol::image::ImageName;
use shoal_protocol::job::spec::{LocalSource, Source};

pub use reach::operators_client;
pub(crate) use reach::{NotPublic, literal};

pub use cache::{Cache, Known, Slot};
pub use ipfs::IpfsConfig;
pub(crate) use ipfs::Kubo;
pub use local::{AllowList, AllowListError};
pub use registry::{FetchedImage, ImageError, ImageRequest, ResolvedImage};

use crate::blobs::{Blobs, Imported};
use crate::state::{State, StateError};
use crate::trees::Trees;

/// What an operator may choose.
#[derive(Debug, Default, Clone)]
pub struct SourcesConfig {
    /// Paths of this machine that jobs may read or write.
    pub local: AllowList,
    /// Where content of IPFS comes from.
    pub ipfs: IpfsConfig,
    /// Whether jobs of other peers may read from private, loopback and link-local addresses.
    pub private_addresses: bool,
}

/// On whose behalf a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The node's owner, who submitted the job here: may name addresses of the own network.
    Owner,
    /// Another peer, whose job this node executes.
    Peer,
}

/// Something to read.
pub struct Request<'a> {
    /// What.
    pub source: &'a Source,
    /// For whom.
    pub asker: Asker,
    /// The most it may hold, in bytes.
    pub max_bytes: u64,
    /// How many partitions the job has: a source that divides its objects gives each a part.
    pub partitions: u32,
    /// Hears how much was read, often.
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
}

/// How far a transfer has come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes in all, when that is known.
    pub total: Option<u64>,
}

/// What was read.
#[derive(Debug)]
#[must_use = "the content may be collected once its guards are dropped"]
pub struct Obtained {
    /// The content: one for all partitions, or one for each.
    pub parts: Vec<Imported>,
    /// What exactly it is, for a person: a URL with its entity tag, an object with its version, a CID.
    pub origin: String,
}

/// Why data was not read or written: the thing, the reason, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{thing}: {reason}; {remedy}")]
pub struct DataError {
    /// What was to be read or written. Never with a password or token in it.
    pub thing: String,
    /// What is wrong with it.
    pub reason: String,
    /// What the user or the operator can do.
    pub remedy: String,
}

/// Reads sources into a blob store. A clone is the same.
#[derive(Clone)]
pub struct Sources(Arc<Inner>);

struct Inner {
    blobs: Blobs,
    cache: Cache,
    url: url::Reader,
    s3: s3::Reader,
    ipfs: ipfs::Reader,
    local: local::Reader,
    registry: registry::Reader,
}

impl Sources {
    /// Sources that become blobs of `blobs`; what they were is remembered in `state`.
    pub fn new(blobs: Blobs, state: Arc<State>, config: SourcesConfig) -> Result<Self, DataError> {
        let unreadable = |error: StateError| {
            DataError::new("what is known of sources", error.to_string(), "see that the node's data directory is whole")
        };
        let cache = Cache::new(blobs.clone(), Arc::clone(&state)).map_err(unreadable)?;
        Ok(Self(Arc::new(Inner {
            url: url::Reader::new(config.private_addresses),
            s3: s3::Reader::new(config.private_addresses),
            ipfs: ipfs::Reader::new(Trees::new(blobs.clone(), state), &config.ipfs)?,
            local: local::Reader::new(config.local),
            registry: registry::Reader::new(config.private_addresses),
            blobs,
            cache,
        })))
    }

    /// Reads a source. Blobs are not read here: they come from peers.
    pub async fn obtain(&self, request: &Request<'_>) -> Result<Obtained, DataError> {
        let Inner { blobs, cache, url, s3, ipfs, local, .. } = &*self.0;
        match request.source {
            Source::Inline(source) => inline::obtain(blobs, source, request).await,
            Source::UrlDownload(source) => url.obtain(blobs, cache, source, request).await,
            Source::S3(source) => s3.obtain(blobs, cache, source, request).await,
            Source::Ipfs(source) => ipfs.obtain(blobs, cache, source, request).await,
            Source::LocalDirectory(source) => local.obtain(blobs, source, request).await,
            Source::Blob(_) => {
                Err(DataError::new("a blob", "is not a source outside of the mesh", "fetch it from peers"))
            }
        }
    }
}

impl Sources {
    /// Where a file or folder of this machine lies that a program may write, as its operator allows; it is made where
    /// that is allowed.
    pub async fn mountable(&self, source: &LocalSource) -> Result<PathBuf, DataError> {
        self.0.local.mountable(source).await
    }

    /// Asks a registry what a name stands for on a platform (`OS/ARCHITECTURE`), with the operator's login if it wants
    /// one.
    pub async fn resolve_image(&self, name: &ImageName, platform: &str) -> Result<ResolvedImage, DataError> {
        self.0.registry.resolve(name, platform).await
    }

    /// Fetches what is not here of an image of a registry. What has come stays if this is given up.
    pub async fn fetch_image(&self, request: &ImageRequest<'_>) -> Result<FetchedImage, ImageError> {
        self.0.registry.fetch(&self.0.blobs, &self.0.cache, request).await
    }
}

impl Obtained {
    /// One content for all partitions.
    pub fn one(imported: Imported, origin: impl Into<String>) -> Self {
        Self { parts: vec![imported], origin: origin.into() }
    }
}

impl DataError {
    /// Says what is wrong with a thing, and what to do.
    pub fn new(thing: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { thing: thing.into(), reason: reason.into(), remedy: remedy.into() }
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}
