//! Everything outside a program's memory, and what it can do to it: files, descriptors, streams, time, chance.

mod paths;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shoal_protocol::task::Invocation;
use wasmtime::component::ResourceTable;

use super::calls::{Calls, HostCalls, Noted};
use super::clock::{Clock, Which};
use super::component::MAX_HANDLES;
use super::descriptors::{Descriptor, Descriptors, Listing, Object};
use super::fs::path::GuestPath;
use super::fs::{Found, Inode, MountError, Quota, Tree};
use super::random::Random;
use super::types::{Answer, Errno, Fault, FileType, Stat, fdflags, fstflags, oflags, rights};
use crate::task::Task;

/// The first argument of every program.
const PROGRAM: &str = "main.wasm";

/// One run's world.
pub(crate) struct World {
    pub(crate) tree: Tree,
    pub(crate) descriptors: Descriptors,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) calls: Calls,
    /// What a component has handles to.
    pub(crate) resources: ResourceTable,
    /// Arguments, each with its final NUL.
    pub(crate) arguments: Vec<Vec<u8>>,
    /// `KEY=value`, each with its final NUL, in key order.
    pub(crate) environment: Vec<Vec<u8>>,
    stdout: Stream,
    stderr: Stream,
}

/// A stream of output. Its file is made with the first byte: most programs leave one of the two empty.
struct Stream {
    path: PathBuf,
    file: Option<File>,
}

/// How a path is opened: the arguments of `path_open`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    /// Whether a symbolic link at the path's end is followed.
    pub(crate) follow: bool,
    pub(crate) oflags: u16,
    pub(crate) fdflags: u16,
    pub(crate) rights: u64,
    pub(crate) inheriting: u64,
}

impl World {
    /// The world at the start of a run. `stdout` and `stderr` appear in the run's folder when something is printed.
    pub(crate) fn new(task: &Task, arguments: &[String]) -> Result<Self, MountError> {
        let Invocation { environment, result_paths, limits, .. } = &task.invocation;
        let scratch = task.work_dir.join("scratch");
        let results: Vec<_> = result_paths.iter().map(|result| result.path.clone()).collect();
        let mut tree = Tree::new(&task.inputs, &results, scratch, Quota::new(limits.output_bytes))?;
        let stdin = tree.stdin(&task.inputs)?;
        [Some(Tree::ROOT), stdin].into_iter().flatten().for_each(|inode| tree.acquire(inode));
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(MAX_HANDLES);
        // Mounting is ours to pay for.
        tree.take_work();
        let arguments = std::iter::once(PROGRAM).chain(arguments.iter().map(String::as_str));
        Ok(Self {
            tree,
            descriptors: Descriptors::new(Tree::ROOT, stdin),
            clock: Clock::default(),
            random: Random::new(task.invocation.id()),
            calls: Calls::new(task.trace),
            resources,
            arguments: arguments.map(c_string).collect(),
            environment: environment.iter().map(|(key, value)| c_string(&format!("{key}={value}"))).collect(),
            stdout: Stream { path: task.stdout(), file: None },
            stderr: Stream { path: task.stderr(), file: None },
        })
    }

    /// The files of standard output and error, of each that was printed to.
    pub(crate) fn printed(&self) -> [Option<PathBuf>; 2] {
        [&self.stdout, &self.stderr].map(|stream| stream.file.as_ref().map(|_| stream.path.clone()))
    }

    /// Ends the run; the result paths are moved into `target`.
    pub(crate) fn finish(self, target: &Path) -> (io::Result<Vec<PathBuf>>, (HostCalls, Noted)) {
        (self.tree.collect(target), self.calls.finish())
    }

    /// The node behind a descriptor; streams have none.
    pub(crate) fn inode(&self, fd: u32) -> Answer<Inode> {
        match self.descriptors.get(fd)?.object {
            Object::Node { inode, .. } => Ok(inode),
            _ => Err(Errno::SPipe.into()),
        }
    }

    /// The folder behind a descriptor.
    pub(crate) fn base(&mut self, fd: u32) -> Answer<Inode> {
        let inode = self.inode(fd).map_err(|fault| match fault {
            Fault::Errno(Errno::SPipe) => Errno::NotDir.into(),
            other => other,
        })?;
        self.tree.folder(inode)?;
        Ok(inode)
    }

    /// Reads at `offset`, or where the descriptor stands.
    pub(crate) fn read(&mut self, fd: u32, bytes: &mut [u8], at: Option<u64>) -> Answer<usize> {
        let descriptor = self.descriptors.get_mut(fd)?;
        if descriptor.rights & rights::FD_READ == 0 {
            return Err(Errno::BadF.into());
        }
        match (&mut descriptor.object, at) {
            (Object::Stdin, None) => Ok(0),
            (Object::Node { inode, .. }, Some(at)) => self.tree.read(*inode, bytes, at),
            (Object::Node { inode, offset, .. }, None) => {
                let read = self.tree.read(*inode, bytes, *offset)?;
                *offset += read as u64;
                Ok(read)
            }
            (_, Some(_)) => Err(Errno::SPipe.into()),
            (_, None) => Err(Errno::BadF.into()),
        }
    }

