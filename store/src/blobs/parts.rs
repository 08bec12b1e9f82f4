//! Folders taken apart and put together again by a caller that moves their files one by one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::task::{Poll, ready};

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use iroh_blobs::api::blobs::AddProgressItem;
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::{Content, ContentKind};
use tokio::sync::oneshot;

use super::folder::{FolderError, lists};
use super::import::{ImportError, Imported, walk};
use super::{Blobs, Status, StoreFailed, failed};

/// A file of a folder in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFile {
    /// Its relative name, which is safe to use as a path.
    pub name: String,
    /// Its content.
    pub hash: BlobHash,
    /// How much of it is here.
    pub status: Status,
}

/// A file on disk and the name it will have in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Its relative name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// Why files were not made a folder.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// A file is not here, or not all of it.
    #[error("blob {0} is not complete here: add it first")]
    Missing(BlobHash),
    /// The names cannot be those of a folder, or the store failed.
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// Every file below `root` that an import of it would read, by name.
pub fn local_files(root: &Path) -> Result<Vec<LocalFile>, ImportError> {
    let unreadable = |source| ImportError::Unreadable { path: root.into(), source };
    let resolved = fs::canonicalize(root).map_err(unreadable)?;
    let found = walk(&resolved, "")?.into_iter();
    let mut files: Vec<LocalFile> = found.map(|file| LocalFile { name: file.name, path: file.path }).collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The hash that a folder of these files has; they come by name.
pub fn folder_hash<'a>(files: impl Iterator<Item = (&'a str, BlobHash)>) -> BlobHash {
    let [_, hashes] = lists(files);
    BlobHash::of(&hashes)
}

impl Blobs {
    /// The files of a folder, by name.
    pub async fn files(&self, root: BlobHash) -> Result<Vec<FolderFile>, FolderError> {
        let mut files = Vec::new();
        for entry in self.folder(root).await? {
            let status = self.status(Content { hash: entry.hash, kind: ContentKind::Raw }).await?;
            files.push(FolderFile { name: entry.name, hash: entry.hash, status });
        }
        Ok(files)
    }

    /// The names and hashes of a folder's files, by name, whether the files are here or not.
    pub async fn entries(&self, root: BlobHash) -> Result<Vec<(String, BlobHash)>, FolderError> {
        Ok(self.folder(root).await?.into_iter().map(|entry| (entry.name, entry.hash)).collect())
    }

    /// Guards content that is all here; none if it is not, or if a collection might be removing it just now.
    pub(crate) async fn guard_complete(&self, content: Content) -> Result<Option<Imported>, FolderError> {
        let mut parts = vec![content.hash];
        if content.kind == ContentKind::Collection {
            parts.extend(self.folder_blobs(content.hash).await?);
        }
        let Some(guard) = self.guard_known(content, parts).await? else { return Ok(None) };
        Ok(self.size(content).await?.map(|bytes| Imported { content, bytes, guard }))
    }

    /// Makes a folder of blobs that are here.
    pub async fn compose(&self, files: Vec<(String, BlobHash)>) -> Result<Imported, ComposeError> {
        let mut parts = Vec::with_capacity(files.len());
        for (name, hash) in files {
            let content = Content { hash, kind: ContentKind::Raw };
            let guard = self.protect(content).await.map_err(ImportError::from)?;
            match self.status(content).await {
                Ok(Status::Complete { bytes }) => parts.push((name, Imported { content, bytes, guard })),
                Ok(_) => return Err(ComposeError::Missing(hash)),
                Err(FolderError::Store(error)) => return Err(ImportError::from(error).into()),
                Err(_) => return Err(ComposeError::Missing(hash)),
            }
        }
        Ok(self.make_folder(parts).await.map_err(ImportError::from)?)
    }

