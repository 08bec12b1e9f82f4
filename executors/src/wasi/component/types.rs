//! The types of preview 2's interfaces, in the order and with the names of their definition.

use std::sync::Arc;

use wasmtime::component::{ComponentType, Lift, Lower, Resource, flags};

use crate::wasi::fs::Inode;
use crate::wasi::types::{Errno, FileType};

/// An open file or folder, by its number in the world's table.
#[derive(Debug)]
pub(crate) struct Descriptor(pub(super) u32);

/// Where bytes are read from.
#[derive(Debug)]
pub(crate) enum Input {
    /// Standard input without a file: at its end.
    Empty,
    File {
        inode: Inode,
        offset: u64,
    },
}

/// Where bytes are written to.
#[derive(Debug)]
pub(crate) enum Output {
    /// Standard output or error, by its descriptor.
    Stream(u32),
    /// At an offset that moves, or always at the end.
    File { inode: Inode, offset: Option<u64> },
}

/// What can be waited for.
#[derive(Debug)]
pub(crate) enum Pollable {
    Ready,
    /// The monotonic clock, in nanoseconds.
    Until(u64),
}

/// A folder that is being listed, and the last name that was told.
#[derive(Debug)]
pub(crate) struct Entries {
    pub(super) folder: Inode,
    pub(super) last: Option<Arc<str>>,
}

/// Why a stream failed.
#[derive(Debug)]
pub(crate) struct StreamFault(pub(super) Errno);

/// Standard streams are never terminals.
#[derive(Debug)]
pub(crate) enum Terminal<const OUTPUT: bool> {}

/// `wasi:io/streams.stream-error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
pub(crate) enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<StreamFault>),
    #[component(name = "closed")]
    Closed,
}

/// `wasi:clocks/wall-clock.datetime`.
#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Datetime {
    pub(super) seconds: u64,
    pub(super) nanoseconds: u32,
}

impl Datetime {
    pub(super) fn of(ns: u64) -> Self {
        // Less than a second, so it fits.
        let nanoseconds = u32::try_from(ns % 1_000_000_000).unwrap_or(0);
        Self { seconds: ns / 1_000_000_000, nanoseconds }
    }

    pub(super) fn ns(self) -> u64 {
        self.seconds.saturating_mul(1_000_000_000).saturating_add(self.nanoseconds.into())
    }
}

/// `wasi:filesystem/types.descriptor-type`.
#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "the interface's")]
pub(crate) enum DescriptorType {
    #[component(name = "unknown")]
    Unknown,
    #[component(name = "block-device")]
    BlockDevice,
    #[component(name = "character-device")]
    CharacterDevice,
    #[component(name = "directory")]
    Directory,
    #[component(name = "fifo")]
    Fifo,
    #[component(name = "symbolic-link")]
    SymbolicLink,
    #[component(name = "regular-file")]
    RegularFile,
    #[component(name = "socket")]
    Socket,
}

impl From<FileType> for DescriptorType {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::Unknown => Self::Unknown,
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::RegularFile,
            FileType::SymbolicLink => Self::SymbolicLink,
        }
    }
}

flags! {
    DescriptorFlags {
        #[component(name = "read")]
        const READ;
        #[component(name = "write")]
        const WRITE;
        #[component(name = "file-integrity-sync")]
        const FILE_INTEGRITY_SYNC;
        #[component(name = "data-integrity-sync")]
        const DATA_INTEGRITY_SYNC;
        #[component(name = "requested-write-sync")]
        const REQUESTED_WRITE_SYNC;
        #[component(name = "mutate-directory")]
        const MUTATE_DIRECTORY;
    }
}

flags! {
    PathFlags {
        #[component(name = "symlink-follow")]
        const SYMLINK_FOLLOW;
    }
}

flags! {
    OpenFlags {
        #[component(name = "create")]
        const CREATE;
        #[component(name = "directory")]
        const DIRECTORY;
        #[component(name = "exclusive")]
        const EXCLUSIVE;
        #[component(name = "truncate")]
        const TRUNCATE;
    }
}

