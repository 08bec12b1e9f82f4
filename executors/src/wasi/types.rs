//! Numbers of the preview 1 ABI: errors, flags, and the layout of what is written to a program's memory.

use std::io;

/// An error number that a program sees. Only those that this implementation gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Errno {
    BadF = 8,
    Busy = 10,
    Exist = 20,
    Fault = 21,
    FBig = 22,
    IlSeq = 25,
    Inval = 28,
    IsDir = 31,
    Loop = 32,
    MFile = 33,
    NameTooLong = 37,
    NFile = 41,
    NoEnt = 44,
    NoMem = 48,
    NoSpc = 51,
    NoSys = 52,
    NotDir = 54,
    NotEmpty = 55,
    NotSock = 57,
    Perm = 63,
    Range = 68,
    RoFs = 69,
    SPipe = 70,
    XDev = 75,
    NotCapable = 76,
}

/// Why a call gave no answer: an error for the program, or something that ends the run.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The program is told.
    Errno(Errno),
    /// This machine failed.
    Host(io::Error),
    /// The call cost more than what was left.
    OutOfFuel,
}

pub(crate) type Answer<T> = Result<T, Fault>;

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Fault::Errno(errno)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Host(error)
    }
}

/// What a descriptor or a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FileType {
    /// A stream that is no terminal. Were it a character device, C libraries would take it for one.
    Unknown = 0,
    Directory = 3,
    RegularFile = 4,
    SymbolicLink = 7,
}

/// Bits of `fdflags`.
pub(crate) mod fdflags {
    pub(crate) const APPEND: u16 = 1;
    /// append, dsync, nonblock, rsync, sync.
    pub(crate) const ALL: u16 = 0b1_1111;
}

/// Bits of `oflags`.
pub(crate) mod oflags {
    pub(crate) const CREAT: u16 = 1;
    pub(crate) const DIRECTORY: u16 = 2;
    pub(crate) const EXCL: u16 = 4;
    pub(crate) const TRUNC: u16 = 8;
    pub(crate) const ALL: u16 = 0b1111;
}

/// Bits of `lookupflags`.
pub(crate) mod lookup {
    pub(crate) const FOLLOW: u32 = 1;
}

/// Bits of `fstflags`.
pub(crate) mod fstflags {
    pub(crate) const ATIM: u16 = 1;
    pub(crate) const ATIM_NOW: u16 = 2;
    pub(crate) const MTIM: u16 = 4;
    pub(crate) const MTIM_NOW: u16 = 8;
    pub(crate) const ALL: u16 = 0b1111;
}

/// Bits of `rights`. Only reading and writing are enforced; the rest is kept and reported.
pub(crate) mod rights {
    pub(crate) const FD_READ: u64 = 1 << 1;
    pub(crate) const FD_WRITE: u64 = 1 << 6;
    pub(crate) const ALL: u64 = (1 << 30) - 1;
    const FD_SEEK_TELL: u64 = 1 << 2 | 1 << 5;
    const FD_FILESTAT_GET: u64 = 1 << 21;
    const POLL: u64 = 1 << 27;
    /// What makes sense for standard input, output and error: no seeking, so that programs see a pipe.
    pub(crate) const STDIN: u64 = FD_READ | FD_FILESTAT_GET | POLL;
    pub(crate) const STDOUT: u64 = FD_WRITE | FD_FILESTAT_GET | POLL;
    /// Standard input from a file.
    pub(crate) const STDIN_FILE: u64 = STDIN | FD_SEEK_TELL;
}

/// What `fd_filestat_get` and `path_filestat_get` tell. The device is always 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) inode: u64,
    pub(crate) kind: FileType,
    pub(crate) links: u64,
    pub(crate) size: u64,
    pub(crate) atime: u64,
    pub(crate) mtime: u64,
    pub(crate) ctime: u64,
}

impl Stat {
    /// The 64 bytes of a `filestat`.
    pub(crate) fn encode(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        for (at, value) in [
            (0, 1),
            (8, self.inode),
            (16, self.kind as u64),
            (24, self.links),
            (32, self.size),
            (40, self.atime),
            (48, self.mtime),
            (56, self.ctime),
        ] {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }
}