    /// Adds what a stream yields as one blob. An error of the stream adds nothing.
    pub async fn add_stream(
        &self,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
    ) -> Result<Imported, StoreFailed> {
        let _importing = self.importing.read().await;
        let mut room = self.reserve_blobs(0).await?;
        let (bytes, broken) = without_errors(bytes);
        let mut broken = broken.fuse();
        let mut progress = self.store.blobs().add_stream(bytes).await.stream().await;
        let mut size = 0;
        loop {
            let item = tokio::select! {
                // Dropping the progress ends the import.
                Ok(error) = &mut broken => return Err(failed(error)),
                item = progress.next() => item,
            };
            let Some(item) = item else { break };
            match item {
                AddProgressItem::CopyProgress(copied) => {
                    self.extend(&mut room, copied).await?;
                    size = copied;
                }
                AddProgressItem::Size(known) => {
                    room.shrink(known);
                    size = known;
                }
                AddProgressItem::Done(tag) => return Ok(self.imported(tag, size)),
                AddProgressItem::Error(error) if error.kind() == io::ErrorKind::StorageFull => {
                    return Err(self.full(size));
                }
                AddProgressItem::Error(error) => return Err(failed(error)),
                AddProgressItem::CopyDone | AddProgressItem::OutboardProgress(_) => {}
            }
        }
        Err(failed(io::Error::other("an import ended without a result")))
    }
}

/// The stream up to its error, after which it stays silent, and the error. iroh-blobs panics when a source fails while
/// it reports progress (`select!` in its `add_stream` yields twice), so that it must not hear of it.
fn without_errors(
    bytes: impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
) -> (impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static, oneshot::Receiver<io::Error>) {
    let (broke, broken) = oneshot::channel();
    let (mut bytes, mut broke) = (Box::pin(bytes), Some(broke));
    let whole = stream::poll_fn(move |context| {
        if broke.is_none() {
            return Poll::Pending;
        }
        match ready!(bytes.as_mut().poll_next(context)) {
            Some(Err(error)) => {
                broke.take().map(|broke| broke.send(error));
                Poll::Pending
            }
            piece => Poll::Ready(piece),
        }
    });
    (whole, broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::BlobsConfig;

    async fn store() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs"), BlobsConfig::default()).await.unwrap();
        (dir, blobs)
    }

    #[tokio::test]
    async fn a_folder_that_is_moved_file_by_file_is_the_folder_that_is_imported() {
        let (dir, blobs) = store().await;
        let root = dir.path().join("tree");
        fs::create_dir_all(root.join("b")).unwrap();
        fs::write(root.join("b").join("c"), "deep").unwrap();
        fs::write(root.join("a"), "flat").unwrap();

        let files = local_files(&root).unwrap();
        assert_eq!(files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["a", "b/c"]);
        let (mut parts, mut guards) = (Vec::new(), Vec::new());
        for file in files {
            let added = blobs.add_stream(stream::iter([Ok(fs::read(&file.path).unwrap().into())])).await.unwrap();
            parts.push((file.name, added.content.hash));
            guards.push(added.guard);
        }
        let (composed, imported) = (blobs.compose(parts).await.unwrap(), blobs.import_path(&root).await.unwrap());
        assert_eq!((composed.content, composed.bytes), (imported.content, imported.bytes));

        let files = blobs.files(composed.content.hash).await.unwrap();
        let sizes: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.status)).collect();
        assert_eq!(sizes, [("a", Status::Complete { bytes: 4 }), ("b/c", Status::Complete { bytes: 4 })]);
    }

    #[tokio::test]
    async fn a_folder_of_what_is_not_here_is_refused() {
        let (_dir, blobs) = store().await;
        let missing = BlobHash([7; 32]);
        let error = blobs.compose(vec![("a".into(), missing)]).await.unwrap_err();
        assert!(matches!(error, ComposeError::Missing(hash) if hash == missing), "{error}");
    }

    #[tokio::test]
    async fn a_stream_may_break_at_any_time() {
        let (_dir, blobs) = store().await;
        for pieces in 0..40 {
            let good = stream::iter((0..pieces).map(|_| Ok(Bytes::from(vec![7; 64 << 10]))));
            let bad = stream::once(async { Err(io::Error::other("gone")) });
            let error = blobs.add_stream(good.chain(bad)).await.unwrap_err();
            assert!(error.to_string().contains("gone"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_breaks_adds_nothing() {
        let (_dir, blobs) = store().await;
        let pieces = [Ok(Bytes::from_static(b"half")), Err(io::Error::other("gone"))];
        assert!(blobs.add_stream(stream::iter(pieces)).await.is_err());
        let half = Content { hash: BlobHash::of(b"half"), kind: ContentKind::Raw };
        assert_eq!(blobs.status(half).await.unwrap(), Status::Missing);
    }
}
