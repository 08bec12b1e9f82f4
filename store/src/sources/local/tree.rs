//! A file or a folder, opened from the root of the file system on without following a link.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, open, openat};
use shoal_protocol::task::ContentKind;

use crate::blobs::{MAX_DEPTH, MAX_FILES, NameError, check_name};

/// Never waits for a pipe, never follows a link, never becomes a terminal's.
const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// What was found; the files themselves are opened when it is their turn.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    pub(super) kind: ContentKind,
    /// By name; one without a name if it is a file itself.
    pub(super) files: Vec<Found>,
    /// Of all files together.
    pub(super) bytes: u64,
}

/// A file in a tree.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum TreeError {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("cannot be read at {0:?}: {1}")]
    UnreadableAt(String, io::Error),
    #[error("{0:?} in it is neither a file nor a folder")]
    Special(String),
    #[error("the name {0:?} in it is not UTF-8")]
    NotUtf8(String),
    #[error("has more than {MAX_FILES} files")]
    TooMany,
    #[error("is nested more than {MAX_DEPTH} folders deep")]
    TooDeep,
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Tree {
    /// Opens an absolute path in which there are no links, and lists what is in it.
    pub(super) fn open(path: &Path) -> Result<Self, TreeError> {
        let mut root = open("/", FLAGS, Mode::empty()).map_err(io::Error::from)?;
        for part in path.strip_prefix("/").unwrap_or(path) {
            root = openat(&root, part, FLAGS, Mode::empty()).map_err(io::Error::from)?;
        }
        let status = fstat(&root).map_err(io::Error::from)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => {
                let bytes = u64::try_from(status.st_size).unwrap_or_default();
                let files = vec![Found { name: String::new(), bytes }];
                Ok(Self { root, kind: ContentKind::Raw, files, bytes })
            }
            FileType::Directory => {
                let mut files = Vec::new();
                list(&root, "", 0, &mut files)?;
                files.sort_by(|a, b| a.name.cmp(&b.name));
                let bytes = files.iter().map(|file| file.bytes).sum();
                Ok(Self { root, kind: ContentKind::Collection, files, bytes })
            }
            _ => Err(io::Error::other("it is a device, socket or pipe").into()),
        }
    }

    /// Opens one of its files, again step by step: what it was when it was listed may be something else by now.
    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        let mut at = self.root.try_clone()?;
        for part in name.split('/').filter(|part| !part.is_empty()) {
            at = openat(&at, part, FLAGS, Mode::empty())?;
        }
        match FileType::from_raw_mode(fstat(&at)?.st_mode) {
            FileType::RegularFile => Ok(at.into()),
            _ => Err(io::Error::other("it is not a file any more")),
        }
    }
}

/// Adds the files below `folder`, under names that begin with `prefix`.
fn list(folder: &OwnedFd, prefix: &str, depth: usize, files: &mut Vec<Found>) -> Result<(), TreeError> {
    if depth >= MAX_DEPTH {
        return Err(TreeError::TooDeep);
    }
    let at = |error: rustix::io::Errno| TreeError::UnreadableAt(prefix.to_owned(), error.into());
    for entry in Dir::read_from(folder).map_err(at)? {
        let entry = entry.map_err(at)?;
        let bytes = entry.file_name().to_bytes();
        if matches!(bytes, b"." | b"..") {
            continue;
        }
        let lossy = || format!("{prefix}{}", entry.file_name().to_string_lossy());
        let name = std::str::from_utf8(bytes).map_err(|_| TreeError::NotUtf8(lossy()))?;
        let name = format!("{prefix}{name}");
        let opened = match openat(folder, entry.file_name(), FLAGS, Mode::empty()) {
            // A link, or a socket.
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Err(TreeError::Special(name)),
            opened => opened.map_err(|error| TreeError::UnreadableAt(name.clone(), error.into()))?,
        };
        let status = fstat(&opened).map_err(at)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => list(&opened, &format!("{name}/"), depth + 1, files)?,
            FileType::RegularFile => {
                check_name(&name)?;
                files.push(Found { name, bytes: u64::try_from(status.st_size).unwrap_or_default() });
            }
            _ => return Err(TreeError::Special(name)),
        }
        if files.len() > MAX_FILES {
            return Err(TreeError::TooMany);
        }
    }
    Ok(())
}
