//! What programs print, while they run and after.
//!
//! A worker answers its requester with pieces of the files that the program writes; once the result is here, it is
//! read from there.

use std::io::SeekFrom;

use shoal_protocol::id::PeerId;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::direct::{LogPiece, LogRequest, MAX_LOG_BYTES};
use crate::hands::Runs;

/// A piece of the log of an execution that this node holds, for the requester alone.
pub(crate) async fn read_run(runs: &Runs, from: PeerId, request: LogRequest) -> Option<LogPiece> {
    let run = runs.of_requester(request.execution, from)?;
    // Asked before the file is read: what is written in between is for the next piece.
    let over = run.over.is_cancelled();
    let path = run.dir.join(request.stream.name());
    let bytes = match tokio::fs::File::open(path).await {
        Ok(file) => read_piece(file, request.offset).await.ok()?,
        // The program has not begun.
        Err(_) => Vec::new(),
    };
    let end = over && bytes.len() < MAX_LOG_BYTES;
    Some(LogPiece { bytes, end })
}

/// At most [`MAX_LOG_BYTES`] from `offset` on.
pub(crate) async fn read_piece(
    mut from: impl tokio::io::AsyncRead + tokio::io::AsyncSeek + Unpin,
    offset: u64,
) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.seek(SeekFrom::Start(offset)).await?;
    from.take(MAX_LOG_BYTES as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}
