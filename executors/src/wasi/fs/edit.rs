//! What changes the tree: creating, opening, writing, renaming, removing.

use std::io;
use std::sync::Arc;

use super::content::Content;
use super::path::MAX_PATH_BYTES;
use super::tree::{Folder, Inode, Kind, Tree};
use crate::wasi::types::{Answer, Errno};

impl Tree {
    /// Makes an empty file under a free name.
    pub(crate) fn create_file(&mut self, parent: Inode, name: &str, now: u64) -> Answer<Inode> {
        self.may_add(parent, name)?;
        let content = self.scratch_file(self.next)?;
        let inode = self.add(parent, name, Kind::File(content), now)?;
        self.touch(parent, now);
        Ok(inode)
    }

    /// Makes an empty folder under a free name.
    pub(crate) fn create_folder(&mut self, parent: Inode, name: &str, now: u64) -> Answer<Inode> {
        self.may_add(parent, name)?;
        let inode = self.add(parent, name, Kind::Folder(Folder { writable: true, ..Folder::default() }), now)?;
        self.touch(parent, now);
        Ok(inode)
    }

    /// Turns an untouched result folder into an empty file: its program writes a file there.
    pub(crate) fn give_way(&mut self, inode: Inode, now: u64) -> Answer<()> {
        let content = self.scratch_file(inode)?;
        self.node_mut(inode).kind = Kind::File(content);
        self.touch(inode, now);
        Ok(())
    }

    /// Whether `inode` is a result path that nobody has used yet, so that it may still become a file.
    pub(crate) fn is_placeholder(&self, inode: Inode) -> bool {
        let node = self.node(inode);
        let empty = matches!(&node.kind, Kind::Folder(folder) if folder.writable && folder.entries.is_empty());
        empty && node.open == 0 && self.results.contains(&inode)
    }

    /// Counts a descriptor, with the host's file open behind it.
    pub(crate) fn acquire(&mut self, inode: Inode) -> Answer<()> {
        let node = self.node_mut(inode);
        if let Kind::File(content) = &mut node.kind {
            content.open()?;
        }
        node.open += 1;
        Ok(())
    }

    /// Forgets a descriptor, and the node if that was the last thing to hold it.
    pub(crate) fn release(&mut self, inode: Inode) -> Answer<()> {
        let node = self.node_mut(inode);
        node.open -= 1;
        if let (0, Kind::File(content)) = (node.open, &mut node.kind) {
            content.close();
        }
        self.forget_unused(inode)
    }

    pub(crate) fn write(&mut self, inode: Inode, bytes: &[u8], offset: u64, now: u64) -> Answer<usize> {
        let node = self.nodes.get_mut(&inode).ok_or(Errno::BadF)?;
        let Kind::File(content) = &mut node.kind else { return Err(Errno::IsDir.into()) };
        let written = content.write_at(&mut self.quota, bytes, offset)?;
        (node.mtime, node.ctime) = (now, now);
        Ok(written)
    }

    pub(crate) fn resize(&mut self, inode: Inode, size: u64, now: u64) -> Answer<()> {
        let node = self.nodes.get_mut(&inode).ok_or(Errno::BadF)?;
        let Kind::File(content) = &mut node.kind else { return Err(Errno::IsDir.into()) };
        content.resize(&mut self.quota, size)?;
        (node.mtime, node.ctime) = (now, now);
        Ok(())
    }

    /// Sets times; `None` leaves one as it is. Inputs and mounts keep theirs.
    pub(crate) fn set_times(&mut self, inode: Inode, atime: Option<u64>, mtime: Option<u64>, now: u64) -> Answer<()> {
        let node = self.node_mut(inode);
        let writable = match &node.kind {
            Kind::File(content) => content.writable(),
            Kind::Folder(folder) => folder.writable,
        };
        if !writable {
            return Err(Errno::RoFs.into());
        }
        node.atime = atime.unwrap_or(node.atime);
        node.mtime = mtime.unwrap_or(node.mtime);
        node.ctime = now;
        Ok(())
    }

    pub(crate) fn remove_file(&mut self, parent: Inode, name: &str, now: u64) -> Answer<()> {
        let inode = self.entry(parent, name)?.ok_or(Errno::NoEnt)?;
        self.file(inode)?;
        self.unlink(parent, inode, now)
    }

    pub(crate) fn remove_folder(&mut self, parent: Inode, name: &str, now: u64) -> Answer<()> {
        let inode = self.entry(parent, name)?.ok_or(Errno::NoEnt)?;
        let empty = self.folder(inode)?.entries.is_empty();
        if !empty {
            return Err(Errno::NotEmpty.into());
        }
        self.unlink(parent, inode, now)
    }

