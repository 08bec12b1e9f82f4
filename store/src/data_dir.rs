//! Where a node's things lie, and the lock that keeps a second process away from them.
//!
//! [`DataDir`] only knows names, so that a command can look for the running node's address;
//! [`DataDir::lock`] is for the node itself.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::remove::remove_tree;

/// Longest content of a lock file that is read: a process id.
const MAX_LOCK_BYTES: u64 = 32;

/// The layout of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
}

/// The right to use a data directory, held until dropped or until the process ends, however it ends.
#[derive(Debug)]
#[must_use = "the directory is free again when this is dropped"]
pub struct DataDirLock {
    _file: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error(
        "the data directory {root} is in use by another node{holder}: stop that node, \
         or give this one a directory of its own with --data-dir",
        root = root.display()
    )]
    InUse {
        /// The directory.
        root: PathBuf,
        /// Who has it, when known: ` (process 123)`.
        holder: String,
    },
    /// Something in it cannot be made, opened or removed.
    #[error("cannot use {path} in the data directory: {source}", path = path.display())]
    Io {
        /// What failed.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl DataDir {
    /// The data directory at `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Takes the directory for this process: makes what is missing, open to its owner only.
    pub fn lock(&self) -> Result<DataDirLock, DataDirError> {
        self.make(&self.root)?;
        let lock = self.acquire()?;
        for folder in [self.blobs(), self.modules(), self.work()] {
            self.make(&folder)?;
        }
        Ok(lock)
    }

    /// Who holds the directory, if anybody does: ` (process 123)`, or nothing where that is not known. Makes nothing.
    pub fn holder(&self) -> Option<String> {
        let file = File::open(self.root.join("lock")).ok()?;
        let is_held = flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK);
        is_held.then(|| holder(&file))
    }

    /// Removes what executions of an earlier process left in `work/`, but not the folders of those that may go on. For
    /// whoever holds the lock.
    pub fn clear_work(&self, _: &DataDirLock, keep: &BTreeSet<String>) -> Result<(), DataDirError> {
        let work = self.work();
        let entries = fs::read_dir(&work).map_err(|source| DataDirError::Io { path: work.clone(), source })?;
        for entry in entries {
            let entry = entry.map_err(|source| DataDirError::Io { path: work.clone(), source })?;
            if entry.file_name().to_str().is_none_or(|name| !keep.contains(name)) {
                remove(&entry.path()).map_err(|source| DataDirError::Io { path: entry.path(), source })?;
            }
        }
        Ok(())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The node's key.
    pub fn identity_key(&self) -> PathBuf {
        self.root.join("identity.key")
    }

    /// A folder for each private mesh that the node belongs to.
    pub fn meshes(&self) -> PathBuf {
        self.root.join("meshes")
    }

    /// The operator's settings.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The blob store's folder.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The node's records.
    pub fn state(&self) -> PathBuf {
        self.root.join("state.redb")
    }

    /// What is given up when the disk is full.
    pub fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    /// How much the blob store has on the disk, in bytes.
    pub fn blobs_bytes(&self) -> u64 {
        let files = [self.blobs(), self.blobs().join("data")].into_iter().flat_map(fs::read_dir);
        let metadata = files.flatten().flatten().filter_map(|entry| entry.metadata().ok());
        metadata.filter(fs::Metadata::is_file).map(|file| file.blocks() * 512).sum()
    }

    /// Compiled modules.
    pub fn modules(&self) -> PathBuf {
        self.root.join("cache").join("modules")
    }

    /// One folder per running execution.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// What the `local` publisher writes.
    pub fn published(&self) -> PathBuf {
        self.root.join("published")
    }

    /// The address of the running node's API.
    pub fn api_addr(&self) -> PathBuf {
        self.root.join("api.addr")
    }

    /// What a caller of the API must show.
    pub fn api_token(&self) -> PathBuf {
        self.root.join("api.token")
    }

    fn acquire(&self) -> Result<DataDirLock, DataDirError> {
        let path = self.root.join("lock");
        let failed = |source| DataDirError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(DataDirError::InUse { root: self.root.clone(), holder: holder(&file) });
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(DataDirLock { _file: file })
    }

    fn make(&self, folder: &Path) -> Result<(), DataDirError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(|source| DataDirError::Io { path: folder.into(), source })
    }
}

fn holder(mut file: &File) -> String {
    let mut text = String::new();
    let read = (&mut file).take(MAX_LOCK_BYTES).read_to_string(&mut text);
    // The process may have taken the lock a moment ago and not have written its id yet.
    match (read, text.parse::<u32>()) {
        (Ok(_), Ok(process)) => format!(" (process {process})"),
        _ => String::new(),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { remove_tree(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn data_dir() -> (tempfile::TempDir, DataDir) {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::new(parent.path().join("a").join("shoal"));
        (parent, dir)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_directory_is_for_its_owner_only() {
        let (_parent, dir) = data_dir();
        let _lock = dir.lock().unwrap();
        for folder in [dir.root(), &dir.blobs(), &dir.modules(), &dir.work()] {
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
        }
        assert_eq!(mode(&dir.root().join("lock")), 0o600);
    }

    #[test]
    fn a_second_user_of_the_directory_is_told_what_to_do() {
        let (_parent, dir) = data_dir();
        let _lock = dir.lock().unwrap();
        let message = dir.lock().unwrap_err().to_string();
        let process = format!("process {}", std::process::id());
        for part in [dir.root().to_str().unwrap(), "in use", "--data-dir", &process] {
            assert!(message.contains(part), "{part:?} in {message:?}");
        }
    }

    #[test]
    fn who_holds_the_directory_is_told_and_nothing_is_made() {
        let (_parent, dir) = data_dir();
        assert_eq!(dir.holder(), None);
        assert!(!dir.root().exists());
        let lock = dir.lock().unwrap();
        assert_eq!(dir.holder(), Some(format!(" (process {})", std::process::id())));
        drop(lock);
        assert_eq!(dir.holder(), None);
    }

    #[test]
    fn the_directory_is_free_once_its_lock_is_gone() {
        let (_parent, dir) = data_dir();
        drop(dir.lock().unwrap());
        drop(dir.lock().unwrap());
    }

    #[test]
    fn leftovers_of_executions_are_removed_and_neither_what_they_point_to_nor_what_goes_on() {
        let (parent, dir) = data_dir();
        drop(dir.lock().unwrap());
        let outside = parent.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "mine").unwrap();
        let left = dir.work().join("e-1").join("inputs");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("data"), "left").unwrap();
        fs::set_permissions(left.join("data"), fs::Permissions::from_mode(0o444)).unwrap();
        symlink(&outside, dir.work().join("link")).unwrap();
        fs::write(dir.work().join("stray"), "left").unwrap();
        fs::create_dir(dir.work().join("e-2")).unwrap();

        let lock = dir.lock().unwrap();
        dir.clear_work(&lock, &BTreeSet::from(["e-2".to_owned()])).unwrap();
        let left: Vec<_> = fs::read_dir(dir.work()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["e-2"], "what goes on stays");
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "mine");
    }

    #[test]
    fn a_refused_process_removes_nothing() {
        let (_parent, dir) = data_dir();
        let _lock = dir.lock().unwrap();
        fs::write(dir.work().join("running"), "").unwrap();
        dir.lock().unwrap_err();
        assert!(dir.work().join("running").exists());
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("shoal");
        fs::write(&path, "").unwrap();
        let message = DataDir::new(&path).lock().unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
}
