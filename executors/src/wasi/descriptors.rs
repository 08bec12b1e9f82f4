//! A program's open descriptors.

use std::sync::Arc;

use super::fs::Inode;
use super::types::{Answer, Errno, FileType, rights};

/// Descriptors open at once. Each file may hold one of the host's.
pub(crate) const MAX_DESCRIPTORS: usize = 256;
/// Entries in all folder listings that descriptors hold, so that listings cannot fill the host's memory.
pub(crate) const MAX_LISTED: usize = 1 << 20;

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
}

impl Descriptors {
    /// Standard input, output and error, and the root folder as 3.
    pub(crate) fn new(root: Inode) -> Self {
        let stream = |object, rights| Descriptor { object, flags: 0, rights, inheriting: 0, preopen: None };
        let object = Object::Node { inode: root, offset: 0, listing: None };
        let (rights, inheriting) = (rights::ALL, rights::ALL);
        let root = Descriptor { object, flags: 0, rights, inheriting, preopen: Some("/") };
        let streams = [
            stream(Object::Stdin, rights::STDIN),
            stream(Object::Stdout, rights::STDOUT),
            stream(Object::Stderr, rights::STDOUT),
        ];
        Self { open: streams.into_iter().chain([root]).map(Some).collect() }
    }

    pub(crate) fn get(&self, fd: u32) -> Answer<&Descriptor> {
        Ok(self.open.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::BadF)?)
    }

    pub(crate) fn get_mut(&mut self, fd: u32) -> Answer<&mut Descriptor> {
        Ok(self.open.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::BadF)?)
    }

    /// Says whether one more can be opened.
    pub(crate) fn room(&self) -> Answer<()> {
        let used = self.open.iter().flatten().count();
        if used < MAX_DESCRIPTORS { Ok(()) } else { Err(Errno::MFile.into()) }
    }

    pub(crate) fn add(&mut self, descriptor: Descriptor) -> Answer<u32> {
        self.room()?;
        let at = self.open.iter().position(Option::is_none).unwrap_or(self.open.len());
        if at == self.open.len() {
            self.open.push(None);
        }
        self.open[at] = Some(descriptor);
        Ok(u32::try_from(at).map_err(|_| Errno::MFile)?)
    }

    pub(crate) fn take(&mut self, fd: u32) -> Answer<Descriptor> {
        Ok(self.open.get_mut(fd as usize).and_then(Option::take).ok_or(Errno::BadF)?)
    }

    /// Puts a descriptor under a number that was in use.
    pub(crate) fn put(&mut self, fd: u32, descriptor: Descriptor) {
        self.open[fd as usize] = Some(descriptor);
    }

    /// Entries that all listings hold.
    pub(crate) fn listed(&self) -> usize {
        let held = |descriptor: &Descriptor| match &descriptor.object {
            Object::Node { listing: Some(listing), .. } => listing.len(),
            _ => 0,
        };
        self.open.iter().flatten().map(held).sum()
    }
}
