//! What files hold: read-only inputs, and scratch files that are charged to the run's quota.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::wasi::types::{Answer, Errno};

/// What a run may still write, in bytes. Truncating and removing files gives back; printing does not.
#[derive(Debug)]
pub(crate) struct Quota {
    left: u64,
}

impl Quota {
    pub(crate) fn new(limit: u64) -> Self {
        Self { left: limit }
    }

    /// Takes all of `bytes` or nothing.
    pub(crate) fn take(&mut self, bytes: u64) -> Answer<()> {
        self.left = self.left.checked_sub(bytes).ok_or(Errno::NoSpc)?;
        Ok(())
    }

    /// Takes up to `bytes`; nothing left is an error.
    pub(crate) fn take_some(&mut self, bytes: u64) -> Answer<u64> {
        let some = bytes.min(self.left);
        if some == 0 && bytes > 0 {
            return Err(Errno::NoSpc.into());
        }
        self.left -= some;
        Ok(some)
    }

    fn give(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes);
    }
}

/// A file's bytes on disk.
#[derive(Debug)]
pub(crate) struct Content {
    path: PathBuf,
    writable: bool,
    size: u64,
    handle: Option<File>,
}

impl Content {
    /// A staged input of `size` bytes.
    pub(crate) fn input(path: PathBuf, size: u64) -> Self {
        Self { path, writable: false, size, handle: None }
    }

    /// A new, empty scratch file.
    pub(crate) fn scratch(path: PathBuf) -> io::Result<Self> {
        let handle = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path, writable: true, size: 0, handle: Some(handle) })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn writable(&self) -> bool {
        self.writable
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the host's file before a descriptor is given out.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        if self.handle.is_none() {
            self.handle = Some(OpenOptions::new().read(true).write(self.writable).open(&self.path)?);
        }
        Ok(())
    }

    /// Closes the host's file when no descriptor is left.
    pub(crate) fn close(&mut self) {
        self.handle = None;
    }

    fn handle(&self) -> io::Result<&File> {
        self.handle.as_ref().ok_or_else(|| io::Error::other("a file without descriptor was used"))
    }

    /// Reads what there is at `offset`; 0 at the end. Fills `bytes` unless the file ends.
    pub(crate) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Answer<usize> {
        let wanted = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
        // Exactly: where the host's read stops early must not show.
        self.handle()?.read_exact_at(&mut bytes[..wanted], offset)?;
        Ok(wanted)
    }

    /// Writes at `offset` as much as the quota allows.
    pub(crate) fn write_at(&mut self, quota: &mut Quota, bytes: &[u8], offset: u64) -> Answer<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::FBig)?;
        let room = quota.left.min(end.saturating_sub(self.size));
        let end = end.min(self.size + room);
        if end <= offset {
            return Err(Errno::NoSpc.into());
        }
        let length = usize::try_from(end - offset).map_err(|_| Errno::FBig)?;
        self.handle()?.write_all_at(&bytes[..length], offset)?;
        quota.take(end.saturating_sub(self.size))?;
        self.size = self.size.max(end);
        Ok(length)
    }

    /// Cuts or extends with zeros.
    pub(crate) fn resize(&mut self, quota: &mut Quota, size: u64) -> Answer<()> {
        if size > self.size {
            quota.take(size - self.size)?;
        } else {
            quota.give(self.size - size);
        }
        self.handle()?.set_len(size)?;
        self.size = size;
        Ok(())
    }

    /// Removes a scratch file and gives its bytes back.
    pub(crate) fn remove(self, quota: &mut Quota) -> io::Result<()> {
        if !self.writable {
            return Ok(());
        }
        quota.give(self.size);
        std::fs::remove_file(self.path)
    }
}
