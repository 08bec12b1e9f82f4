//! What changes the tree: creating, opening, writing, linking, renaming, removing.

use std::sync::Arc;

use super::content::Content;
use super::path::{GuestPath, MAX_PATH_BYTES};
use super::tree::{Folder, Inode, Kind, Tree};
use crate::wasi::types::{Answer, Errno};

impl Tree {
    /// Makes an empty file under a free name.
    pub(crate) fn create_file(&mut self, parent: Inode, name: &str, now: u64) -> Answer<Inode> {
        let content = self.scratch_file(self.next);
        self.create(parent, name, Kind::File(content), now)
    }

    /// Makes an empty folder under a free name.
    pub(crate) fn create_folder(&mut self, parent: Inode, name: &str, now: u64) -> Answer<Inode> {
        self.create(parent, name, Kind::Folder(Folder { writable: true, ..Folder::default() }), now)
    }

    /// Makes a symbolic link under a free name. Whether it leads anywhere is found out when it is followed.
    pub(crate) fn create_link(&mut self, parent: Inode, name: &str, target: &str, now: u64) -> Answer<Inode> {
        if target.is_empty() {
            return Err(Errno::NoEnt.into());
        }
        GuestPath::of_link(target)?;
        self.create(parent, name, Kind::Link(target.into()), now)
    }

    fn create(&mut self, parent: Inode, name: &str, kind: Kind, now: u64) -> Answer<Inode> {
        self.may_add(parent, name)?;
        let inode = self.add(parent, name, kind, now)?;
        self.touch(parent, now);
        Ok(inode)
    }

    /// Gives a file one more name. Only what the program made can have several.
    pub(crate) fn link(&mut self, inode: Inode, (parent, name): (Inode, &str), now: u64) -> Answer<()> {
        self.may_add(parent, name)?;
        let node = self.nodes.get_mut(&inode).ok_or(Errno::BadF)?;
        match &mut node.kind {
            Kind::Folder(_) => return Err(Errno::Perm.into()),
            Kind::File(content) if node.pinned || !content.writable() => return Err(Errno::XDev.into()),
            Kind::File(content) => content.rename(&mut self.quota, node.names + 1)?,
            Kind::Link(_) => {}
        }
        node.ctime = now;
        self.attach(parent, name.into(), inode)?;
        self.touch(parent, now);
        Ok(())
    }

    /// Turns an untouched result folder into an empty file: its program writes a file there.
    pub(crate) fn give_way(&mut self, inode: Inode, now: u64) {
        self.node_mut(inode).kind = Kind::File(self.scratch_file(inode));
        self.touch(inode, now);
    }

    /// Whether `inode` is a result path that nobody has used yet, so that it may still become a file.
    pub(crate) fn is_placeholder(&self, inode: Inode) -> bool {
        let node = self.node(inode);
        let empty = matches!(&node.kind, Kind::Folder(folder) if folder.writable && folder.entries.is_empty());
        empty && node.open == 0 && self.results.contains(&inode)
    }

    /// Counts a descriptor.
    pub(crate) fn acquire(&mut self, inode: Inode) {
        self.node_mut(inode).open += 1;
    }

    /// Forgets a descriptor, and the node if that was the last thing to hold it.
    pub(crate) fn release(&mut self, inode: Inode) -> Answer<()> {
        self.node_mut(inode).open -= 1;
        if self.node(inode).open == 0 {
            self.close_handle(inode);
        }
        self.forget_unused(inode)
    }

    pub(crate) fn read(&mut self, inode: Inode, bytes: &mut [u8], offset: u64) -> Answer<usize> {
        if offset >= self.file(inode)?.size() {
            return Ok(0);
        }
        self.opened(inode)?.0.read_at(bytes, offset)
    }

    pub(crate) fn write(&mut self, inode: Inode, bytes: &[u8], offset: u64, now: u64) -> Answer<usize> {
        let (content, quota) = self.opened(inode)?;
        let written = content.write_at(quota, bytes, offset)?;
        self.touch(inode, now);
        Ok(written)
    }

