//! A program's open descriptors.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::fs::Inode;
use super::types::{Answer, Errno, FileType, rights};

/// Descriptors open at once. The host has far fewer files open: see `fs`.
pub(crate) const MAX_DESCRIPTORS: usize = 16_384;
/// Entries in all folder listings that descriptors hold, so that listings cannot fill the host's memory.
const MAX_LISTED: usize = 1 << 20;

/// A folder's entries at one moment.
pub(crate) type Listing = Arc<[(Inode, FileType, Arc<str>)]>;

/// What a descriptor refers to.
#[derive(Debug, Clone)]
pub(crate) enum Object {
    Stdin,
    Stdout,
    Stderr,
    Node { inode: Inode, offset: u64, listing: Option<Listing> },
}

#[derive(Debug, Clone)]
pub(crate) struct Descriptor {
    pub(crate) object: Object,
    pub(crate) flags: u16,
    pub(crate) rights: u64,
    pub(crate) inheriting: u64,
    /// The path that it was opened for before the program started.
    pub(crate) preopen: Option<&'static str>,
}

/// The table. The lowest free number is given out first.
#[derive(Debug)]
pub(crate) struct Descriptors {
    open: Vec<Option<Descriptor>>,
    /// Numbers below the table's end that are not in use.
    free: BTreeSet<u32>,
    /// Entries that all listings hold.
    listed: usize,
}

impl Descriptors {
    /// Standard input (from a file, if there is one), output and error, and the root folder as 3.
    pub(crate) fn new(root: Inode, stdin: Option<Inode>) -> Self {
        let stream = |object, rights| Descriptor { object, flags: 0, rights, inheriting: 0, preopen: None };
        let node = |inode| Object::Node { inode, offset: 0, listing: None };
        let (rights, inheriting) = (rights::ALL, rights::ALL);
        let root = Descriptor { object: node(root), flags: 0, rights, inheriting, preopen: Some("/") };
        let streams = [
            stdin.map_or(stream(Object::Stdin, rights::STDIN), |inode| stream(node(inode), rights::STDIN_FILE)),
            stream(Object::Stdout, rights::STDOUT),
            stream(Object::Stderr, rights::STDOUT),
        ];
        let open = streams.into_iter().chain([root]).map(Some).collect();
        Self { open, free: BTreeSet::new(), listed: 0 }
    }

    pub(crate) fn get(&self, fd: u32) -> Answer<&Descriptor> {
        Ok(self.open.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::BadF)?)
    }

    pub(crate) fn get_mut(&mut self, fd: u32) -> Answer<&mut Descriptor> {
        Ok(self.open.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::BadF)?)
    }

    /// Says whether one more can be opened.
    pub(crate) fn room(&self) -> Answer<()> {
        let used = self.open.len() - self.free.len();
        if used < MAX_DESCRIPTORS { Ok(()) } else { Err(Errno::MFile.into()) }
    }

    pub(crate) fn add(&mut self, descriptor: Descriptor) -> Answer<u32> {
        self.room()?;
        if let Some(fd) = self.free.pop_first() {
            self.open[fd as usize] = Some(descriptor);
            return Ok(fd);
        }
        let fd = u32::try_from(self.open.len()).map_err(|_| Errno::MFile)?;
        self.open.push(Some(descriptor));
        Ok(fd)
    }

    pub(crate) fn take(&mut self, fd: u32) -> Answer<Descriptor> {
        let taken = self.open.get_mut(fd as usize).and_then(Option::take).ok_or(Errno::BadF)?;
        self.free.insert(fd);
        self.listed -= taken.listed();
        Ok(taken)
    }

    /// Moves a descriptor to a number that is free.
    pub(crate) fn renumber(&mut self, from: u32, to: u32) -> Answer<()> {
        let moved = self.take(from)?;
        self.listed += moved.listed();
        self.free.remove(&to);
        self.open[to as usize] = Some(moved);
        Ok(())
    }

    /// Keeps a folder's listing with its descriptor.
    pub(crate) fn keep(&mut self, fd: u32, new: &Listing) -> Answer<()> {
        let listed = self.listed - self.get(fd)?.listed() + new.len();
        if listed > MAX_LISTED {
            return Err(Errno::NoMem.into());
        }
        if let Object::Node { listing, .. } = &mut self.get_mut(fd)?.object {
            *listing = Some(Listing::clone(new));
            self.listed = listed;
        }
        Ok(())
    }
}

impl Descriptor {
    fn listed(&self) -> usize {
        match &self.object {
            Object::Node { listing: Some(listing), .. } => listing.len(),
            _ => 0,
        }
    }
}
