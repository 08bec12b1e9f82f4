//! The child's side: limits itself, reads the module, writes machine code.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit};

use super::{Header, INVALID};
use crate::wasm::engines;
use crate::wasm::profile::MAX_MODULE_BYTES;

/// Added to the child's nice value: jobs that run come before modules that are compiled.
const NICE: i32 = 10;
/// Between the limit of processor time and the end that cannot be caught, in seconds.
const GRACE_SECONDS: u64 = 5;

/// Compiles the module that a parent process writes to standard input; what the program of a
/// [`Compiler`](super::Compiler) does.
pub fn serve() -> ExitCode {
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Invalid(why)) => complain(&why, INVALID),
        Err(Failure::Host(why)) => complain(&why.to_string(), 1),
    }
}

enum Failure {
    /// Every machine says so.
    Invalid(String),
    Host(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

fn complain(why: &str, code: u8) -> ExitCode {
    // Somebody who does not listen learns enough from the code.
    let _ = writeln!(io::stderr(), "{why}");
    ExitCode::from(code)
}

fn compile() -> Result<(), Failure> {
    let module = {
        let mut input = io::stdin().lock();
        let header = Header::read(&mut input)?;
        limit(&header)?;
        read(&mut input, header.module_bytes)?
    };
    std::thread::Builder::new().name("parent".into()).spawn(exit_with_the_parent)?;
    let engine = engines::compiling().map_err(io::Error::other)?;
    let code = engines::compile(&engine, &module).map_err(|error| match error {
        engines::CompileError::Invalid(why) => Failure::Invalid(why),
        engines::CompileError::Host(why) => Failure::Host(io::Error::other(why)),
    })?;
    // Not through the line buffer of standard output: it is a file.
    File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(&code)?;
    Ok(())
}

fn read(input: &mut impl Read, bytes: u64) -> io::Result<Vec<u8>> {
    if bytes > MAX_MODULE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut module = Vec::new();
    input.take(bytes).read_to_end(&mut module)?;
    if (module.len() as u64) < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(module)
}

/// Sets the limits before anything hostile is read.
fn limit(header: &Header) -> io::Result<()> {
    rustix::process::nice(NICE)?;
    for (resource, limit) in [(MEMORY, header.memory_bytes), (Resource::Fsize, header.code_bytes), (Resource::Core, 0)]
    {
        let set = rustix::process::setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) });
        // Not every system can bound memory.
        if resource != MEMORY || cfg!(target_os = "linux") {
            set?;
        }
    }
    // The first ends us by a signal that tells why, the second by one that does not.
    let (current, maximum) = (Some(header.cpu_seconds), Some(header.cpu_seconds.saturating_add(GRACE_SECONDS)));
    rustix::process::setrlimit(Resource::Cpu, Rlimit { current, maximum })?;
    Ok(())
}

/// What is written to counts: on a machine with many cores the threads' arenas and stacks reserve more addresses
/// than any limit allows.
#[cfg(target_os = "linux")]
const MEMORY: Resource = Resource::Data;
#[cfg(not(target_os = "linux"))]
const MEMORY: Resource = Resource::As;

/// Waits for the end of standard input, which the parent holds open as long as it wants the code.
fn exit_with_the_parent() {
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    std::process::exit(1);
}
