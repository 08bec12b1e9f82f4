//! Nodes by inode, names within folders, and how a path leads from a folder to a node.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::{Content, Quota};
use super::path::{GuestPath, Step};
use crate::wasi::clock::INPUT_STAMP_NS;
use crate::wasi::types::{Answer, Errno, FileType, Stat};

/// Nodes alive at once, inputs that were looked at included. A node costs about 200 bytes of the host's memory.
pub(crate) const MAX_NODES: usize = 262_144;

/// A node's number: given in order of first sight, never again.
pub(crate) type Inode = u64;

/// A file or folder.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) parent: Inode,
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) atime: u64,
    pub(crate) mtime: u64,
    pub(crate) ctime: u64,
    /// Descriptors that refer to it.
    pub(crate) open: u32,
    /// It has a name. A node without name lives until its last descriptor is closed.
    pub(crate) linked: bool,
    /// It is a mount or leads to one, so it can be neither removed nor renamed.
    pub(crate) pinned: bool,
    /// It is where an input or result path is mounted.
    pub(crate) mount: bool,
}

#[derive(Debug)]
pub(crate) enum Kind {
    File(Content),
    Folder(Folder),
}

#[derive(Debug, Default)]
pub(crate) struct Folder {
    pub(crate) entries: BTreeMap<Arc<str>, Inode>,
    pub(crate) writable: bool,
    /// A staged folder that has not been listed yet.
    pub(crate) unlisted: Option<PathBuf>,
}

/// The whole file system of one run.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(super) nodes: BTreeMap<Inode, Node>,
    pub(super) next: Inode,
    /// Where files that the program writes lie.
    pub(super) scratch: PathBuf,
    pub(super) scratch_made: bool,
    pub(crate) quota: Quota,
    /// Where each result path is, in the invocation's order.
    pub(super) results: Vec<Inode>,
}

impl Tree {
    /// The root folder's inode.
    pub(crate) const ROOT: Inode = 1;

    pub(crate) fn node(&self, inode: Inode) -> &Node {
        self.nodes.get(&inode).expect("an inode in use has a node")
    }

    pub(super) fn node_mut(&mut self, inode: Inode) -> &mut Node {
        self.nodes.get_mut(&inode).expect("an inode in use has a node")
    }

    /// The folder behind `inode`, listed; not a folder is an error.
    pub(crate) fn folder(&mut self, inode: Inode) -> Answer<&Folder> {
        self.list(inode)?;
        match &self.node(inode).kind {
            Kind::Folder(folder) => Ok(folder),
            Kind::File(_) => Err(Errno::NotDir.into()),
        }
    }

    pub(super) fn folder_mut(&mut self, inode: Inode) -> Answer<&mut Folder> {
        match &mut self.node_mut(inode).kind {
            Kind::Folder(folder) => Ok(folder),
            Kind::File(_) => Err(Errno::NotDir.into()),
        }
    }

    /// The file behind `inode`; a folder is an error.
    pub(crate) fn file(&self, inode: Inode) -> Answer<&Content> {
        match &self.node(inode).kind {
            Kind::File(content) => Ok(content),
            Kind::Folder(_) => Err(Errno::IsDir.into()),
        }
    }

    /// The entry called `name`, if there is one.
    pub(crate) fn entry(&mut self, folder: Inode, name: &str) -> Answer<Option<Inode>> {
        Ok(self.folder(folder)?.entries.get(name).copied())
    }

    /// Follows `steps` from `base`, never above it.
    pub(crate) fn walk(&mut self, base: Inode, steps: &[Step<'_>]) -> Answer<Inode> {
        let mut at = base;
        for step in steps {
            at = match step {
                Step::Up if at == base => return Err(Errno::NotCapable.into()),
                Step::Up => {
                    self.folder(at)?;
                    self.node(at).parent
                }
                Step::Down(name) => self.entry(at, name)?.ok_or(Errno::NoEnt)?,
            };
        }
        Ok(at)
    }

    /// The node that `path` names.
    pub(crate) fn find(&mut self, base: Inode, path: &GuestPath<'_>) -> Answer<Inode> {
        let inode = self.walk(base, &path.steps)?;
        if path.folder {
            self.folder(inode)?;
        }
        Ok(inode)
    }

    /// The folder in which `path` names an entry, and the entry's name.
    pub(crate) fn find_parent<'a>(&mut self, base: Inode, path: &GuestPath<'a>) -> Answer<(Inode, &'a str)> {
        let (parents, name) = path.split_last().ok_or(Errno::Inval)?;
        let parent = self.walk(base, parents)?;
        self.folder(parent)?;
        Ok((parent, name))
    }

    pub(crate) fn stat(&self, inode: Inode) -> Stat {
        let node = self.node(inode);
        let (kind, size) = match &node.kind {
            Kind::File(content) => (FileType::RegularFile, content.size()),
            Kind::Folder(_) => (FileType::Directory, 0),
        };
        Stat { inode, kind, size, atime: node.atime, mtime: node.mtime, ctime: node.ctime }
    }

    /// Says whether there may be one node more.
    pub(super) fn room(&self) -> Answer<()> {
        if self.nodes.len() < MAX_NODES { Ok(()) } else { Err(Errno::NFile.into()) }
    }

    /// Adds a node under a name that is free.
    pub(super) fn add(&mut self, parent: Inode, name: &str, kind: Kind, now: u64) -> Answer<Inode> {
        self.room()?;
        let inode = self.next;
        self.next += 1;
        let name: Arc<str> = name.into();
        self.folder_mut(parent)?.entries.insert(Arc::clone(&name), inode);
        self.nodes.insert(inode, Node::new(parent, name, kind, now));
        Ok(inode)
    }

