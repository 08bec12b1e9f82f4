//! Nodes by inode, names within folders, and how a path leads from a folder to a node.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::{Content, Quota};
use crate::wasi::clock::INPUT_STAMP_NS;
use crate::wasi::types::{Answer, Errno, FileType, Stat};

/// Names at once, inputs that were looked at included. A name and its node cost about 250 bytes of the host's memory.
pub(crate) const MAX_NAMES: usize = 262_144;
/// Bytes of all names and link targets.
pub(crate) const MAX_NAMES_BYTES: usize = 32 << 20;
/// Files of the host that are open at once; a program may have more.
const MAX_HANDLES: usize = 64;

/// A node's number: given in order of first sight, never again.
pub(crate) type Inode = u64;

/// A file, folder or symbolic link.
#[derive(Debug)]
pub(crate) struct Node {
    /// The folder that holds it. Of a file with several names: one that held it once.
    pub(crate) parent: Inode,
    /// Its name there.
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) atime: u64,
    pub(crate) mtime: u64,
    pub(crate) ctime: u64,
    /// Descriptors that refer to it.
    pub(crate) open: u32,
    /// How many names it has. A node without name lives until its last descriptor is closed.
    pub(crate) names: u32,
    /// It is a mount or leads to one, so it can be neither removed nor renamed.
    pub(crate) pinned: bool,
    /// It is where an input or result path is mounted.
    pub(crate) mount: bool,
}

#[derive(Debug)]
pub(crate) enum Kind {
    File(Content),
    Folder(Folder),
    /// A symbolic link and where it leads.
    Link(Arc<str>),
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
    /// Files whose host's file is open, in the order of opening.
    handles: VecDeque<Inode>,
    pub(super) names: usize,
    pub(super) names_bytes: usize,
    /// What was done since it was last asked for, in steps: programs pay for long paths and large folders.
    steps: u64,
    /// Where each result path is, in the invocation's order.
    pub(super) results: Vec<Inode>,
}

impl Tree {
    /// The root folder's inode.
    pub(crate) const ROOT: Inode = 1;

