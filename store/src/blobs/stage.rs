//! Blobs become local files and folders: read-only for an execution, ordinary for a user.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;

use futures_util::{StreamExt, TryStreamExt, stream};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::{Content, ContentKind};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};

use super::folder::{Entry, FolderError};
use super::import::blocking;
use super::{Blobs, StoreFailed, failed, iroh};

/// Files that are written at once.
const FILES_AT_ONCE: usize = 4;
/// Bytes that are written at once.
const COPIED_BYTES: usize = 1 << 20;
const READ_ONLY: u32 = 0o444;

/// Why content did not become local files.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A blob is not here, or not all of it.
    #[error("blob {0} is not complete here")]
    Missing(BlobHash),
    /// What should become a folder cannot.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Something is there that is not overwritten.
    #[error("{path} is there already: remove it, or choose another place", path = path.display())]
    Exists {
        /// What.
        path: PathBuf,
    },
    /// The disk refuses.
    #[error("cannot write {path}: {source}", path = path.display())]
    Unwritable {
        /// What.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A blob that is here cannot be read, or is not what it was.
    #[error("cannot read blob {hash}: {source}")]
    Unreadable {
        /// The blob.
        hash: BlobHash,
        /// Why.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl Blobs {
    /// Writes content to `target`, which must not be there: a blob as a file, a folder as a folder, with files that
    /// are read-only. What a failure leaves behind is for the caller to remove.
    pub async fn stage(&self, content: Content, target: &Path) -> Result<(), StageError> {
        self.write(content, target, Some(READ_ONLY)).await
    }

    /// Writes content to `target` for a user: all of it or nothing, and nothing that is there is overwritten.
    /// A folder may be written into one that exists.
    pub async fn export(&self, content: Content, target: &Path) -> Result<(), StageError> {
        let target = std::path::absolute(target).map_err(|source| unwritable(target, source))?;
        // First of all, for the sake of a good answer before the work.
        if content.kind == ContentKind::Raw {
            check_free(&target)?;
        }
        let parent = target.parent().unwrap_or(&target).to_owned();
        let draft = blocking(move || draft_folder(&parent)).await?;
        let source = draft.path().join("content");
        self.write(content, &source, None).await?;
        blocking(move || {
            // Moved in here, so that the draft lasts until its content has left it.
            let _draft = draft;
            settle(&source, &target)
        })
        .await
    }

    /// Writes a result for a user, as [`Blobs::export`] does: `stdout`, `stderr`, `exitCode` and the result paths.
    pub async fn export_result(&self, result: BlobHash, dir: &Path) -> Result<(), StageError> {
        self.export(Content { hash: result, kind: ContentKind::Collection }, dir).await
    }

    async fn write(&self, content: Content, target: &Path, mode: Option<u32>) -> Result<(), StageError> {
        let target = std::path::absolute(target).map_err(|source| unwritable(target, source))?;
        check_free(&target)?;
        match content.kind {
            ContentKind::Raw => self.write_file(content.hash, target, mode).await,
            ContentKind::Collection => {
                let entries = self.folder(content.hash).await?;
                self.write_folder(entries, &target, mode).await
            }
        }
    }

    async fn write_folder(&self, entries: Vec<Entry>, target: &Path, mode: Option<u32>) -> Result<(), StageError> {
        tokio::fs::create_dir_all(target).await.map_err(|source| unwritable(target, source))?;
        let write = |entry: Entry| self.write_file(entry.hash, target.join(entry.name), mode);
        stream::iter(entries).map(write).buffer_unordered(FILES_AT_ONCE).try_collect().await
    }

    async fn write_file(&self, hash: BlobHash, target: PathBuf, mode: Option<u32>) -> Result<(), StageError> {
        if !self.blob_status(hash).await?.is_complete() {
            return Err(StageError::Missing(hash));
        }
        // Two names of one folder may be one file here: this disk may not tell `a` from `A`.
        check_free(&target)?;
        if hash == BlobHash::of(b"") {
            write_empty(&target).await.map_err(|source| unwritable(&target, source))?;
        } else if self.is_in_place(hash).await? {
            self.copy_checked(hash, &target).await?;
        } else {
            self.store.blobs().export(iroh(hash), &target).await.map_err(failed)?;
        }
        if let Some(mode) = mode {
            let permissions = fs::Permissions::from_mode(mode);
            tokio::fs::set_permissions(&target, permissions).await.map_err(|source| unwritable(&target, source))?;
        }
        Ok(())
    }

    /// Writes a blob whose bytes others can change, checking them on the way.
    async fn copy_checked(&self, hash: BlobHash, target: &Path) -> Result<(), StageError> {
        let mut file = BufWriter::with_capacity(COPIED_BYTES, create(target).await.map_err(|e| unwritable(target, e))?);
        let mut pieces = pin!(self.pieces(hash, 0));
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|source| StageError::Unreadable { hash, source })?;
            file.write_all(&piece).await.map_err(|source| unwritable(target, source))?;
        }
        file.flush().await.map_err(|source| unwritable(target, source))
    }
}

/// The store does not keep the empty blob, so it has none to export.
async fn write_empty(target: &Path) -> io::Result<()> {
    create(target).await.map(drop)
}

async fn create(target: &Path) -> io::Result<File> {
    if let Some(parent) = target.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    File::create(target).await
}

fn draft_folder(parent: &Path) -> Result<tempfile::TempDir, StageError> {
    fs::create_dir_all(parent).map_err(|source| unwritable(parent, source))?;
    tempfile::Builder::new().prefix(".shoal-").tempdir_in(parent).map_err(|source| unwritable(parent, source))
}

/// Moves what is complete to where the user wants it.
fn settle(source: &Path, target: &Path) -> Result<(), StageError> {
    let both_folders = source.is_dir() && target.is_dir();
    if !both_folders {
        return rename(source, target);
    }
    let names: Vec<_> = fs::read_dir(source)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect())
        .map_err(|error| unwritable(source, error))?;
    // All are looked at before the first is moved.
    names.iter().try_for_each(|name| check_free(&target.join(name)))?;
    names.iter().try_for_each(|name| rename(&source.join(name), &target.join(name)))
}

fn rename(source: &Path, target: &Path) -> Result<(), StageError> {
    check_free(target)?;
    fs::rename(source, target).map_err(|error| unwritable(target, error))
}

fn check_free(path: &Path) -> Result<(), StageError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(StageError::Exists { path: path.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(unwritable(path, source)),
    }
}

fn unwritable(path: &Path, source: io::Error) -> StageError {
    StageError::Unwritable { path: path.into(), source }
}
