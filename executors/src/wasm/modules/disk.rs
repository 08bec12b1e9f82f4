//! The cache folder: machine code by module, profile and engine.
//!
//! Machine code runs with all our rights, so the folder belongs to the executor alone (mode 0700) and each file ends
//! in a keyed hash, whose key is in a file of that folder. Code is read, checked and only then copied to where it
//! runs: a mapped file could change after its check. What was torn or altered is compiled again, so nothing is
//! flushed. Files appear under their names whole, and several processes may share the folder.

use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use shoal_protocol::id::BlobHash;
use wasmtime::Engine;

use crate::wasm::profile::PROFILE;

/// The extension of compiled modules.
const EXTENSION: &str = "cwasm";
/// The keyed hash at a file's end, in bytes.
const SEAL_BYTES: usize = 32;
/// The name of the key, and of the file that is locked while it is made.
const KEY: &str = "key";
/// How files begin that have not got their names yet.
const UNFINISHED: &str = "unfinished-";
/// A file that has been unfinished for so long belongs to a process that died.
const UNFINISHED_FOR: Duration = Duration::from_secs(3600);

/// A cache folder of compiled modules.
pub(crate) struct Disk {
    folder: PathBuf,
    key: [u8; 32],
    /// Names the engine: its version, its settings, the machine's features.
    engine: u64,
    limit_bytes: u64,
}

impl Disk {
    /// Opens the folder, which is made if it is not there.
    pub(crate) fn open(folder: PathBuf, engine: &Engine, limit_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        let key = read_or_make_key(&folder)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let disk = Self { folder, key, engine: hasher.finish(), limit_bytes };
        disk.evict()?;
        Ok(disk)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The machine code of a module, if it is there and whole.
    pub(crate) fn load(&self, hash: BlobHash) -> Option<Vec<u8>> {
        let path = self.path(hash);
        let mut code = fs::read(&path).ok()?;
        let (rest, seal) = code.split_last_chunk::<SEAL_BYTES>()?;
        if blake3::Hash::from_bytes(*seal) != self.seal(&path, rest) {
            tracing::warn!(path = %path.display(), "compiled module altered, compiling it again");
            return None;
        }
        code.truncate(code.len() - SEAL_BYTES);
        // The cache's order of age, not more: a failure costs nothing.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(code)
    }

    /// Keeps the machine code of a module; the longest unused others make room.
    pub(crate) fn save(&self, hash: BlobHash, code: &[u8]) -> io::Result<()> {
        let path = self.path(hash);
        let mut file = unfinished(&self.folder)?;
        file.write_all(code)?;
        file.write_all(self.seal(&path, code).as_bytes())?;
        file.persist(&path)?;
        self.evict()
    }

    /// Removes a file whose code the engine does not take.
    pub(crate) fn remove(&self, hash: BlobHash) {
        let _ = fs::remove_file(self.path(hash));
    }

    fn path(&self, hash: BlobHash) -> PathBuf {
        self.folder.join(format!("{hash}-{PROFILE}-{:016x}.{EXTENSION}", self.engine))
    }

    /// Binds the code to its module and engine, so that no file can stand for another.
    fn seal(&self, path: &Path, code: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default());
        hasher.update(code).finalize()
    }

    /// Removes the longest unused files beyond the limit, and what dead processes left.
    fn evict(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            // Another process may have removed it since.
            let Ok(file) = entry.and_then(Aged::of) else { continue };
            if file.is_abandoned() {
                remove(&file.path)?;
            } else if file.path.extension().is_some_and(|extension| extension == EXTENSION) {
                files.push(file);
            }
        }
        files.sort_by_key(|file| file.used);
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        for file in files {
            if total <= self.limit_bytes {
                break;
            }
            remove(&file.path)?;
            total -= file.bytes;
        }
        Ok(())
    }
}

/// A file of the folder.
struct Aged {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
}

impl Aged {
    fn of(entry: fs::DirEntry) -> io::Result<Self> {
        let metadata = entry.metadata()?;
        Ok(Self { used: metadata.modified()?, bytes: metadata.len(), path: entry.path() })
    }

    fn is_abandoned(&self) -> bool {
        let unfinished =
            self.path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()));
        unfinished && self.used.elapsed().is_ok_and(|age| age > UNFINISHED_FOR)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A file readable by us alone, without a name that anybody looks for.
fn unfinished(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)
}

/// One key for all processes that share the folder.
fn read_or_make_key(folder: &Path) -> io::Result<[u8; 32]> {
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;
    let path = folder.join(KEY);
    if let Some(key) = fs::read(&path).ok().and_then(|bytes| bytes.try_into().ok()) {
        return Ok(key);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let mut file = unfinished(folder)?;
    file.write_all(&key)?;
    file.persist(path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, limit_bytes: u64) -> Disk {
        Disk::open(folder.to_owned(), &Engine::default(), limit_bytes).unwrap()
    }

    fn module(number: u8) -> BlobHash {
        BlobHash([number; 32])
    }

    #[test]
    fn what_was_saved_is_loaded_by_all_who_share_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let open_at_once = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| open(folder.path(), 1 << 20))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        open_at_once[0].save(module(1), b"code").unwrap();
        for disk in open_at_once {
            assert_eq!(disk.load(module(1)).as_deref(), Some(&b"code"[..]));
            assert_eq!(disk.load(module(2)), None);
        }
    }

    #[test]
    fn a_torn_file_and_one_under_the_name_of_another_are_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let disk = open(folder.path(), 1 << 20);
        disk.save(module(1), b"code").unwrap();
        fs::copy(disk.path(module(1)), disk.path(module(2))).unwrap();
        assert_eq!(disk.load(module(2)), None);
        let whole = fs::read(disk.path(module(1))).unwrap();
        for length in 0..whole.len() {
            fs::write(disk.path(module(1)), &whole[..length]).unwrap();
            assert_eq!(disk.load(module(1)), None, "{length}");
        }
    }

    #[test]
    fn the_longest_unused_files_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let disk = open(folder.path(), 2 * (4 + SEAL_BYTES as u64));
        let age = |number, seconds| {
            let file = File::open(disk.path(module(number))).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
        };
        disk.save(module(1), b"code").unwrap();
        age(1, 200);
        disk.save(module(2), b"code").unwrap();
        age(2, 300);
        assert!(disk.load(module(2)).is_some(), "which makes it the last used");
        disk.save(module(3), b"code").unwrap();
        let left = [1, 2, 3].map(|number| disk.load(module(number)).is_some());
        assert_eq!(left, [false, true, true]);
    }

    #[test]
    fn what_a_dead_process_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("unfinished-old"), folder.path().join("unfinished-new"));
        let long_ago = SystemTime::now() - 2 * UNFINISHED_FOR;
        File::create(&old).unwrap().set_modified(long_ago).unwrap();
        File::create(&new).unwrap();
        let disk = open(folder.path(), 0);
        assert!(!old.exists() && new.exists() && disk.load(module(1)).is_none());
    }
}