    /// A read-only root folder with nothing in it.
    pub(super) fn empty(scratch: PathBuf, quota: Quota) -> Self {
        let mut root = Node::new(Self::ROOT, "".into(), Kind::Folder(Folder::default()), INPUT_STAMP_NS);
        root.names = 1;
        let (nodes, next, results, handles) = (BTreeMap::from([(Self::ROOT, root)]), 2, Vec::new(), VecDeque::new());
        let (scratch_made, names, names_bytes, steps) = (false, 1, 0, 0);
        Self { nodes, next, scratch, scratch_made, quota, results, handles, names, names_bytes, steps }
    }

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
            Kind::File(_) | Kind::Link(_) => Err(Errno::NotDir.into()),
        }
    }

    pub(super) fn folder_mut(&mut self, inode: Inode) -> Answer<&mut Folder> {
        match &mut self.node_mut(inode).kind {
            Kind::Folder(folder) => Ok(folder),
            Kind::File(_) | Kind::Link(_) => Err(Errno::NotDir.into()),
        }
    }

    /// The file behind `inode`; a folder is an error.
    pub(crate) fn file(&self, inode: Inode) -> Answer<&Content> {
        match &self.node(inode).kind {
            Kind::File(content) => Ok(content),
            Kind::Folder(_) => Err(Errno::IsDir.into()),
            Kind::Link(_) => Err(Errno::Loop.into()),
        }
    }

    /// The file behind `inode` with the host's file open, and the quota that writing it is charged to.
    pub(super) fn opened(&mut self, inode: Inode) -> Answer<(&mut Content, &mut Quota)> {
        if !self.file(inode)?.is_open() {
            self.open_handle(inode)?;
        }
        match self.nodes.get_mut(&inode).map(|node| &mut node.kind) {
            Some(Kind::File(content)) => Ok((content, &mut self.quota)),
            _ => Err(Errno::BadF.into()),
        }
    }

    fn open_handle(&mut self, inode: Inode) -> Answer<()> {
        // The folder is made with the first scratch file: most programs write to their streams alone.
        if !self.scratch_made && self.file(inode)?.writable() {
            std::fs::create_dir(&self.scratch)?;
            self.scratch_made = true;
        }
        if let Kind::File(content) = &mut self.node_mut(inode).kind {
            content.open()?;
        }
        self.handles.push_back(inode);
        while self.handles.len() > MAX_HANDLES {
            let oldest = self.handles.pop_front().unwrap_or(inode);
            self.close_handle(oldest);
        }
        Ok(())
    }

    pub(super) fn close_handle(&mut self, inode: Inode) {
        self.handles.retain(|open| *open != inode);
        if let Some(Kind::File(content)) = self.nodes.get_mut(&inode).map(|node| &mut node.kind) {
            content.close();
        }
    }

    /// Where the symbolic link `inode` leads; nowhere if it is something else.
    pub(crate) fn link_target(&self, inode: Inode) -> Option<Arc<str>> {
        match &self.node(inode).kind {
            Kind::Link(target) => Some(Arc::clone(target)),
            _ => None,
        }
    }

    /// The entry called `name`, if there is one.
    pub(crate) fn entry(&mut self, folder: Inode, name: &str) -> Answer<Option<Inode>> {
        Ok(self.folder(folder)?.entries.get(name).copied())
    }

    /// Counts work that a program is to pay for.
    pub(crate) fn work(&mut self, steps: usize) {
        self.steps += steps as u64;
    }

    /// The work since this was last asked.
    pub(crate) fn take_work(&mut self) -> u64 {
        std::mem::take(&mut self.steps)
    }

    pub(crate) fn stat(&self, inode: Inode) -> Stat {
        let node = self.node(inode);
        let (kind, size) = match &node.kind {
            Kind::File(content) => (FileType::RegularFile, content.size()),
            Kind::Folder(_) => (FileType::Directory, 0),
            Kind::Link(target) => (FileType::SymbolicLink, target.len() as u64),
        };
        let (links, atime, mtime, ctime) = (node.names.into(), node.atime, node.mtime, node.ctime);
        Stat { inode, kind, links, size, atime, mtime, ctime }
    }

    /// Says whether there may be one more name, with `bytes` in it and in what it names.
    pub(super) fn room(&self, bytes: usize) -> Answer<()> {
        match self.names < MAX_NAMES && self.nodes.len() < MAX_NAMES && self.names_bytes + bytes <= MAX_NAMES_BYTES {
            true => Ok(()),
            false => Err(Errno::NFile.into()),
        }
    }

    /// Adds a node under a name that is free.
    pub(super) fn add(&mut self, parent: Inode, name: &str, kind: Kind, now: u64) -> Answer<Inode> {
        self.room(name.len() + kind.text_bytes())?;
        let inode = self.next;
        self.next += 1;
        self.names_bytes += kind.text_bytes();
        let name: Arc<str> = name.into();
        self.nodes.insert(inode, Node::new(parent, Arc::clone(&name), kind, now));
        self.attach(parent, name, inode)?;
        Ok(inode)
    }

    /// Gives a node a name that is free.
    pub(super) fn attach(&mut self, parent: Inode, name: Arc<str>, inode: Inode) -> Answer<()> {
        self.names += 1;
        self.names_bytes += name.len();
        self.folder_mut(parent)?.entries.insert(Arc::clone(&name), inode);
        let node = self.node_mut(inode);
        (node.parent, node.name) = (parent, name);
        node.names += 1;
        Ok(())
    }

    /// Takes a name from its node.
    pub(super) fn detach(&mut self, parent: Inode, name: &str) -> Answer<Inode> {
        let inode = self.folder_mut(parent)?.entries.remove(name).ok_or(Errno::NoEnt)?;
        self.names -= 1;
        self.names_bytes -= name.len();
        self.node_mut(inode).names -= 1;
        Ok(inode)
    }

    /// Takes the entries of a staged folder into the tree, when it is first looked at.
    fn list(&mut self, inode: Inode) -> Answer<()> {
        let Kind::Folder(folder) = &mut self.node_mut(inode).kind else { return Ok(()) };
        let Some(staged) = folder.unlisted.take() else { return Ok(()) };
        for (name, kind) in read_staged(&staged)? {
            self.steps += 1;
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
        let (open, names, pinned, mount) = (0, 0, false, false);
        Self { parent, name, kind, atime: now, mtime: now, ctime: now, open, names, pinned, mount }
    }
}

