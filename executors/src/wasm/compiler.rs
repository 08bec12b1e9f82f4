//! Compiling in a process of its own, so that what a hostile module costs is bounded and can be stopped.
//!
//! The parent starts its own program ([`Compiler`]) and writes to its standard input: the limits, the module, and then
//! nothing more, but it keeps the pipe open as long as the result is wanted. The child ([`serve`]) limits itself
//! before it reads the module, writes machine code to standard output, which is a file, and a reason for failure to
//! standard error. When the pipe closes, because the parent died or lost interest, the child exits: unlike a signal
//! on the parent's death, this does not depend on which thread of the parent started it, and works on every Unix.

mod child;

mod parent;

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

pub use child::serve;
pub(super) use parent::{Stopped, compile};

/// A program that compiles one module and exits, and what it may use for that.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// The program; it calls [`serve`].
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What one module may cost.
    pub limits: CompileLimits,
}

/// What compiling one module may cost on this machine. Reaching a limit is no vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Processor time of all threads, in seconds.
    pub cpu_seconds: u64,
    /// Machine code, in bytes.
    pub code_bytes: u64,
    /// Wall-clock time. Longer than the processor time on purpose: the child runs at a low priority.
    pub wall: Duration,
}

impl Default for CompileLimits {
    /// A module of 69 MB took 80 s of processor time; one of the profile's largest size has room to take four times
    /// as long.
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, cpu_seconds: 600, code_bytes: 1 << 30, wall: Duration::from_secs(900) }
    }
}

impl Compiler {
    /// The program that is running, started anew with `arguments`.
    pub fn this_program(arguments: impl IntoIterator<Item = OsString>) -> io::Result<Self> {
        // Where there is such a link it still leads to what runs when the file has been replaced by an upgrade.
        let running = PathBuf::from("/proc/self/exe");
        let program = if running.exists() { running } else { std::env::current_exe()? };
        Ok(Self { program, arguments: arguments.into_iter().collect(), limits: CompileLimits::default() })
    }
}

/// How the child ends when the module can be compiled nowhere.
const INVALID: u8 = 3;

/// What precedes a module in the pipe: four numbers of eight bytes, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    memory_bytes: u64,
    cpu_seconds: u64,
    code_bytes: u64,
    module_bytes: u64,
}

impl Header {
    fn to_bytes(self) -> Vec<u8> {
        let Self { memory_bytes, cpu_seconds, code_bytes, module_bytes } = self;
        [memory_bytes, cpu_seconds, code_bytes, module_bytes].into_iter().flat_map(u64::to_le_bytes).collect()
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut next = || {
            let mut number = [0; 8];
            from.read_exact(&mut number).map(|()| u64::from_le_bytes(number))
        };
        Ok(Self { memory_bytes: next()?, cpu_seconds: next()?, code_bytes: next()?, module_bytes: next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_out_as_it_went_in() {
        let header = Header { memory_bytes: 1, cpu_seconds: 2, code_bytes: 3, module_bytes: u64::MAX };
        let bytes = header.to_bytes();
        assert_eq!(Header::read(&mut &bytes[..]).unwrap(), header);
        assert!(Header::read(&mut &bytes[1..]).is_err());
    }
}
