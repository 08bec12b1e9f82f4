//! Files that were added in place: the store refers to them, and whoever owns them may change or remove them.
//!
//! So nothing of them is believed unread. Whatever leaves the store is checked against the blob's hash tree, and this
//! table only says which file it was and whether it looks as it did. That a blob has no file in the store is what
//! makes it one in place; a row that a crash loses costs a good message and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::Content;

use super::counted::{Counted, ImportProgress};
use super::import::{ImportError, Imported, Mode, blocking};
use super::{Blobs, MAX_LOOKED_UP, Status, StoreFailed};

/// Files that may be referred to.
pub const MAX_IN_PLACE: usize = 262_144;
/// Largest table that is read at start, in bytes: paths have at most 4 KiB.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// Lines that later ones replace, before the table is written anew.
const MAX_REPLACED: usize = 10_000;
/// What the hash tree of a file takes up: 64 bytes for each 16 KiB.
const TREE_SHARE: u64 = 256;

/// A file that was added in place is not what it was then.
#[derive(Debug, thiserror::Error)]
pub enum Altered {
    /// It holds something else.
    #[error(
        "{path} has changed since it was added in place: add it again, or put back what it was",
        path = path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Nothing is there.
    #[error(
        "{path} is gone, and was added in place: put it back, or add it from where it is now",
        path = path.display()
    )]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// The node cannot read it any more.
    #[error("cannot read {path}, which was added in place ({reason}): let the node read it", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// Where files are that were added in place, and how they looked.
#[derive(Debug)]
pub(super) struct References {
    file: PathBuf,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<BlobHash, Seen>,
    /// Lines of the file, those that later ones replace too.
    lines: usize,
}

/// How a file looked when it was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    path: PathBuf,
    bytes: u64,
    modified: (i64, i64),
}

impl Blobs {
    /// Imports a file or folder like [`Blobs::import_path`], but leaves files where they are, apart from small ones.
    /// What is read of them later is checked, and [`Altered`] says why if it is not the same any more.
    /// `told` hears how far it has come.
    pub async fn import_in_place(
        &self,
        path: &Path,
        told: impl Fn(ImportProgress) + Send + Sync,
    ) -> Result<Imported, ImportError> {
        let unreadable = |source| ImportError::Unreadable { path: path.into(), source };
        let root = tokio::fs::canonicalize(path).await.map_err(unreadable)?;
        if root.to_str().is_none() {
            return Err(ImportError::NotUtf8 { path: root });
        }
        // What the store may remove itself is no place for it to refer to.
        let own = tokio::fs::canonicalize(&self.dir).await.map_err(unreadable)?;
        if root.starts_with(&own) || own.starts_with(&root) {
            return Err(ImportError::Own { path: root });
        }
        self.import(root, Mode::InPlace, &Counted::new(&told)).await
    }

    /// Whether what was added in place looks as it did: a glance, where a read would be the proof.
    pub async fn look_at(&self, content: Content) -> Result<(), Altered> {
        if self.references.lock().rows.is_empty() {
            return Ok(());
        }
        for hash in self.blobs_of(content).await? {
            if let Some(seen) = self.references.get(hash)
                && self.is_in_place(hash).await?
            {
                blocking(move || seen.look()).await?;
            }
        }
        Ok(())
    }

    /// Whether a blob's bytes lie outside of the store.
    pub(super) async fn is_in_place(&self, hash: BlobHash) -> Result<bool, StoreFailed> {
        let Status::Complete { bytes } = self.blob_status(hash).await? else { return Ok(false) };
        let own = self.dir.join("data").join(format!("{hash}.data"));
        Ok(bytes > MAX_LOOKED_UP as u64 && !tokio::fs::try_exists(own).await.unwrap_or(false))
    }
}