    /// Takes the entries of a staged folder into the tree, when it is first looked at.
    fn list(&mut self, inode: Inode) -> Answer<()> {
        let Kind::Folder(folder) = &mut self.node_mut(inode).kind else { return Ok(()) };
        let Some(staged) = folder.unlisted.take() else { return Ok(()) };
        for (name, kind) in read_staged(&staged)? {
            // A mount within the folder hides what was staged there.
            if !self.folder_mut(inode)?.entries.contains_key(name.as_str()) {
                self.add(inode, &name, kind, INPUT_STAMP_NS)?;
            }
        }
        Ok(())
    }
}

impl Node {
    pub(super) fn new(parent: Inode, name: Arc<str>, kind: Kind, now: u64) -> Self {
        let (open, linked, pinned, mount) = (0, true, false, false);
        Self { parent, name, kind, atime: now, mtime: now, ctime: now, open, linked, pinned, mount }
    }
}

/// The entries of a staged folder, in name order.
fn read_staged(folder: &Path) -> io::Result<BTreeMap<String, Kind>> {
    let mut entries = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::other(format!("{} has no UTF-8 name", path.display())))?.to_owned();
        entries.insert(name, staged(path)?);
        if entries.len() > MAX_NODES {
            return Err(io::Error::other(format!("{} has more than {MAX_NODES} entries", folder.display())));
        }
    }
    Ok(entries)
}

/// A staged file or folder. Inputs come from blobs, so anything else was put there by somebody else.
pub(super) fn staged(path: PathBuf) -> io::Result<Kind> {
    let metadata = std::fs::symlink_metadata(&path)?;
    if metadata.is_dir() {
        Ok(Kind::Folder(Folder { unlisted: Some(path), ..Folder::default() }))
    } else if metadata.is_file() {
        Ok(Kind::File(Content::input(path, metadata.len())))
    } else {
        Err(io::Error::other(format!("staged input {} is neither file nor folder", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `/out` with `/out/a/b` in it, beside `/tmp`.
    fn tree(scratch: &Path) -> (Tree, Inode) {
        let mut tree = Tree::new(&[], &["/out".into()], scratch.join("scratch"), Quota::new(1 << 20)).unwrap();
        let out = tree.results[0];
        let a = tree.create_folder(out, "a", 0).ok().unwrap();
        tree.create_folder(a, "b", 0).ok().unwrap();
        (tree, out)
    }

    fn below(tree: &Tree, base: Inode, mut inode: Inode) -> bool {
        while inode != base && inode != Tree::ROOT {
            inode = tree.node(inode).parent;
        }
        inode == base
    }

    proptest! {
        #[test]
        fn no_path_leads_out_of_its_folder(steps in prop::collection::vec(prop::sample::select(&["a", "b", "..", ".", "", "out", "tmp"][..]), 1..12)) {
            let scratch = tempfile::tempdir().unwrap();
            let (mut tree, out) = tree(scratch.path());
            let text = steps.join("/");
            if let Ok(path) = GuestPath::parse(text.as_bytes()) {
                if let Ok(found) = tree.find(out, &path) {
                    prop_assert!(below(&tree, out, found), "{text}");
                }
                if let Ok((parent, _)) = tree.find_parent(out, &path) {
                    prop_assert!(below(&tree, out, parent), "{text}");
                }
            }
        }

        #[test]
        fn editing_keeps_the_tree_whole_and_the_quota_exact(edits in prop::collection::vec((0..5_u8, 0..4_usize, 0..4_usize), 0..40)) {
            let scratch = tempfile::tempdir().unwrap();
            let work = tempfile::tempdir().unwrap();
            let (mut tree, out) = tree(scratch.path());
            let names = ["a", "c", "a/b", "a/d"];
            for (now, (edit, from, to)) in edits.into_iter().enumerate() {
                let (from, to) = (GuestPath::parse(names[from].as_bytes()).ok().unwrap(), GuestPath::parse(names[to].as_bytes()).ok().unwrap());
                let (Ok(from), Ok(to)) = (tree.find_parent(out, &from), tree.find_parent(out, &to)) else { continue };
                let now = now as u64;
                // Whether an edit succeeds is not the question here.
                let _ = match edit {
                    0 => tree.create_folder(from.0, from.1, now).map(drop),
                    1 => write_file(&mut tree, from, now),
                    2 => tree.rename(from, to, now),
                    3 => tree.remove_file(from.0, from.1, now),
                    _ => tree.remove_folder(from.0, from.1, now),
                };
            }
            let used: u64 = tree.nodes.keys().map(|inode| tree.stat(*inode).size).sum();
            prop_assert!(tree.quota.take((1 << 20) - used).is_ok() && tree.quota.take(1).is_err());
            for inode in tree.nodes.keys().filter(|inode| **inode != Tree::ROOT) {
                let node = tree.node(*inode);
                let Kind::Folder(parent) = &tree.node(node.parent).kind else { panic!("a file holds {}", node.name) };
                prop_assert_eq!(parent.entries.get(&node.name), Some(inode));
            }
            prop_assert!(tree.collect(work.path()).is_ok());
        }
    }

    fn write_file(tree: &mut Tree, at: (Inode, &str), now: u64) -> Answer<()> {
        let inode = tree.create_file(at.0, at.1, now)?;
        tree.acquire(inode)?;
        tree.write(inode, b"content", 0, now)?;
        tree.release(inode)
    }
}
