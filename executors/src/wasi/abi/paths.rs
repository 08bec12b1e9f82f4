//! Calls on paths.

use super::{Call, low16};
use crate::wasi::fs::Inode;
use crate::wasi::fs::path::{GuestPath, MAX_PATH_BYTES};
use crate::wasi::types::{Answer, Errno, lookup};
use crate::wasi::world::Opening;

impl Call<'_> {
    pub(super) fn path_create_directory(&mut self, fd: u32, path: u32, length: u32) -> Answer<()> {
        let bytes = self.path(path, length)?;
        let (parent, name) = self.parent(fd, &bytes)?;
        let now = self.world.clock.stamp();
        self.world.tree.create_folder(parent, name, now).map(drop)
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
        let inode = self.find(fd, lookup, path, length)?;
        let bytes = self.path(to, to_length)?;
        let to = self.new_name(to_fd, &bytes)?;
        let now = self.world.clock.stamp();
        self.world.tree.link(inode, to, now)
    }

    pub(super) fn path_symlink(
        &mut self,
        target: u32,
        target_length: u32,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Answer<()> {
        let (target, bytes) = (self.path(target, target_length)?, self.path(path, length)?);
        let target = std::str::from_utf8(&target).map_err(|_| Errno::IlSeq)?;
        let (parent, name) = self.new_name(fd, &bytes)?;
        let now = self.world.clock.stamp();
        self.world.tree.create_link(parent, name, target, now).map(drop)
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
        let inode = self.find(fd, 0, path, length)?;
        let target = self.world.tree.link_target(inode).ok_or(Errno::Inval)?;
        let part = &target.as_bytes()[..target.len().min(size as usize)];
        self.put(buffer, part)?;
        self.put_u32(result, u32::try_from(part.len()).map_err(|_| Errno::Range)?)
    }

    pub(super) fn path_remove_directory(&mut self, fd: u32, path: u32, length: u32) -> Answer<()> {
        let bytes = self.path(path, length)?;
        let (parent, name) = self.parent(fd, &bytes)?;
        let now = self.world.clock.stamp();
        self.world.tree.remove_folder(parent, name, now)
    }

    pub(super) fn path_unlink_file(&mut self, fd: u32, path: u32, length: u32) -> Answer<()> {
        let bytes = self.path(path, length)?;
        let (parent, name) = self.parent(fd, &bytes)?;
        let now = self.world.clock.stamp();
        self.world.tree.remove_file(parent, name, now)
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
        let (from_bytes, to_bytes) = (self.path(path, length)?, self.path(to, to_length)?);
        let (from, to) = (self.parent(fd, &from_bytes)?, self.parent(to_fd, &to_bytes)?);
        let now = self.world.clock.stamp();
        self.world.tree.rename(from, to, now)
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
        let bytes = self.path(path, length)?;
        let base = self.world.base(fd)?;
        self.world.tree.find(base, &GuestPath::parse(&bytes)?, follows(lookup))
    }

    /// A name for something that is no folder.
    fn new_name<'p>(&mut self, fd: u32, bytes: &'p [u8]) -> Answer<(Inode, &'p str)> {
        if bytes.ends_with(b"/") {
            return Err(Errno::NoEnt.into());
        }
        self.parent(fd, bytes)
    }

    fn parent<'p>(&mut self, fd: u32, bytes: &'p [u8]) -> Answer<(Inode, &'p str)> {
        let path = GuestPath::parse(bytes)?;
        let base = self.world.base(fd)?;
        let (parent, name) = self.world.tree.find_parent(base, &path)?;
        // "file/" names no file.
        if let (true, Some(inode)) = (path.folder, self.world.tree.entry(parent, name)?) {
            self.world.tree.folder(inode)?;
        }
        Ok((parent, name))
    }
}

fn follows(lookup: u32) -> bool {
    lookup & lookup::FOLLOW != 0
}