impl References {
    /// What the file remembers; a line that a crash cut off is none.
    pub(super) fn load(file: &Path) -> Self {
        let lines = File::open(file).map(|file| BufReader::new(file.take(MAX_FILE_BYTES)).lines());
        let mut table = Table::default();
        for line in lines.into_iter().flatten().map_while(Result::ok) {
            table.lines += 1;
            if let Ok((hash, seen)) = serde_json::from_str(&line)
                && table.rows.len() < MAX_IN_PLACE
            {
                table.rows.insert(hash, seen);
            }
        }
        Self { file: file.into(), table: Mutex::new(table) }
    }

    /// Whether so many more fit.
    pub(super) fn has_room(&self, files: usize) -> bool {
        self.lock().rows.len() + files <= MAX_IN_PLACE
    }

    /// Remembers a file. Its line is appended, so that one more file costs one more line.
    pub(super) fn remember(&self, hash: BlobHash, seen: Seen) -> io::Result<()> {
        let mut table = self.lock();
        let is_full = table.rows.len() >= MAX_IN_PLACE && !table.rows.contains_key(&hash);
        if is_full || table.rows.get(&hash) == Some(&seen) {
            return Ok(());
        }
        // Begins with the end of a line, for the case that the last one was cut off.
        let line = format!("\n{}", serde_json::to_string(&(hash, &seen))?);
        File::options().append(true).create(true).open(&self.file)?.write_all(line.as_bytes())?;
        table.rows.insert(hash, seen);
        table.lines += 1;
        Ok(())
    }

    /// Forgets those of `known` that are not `here` any more.
    pub(super) fn tidy(&self, known: &BTreeSet<BlobHash>, here: impl Fn(&BlobHash) -> bool) -> io::Result<()> {
        let mut table = self.lock();
        let before = table.rows.len();
        table.rows.retain(|hash, _| !known.contains(hash) || here(hash));
        if table.rows.len() == before && table.lines <= before + MAX_REPLACED {
            return Ok(());
        }
        let mut file = tempfile::NamedTempFile::new_in(self.file.parent().unwrap_or(Path::new(".")))?;
        let mut lines = io::BufWriter::new(&mut file);
        for row in &table.rows {
            serde_json::to_writer(&mut lines, &row)?;
            lines.write_all(b"\n")?;
        }
        lines.flush()?;
        drop(lines);
        file.persist(&self.file)?;
        table.lines = table.rows.len();
        Ok(())
    }

    /// Every blob that is known to be in place.
    pub(super) fn hashes(&self) -> BTreeSet<BlobHash> {
        self.lock().rows.keys().copied().collect()
    }

    /// Why a blob cannot be read, if that is because of its file.
    pub(super) fn why(&self, hash: BlobHash, wrong_bytes: bool) -> Option<Altered> {
        let seen = self.get(hash)?;
        match seen.look() {
            // Bytes can change without a trace in size and time.
            Ok(()) => wrong_bytes.then_some(Altered::Changed { path: seen.path }),
            Err(altered) => Some(altered),
        }
    }

    fn get(&self, hash: BlobHash) -> Option<Seen> {
        self.lock().rows.get(&hash).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// How a file looks.
    pub(super) fn new(path: &Path, metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { path: path.into(), bytes: metadata.len(), modified }
    }

    fn look(&self) -> Result<(), Altered> {
        let path = || self.path.clone();
        match fs::metadata(&self.path) {
            Ok(metadata) if Self::new(&self.path, &metadata) == *self => Ok(()),
            Ok(_) => Err(Altered::Changed { path: path() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Altered::Gone { path: path() }),
            Err(error) => Err(Altered::Unreadable { path: path(), reason: error.to_string() }),
        }
    }
}

impl Mode {
    /// What a file of so many bytes takes up in the store.
    pub(super) fn room(self, bytes: u64) -> u64 {
        match self {
            Mode::InPlace if bytes > MAX_LOOKED_UP as u64 => bytes / TREE_SHARE,
            Mode::InPlace | Mode::Copy => bytes,
        }
    }
}