    /// Moves an entry, over an existing one if that is of its kind.
    pub(crate) fn rename(&mut self, from: (Inode, &str), to: (Inode, &str), now: u64) -> Answer<()> {
        let inode = self.entry(from.0, from.1)?.ok_or(Errno::NoEnt)?;
        let replaced = self.entry(to.0, to.1)?;
        if replaced == Some(inode) {
            return Ok(());
        }
        self.may_change(from.0)?;
        if self.node(inode).pinned {
            return Err(Errno::Busy.into());
        }
        if let Some(mount) = replaced.filter(|old| self.is_placeholder(*old) && self.file(inode).is_ok()) {
            return self.rename_onto_placeholder(from.0, inode, mount, now);
        }
        self.may_change(to.0)?;
        self.may_move(inode, to.0, to.1)?;
        if let Some(old) = replaced {
            self.replace(inode, to.0, old, now)?;
        }
        self.detach(from.0, inode, now)?;
        let name: Arc<str> = to.1.into();
        self.folder_mut(to.0)?.entries.insert(Arc::clone(&name), inode);
        let node = self.node_mut(inode);
        (node.parent, node.name, node.linked, node.ctime) = (to.0, name, true, now);
        self.touch(to.0, now);
        Ok(())
    }

    /// The file becomes the result itself: the mount point takes over its content.
    fn rename_onto_placeholder(&mut self, parent: Inode, file: Inode, mount: Inode, now: u64) -> Answer<()> {
        self.detach(parent, file, now)?;
        let (place, name) = (self.node(mount).parent, Arc::clone(&self.node(mount).name));
        self.folder_mut(place)?.entries.insert(Arc::clone(&name), file);
        self.nodes.remove(&mount);
        for result in self.results.iter_mut().filter(|result| **result == mount) {
            *result = file;
        }
        let node = self.node_mut(file);
        (node.parent, node.name, node.linked, node.ctime) = (place, name, true, now);
        (node.pinned, node.mount) = (true, true);
        Ok(())
    }

    fn replace(&mut self, inode: Inode, parent: Inode, old: Inode, now: u64) -> Answer<()> {
        match (&self.node(inode).kind, &self.node(old).kind) {
            (Kind::File(_), Kind::Folder(_)) => Err(Errno::IsDir.into()),
            (Kind::Folder(_), Kind::File(_)) => Err(Errno::NotDir.into()),
            (_, Kind::Folder(folder)) if !folder.entries.is_empty() => Err(Errno::NotEmpty.into()),
            _ => self.unlink(parent, old, now),
        }
    }

    fn unlink(&mut self, parent: Inode, inode: Inode, now: u64) -> Answer<()> {
        self.may_change(parent)?;
        if self.node(inode).pinned {
            return Err(Errno::Busy.into());
        }
        self.detach(parent, inode, now)?;
        self.forget_unused(inode)
    }

    fn detach(&mut self, parent: Inode, inode: Inode, now: u64) -> Answer<()> {
        let name = Arc::clone(&self.node(inode).name);
        self.folder_mut(parent)?.entries.remove(&name);
        self.node_mut(inode).linked = false;
        self.touch(parent, now);
        Ok(())
    }

    fn forget_unused(&mut self, inode: Inode) -> Answer<()> {
        let node = self.node(inode);
        if node.linked || node.open > 0 {
            return Ok(());
        }
        if let Some(Kind::File(content)) = self.nodes.remove(&inode).map(|node| node.kind) {
            content.remove(&mut self.quota)?;
        }
        Ok(())
    }

    fn touch(&mut self, inode: Inode, now: u64) {
        let node = self.node_mut(inode);
        (node.mtime, node.ctime) = (now, now);
    }

    /// The folder of such files is made with the first: most programs write to their streams alone.
    fn scratch_file(&mut self, inode: Inode) -> io::Result<Content> {
        if !self.scratch_made {
            std::fs::create_dir(&self.scratch)?;
            self.scratch_made = true;
        }
        Content::scratch(self.scratch.join(inode.to_string()))
    }

    fn may_change(&mut self, folder: Inode) -> Answer<()> {
        if !self.folder(folder)?.writable {
            return Err(Errno::RoFs.into());
        }
        if !self.node(folder).linked {
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
        self.room()?;
        if self.path_bytes(parent) + 1 + name.len() > MAX_PATH_BYTES {
            return Err(Errno::NameTooLong.into());
        }
        Ok(())
    }

    /// A folder can move neither into itself nor so deep that something in it is out of reach.
    fn may_move(&self, inode: Inode, parent: Inode, name: &str) -> Answer<()> {
        let mut above = parent;
        while above != Self::ROOT {
            if above == inode {
                return Err(Errno::Inval.into());
            }
            above = self.node(above).parent;
        }
        if self.path_bytes(parent) + 1 + name.len() + self.depth_bytes(inode) > MAX_PATH_BYTES {
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
    fn depth_bytes(&self, inode: Inode) -> usize {
        let (mut stack, mut longest) = (vec![(inode, 0)], 0);
        while let Some((at, bytes)) = stack.pop() {
            longest = longest.max(bytes);
            if let Kind::Folder(folder) = &self.node(at).kind {
                stack.extend(folder.entries.iter().map(|(name, child)| (*child, bytes + 1 + name.len())));
            }
        }
        longest
    }
}
