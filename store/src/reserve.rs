//! A file that takes up room until the disk is full, and is given up then.
//!
//! A database that is refused a byte has failed for good, and the node with it. With the reserve's room it can go on
//! until somebody has made some.

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::PathBuf;

use redb::{BackendError, StorageBackend};
use rustix::fs::{FallocateFlags, fallocate};

/// The reserve, in bytes, or a sixteenth of the disk if that is less.
pub const RESERVE_BYTES: u64 = 16 << 20;

/// The file. A clone is the same.
#[derive(Debug, Clone)]
pub struct Reserve(PathBuf);

impl Reserve {
    /// The reserve at `path`, which need not be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Sets it up. A system that cannot allocate has none, and a sparse file would be none.
    pub(crate) fn keep(&self, bytes: u64) -> io::Result<()> {
        if self.is_kept() || bytes == 0 {
            return Ok(());
        }
        let file = File::create(&self.0)?;
        let allocated = fallocate(&file, FallocateFlags::empty(), 0, bytes);
        if allocated.is_err() {
            let _ = fs::remove_file(&self.0);
        }
        Ok(allocated?)
    }

    /// Gives it up; tells whether that freed something.
    pub fn give_up(&self) -> bool {
        self.is_kept() && fs::remove_file(&self.0).is_ok()
    }

    fn is_kept(&self) -> bool {
        fs::metadata(&self.0).is_ok_and(|metadata| metadata.len() > 0)
    }
}

/// A database's file that gives up the reserve when it is refused room.
#[derive(Debug)]
pub(crate) struct Insured<B> {
    pub(crate) file: B,
    pub(crate) reserve: Reserve,
}

impl<B> Insured<B> {
    /// Writes, and once more with the reserve's room if there was none.
    fn insist(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match write() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && self.reserve.give_up() => {
                tracing::warn!("the disk is full: its reserve was given up");
                write()
            }
            written => written,
        }
    }
}

impl<B: StorageBackend> StorageBackend for Insured<B> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.insist(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.insist(|| self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.insist(|| self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn the_reserve_takes_up_room_until_it_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(dir.path().join("reserve"));
        reserve.keep(1 << 20).unwrap();
        assert_eq!(fs::metadata(dir.path().join("reserve")).unwrap().len(), 1 << 20);
        assert!(reserve.give_up() && !reserve.give_up());
    }

    /// A disk that is full until the reserve is gone.
    #[derive(Debug)]
    struct Full {
        disk: InMemoryBackend,
        reserve: Reserve,
        refused: AtomicBool,
    }

    impl StorageBackend for Full {
        fn len(&self) -> io::Result<u64> {
            self.disk.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.disk.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.disk.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.disk.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            if self.reserve.is_kept() {
                self.refused.store(true, Ordering::Relaxed);
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.disk.write(offset, data)
        }
    }

    #[test]
    fn a_write_on_a_full_disk_succeeds_with_the_room_of_the_reserve() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(dir.path().join("reserve"));
        reserve.keep(4_096).unwrap();
        let file = Full { disk: InMemoryBackend::new(), reserve: reserve.clone(), refused: AtomicBool::new(false) };
        let insured = Insured { file, reserve };
        insured.set_len(8).unwrap();
        insured.write(0, b"12345678").unwrap();
        let mut read = [0; 8];
        insured.read(0, &mut read).unwrap();
        assert_eq!((&read, insured.file.refused.load(Ordering::Relaxed)), (b"12345678", true));
        assert!(!dir.path().join("reserve").exists());
    }
}
