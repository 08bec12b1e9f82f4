//! What a program does by path, below a folder that it has open.

use std::sync::Arc;

use super::World;
use crate::wasi::fs::Inode;
use crate::wasi::fs::path::GuestPath;
use crate::wasi::types::{Answer, Errno};

impl World {
    /// The node at a path; a link at its end is followed if `follow` says so.
    pub(crate) fn find(&mut self, fd: u32, path: &[u8], follow: bool) -> Answer<Inode> {
        let base = self.base(fd)?;
        self.tree.find(base, &GuestPath::parse(path)?, follow)
    }

    pub(crate) fn make_folder(&mut self, fd: u32, path: &[u8]) -> Answer<()> {
        let (parent, name) = self.parent(fd, path)?;
        self.tree.create_folder(parent, name, self.clock.stamp()).map(drop)
    }

    pub(crate) fn make_link(&mut self, target: &[u8], fd: u32, path: &[u8]) -> Answer<()> {
        let target = std::str::from_utf8(target).map_err(|_| Errno::IlSeq)?;
        let (parent, name) = self.new_name(fd, path)?;
        self.tree.create_link(parent, name, target, self.clock.stamp()).map(drop)
    }

    /// Gives the file `inode` one more name.
    pub(crate) fn add_name(&mut self, inode: Inode, fd: u32, path: &[u8]) -> Answer<()> {
        let to = self.new_name(fd, path)?;
        self.tree.link(inode, to, self.clock.stamp())
    }

    /// Where a symbolic link leads.
    pub(crate) fn read_link(&mut self, fd: u32, path: &[u8]) -> Answer<Arc<str>> {
        let inode = self.find(fd, path, false)?;
        Ok(self.tree.link_target(inode).ok_or(Errno::Inval)?)
    }

    pub(crate) fn remove_folder(&mut self, fd: u32, path: &[u8]) -> Answer<()> {
        let (parent, name) = self.parent(fd, path)?;
        self.tree.remove_folder(parent, name, self.clock.stamp())
    }

    pub(crate) fn remove_file(&mut self, fd: u32, path: &[u8]) -> Answer<()> {
        let (parent, name) = self.parent(fd, path)?;
        self.tree.remove_file(parent, name, self.clock.stamp())
    }

    pub(crate) fn rename(&mut self, (fd, path): (u32, &[u8]), (to_fd, to): (u32, &[u8])) -> Answer<()> {
        let (from, to) = (self.parent(fd, path)?, self.parent(to_fd, to)?);
        self.tree.rename(from, to, self.clock.stamp())
    }

    fn parent<'p>(&mut self, fd: u32, path: &'p [u8]) -> Answer<(Inode, &'p str)> {
        let path = GuestPath::parse(path)?;
        let base = self.base(fd)?;
        let (parent, name) = self.tree.find_parent(base, &path)?;
        // "file/" names no file.
        if let (true, Some(inode)) = (path.folder, self.tree.entry(parent, name)?) {
            self.tree.folder(inode)?;
        }
        Ok((parent, name))
    }

    /// A name for something that is no folder.
    fn new_name<'p>(&mut self, fd: u32, path: &'p [u8]) -> Answer<(Inode, &'p str)> {
        if path.ends_with(b"/") {
            return Err(Errno::NoEnt.into());
        }
        self.parent(fd, path)
    }
}
