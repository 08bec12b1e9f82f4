//! Calls on paths.

use super::{Call, low16};
use crate::wasi::fs::Inode;
use crate::wasi::fs::path::{GuestPath, MAX_PATH_BYTES};
use crate::wasi::types::{Answer, Errno, lookup};
use crate::wasi::world::Opening;

impl Call<'_> {
    pub(super) fn path_create_directory(&mut self, fd: u32, path: u32, length: u32) -> Answer<()> {
        let path = self.path(path, length)?;
        self.world.make_folder(fd, &path)
    }

    pub(super) fn path_filestat_get(
        &mut self,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        result: u32,
    ) -> Answer<()> {
        let inode = self.find(fd, lookup, path, length)?;
        let stat = self.world.tree.stat(inode);
        self.put(result, &stat.encode())
    }

    #[expect(clippy::too_many_arguments, reason = "the ABI's")]
    pub(super) fn path_filestat_set_times(
        &mut self,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        atime: u64,
        mtime: u64,
        flags: u32,
    ) -> Answer<()> {
        let inode = self.find(fd, lookup, path, length)?;
        self.world.set_times(inode, atime, mtime, low16(flags)?)
    }

    #[expect(clippy::too_many_arguments, reason = "the ABI's")]
    pub(super) fn path_open(
        &mut self,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        oflags: u32,
        base: u64,
        inheriting: u64,
        fdflags: u32,
        result: u32,
    ) -> Answer<()> {
        self.range(result, 4)?;
        let bytes = self.path(path, length)?;
        let (follow, oflags, fdflags) = (follows(lookup), low16(oflags)?, low16(fdflags)?);
        let opening = Opening { follow, oflags, fdflags, rights: base, inheriting };
        let opened = self.world.open(fd, &GuestPath::parse(&bytes)?, opening)?;
        self.put_u32(result, opened)
    }

    #[expect(clippy::too_many_arguments, reason = "the ABI's")]
    pub(super) fn path_link(
        &mut self,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        to_fd: u32,
        to: u32,
        to_length: u32,
    ) -> Answer<()> {
        let (path, to) = (self.path(path, length)?, self.path(to, to_length)?);
        let inode = self.world.find(fd, &path, follows(lookup))?;
        self.world.add_name(inode, to_fd, &to)
    }

    pub(super) fn path_symlink(
        &mut self,
        target: u32,
        target_length: u32,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Answer<()> {
        let (target, path) = (self.path(target, target_length)?, self.path(path, length)?);
        self.world.make_link(&target, fd, &path)
    }

    /// Tells as much of the target as the buffer holds.
    pub(super) fn path_readlink(
        &mut self,
        fd: u32,
        path: u32,
        length: u32,
        buffer: u32,
        size: u32,
        result: u32,
    ) -> Answer<()> {
        let path = self.path(path, length)?;
        let target = self.world.read_link(fd, &path)?;
        let part = &target.as_bytes()[..target.len().min(size as usize)];
        self.put(buffer, part)?;
        self.put_u32(result, u32::try_from(part.len()).map_err(|_| Errno::Range)?)
    }

    pub(super) fn path_remove_directory(&mut self, fd: u32, path: u32, length: u32) -> Answer<()> {
        let path = self.path(path, length)?;
        self.world.remove_folder(fd, &path)
    }

    pub(super) fn path_unlink_file(&mut self, fd: u32, path: u32, length: u32) -> Answer<()> {
        let path = self.path(path, length)?;
        self.world.remove_file(fd, &path)
    }

    pub(super) fn path_rename(
        &mut self,
        fd: u32,
        path: u32,
        length: u32,
        to_fd: u32,
        to: u32,
        to_length: u32,
    ) -> Answer<()> {
        let (path, to) = (self.path(path, length)?, self.path(to, to_length)?);
        self.world.rename((fd, &path), (to_fd, &to))
    }

    fn path(&mut self, path: u32, length: u32) -> Answer<Vec<u8>> {
        if length as usize > MAX_PATH_BYTES {
            return Err(Errno::NameTooLong.into());
        }
        let range = self.range(path, length)?;
        self.world.calls.moved(&self.memory[range.clone()]);
        Ok(self.memory[range].to_vec())
    }

    fn find(&mut self, fd: u32, lookup: u32, path: u32, length: u32) -> Answer<Inode> {
        let path = self.path(path, length)?;
        self.world.find(fd, &path, follows(lookup))
    }
}

fn follows(lookup: u32) -> bool {
    lookup & lookup::FOLLOW != 0
}