    pub(crate) fn resize(&mut self, inode: Inode, size: u64, now: u64) -> Answer<()> {
        if self.file(inode)?.size() != size {
            let (content, quota) = self.opened(inode)?;
            content.resize(quota, size)?;
        }
        self.touch(inode, now);
        Ok(())
    }

    /// Sets times; `None` leaves one as it is. Inputs and mounts keep theirs.
    pub(crate) fn set_times(&mut self, inode: Inode, atime: Option<u64>, mtime: Option<u64>, now: u64) -> Answer<()> {
        let node = self.node_mut(inode);
        let writable = match &node.kind {
            Kind::File(content) => content.writable(),
            Kind::Folder(folder) => folder.writable,
            Kind::Link(_) => true,
        };
        if !writable {
            return Err(Errno::RoFs.into());
        }
        node.atime = atime.unwrap_or(node.atime);
        node.mtime = mtime.unwrap_or(node.mtime);
        node.ctime = now;
        Ok(())
    }

    /// Removes the name of a file or symbolic link.
    pub(crate) fn remove_file(&mut self, parent: Inode, name: &str, now: u64) -> Answer<()> {
        let inode = self.entry(parent, name)?.ok_or(Errno::NoEnt)?;
        if let Kind::Folder(_) = self.node(inode).kind {
            return Err(Errno::IsDir.into());
        }
        self.unlink(parent, name, inode, now)
    }

    pub(crate) fn remove_folder(&mut self, parent: Inode, name: &str, now: u64) -> Answer<()> {
        let inode = self.entry(parent, name)?.ok_or(Errno::NoEnt)?;
        let empty = self.folder(inode)?.entries.is_empty();
        self.may_take(inode)?;
        if !empty {
            return Err(Errno::NotEmpty.into());
        }
        self.unlink(parent, name, inode, now)
    }

    /// Moves an entry, over an existing one if that is of its kind.
    pub(crate) fn rename(&mut self, from: (Inode, &str), to: (Inode, &str), now: u64) -> Answer<()> {
        let inode = self.entry(from.0, from.1)?.ok_or(Errno::NoEnt)?;
        let replaced = self.entry(to.0, to.1)?;
        if replaced == Some(inode) {
            return Ok(());
        }
        self.may_take(inode)?;
        self.may_change(from.0)?;
        if let Some(mount) = replaced.filter(|old| self.is_placeholder(*old) && self.file(inode).is_ok()) {
            return self.rename_onto_placeholder(from, inode, mount, now);
        }
        self.may_change(to.0)?;
        self.may_move(inode, to.0, to.1)?;
        if let Some(old) = replaced {
            self.replace(inode, to, old, now)?;
        }
        self.detach(from.0, from.1)?;
        self.attach(to.0, to.1.into(), inode)?;
        self.touch(from.0, now);
        self.touch(to.0, now);
        self.node_mut(inode).ctime = now;
        Ok(())
    }

    /// The file becomes the result itself: the mount point takes over its content.
    fn rename_onto_placeholder(&mut self, from: (Inode, &str), file: Inode, mount: Inode, now: u64) -> Answer<()> {
        if self.node(file).names > 1 {
            return Err(Errno::XDev.into());
        }
        let (place, name) = (self.node(mount).parent, Arc::clone(&self.node(mount).name));
        self.detach(from.0, from.1)?;
        self.detach(place, &name)?;
        self.nodes.remove(&mount);
        self.attach(place, name, file)?;
        self.touch(from.0, now);
        for result in self.results.iter_mut().filter(|result| **result == mount) {
            *result = file;
        }
        let node = self.node_mut(file);
        (node.pinned, node.mount, node.ctime) = (true, true, now);
        Ok(())
    }