impl Kind {
    /// What it holds of the host's memory by its program's choice, its name left out.
    pub(super) fn text_bytes(&self) -> usize {
        if let Kind::Link(target) = self { target.len() } else { 0 }
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
        if entries.len() > MAX_NAMES {
            return Err(io::Error::other(format!("{} has more than {MAX_NAMES} entries", folder.display())));
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

    use super::super::path::GuestPath;
    use super::super::resolve::Found;
    use super::*;

    /// `/out` with `/out/a/b` in it, and links in `/out/a`, beside `/tmp`.
    fn tree(scratch: &Path) -> (Tree, Inode) {
        let mut tree = Tree::new(&[], &["/out".into()], scratch.join("scratch"), Quota::new(1 << 20)).unwrap();
        let out = tree.results[0];
        let a = tree.create_folder(out, "a", 0).ok().unwrap();
        tree.create_folder(a, "b", 0).ok().unwrap();
        for (name, target) in
            [("up", ".."), ("round", "a/round"), ("deep", "a/b/../b"), ("root", "/tmp"), ("far", "../../x")]
        {
            tree.create_link(a, name, target, 0).ok().unwrap();
        }
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
        fn no_path_leads_out_of_its_folder(steps in prop::collection::vec(prop::sample::select(&["a", "b", "..", ".", "", "out", "tmp", "up", "round", "deep", "root", "far"][..]), 1..12)) {
            let scratch = tempfile::tempdir().unwrap();
            let (mut tree, out) = tree(scratch.path());
            let text = steps.join("/");
            if let Ok(path) = GuestPath::parse(text.as_bytes()) {
                if let Ok(Found::Node(found) | Found::Free(found, _)) = tree.resolve(out, &path, true) {
                    prop_assert!(below(&tree, out, found), "{text}");
                }
                if let Ok((parent, _)) = tree.find_parent(out, &path) {
                    prop_assert!(below(&tree, out, parent), "{text}");
                }
            }
        }

        #[test]
        fn editing_keeps_the_tree_whole_and_the_quota_exact(edits in prop::collection::vec((0..7_u8, 0..4_usize, 0..4_usize), 0..40)) {
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
                    4 => tree.create_link(from.0, from.1, "../a/b", now).map(drop),
                    5 => match tree.entry(from.0, from.1) {
                        Ok(Some(inode)) => tree.link(inode, to, now),
                        _ => Ok(()),
                    },
                    _ => tree.remove_folder(from.0, from.1, now),
                };
            }
            check(&mut tree)?;
            prop_assert!(tree.collect(work.path()).is_ok());
        }
    }

    /// Every name and byte is counted once, and every name leads to a node that knows how many it has.
    fn check(tree: &mut Tree) -> Result<(), TestCaseError> {
        let bytes = |inode: &Inode| match &tree.node(*inode).kind {
            Kind::File(content) => content.size() * u64::from(tree.node(*inode).names),
            _ => 0,
        };
        let used: u64 = tree.nodes.keys().map(bytes).sum();
        let texts: usize = tree.nodes.values().map(|node| node.kind.text_bytes()).sum();
        let (mut names, mut counted) = (texts, BTreeMap::from([(Tree::ROOT, 1)]));
        for (inode, node) in &tree.nodes {
            let Kind::Folder(folder) = &node.kind else { continue };
            for (name, child) in &folder.entries {
                names += name.len();
                *counted.entry(*child).or_default() += 1;
                let child = tree.node(*child);
                prop_assert!(!matches!(child.kind, Kind::Folder(_)) || child.parent == *inode);
            }
        }
        let expected: BTreeMap<_, _> = tree.nodes.iter().map(|(inode, node)| (*inode, node.names)).collect();
        prop_assert_eq!(&counted, &expected);
        prop_assert_eq!((names, counted.values().sum::<u32>() as usize), (tree.names_bytes, tree.names));
        prop_assert!(tree.quota.take((1 << 20) - used).is_ok() && tree.quota.take(1).is_err());
        Ok(())
    }

    fn write_file(tree: &mut Tree, at: (Inode, &str), now: u64) -> Answer<()> {
        let inode = tree.create_file(at.0, at.1, now)?;
        tree.acquire(inode);
        tree.write(inode, b"content", 0, now)?;
        tree.release(inode)
    }

    #[test]
    fn more_files_are_open_than_the_host_has_open() {
        let scratch = tempfile::tempdir().unwrap();
        let (mut tree, out) = tree(scratch.path());
        let mut files = Vec::new();
        for index in 0..3 * MAX_HANDLES {
            let inode = tree.create_file(out, &index.to_string(), 0).ok().unwrap();
            tree.acquire(inode);
            tree.write(inode, index.to_string().as_bytes(), 0, 0).ok().unwrap();
            files.push(inode);
        }
        assert_eq!(tree.handles.len(), MAX_HANDLES);
        for (index, inode) in files.into_iter().enumerate() {
            let mut bytes = [0; 8];
            let length = tree.read(inode, &mut bytes, 0).ok().unwrap();
            assert_eq!(&bytes[..length], index.to_string().as_bytes());
            tree.release(inode).ok().unwrap();
        }
        assert_eq!(tree.handles.len(), 0);
    }

    #[test]
    fn names_are_bounded_in_number_and_bytes() {
        let scratch = tempfile::tempdir().unwrap();
        let (mut tree, out) = tree(scratch.path());
        tree.names_bytes = MAX_NAMES_BYTES - 10;
        assert!(tree.create_link(out, "12345", "123456", 0).is_err());
        assert!(tree.create_link(out, "12345", "12345", 0).is_ok());
        tree.names_bytes = 0;
        tree.names = MAX_NAMES;
        assert!(tree.create_file(out, "1", 0).is_err());
    }
}
