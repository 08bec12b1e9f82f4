//! The tree at the start of a run: `/tmp`, the inputs, and an empty folder for each result path.

use std::io;
use std::path::PathBuf;

use super::content::Quota;
use super::path::{GuestPath, Step};
use super::tree::{Folder, Inode, Kind, Tree, staged};
use crate::task::StagedInput;
use crate::wasi::clock::INPUT_STAMP_NS;
use crate::wasi::types::Fault;

/// The private folder of every program.
const TMP: &str = "/tmp";

/// Where an input file is the program's standard input.
pub(crate) const STDIN: &str = "/dev/stdin";

/// Why a tree cannot be made of a task's mounts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("{0:?} is not an absolute path of plain names")]
    BadPath(String),
    #[error("{0:?} is mounted twice or lies below a mounted file")]
    Conflict(String),
    #[error("{STDIN} is a folder; standard input must be a file")]
    FolderAsStdin,
    #[error("{0}: {1}")]
    Missing(String, io::Error),
    #[error("{0}")]
    Host(#[from] io::Error),
}

enum Place<'a> {
    Input(&'a PathBuf),
    Result(usize),
}

impl Tree {
    /// Builds the tree. `results` are the paths of the result paths, in order; `scratch` does not exist yet.
    pub(crate) fn new(
        inputs: &[StagedInput],
        results: &[String],
        scratch: PathBuf,
        quota: Quota,
    ) -> Result<Self, MountError> {
        let mut tree = Self::empty(scratch, quota);
        tree.pin(Self::ROOT);
        tree.results = vec![Self::ROOT; results.len()];
        tree.mount_all(inputs, results)?;
        if tree.entry(Self::ROOT, &TMP[1..]).is_ok_and(|entry| entry.is_none()) {
            tree.mount(TMP, writable_folder())?;
        }
        Ok(tree)
    }

    /// In path order: parents come first, and the order of the task does not show.
    fn mount_all(&mut self, inputs: &[StagedInput], results: &[String]) -> Result<(), MountError> {
        let inputs = inputs.iter().map(|input| (input.target.as_str(), Place::Input(&input.path)));
        let results = results.iter().enumerate().map(|(index, path)| (path.as_str(), Place::Result(index)));
        let mut mounts: Vec<_> = inputs.chain(results).collect();
        mounts.sort_by_key(|(target, _)| *target);
        for (target, place) in mounts {
            match place {
                Place::Input(path) => {
                    let missing = |error| MountError::Missing(path.display().to_string(), error);
                    self.mount(target, staged(path.clone()).map_err(missing)?)?;
                }
                Place::Result(index) => self.results[index] = self.mount(target, writable_folder())?,
            }
        }
        Ok(())
    }

    fn mount(&mut self, target: &str, kind: Kind) -> Result<Inode, MountError> {
        let bad = || MountError::BadPath(target.to_owned());
        let conflict = || MountError::Conflict(target.to_owned());
        let relative = target.strip_prefix('/').ok_or_else(bad)?;
        if relative.is_empty() {
            return self.mount_root(kind).ok_or_else(conflict);
        }
        let path = GuestPath::parse(relative.as_bytes()).map_err(|_| bad())?;
        if path.steps.contains(&Step::Up) {
            return Err(bad());
        }
        let (parents, name) = path.split_last().ok_or_else(bad)?;
        let mut at = Self::ROOT;
        for step in parents {
            let Step::Down(name) = step else { return Err(bad()) };
            at = self.mount_parent(at, name).map_err(|fault| told(fault, target))?;
        }
        self.place(at, name, kind).map_err(|fault| told(fault, target))?.ok_or_else(conflict)
    }

    /// Goes down one folder on the way to a mount; makes it where there is none.
    fn mount_parent(&mut self, at: Inode, name: &str) -> Result<Inode, Fault> {
        let writable = self.folder(at)?.writable;
        let inode = match self.entry(at, name)? {
            Some(inode) => inode,
            None => self.add(at, name, Kind::Folder(Folder { writable, ..Folder::default() }), INPUT_STAMP_NS)?,
        };
        self.pin(inode);
        Ok(inode)
    }

    /// Puts a mount under a name; none if another mount is there or below.
    fn place(&mut self, at: Inode, name: &str, kind: Kind) -> Result<Option<Inode>, Fault> {
        if let Some(hidden) = self.entry(at, name)? {
            if self.node(hidden).pinned {
                return Ok(None);
            }
            self.detach(at, name)?;
            self.nodes.remove(&hidden);
        }
        let inode = self.add(at, name, kind, INPUT_STAMP_NS)?;
        self.pin(inode);
        self.node_mut(inode).mount = true;
        Ok(Some(inode))
    }

    /// An input folder may be the root itself; inputs are mounted in order, so it comes before all others.
    fn mount_root(&mut self, kind: Kind) -> Option<Inode> {
        let root = self.node_mut(Self::ROOT);
        match kind {
            Kind::Folder(folder) if !root.mount && folder.unlisted.is_some() => root.kind = Kind::Folder(folder),
            _ => return None,
        }
        root.mount = true;
        Some(Self::ROOT)
    }

    /// The input file that is the program's standard input, if there is one.
    pub(crate) fn stdin(&mut self, inputs: &[StagedInput]) -> Result<Option<Inode>, MountError> {
        if !inputs.iter().any(|input| input.target == STDIN) {
            return Ok(None);
        }
        let path = GuestPath::parse(&STDIN.as_bytes()[1..]);
        let found = path.and_then(|path| self.find(Self::ROOT, &path, false)).map_err(|fault| told(fault, STDIN))?;
        match self.file(found) {
            Ok(_) => Ok(Some(found)),
            Err(_) => Err(MountError::FolderAsStdin),
        }
    }

    fn pin(&mut self, inode: Inode) {
        self.node_mut(inode).pinned = true;
    }
}

fn writable_folder() -> Kind {
    Kind::Folder(Folder { writable: true, ..Folder::default() })
}

fn told(fault: Fault, target: &str) -> MountError {
    match fault {
        Fault::Host(error) => MountError::Host(error),
        Fault::Errno(_) | Fault::OutOfFuel => MountError::Conflict(target.to_owned()),
    }
}
