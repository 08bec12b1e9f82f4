//! Results leave the mesh: into folders, S3 or IPFS.
//!
//! The node that took the job publishes what was agreed on, so that nothing else ever appears under a job's name, and
//! no worker needs its credentials.

mod archive;
mod ipfs;
mod local;
mod s3;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use shoal_protocol::id::{ExecutionId, JobId, PeerId};
use shoal_protocol::job::spec::Publisher;
use shoal_protocol::task::Content;
use shoal_protocol::time::Time;

use crate::blobs::{Blobs, StoreFailed};
use crate::sources::{DataError, IpfsConfig};
use crate::trees::Trees;

/// What an operator may choose.
#[derive(Debug, Default, Clone)]
pub struct PublishersConfig {
    /// Where the `local` publisher writes archives.
    pub folder: PathBuf,
    /// Where it writes plain folders instead, if the operator named a place.
    pub plain_folder: Option<PathBuf>,
    /// The most that its archives may take together, in bytes.
    pub max_bytes: Option<u64>,
    /// How others reach what the node serves over HTTP, for example `http://192.0.2.7:6001`; none if it serves nothing.
    pub base_url: Option<String>,
    /// The Kubo node that keeps what is published to IPFS.
    pub ipfs: IpfsConfig,
}

/// A result to publish. Doing so again is harmless: the same things get the same names.
#[derive(Debug, Clone)]
pub struct Publication<'a> {
    /// Where.
    pub publisher: &'a Publisher,
    /// The result's collection, which is here.
    pub result: Content,
    /// Of which job.
    pub job: JobId,
    /// Of which partition, and of how many.
    pub partition: (u32, u32),
    /// The execution whose result it is.
    pub execution: ExecutionId,
    /// Who ran it.
    pub worker: PeerId,
    /// When the result was believed: fills `{date}` and `{time}`, the same at each try.
    pub at: Time,
}

/// Where a result is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// A source that `-i` takes as it is.
    pub uri: String,
    /// More about it: `Checksum`, `VersionID` and the like.
    pub details: BTreeMap<String, String>,
}

/// Publishes results. A clone is the same.
#[derive(Debug, Clone)]
pub struct Publishers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    blobs: Blobs,
    local: local::Writer,
    s3: s3::Writer,
    ipfs: ipfs::Writer,
}

impl Publishers {
    /// Publishers of what is in `blobs`; what goes to IPFS is in `trees` from then on.
    pub fn new(blobs: Blobs, trees: Trees, config: PublishersConfig) -> Result<Self, DataError> {
        let local = local::Writer::new(&config)?;
        let ipfs = ipfs::Writer::new(trees, &config.ipfs, config.base_url)?;
        Ok(Self(Arc::new(Inner { blobs, local, s3: s3::Writer::default(), ipfs })))
    }

    /// Removes copies and trees of results that are not kept any more, and tells how many bytes that freed.
    pub async fn sweep(&self) -> Result<u64, StoreFailed> {
        self.0.ipfs.sweep().await;
        self.0.local.sweep(&self.0.blobs).await
    }

    /// Publishes a result; nothing for a publisher that leaves it in the mesh.
    pub async fn publish(&self, publication: &Publication<'_>) -> Result<Option<Published>, DataError> {
        let Inner { blobs, local, s3, ipfs } = &*self.0;
        match publication.publisher {
            Publisher::Blob(_) | Publisher::Noop => Ok(None),
            Publisher::Local => local.publish(blobs, publication).await.map(Some),
            Publisher::S3(to) => s3.publish(blobs, to, publication).await.map(Some),
            Publisher::Ipfs => ipfs.publish(publication).await.map(Some),
            Publisher::S3Managed => {
                let reason = "needs a bucket that the operator of this node has set up, and there is none";
                Err(DataError::new("the publisher s3managed", reason, "use s3 with a bucket of your own"))
            }
        }
    }
}
