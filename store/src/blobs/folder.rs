//! Folders as iroh collections: a list of hashes, of which the first is the list of names.
//!
//! A collection from another peer is read with bounds on every size, and its names are checked, before anything is
//! done with it.

use bytes::Bytes;
use iroh_blobs::format::collection::{Collection, CollectionMeta};
use iroh_blobs::hashseq::HashSeq;
use iroh_blobs::{Hash, HashAndFormat};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::ContentKind;

use super::import::Imported;
use super::names::{NameError, check_names};
use super::{Blobs, ReadError, Status, StoreFailed, failed, iroh};

/// Most files of one folder.
pub const MAX_FILES: usize = 65_536;
/// Largest list of hashes, in bytes: names and files.
pub const MAX_LIST_BYTES: u64 = HASH_BYTES * (MAX_FILES as u64 + 1);
/// Largest list of names, in bytes.
pub const MAX_NAMES_BYTES: u64 = 16 << 20;
const HASH_BYTES: u64 = 32;

/// Why content is no folder that can be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Its lists are not here.
    #[error("folder {0} is not complete here")]
    Missing(BlobHash),
    /// It is something else, or too large.
    #[error("{hash} is not a folder: {reason}")]
    Malformed {
        /// What was to be a folder.
        hash: BlobHash,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Its names cannot be those of files.
    #[error("folder {hash} is refused: {source}")]
    Name {
        /// The folder.
        hash: BlobHash,
        /// The name and what is wrong with it.
        source: NameError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// A file in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// A checked name.
    pub(super) name: String,
    /// Its content.
    pub(super) hash: BlobHash,
}

impl Blobs {
    /// Makes a folder of files that are here, guarded by the caller until this returns. Names are sorted and checked.
    pub(super) async fn make_folder(&self, mut files: Vec<(String, Imported)>) -> Result<Imported, MakeError> {
        files.sort_by(|a, b| a.0.cmp(&b.0));
        check_names(files.iter().map(|(name, _)| name.as_str()))?;
        let [names, hashes] = lists(files.iter().map(|(name, file)| (name.as_str(), file.content.hash)));
        let mut bytes = names.len() as u64;
        for (_, file) in &files {
            bytes += file.bytes;
        }
        let _names = self.add_bytes(names).await?;
        let folder = self.add(hashes, ContentKind::Collection).await?;
        Ok(Imported { bytes: bytes + folder.bytes, ..folder })
    }

    /// The files of a folder, with names that are safe to use.
    pub(super) async fn folder(&self, root: BlobHash) -> Result<Vec<Entry>, FolderError> {
        let mut links = self.links(root).await?.into_iter();
        let malformed = |reason| FolderError::Malformed { hash: root, reason };
        let names = links.next().ok_or(malformed("its list is empty"))?;
        let names = self.names(root, BlobHash(*names.as_bytes())).await?;
        if names.len() != links.len() {
            return Err(malformed("it has another number of names than of files"));
        }
        check_names(names.iter().map(String::as_str)).map_err(|source| FolderError::Name { hash: root, source })?;
        let entry = |(name, hash): (String, Hash)| Entry { name, hash: BlobHash(*hash.as_bytes()) };
        Ok(names.into_iter().zip(links).map(entry).collect())
    }

    /// The blob that holds the names of a folder's files; the folder's list must be here.
    pub async fn names_of(&self, root: BlobHash) -> Result<BlobHash, FolderError> {
        let malformed = FolderError::Malformed { hash: root, reason: "its list is empty" };
        self.folder_blobs(root).await?.first().copied().ok_or(malformed)
    }

    /// The blobs that belong to a folder, without its root.
    pub async fn folder_blobs(&self, root: BlobHash) -> Result<Vec<BlobHash>, FolderError> {
        Ok(self.links(root).await?.into_iter().map(|hash| BlobHash(*hash.as_bytes())).collect())
    }

    /// How much of a folder is here whose list, of `list_bytes`, is complete.
    pub(super) async fn folder_status(&self, root: BlobHash, list_bytes: u64) -> Result<Status, FolderError> {
        check_list(root, list_bytes)?;
        let mut bytes = list_bytes;
        for hash in self.folder_blobs(root).await? {
            match self.blob_status(hash).await? {
                Status::Complete { bytes: more } => bytes += more,
                Status::Missing | Status::Partial { .. } => return self.partial_status(root).await,
            }
        }
        Ok(Status::Complete { bytes })
    }

    /// How much of a folder is here, when that is not all: each part tells which of its pieces it has.
    async fn partial_status(&self, root: BlobHash) -> Result<Status, FolderError> {
        let local = self.store.remote().local(HashAndFormat::hash_seq(iroh(root))).await.map_err(failed)?;
        let bytes = local.local_bytes();
        Ok(if local.is_complete() { Status::Complete { bytes } } else { Status::Partial { bytes } })
    }

    async fn links(&self, root: BlobHash) -> Result<Vec<Hash>, FolderError> {
        let list = self.read(root, MAX_LIST_BYTES).await.map_err(|error| folder_error(root, error))?;
        check_list(root, list.len() as u64)?;
        Ok(HashSeq::new(list).into_iter().flatten().collect())
    }

    async fn names(&self, root: BlobHash, names: BlobHash) -> Result<Vec<String>, FolderError> {
        let bytes = self.read(names, MAX_NAMES_BYTES).await.map_err(|error| folder_error(root, error))?;
        let malformed = FolderError::Malformed { hash: root, reason: "its names cannot be read" };
        match postcard::take_from_bytes::<CollectionMeta>(&bytes) {
            Ok((mut meta, [])) if meta.check_header() => Ok(std::mem::take(meta.names_mut())),
            _ => Err(malformed),
        }
    }
}

/// Why a folder was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// The two lists that make files a folder: their names, then the hashes of that list and of the files.
pub(super) fn lists<'a>(files: impl Iterator<Item = (&'a str, BlobHash)>) -> [Bytes; 2] {
    let links = files.map(|(name, hash)| (name.to_owned(), iroh(hash)));
    let lists: Vec<Bytes> = links.collect::<Collection>().to_blobs().collect();
    lists.try_into().expect("a collection is two lists and its files")
}

fn check_list(root: BlobHash, bytes: u64) -> Result<(), FolderError> {
    let malformed = |reason| Err(FolderError::Malformed { hash: root, reason });
    match bytes {
        0 => malformed("its list is empty"),
        _ if bytes > MAX_LIST_BYTES => malformed("it has too many files"),
        _ if !bytes.is_multiple_of(HASH_BYTES) => malformed("it is no list of hashes"),
        _ => Ok(()),
    }
}

fn folder_error(root: BlobHash, error: ReadError) -> FolderError {
    match error {
        ReadError::Missing(_) => FolderError::Missing(root),
        ReadError::TooLarge { .. } => FolderError::Malformed { hash: root, reason: "its lists are too large" },
        ReadError::Altered(error) => failed(error).into(),
        ReadError::Store(error) => error.into(),
    }
}
