//! What a container prints goes to files while it runs, up to a bound.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bollard::container::{AttachContainerResults, LogOutput};
use futures_util::StreamExt;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// What was printed, in bytes. Beyond the bound it is counted and not kept.
#[derive(Debug, Default, Clone)]
pub(super) struct Printed(Arc<AtomicU64>);

impl Printed {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream's file, made with its first byte.
struct Stream {
    path: PathBuf,
    file: Option<File>,
}

/// Copies what the container prints until it prints no more. Returns the files of standard output and error that are
/// there then.
pub(super) async fn copy(
    mut attached: AttachContainerResults,
    paths: [PathBuf; 2],
    max_bytes: u64,
    printed: Printed,
) -> std::io::Result<[Option<PathBuf>; 2]> {
    let [mut stdout, mut stderr] = paths.map(|path| Stream { path, file: None });
    while let Some(piece) = attached.output.next().await {
        let piece = piece.map_err(std::io::Error::other)?;
        let stream = match &piece {
            LogOutput::StdErr { .. } => &mut stderr,
            LogOutput::StdOut { .. } | LogOutput::Console { .. } | LogOutput::StdIn { .. } => &mut stdout,
        };
        let bytes = piece.into_bytes();
        let before = printed.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let room = usize::try_from(max_bytes.saturating_sub(before)).unwrap_or(usize::MAX);
        stream.write(&bytes[..bytes.len().min(room)]).await?;
    }
    Ok([stdout.close().await?, stderr.close().await?])
}

impl Stream {
    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
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