    /// Writes at `offset`, or where the descriptor stands (at the end if it appends).
    pub(crate) fn write(&mut self, fd: u32, bytes: &[u8], at: Option<u64>) -> Answer<usize> {
        let now = self.clock.stamp();
        let descriptor = self.descriptors.get_mut(fd)?;
        if descriptor.rights & rights::FD_WRITE == 0 {
            return Err(Errno::BadF.into());
        }
        let append = descriptor.flags & fdflags::APPEND != 0;
        match (&mut descriptor.object, at) {
            (Object::Stdout, None) => print(&mut self.stdout, &mut self.tree.quota, bytes),
            (Object::Stderr, None) => print(&mut self.stderr, &mut self.tree.quota, bytes),
            (Object::Node { inode, .. }, Some(at)) => self.tree.write(*inode, bytes, at, now),
            (Object::Node { inode, offset, .. }, None) => {
                let at = if append { self.tree.file(*inode)?.size() } else { *offset };
                let written = self.tree.write(*inode, bytes, at, now)?;
                *offset = at + written as u64;
                Ok(written)
            }
            (Object::Stdin, None) => Err(Errno::BadF.into()),
            (_, Some(_)) => Err(Errno::SPipe.into()),
        }
    }

    /// Moves where a descriptor stands. `whence`: 0 from the start, 1 from here, 2 from the end.
    pub(crate) fn seek(&mut self, fd: u32, delta: i64, whence: u32) -> Answer<u64> {
        let size = self.tree.stat(self.inode(fd)?).size;
        let Object::Node { inode, offset, .. } = &mut self.descriptors.get_mut(fd)?.object else {
            return Err(Errno::SPipe.into());
        };
        self.tree.file(*inode)?;
        let from = match whence {
            0 => 0,
            1 => *offset,
            2 => size,
            _ => return Err(Errno::Inval.into()),
        };
        let to = from.checked_add_signed(delta).filter(|to| *to <= i64::MAX as u64).ok_or(Errno::Inval)?;
        *offset = to;
        Ok(to)
    }

    /// A file that a descriptor may change.
    pub(crate) fn writable(&self, fd: u32) -> Answer<Inode> {
        let descriptor = self.descriptors.get(fd)?;
        match descriptor.object {
            Object::Node { inode, .. } if descriptor.rights & rights::FD_WRITE != 0 => {
                self.tree.file(inode)?;
                Ok(inode)
            }
            _ => Err(Errno::Inval.into()),
        }
    }

    /// Cuts a file or extends it with zeros.
    pub(crate) fn set_size(&mut self, fd: u32, size: u64) -> Answer<()> {
        let inode = self.writable(fd)?;
        if size > i64::MAX as u64 {
            return Err(Errno::FBig.into());
        }
        self.tree.resize(inode, size, self.clock.stamp())
    }

    pub(crate) fn stat(&self, fd: u32) -> Answer<Stat> {
        match self.inode(fd) {
            Ok(inode) => Ok(self.tree.stat(inode)),
            Err(Fault::Errno(Errno::SPipe)) => {
                Ok(Stat { inode: 0, kind: FileType::Unknown, links: 1, size: 0, atime: 0, mtime: 0, ctime: 0 })
            }
            Err(fault) => Err(fault),
        }
    }

    /// Opens a path below the folder `fd`.
    pub(crate) fn open(&mut self, fd: u32, path: &GuestPath<'_>, opening: Opening) -> Answer<u32> {
        if opening.oflags & !oflags::ALL != 0 || opening.fdflags & !fdflags::ALL != 0 {
            return Err(Errno::Inval.into());
        }
        self.descriptors.room()?;
        let base = self.base(fd)?;
        let inheriting = self.descriptors.get(fd)?.inheriting;
        let inode = self.open_node(base, path, opening)?;
        self.tree.acquire(inode);
        if opening.oflags & oflags::TRUNC != 0 {
            let truncated = self.tree.resize(inode, 0, self.clock.stamp());
            truncated.inspect_err(|_| drop(self.tree.release(inode)))?;
        }
        let object = Object::Node { inode, offset: 0, listing: None };
        let (rights, inheriting) = (opening.rights & inheriting, opening.inheriting & inheriting);
        self.descriptors.add(Descriptor { object, flags: opening.fdflags, rights, inheriting, preopen: None })
    }

