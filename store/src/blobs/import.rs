//! Local files and folders become blobs.
//!
//! Only content and relative names count: times, modes, owners, empty folders and the order on disk do not, so that
//! equal trees get equal hashes everywhere. Links inside a folder are refused rather than followed, because what
//! they point to is not what the user named.

use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use iroh_blobs::BlobFormat;
use iroh_blobs::api::blobs::{AddPathOptions, AddProgressItem, ImportMode};
use shoal_protocol::task::Content;

use super::counted::{Counted, ImportProgress};
use super::folder::{MAX_FILES, MakeError};
use super::in_place::{MAX_IN_PLACE, Seen};
use super::names::{MAX_DEPTH, NameError, check_name};
use super::{Blobs, Guard, StoreFailed, failed};

/// Files that are read at once.
pub(super) const FILES_AT_ONCE: usize = 4;

/// Items of news on an import that are heard together.
const MAX_NEWS: usize = 64;
/// The store has news for every 16 KiB and drops what nobody hears in time. Of a file this large, which takes longer
/// than that anyway, news is heard so often: waking up for each would cost as much as hashing.
const LARGE: u64 = 16 << 20;
/// Pause between news on a large file.
const NEWS_EVERY: Duration = Duration::from_millis(2);

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
    /// It belongs to the node, which may remove it.
    #[error(
        "{path} is or holds the node's own data, which cannot be added in place: leave out --in-place",
        path = path.display()
    )]
    Own {
        /// What.
        path: PathBuf,
    },
    /// The node refers to too many files.
    #[error(
        "{path} makes more than {MAX_IN_PLACE} files in place: unpin others, or leave out --in-place",
        path = path.display()
    )]
    TooManyInPlace {
        /// What was to be added.
        path: PathBuf,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// Where the bytes of an imported file are from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// In the store.
    Copy,
    /// Where they were.
    InPlace,
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
        self.import_regular(resolve(path).await?, Mode::Copy, &Counted::unwatched()).await
    }

    /// Imports a file as it is, or a folder as a collection of its files under their relative names.
    pub async fn import_path(&self, path: &Path) -> Result<Imported, ImportError> {
        self.import_path_watched(path, |_| {}).await
    }

    /// The same; `told` hears how far it has come, often.
    pub async fn import_path_watched(
        &self,
        path: &Path,
        told: impl Fn(ImportProgress) + Send + Sync,
    ) -> Result<Imported, ImportError> {
        self.import(resolve(path).await?, Mode::Copy, &Counted::new(&told)).await
    }

    /// Imports what a resolved path leads to.
    pub(super) async fn import(
        &self,
        root: PathBuf,
        mode: Mode,
        counted: &Counted<'_>,
    ) -> Result<Imported, ImportError> {
        let metadata = tokio::fs::metadata(&root).await;
        if !metadata.map_err(|source| ImportError::Unreadable { path: root.clone(), source })?.is_dir() {
            return self.import_regular(root, mode, counted).await;
        }
        let folder = root.clone();
        let (sizes, found) = blocking(move || walk(&folder, "").map(|found| (sizes(&found), found))).await?;
        counted.expect(sizes.iter().sum());
        if mode == Mode::InPlace && !self.references.has_room(found.len()) {
            return Err(ImportError::TooManyInPlace { path: root });
        }
        // For all of them, so that a folder that does not fit is refused before its first file.
        let _room = self.reserve_blobs(sizes.into_iter().map(|bytes| mode.room(bytes)).sum()).await?;
        let files = self.add_files(found, mode, counted).await?;
        Ok(self.make_folder(files).await?)
    }

    async fn import_regular(&self, file: PathBuf, mode: Mode, counted: &Counted<'_>) -> Result<Imported, ImportError> {
        let unreadable = |source| ImportError::Unreadable { path: file.clone(), source };
        let metadata = tokio::fs::metadata(&file).await.map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(ImportError::Special { path: file, kind: describe(metadata.file_type()) });
        }
        if mode == Mode::InPlace && !self.references.has_room(1) {
            return Err(ImportError::TooManyInPlace { path: file });
        }
        counted.expect(metadata.len());
        let _room = self.reserve_blobs(mode.room(metadata.len())).await?;
        self.add_roomy(file, mode, counted).await
    }

    /// Imports files that are known to be files and have room, keeping their order.
    async fn add_files(
        &self,
        found: Vec<Found>,
        mode: Mode,
        counted: &Counted<'_>,
    ) -> Result<Vec<(String, Imported)>, ImportError> {
        let add = |file: Found| async move { Ok((file.name, self.add_roomy(file.path, mode, counted).await?)) };
        stream::iter(found).map(add).buffered(FILES_AT_ONCE).try_collect().await
    }

    /// Imports what is known to be a file.
    pub(super) async fn add_file(&self, path: PathBuf) -> Result<Imported, ImportError> {
        let unreadable = |source| ImportError::Unreadable { path: path.clone(), source };
        let size = tokio::fs::metadata(&path).await.map_err(unreadable)?.len();
        let _room = self.reserve_blobs(size).await?;
        self.add_roomy(path, Mode::Copy, &Counted::unwatched()).await
    }

    /// Imports a file that has room.
    async fn add_roomy(&self, path: PathBuf, mode: Mode, counted: &Counted<'_>) -> Result<Imported, ImportError> {
        match mode {
            Mode::Copy => self.add_with(path, ImportMode::Copy, counted).await,
            Mode::InPlace => self.refer_to(path, counted).await,
        }
    }

    /// Imports a file that stays where it is, and remembers how it looks.
    async fn refer_to(&self, path: PathBuf, counted: &Counted<'_>) -> Result<Imported, ImportError> {
        let unreadable = |source| ImportError::Unreadable { path: path.clone(), source };
        // Before it is read, so that a change in the meantime shows.
        let seen = Seen::new(&path, &tokio::fs::metadata(&path).await.map_err(unreadable)?);
        let imported = self.add_with(path.clone(), ImportMode::TryReference, counted).await?;
        let hash = imported.content.hash;
        if self.is_in_place(hash).await? {
            let references = Arc::clone(&self.references);
            blocking(move || references.remember(hash, seen)).await.map_err(failed)?;
        }
        Ok(imported)
    }

    /// Has the store take a file.
    async fn add_with(&self, path: PathBuf, mode: ImportMode, counted: &Counted<'_>) -> Result<Imported, ImportError> {
        let unreadable = |source| ImportError::Unreadable { path: path.clone(), source };
        let _importing = self.importing.read().await;
        let options = AddPathOptions { path: path.clone(), format: BlobFormat::Raw, mode };
        let mut news = self.store.blobs().add_path_with_opts(options).stream().await.ready_chunks(MAX_NEWS);
        let (mut bytes, mut file) = (0, counted.file());
        while let Some(items) = news.next().await {
            for item in items {
                match item {
                    AddProgressItem::Size(size) => bytes = size,
                    AddProgressItem::Done(tag) => {
                        file.reach(bytes);
                        return Ok(self.imported(tag, bytes));
                    }
                    AddProgressItem::Error(error) if error.kind() == io::ErrorKind::StorageFull => {
                        return Err(self.full(bytes).into());
                    }
                    AddProgressItem::Error(error) => return Err(unreadable(error)),
                    AddProgressItem::OutboardProgress(hashed) => file.reach(hashed),
                    AddProgressItem::CopyProgress(_) | AddProgressItem::CopyDone => {}
                }
            }
            if bytes >= LARGE {
                tokio::time::sleep(NEWS_EVERY).await;
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

async fn resolve(path: &Path) -> Result<PathBuf, ImportError> {
    // The store looks at the path more than once.
    let resolved = tokio::fs::canonicalize(path).await;
    resolved.map_err(|source| ImportError::Unreadable { path: path.into(), source })
}

fn sizes(files: &[Found]) -> Vec<u64> {
    files.iter().filter_map(|file| fs::metadata(&file.path).ok()).map(|metadata| metadata.len()).collect()
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