    fn replace(&mut self, inode: Inode, (parent, name): (Inode, &str), old: Inode, now: u64) -> Answer<()> {
        match (&self.node(inode).kind, &self.node(old).kind) {
            (Kind::File(_) | Kind::Link(_), Kind::Folder(_)) => Err(Errno::IsDir.into()),
            (Kind::Folder(_), Kind::File(_) | Kind::Link(_)) => Err(Errno::NotDir.into()),
            (_, Kind::Folder(folder)) if !folder.entries.is_empty() => Err(Errno::NotEmpty.into()),
            _ => self.unlink(parent, name, old, now),
        }
    }

    fn unlink(&mut self, parent: Inode, name: &str, inode: Inode, now: u64) -> Answer<()> {
        self.may_take(inode)?;
        self.may_change(parent)?;
        self.detach(parent, name)?;
        self.touch(parent, now);
        let node = self.nodes.get_mut(&inode).ok_or(Errno::BadF)?;
        node.ctime = now;
        if let Kind::File(content) = &mut node.kind {
            content.rename(&mut self.quota, node.names)?;
        }
        self.forget_unused(inode)
    }

    fn forget_unused(&mut self, inode: Inode) -> Answer<()> {
        let node = self.node(inode);
        if node.names > 0 || node.open > 0 {
            return Ok(());
        }
        self.close_handle(inode);
        let Some(node) = self.nodes.remove(&inode) else { return Ok(()) };
        self.names_bytes -= node.kind.text_bytes();
        if let Kind::File(content) = node.kind {
            content.remove(&mut self.quota)?;
        }
        Ok(())
    }

    fn touch(&mut self, inode: Inode, now: u64) {
        let node = self.node_mut(inode);
        (node.mtime, node.ctime) = (now, now);
    }

    fn scratch_file(&self, inode: Inode) -> Content {
        Content::scratch(self.scratch.join(inode.to_string()))
    }

    /// Mounts and what leads to them stay where they are.
    fn may_take(&self, inode: Inode) -> Answer<()> {
        if self.node(inode).pinned { Err(Errno::Busy.into()) } else { Ok(()) }
    }

    fn may_change(&mut self, folder: Inode) -> Answer<()> {
        if !self.folder(folder)?.writable {
            return Err(Errno::RoFs.into());
        }
        if self.node(folder).names == 0 {
            return Err(Errno::NoEnt.into());
        }
        Ok(())
    }

    /// Asked before anything is made on disk: what follows does not fail.
    fn may_add(&mut self, parent: Inode, name: &str) -> Answer<()> {
        if self.entry(parent, name)?.is_some() {
            return Err(Errno::Exist.into());
        }
        self.may_change(parent)?;
        self.room(name.len())?;
        if self.path_bytes(parent) + 1 + name.len() > MAX_PATH_BYTES {
            return Err(Errno::NameTooLong.into());
        }
        Ok(())
    }

    /// A folder can move neither into itself nor so deep that something in it is out of reach.
    fn may_move(&mut self, inode: Inode, parent: Inode, name: &str) -> Answer<()> {
        let mut above = parent;
        while above != Self::ROOT {
            if above == inode {
                return Err(Errno::Inval.into());
            }
            above = self.node(above).parent;
        }
        let depth = self.depth_bytes(inode);
        if self.path_bytes(parent) + 1 + name.len() + depth > MAX_PATH_BYTES {
            return Err(Errno::NameTooLong.into());
        }
        Ok(())
    }

    fn path_bytes(&self, inode: Inode) -> usize {
        let (mut at, mut bytes) = (inode, 0);
        while at != Self::ROOT {
            bytes += 1 + self.node(at).name.len();
            at = self.node(at).parent;
        }
        bytes
    }

    /// The longest path below `inode`, in bytes.
    fn depth_bytes(&mut self, inode: Inode) -> usize {
        let (mut stack, mut longest) = (vec![(inode, 0)], 0);
        while let Some((at, bytes)) = stack.pop() {
            longest = longest.max(bytes);
            self.work(1);
            if let Kind::Folder(folder) = &self.node(at).kind {
                stack.extend(folder.entries.iter().map(|(name, child)| (*child, bytes + 1 + name.len())));
            }
        }
        longest
    }
}