    fn open_node(&mut self, base: Inode, path: &GuestPath<'_>, opening: Opening) -> Answer<Inode> {
        let create = opening.oflags & oflags::CREAT != 0;
        let writing = opening.rights & rights::FD_WRITE != 0 || opening.oflags & oflags::TRUNC != 0;
        if create && opening.oflags & oflags::DIRECTORY != 0 {
            return Err(Errno::Inval.into());
        }
        let exclusive = create && opening.oflags & oflags::EXCL != 0;
        let found = match self.tree.resolve(base, path, opening.follow && !exclusive)? {
            Found::Node(inode) => inode,
            Found::Free(parent, name) if create && !path.folder => {
                return self.tree.create_file(parent, &name, self.clock.stamp());
            }
            Found::Free(..) => return Err(Errno::NoEnt.into()),
        };
        if create && writing && !path.folder && self.tree.is_placeholder(found) {
            self.tree.give_way(found, self.clock.stamp());
            return Ok(found);
        }
        if exclusive {
            return Err(Errno::Exist.into());
        }
        self.may_open(found, opening.oflags & oflags::DIRECTORY != 0, writing)?;
        Ok(found)
    }

    fn may_open(&mut self, inode: Inode, folder: bool, writing: bool) -> Answer<()> {
        match self.tree.file(inode) {
            Ok(_) if folder => Err(Errno::NotDir.into()),
            Ok(file) if writing && !file.writable() => Err(Errno::RoFs.into()),
            Ok(_) => Ok(()),
            // Who says that it is a folder asks for rights to hand down, not to write to it.
            Err(Fault::Errno(Errno::IsDir)) if folder || !writing => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    pub(crate) fn close(&mut self, fd: u32) -> Answer<()> {
        match self.descriptors.take(fd)?.object {
            Object::Node { inode, .. } => self.tree.release(inode),
            _ => Ok(()),
        }
    }

    /// Moves descriptor `from` to the number `to`, which is closed first.
    pub(crate) fn renumber(&mut self, from: u32, to: u32) -> Answer<()> {
        self.descriptors.get(from)?;
        self.descriptors.get(to)?;
        if from != to {
            self.close(to)?;
            self.descriptors.renumber(from, to)?;
        }
        Ok(())
    }

    /// A folder's entries in name order, after `.` and `..`. Read anew from the start, else as they were then.
    pub(crate) fn listing(&mut self, fd: u32, anew: bool) -> Answer<Listing> {
        let folder = self.base(fd)?;
        if let (false, Object::Node { listing: Some(listing), .. }) = (anew, &self.descriptors.get(fd)?.object) {
            return Ok(Listing::clone(listing));
        }
        let entries: Vec<_> =
            self.tree.folder(folder)?.entries.iter().map(|(name, at)| (Arc::clone(name), *at)).collect();
        self.tree.work(entries.len());
        let parent = self.tree.node(folder).parent;
        let dots = [(folder, FileType::Directory, ".".into()), (parent, FileType::Directory, "..".into())];
        let named = entries.into_iter().map(|(name, inode)| (inode, self.tree.stat(inode).kind, name));
        let listing: Listing = dots.into_iter().chain(named).collect();
        self.descriptors.keep(fd, &listing)?;
        Ok(listing)
    }

    /// Sets a node's times as `fstflags` say.
    pub(crate) fn set_times(&mut self, inode: Inode, atime: u64, mtime: u64, flags: u16) -> Answer<()> {
        use fstflags::{ALL, ATIM, ATIM_NOW, MTIM, MTIM_NOW};
        let both = |a, b| flags & a != 0 && flags & b != 0;
        if flags & !ALL != 0 || both(ATIM, ATIM_NOW) || both(MTIM, MTIM_NOW) {
            return Err(Errno::Inval.into());
        }
        let now = self.clock.stamp();
        let chosen = |given, at_now, value| match (flags & given != 0, flags & at_now != 0) {
            (true, _) => Some(value),
            (_, true) => Some(now),
            _ => None,
        };
        self.tree.set_times(inode, chosen(ATIM, ATIM_NOW, atime), chosen(MTIM, MTIM_NOW, mtime), now)
    }

    pub(crate) fn read_clock(&mut self, id: u32) -> Answer<u64> {
        Ok(self.clock.read(Which::of(id).ok_or(Errno::Inval)?))
    }
}

/// Prints to a stream at once, as much as the quota allows.
fn print(stream: &mut Stream, quota: &mut Quota, bytes: &[u8]) -> Answer<usize> {
    let length = usize::try_from(quota.take_some(bytes.len() as u64)?).map_err(|_| Errno::FBig)?;
    stream.write_all(&bytes[..length])?;
    Ok(length)
}

impl Stream {
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(File::create_new(&self.path)?),
        };
        file.write_all(bytes)
    }
}

fn c_string(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}
