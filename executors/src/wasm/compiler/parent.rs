//! The parent's side: starts the child, feeds it, and tells what its end means.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

use super::{Compiler, Header, INVALID};

/// How much of the child's standard error is kept, in bytes.
const MAX_COMPLAINT_BYTES: u64 = 4096;
/// How a failed `mmap` and a thread without stack are told: `ENOMEM` and `EAGAIN`, on Linux and on macOS.
const NO_MEMORY: [&str; 4] = ["(os error 12)", "(os error 11)", "(os error 35)", "Cannot allocate memory"];
/// Linux and macOS agree on these.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;

/// Why there is no machine code.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// It can be compiled nowhere.
    Invalid(String),
    /// It needs more than this machine gives it, so that trying again is of no use.
    Limit(String),
    /// The machine failed.
    Host(String),
}

/// Compiles `module` in a child process, whose output lies in a nameless file in `folder`. Dropping the future kills
/// the child.
pub(crate) async fn compile(compiler: &Compiler, folder: &Path, module: Bytes) -> Result<Vec<u8>, Stopped> {
    let host = |what: &str, error: std::io::Error| Stopped::Host(format!("compiler: {what}: {error}"));
    let output = tempfile::tempfile_in(folder).map_err(|error| host("no file for its output", error))?;
    let child = start(compiler, &output).map_err(|error| host("cannot start", error))?;
    let ended = tokio::time::timeout(compiler.limits.wall, converse(compiler, child, module)).await;
    let Ok(ended) = ended else {
        return Err(Stopped::Limit(format!("it took more than {} s", compiler.limits.wall.as_secs())));
    };
    let (status, complaint) = ended.map_err(|error| host("lost", error))?;
    if !status.success() {
        return Err(meaning(compiler, status, complaint.trim()));
    }
    let read = tokio::task::spawn_blocking(move || read(output)).await;
    read.map_err(std::io::Error::other).and_then(|read| read).map_err(|error| host("no output", error))
}

fn start(compiler: &Compiler, output: &File) -> std::io::Result<Child> {
    Command::new(&compiler.program)
        .args(&compiler.arguments)
        // Nothing of the environment is its business.
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(output.try_clone()?)
        .stderr(Stdio::piped())
        // What a terminal sends to us is not for the child.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Gives the child its module and waits for its end.
async fn converse(compiler: &Compiler, mut child: Child, module: Bytes) -> std::io::Result<(ExitStatus, String)> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let feed = async {
        // A child that ends early does not read to the end; its status says why.
        let mut stdin = stdin?;
        let _ = feed(compiler, &mut stdin, module).await;
        Some(stdin)
    };
    let listen = async {
        match stderr {
            Some(stderr) => complaint(stderr).await,
            None => Ok(String::new()),
        }
    };
    // The pipe stays open until the child has ended: that is how it knows that it is wanted.
    let (_pipe, complaint, status) = tokio::join!(feed, listen, child.wait());
    Ok((status?, complaint?))
}

async fn feed(compiler: &Compiler, stdin: &mut ChildStdin, module: Bytes) -> std::io::Result<()> {
    let limits = compiler.limits;
    let header = Header {
        memory_bytes: limits.memory_bytes,
        cpu_seconds: limits.cpu_seconds,
        code_bytes: limits.code_bytes,
        module_bytes: module.len() as u64,
    };
    stdin.write_all(&header.to_bytes()).await?;
    stdin.write_all(&module).await
}

async fn complaint(mut stderr: impl AsyncRead + Unpin) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    (&mut stderr).take(MAX_COMPLAINT_BYTES).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read(mut output: File) -> std::io::Result<Vec<u8>> {
    let mut code = Vec::new();
    output.rewind()?;
    output.read_to_end(&mut code)?;
    Ok(code)
}

/// Tells limits from failures. An allocation beyond the limit ends a Rust program by `abort`, or by a failed system
/// call that it complains about.
fn meaning(compiler: &Compiler, status: ExitStatus, complaint: &str) -> Stopped {
    let limits = compiler.limits;
    let memory = || Stopped::Limit(format!("it needs more than {} MiB of memory", limits.memory_bytes >> 20));
    match (status.signal(), status.code()) {
        (_, Some(code)) if code == i32::from(INVALID) => Stopped::Invalid(complaint.to_owned()),
        (Some(SIGXCPU), _) => Stopped::Limit(format!("it needs more than {} s of processor time", limits.cpu_seconds)),
        (Some(SIGXFSZ), _) => Stopped::Limit(format!("its machine code has more than {} MiB", limits.code_bytes >> 20)),
        (Some(SIGABRT), _) if complaint.contains("memory allocation") => memory(),
        (_, Some(_)) if NO_MEMORY.iter().any(|words| complaint.contains(words)) => memory(),
        (Some(SIGKILL), _) => Stopped::Host("compiler: killed, perhaps because the machine has no memory left".into()),
        _ => Stopped::Host(format!("compiler: {status}: {complaint}")),
    }
}
