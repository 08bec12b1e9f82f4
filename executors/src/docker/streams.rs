//! What a container prints goes to files while it runs, up to a bound; and what the node has to say of it as well.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bollard::container::LogOutput;
use bollard::errors::Error;
use futures_util::{Stream, StreamExt};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::engine::plain;
use super::network::Lines;

/// What was printed. Beyond the bound it is counted and not kept.
#[derive(Debug, Default, Clone)]
pub(super) struct Printed(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    pieces: AtomicU64,
}

impl Printed {
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// In how many pieces the engine gave it.
    pub(super) fn pieces(&self) -> u64 {
        self.0.pieces.load(Ordering::Relaxed)
    }

    /// Counts a piece; returns how many bytes came before it.
    fn add(&self, bytes: usize) -> u64 {
        self.0.pieces.fetch_add(1, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed)
    }
}

/// Where a program's streams go.
struct Streams {
    stdout: Target,
    stderr: Target,
    max_bytes: u64,
    printed: Printed,
}

/// A stream's file, made with its first byte.
struct Target {
    path: PathBuf,
    file: Option<File>,
    /// Whether a line has begun that has not ended.
    in_line: bool,
}

/// Copies what the container prints until it prints no more, and lines of the node's own to standard error. Returns
/// the files of standard output and error that are there then.
pub(super) async fn copy(
    mut output: impl Stream<Item = Result<LogOutput, Error>> + Unpin,
    mut notes: Option<Lines>,
    paths: [PathBuf; 2],
    max_bytes: u64,
    printed: Printed,
) -> std::io::Result<[Option<PathBuf>; 2]> {
    let [stdout, stderr] = paths.map(|path| Target { path, file: None, in_line: false });
    let mut streams = Streams { stdout, stderr, max_bytes, printed };
    loop {
        tokio::select! {
            piece = output.next() => match piece {
                Some(piece) => streams.print(piece.map_err(of_engine)?).await?,
                None => break,
            },
            Some(note) = next(&mut notes) => streams.note(&note).await?,
        }
    }
    while let Some(note) = notes.as_mut().and_then(|notes| notes.try_recv().ok()) {
        streams.note(&note).await?;
    }
    Ok([streams.stdout.close().await?, streams.stderr.close().await?])
}

fn of_engine(error: Error) -> std::io::Error {
    std::io::Error::other(format!("its docker engine: {}", plain(&error)))
}

/// The next of them; none if there are no more.
async fn next(notes: &mut Option<Lines>) -> Option<String> {
    notes.as_mut()?.recv().await
}

impl Streams {
    async fn print(&mut self, piece: LogOutput) -> std::io::Result<()> {
        let stream = match &piece {
            LogOutput::StdErr { .. } => &mut self.stderr,
            LogOutput::StdOut { .. } | LogOutput::Console { .. } | LogOutput::StdIn { .. } => &mut self.stdout,
        };
        let bytes = piece.into_bytes();
        let room = room(&self.printed, self.max_bytes, bytes.len());
        stream.write(&bytes[..room]).await
    }

    /// Writes a line of our own, which begins a line of the stream.
    async fn note(&mut self, line: &str) -> std::io::Result<()> {
        let line = if self.stderr.in_line { format!("\n{line}") } else { line.to_owned() };
        let room = room(&self.printed, self.max_bytes, line.len());
        self.stderr.write(&line.as_bytes()[..room]).await
    }
}

/// Counts what is printed; returns how much of it is kept.
fn room(printed: &Printed, max_bytes: u64, bytes: usize) -> usize {
    let before = printed.add(bytes);
    bytes.min(usize::try_from(max_bytes.saturating_sub(before)).unwrap_or(usize::MAX))
}

impl Target {
    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let Some(last) = bytes.last() else { return Ok(()) };
        self.in_line = *last != b'\n';
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(File::create(&self.path).await?),
        };
        file.write_all(bytes).await?;
        // Somebody may follow it.
        file.flush().await
    }

    async fn close(mut self) -> std::io::Result<Option<PathBuf>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        file.flush().await?;
        Ok(Some(self.path))
    }
}