/// `wasi:filesystem/types.descriptor-stat`.
#[derive(Debug, Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Stat {
    #[component(name = "type")]
    pub(super) kind: DescriptorType,
    #[component(name = "link-count")]
    pub(super) link_count: u64,
    pub(super) size: u64,
    #[component(name = "data-access-timestamp")]
    pub(super) data_access: Option<Datetime>,
    #[component(name = "data-modification-timestamp")]
    pub(super) data_modification: Option<Datetime>,
    #[component(name = "status-change-timestamp")]
    pub(super) status_change: Option<Datetime>,
}

/// `wasi:filesystem/types.new-timestamp`.
#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum NewTimestamp {
    #[component(name = "no-change")]
    NoChange,
    #[component(name = "now")]
    Now,
    #[component(name = "timestamp")]
    Timestamp(Datetime),
}

/// `wasi:filesystem/types.directory-entry`.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
pub(crate) struct DirectoryEntry {
    #[component(name = "type")]
    pub(super) kind: DescriptorType,
    pub(super) name: String,
}

/// `wasi:filesystem/types.metadata-hash-value`.
#[derive(Debug, Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct MetadataHash {
    pub(super) lower: u64,
    pub(super) upper: u64,
}

/// `wasi:filesystem/types.advice`. Advice is taken and forgotten.
#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "the interface's")]
pub(crate) enum Advice {
    #[component(name = "normal")]
    Normal,
    #[component(name = "sequential")]
    Sequential,
    #[component(name = "random")]
    Random,
    #[component(name = "will-need")]
    WillNeed,
    #[component(name = "dont-need")]
    DontNeed,
    #[component(name = "no-reuse")]
    NoReuse,
}

macro_rules! error_codes {
    ($($name:ident $text:literal),*) => {
        /// `wasi:filesystem/types.error-code`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lower)]
        #[component(enum)]
        #[repr(u8)]
        #[expect(dead_code, reason = "the interface's")]
        pub(crate) enum ErrorCode {
            $(#[component(name = $text)] $name),*
        }
    };
}

error_codes! {
    Access "access", WouldBlock "would-block", Already "already", BadDescriptor "bad-descriptor", Busy "busy",
    Deadlock "deadlock", Quota "quota", Exist "exist", FileTooLarge "file-too-large",
    IllegalByteSequence "illegal-byte-sequence", InProgress "in-progress", Interrupted "interrupted",
    Invalid "invalid", Io "io", IsDirectory "is-directory", Loop "loop", TooManyLinks "too-many-links",
    MessageSize "message-size", NameTooLong "name-too-long", NoDevice "no-device", NoEntry "no-entry",
    NoLock "no-lock", InsufficientMemory "insufficient-memory", InsufficientSpace "insufficient-space",
    NotDirectory "not-directory", NotEmpty "not-empty", NotRecoverable "not-recoverable", Unsupported "unsupported",
    NoTty "no-tty", NoSuchDevice "no-such-device", Overflow "overflow", NotPermitted "not-permitted", Pipe "pipe",
    ReadOnly "read-only", InvalidSeek "invalid-seek", TextFileBusy "text-file-busy", CrossDevice "cross-device"
}

impl From<Errno> for ErrorCode {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::BadF => Self::BadDescriptor,
            Errno::Busy => Self::Busy,
            Errno::Exist => Self::Exist,
            Errno::FBig => Self::FileTooLarge,
            Errno::IlSeq => Self::IllegalByteSequence,
            Errno::Fault | Errno::Inval => Self::Invalid,
            Errno::IsDir => Self::IsDirectory,
            Errno::Loop => Self::Loop,
            Errno::NameTooLong => Self::NameTooLong,
            Errno::NoEnt => Self::NoEntry,
            Errno::MFile | Errno::NFile | Errno::NoMem => Self::InsufficientMemory,
            Errno::NoSpc => Self::InsufficientSpace,
            Errno::NotDir => Self::NotDirectory,
            Errno::NotEmpty => Self::NotEmpty,
            Errno::NoSys | Errno::NotSock => Self::Unsupported,
            Errno::Perm | Errno::NotCapable => Self::NotPermitted,
            Errno::Range => Self::Overflow,
            Errno::RoFs => Self::ReadOnly,
            Errno::SPipe => Self::InvalidSeek,
            Errno::XDev => Self::CrossDevice,
        }
    }
}
