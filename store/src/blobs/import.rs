//! Local files and folders become blobs.
//!
//! Only content and relative names count: times, modes, owners, empty folders and the order on disk do not, so that
//! equal trees get equal hashes everywhere. Links inside a folder are refused rather than followed, because what
//! they point to is not what the user named.

use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt, stream};
use iroh_blobs::BlobFormat;
use iroh_blobs::api::blobs::{AddPathOptions, AddProgressItem, ImportMode};
use shoal_protocol::task::Content;

use super::folder::{MAX_FILES, MakeError};
use super::names::{MAX_DEPTH, NameError, check_name};
use super::{Blobs, Guard, StoreFailed, failed};

/// Files that are read at once.
pub(super) const FILES_AT_ONCE: usize = 4;

/// Something that has become a blob or several.
#[derive(Debug)]
#[must_use = "the content may be collected once its guard is dropped"]
pub struct Imported {
    /// Its name for the whole mesh.
    pub content: Content,
    /// Its size, as [`Blobs::size`] has it.
    pub bytes: u64,
    /// Keeps it until it is pinned.
    pub guard: Guard,
}

/// Why something local did not become blobs.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is a link, a device, a socket or the like.
    #[error("{path} is {kind}: only files and folders can be imported", path = path.display())]
    Special {
        /// What.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Its name has no meaning on other systems.
    #[error("the name of {path} is not UTF-8: rename it", path = path.display())]
    NotUtf8 {
        /// What.
        path: PathBuf,
    },
    /// Its name cannot travel.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It is too large a folder.
    #[error("{path} has more than {MAX_FILES} files: pack them into an archive", path = path.display())]
    TooManyFiles {
        /// The folder.
        path: PathBuf,
    },
    /// It is nested too deeply.
    #[error("{path} is nested more than {MAX_DEPTH} folders deep", path = path.display())]
    TooDeep {
        /// The folder.
        path: PathBuf,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// A file on disk and its name in a folder.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl Blobs {
    /// Imports one file. A link is followed: the user named it.
    pub async fn import_file(&self, path: &Path) -> Result<Imported, ImportError> {
        let unreadable = |source| ImportError::Unreadable { path: path.into(), source };
        // Resolved here, because the store looks at the path more than once.
        let file = tokio::fs::canonicalize(path).await.map_err(unreadable)?;
        let kind = tokio::fs::metadata(&file).await.map_err(unreadable)?.file_type();
        if !kind.is_file() {
            return Err(ImportError::Special { path: path.into(), kind: describe(kind) });
        }
        self.add_file(file).await
    }

    /// Imports a file as it is, or a folder as a collection of its files under their relative names.
    pub async fn import_path(&self, path: &Path) -> Result<Imported, ImportError> {
        let unreadable = |source| ImportError::Unreadable { path: path.into(), source };
        let root = tokio::fs::canonicalize(path).await.map_err(unreadable)?;
        if !tokio::fs::metadata(&root).await.map_err(unreadable)?.is_dir() {
            return self.import_file(path).await;
        }
        let (bytes, found) = blocking(move || walk(&root, "").map(|found| (total_bytes(&found), found))).await?;
        // For all of them, so that a folder that does not fit is refused before its first file.
        let _room = self.reserve_blobs(bytes).await?;
        let files = self.add_files(found).await?;
        Ok(self.make_folder(files).await?)
    }

    /// Imports files that are known to be files and have room, keeping their order.
    async fn add_files(&self, found: Vec<Found>) -> Result<Vec<(String, Imported)>, ImportError> {
        let add = |file: Found| async move { Ok((file.name, self.copy_in(file.path).await?)) };
        stream::iter(found).map(add).buffered(FILES_AT_ONCE).try_collect().await
    }

    /// Imports what is known to be a file.
    pub(super) async fn add_file(&self, path: PathBuf) -> Result<Imported, ImportError> {
        let unreadable = |source| ImportError::Unreadable { path: path.clone(), source };
        let size = tokio::fs::metadata(&path).await.map_err(unreadable)?.len();
        let _room = self.reserve_blobs(size).await?;
        self.copy_in(path).await
    }

    /// Imports a file that has room.
    async fn copy_in(&self, path: PathBuf) -> Result<Imported, ImportError> {
        let unreadable = |source| ImportError::Unreadable { path: path.clone(), source };
        let _importing = self.importing.read().await;
        let options = AddPathOptions { path: path.clone(), format: BlobFormat::Raw, mode: ImportMode::Copy };
        let mut progress = self.store.blobs().add_path_with_opts(options).stream().await;
        let mut bytes = 0;
        while let Some(item) = progress.next().await {
            match item {
                AddProgressItem::Size(size) => bytes = size,
                AddProgressItem::Done(tag) => return Ok(self.imported(tag, bytes)),
                AddProgressItem::Error(error) if error.kind() == io::ErrorKind::StorageFull => {
                    return Err(self.full(bytes).into());
                }
                AddProgressItem::Error(error) => return Err(unreadable(error)),
                AddProgressItem::CopyProgress(_) | AddProgressItem::CopyDone | AddProgressItem::OutboardProgress(_) => {
                }
            }
        }
        Err(failed(io::Error::other("an import ended without a result")).into())
    }
}

impl From<MakeError> for ImportError {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Name(error) => error.into(),
            MakeError::Store(error) => error.into(),
        }
    }
}

/// Runs disk work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn total_bytes(files: &[Found]) -> u64 {
    files.iter().filter_map(|file| fs::metadata(&file.path).ok()).map(|metadata| metadata.len()).sum()
}

/// Every file below `root`, named relative to it behind `prefix` (empty, or ending in `/`).
pub(super) fn walk(root: &Path, prefix: &str) -> Result<Vec<Found>, ImportError> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_owned(), prefix.to_owned(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        if depth >= MAX_DEPTH {
            return Err(ImportError::TooDeep { path: folder });
        }
        let unreadable = |source| ImportError::Unreadable { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, name) = (entry.path(), name_of(&entry, &prefix)?);
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() {
                folders.push((path, name + "/", depth + 1));
            } else if kind.is_file() {
                check_name(&name)?;
                found.push(Found { name, path });
            } else {
                return Err(ImportError::Special { path, kind: describe(kind) });
            }
            if found.len() + folders.len() > MAX_FILES {
                return Err(ImportError::TooManyFiles { path: root.into() });
            }
        }
    }
    Ok(found)
}

fn name_of(entry: &fs::DirEntry, prefix: &str) -> Result<String, ImportError> {
    match entry.file_name().into_string() {
        Ok(name) => Ok(format!("{prefix}{name}")),
        Err(_) => Err(ImportError::NotUtf8 { path: entry.path() }),
    }
}

pub(super) fn describe(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_dir() => "a folder",
        _ => "a device, socket or pipe",
    }
}
