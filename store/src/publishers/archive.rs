//! A folder of blobs as one `.tar.gz`, made while it is read.
//!
//! Nothing of the machine or the moment goes into it: the same content gives the same bytes everywhere, so that
//! publishing twice changes nothing.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{Stream, StreamExt, stream};
use shoal_protocol::id::BlobHash;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::io::SyncIoBridge;

use crate::blobs::{Blobs, FolderFile, Status};

/// Pieces that wait to be read; the writer rests meanwhile.
const MAX_WAITING: usize = 4;
/// Size of a piece, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Everybody may read what is unpacked.
const MODE: u32 = 0o644;

/// The folder `root`, which is here and guarded by the caller, as a `.tar.gz`. A part that cannot be read ends the
/// stream with an error, never early.
pub(super) fn archive(blobs: Blobs, root: BlobHash) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static {
    let (pieces, mut made) = mpsc::channel(MAX_WAITING);
    tokio::spawn(async move {
        let files = match blobs.files(root).await {
            Ok(files) => files,
            Err(error) => return drop(pieces.send(Err(io::Error::other(error))).await),
        };
        let reading = Handle::current();
        let failed = pieces.clone();
        let packed = tokio::task::spawn_blocking(move || pack(&blobs, &files, &reading, Pieces::new(pieces)));
        if let Err(error) = packed.await.map_err(io::Error::other).flatten() {
            let _ = failed.send(Err(error)).await;
        }
    });
    stream::poll_fn(move |context| made.poll_recv(context)).fuse()
}

fn pack(blobs: &Blobs, files: &[FolderFile], reading: &Handle, pieces: Pieces) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(pieces, Compression::fast()));
    for file in files {
        let Status::Complete { bytes } = file.status else {
            return Err(io::Error::other(format!("the file {} is not complete here", file.name)));
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(MODE);
        // The store has no blob for what is empty.
        if bytes == 0 {
            archive.append_data(&mut header, &file.name, io::empty())?;
        } else {
            let content = SyncIoBridge::new_with_handle(blobs.reader(file.hash), reading.clone());
            archive.append_data(&mut header, &file.name, content)?;
        }
    }
    archive.into_inner()?.finish()?.finish()
}

/// Hands over what is written to it, in pieces of equal size whatever the size of the writes.
struct Pieces {
    piece: Vec<u8>,
    made: mpsc::Sender<io::Result<Bytes>>,
}

impl Pieces {
    fn new(made: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self { piece: Vec::with_capacity(PIECE_BYTES), made }
    }

    fn finish(mut self) -> io::Result<()> {
        self.hand_over()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let nobody = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads the archive");
        self.made.blocking_send(Ok(piece.into())).map_err(nobody)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use flate2::read::GzDecoder;
    use futures_util::TryStreamExt;

    use super::*;
    use crate::blobs::{BlobsConfig, Imported};

    async fn store(dir: &std::path::Path) -> Blobs {
        let config = BlobsConfig::default();
        Blobs::open(&dir.join("blobs"), config).await.unwrap()
    }

    async fn folder(blobs: &Blobs, dir: &std::path::Path, files: &[(&str, Vec<u8>)]) -> Imported {
        for (name, bytes) in files {
            let path = dir.join("tree").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        blobs.import_path(&dir.join("tree")).await.unwrap()
    }

    async fn packed(blobs: &Blobs, folder: &Imported) -> Vec<u8> {
        let pieces: Vec<Bytes> = archive(blobs.clone(), folder.content.hash).try_collect().await.unwrap();
        pieces.concat()
    }

    fn unpacked(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(GzDecoder::new(bytes));
        let file = |entry: io::Result<tar::Entry<'_, GzDecoder<&[u8]>>>| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().to_str().unwrap().to_owned(), bytes)
        };
        archive.entries().unwrap().map(file).collect()
    }

    #[tokio::test]
    async fn an_archive_holds_every_file_and_is_the_same_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = store(dir.path()).await;
        let long = format!("{}/{}", "folder".repeat(20), "file".repeat(30));
        let large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let files = [("stdout", b"said".to_vec()), ("empty", vec![]), ("out/large", large), (&long, b"deep".to_vec())];
        let folder = folder(&blobs, dir.path(), &files).await;
        let first = packed(&blobs, &folder).await;
        let expected: BTreeMap<_, _> = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
        assert_eq!(unpacked(&first), expected);
        assert!(first == packed(&blobs, &folder).await, "two archives of one folder differ");
    }

    #[tokio::test]
    async fn a_missing_folder_is_an_error_and_not_an_empty_archive() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = store(dir.path()).await;
        let pieces: Vec<_> = archive(blobs, BlobHash([7; 32])).collect().await;
        assert!(matches!(&pieces[..], [Err(error)] if error.to_string().contains("not complete here")), "{pieces:?}");
    }

    #[tokio::test]
    async fn whoever_stops_reading_stops_the_writer() {
        let (pieces, made) = mpsc::channel(MAX_WAITING);
        drop(made);
        let written = tokio::task::spawn_blocking(move || Pieces::new(pieces).write_all(&vec![0; 2 * PIECE_BYTES]));
        assert_eq!(written.await.unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
