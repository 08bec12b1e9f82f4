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

/// A file's bytes on disk. The host's file is opened when bytes move, and a scratch file made when it gets some.
#[derive(Debug)]
pub(crate) struct Content {
    path: PathBuf,
    writable: bool,
    /// It is on disk.
    made: bool,
    size: u64,
    /// How often its bytes count: once for each name, because in the results each name is a file.
    names: u64,
    handle: Option<File>,
}

impl Content {
    /// A staged input of `size` bytes.
    pub(crate) fn input(path: PathBuf, size: u64) -> Self {
        Self { path, writable: false, made: true, size, names: 1, handle: None }
    }

    /// A new, empty scratch file.
    pub(crate) fn scratch(path: PathBuf) -> Self {
        Self { path, writable: true, made: false, size: 0, names: 1, handle: None }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn writable(&self) -> bool {
        self.writable
    }

    pub(crate) fn is_open(&self) -> bool {
        self.handle.is_some()
    }

    /// Opens the host's file.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).write(self.writable).create_new(!self.made).mode(0o600);
        self.handle = Some(options.open(&self.path)?);
        self.made = true;
        Ok(())
    }

    /// Closes the host's file; it can be opened again.
    pub(crate) fn close(&mut self) {
        self.handle = None;
    }

    fn handle(&self) -> io::Result<&File> {
        self.handle.as_ref().ok_or_else(|| io::Error::other("a file was used before it was opened"))
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
        let room = (quota.left / self.names).min(end.saturating_sub(self.size));
        let end = end.min(self.size + room);
        if end <= offset {
            return Err(Errno::NoSpc.into());
        }
        let length = usize::try_from(end - offset).map_err(|_| Errno::FBig)?;
        self.handle()?.write_all_at(&bytes[..length], offset)?;
        quota.take(self.cost(end.saturating_sub(self.size)))?;
        self.size = self.size.max(end);
        Ok(length)
    }

    /// Cuts or extends with zeros.
    pub(crate) fn resize(&mut self, quota: &mut Quota, size: u64) -> Answer<()> {
        if size > self.size {
            quota.take(self.cost(size - self.size))?;
        } else {
            quota.give(self.cost(self.size - size));
        }
        self.handle()?.set_len(size)?;
        self.size = size;
        Ok(())
    }

    /// Counts its bytes for another number of names. One that has lost its last name still lies on disk.
    pub(crate) fn rename(&mut self, quota: &mut Quota, names: u32) -> Answer<()> {
        let names = u64::from(names).max(1);
        if names > self.names {
            quota.take(self.size.saturating_mul(names - self.names))?;
        } else {
            quota.give(self.size * (self.names - names));
        }
        self.names = names;
        Ok(())
    }

    fn cost(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(self.names)
    }

    /// Moves a scratch file to where the results are collected.
    pub(crate) fn move_to(&self, target: &Path) -> io::Result<()> {
        if self.made { std::fs::rename(&self.path, target) } else { File::create_new(target).map(drop) }
    }

    /// Removes a scratch file and gives its bytes back.
    pub(crate) fn remove(self, quota: &mut Quota) -> io::Result<()> {
        if !self.writable {
            return Ok(());
        }
        quota.give(self.cost(self.size));
        if self.made { std::fs::remove_file(self.path) } else { Ok(()) }
    }
}
