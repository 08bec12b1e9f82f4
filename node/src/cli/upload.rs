//! Local files and folders become blobs of the node that a command talks to.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use reqwest::Body;
use shoal_protocol::job::resolve;
use shoal_protocol::job::spec::{Job, Source};
use shoal_store::blobs::{LocalFile, local_files};
use tokio_util::io::ReaderStream;

use super::progress;
use crate::client::Client;
use crate::views::{BlobView, EntryView, ImportRequest, KindView};

/// Files that are uploaded at once.
const FILES_AT_ONCE: usize = 4;
/// Piece of a file that is read at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// The local paths of a job, from where the job file lies, if they are all there.
pub(super) fn local_inputs(job: &Job, base: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let mut found = Vec::new();
    for local in resolve::local_paths(job) {
        let path = base.join(local.path);
        let target = job.task.input_sources.get(local.input).map_or("", |input| &input.target);
        let there = std::fs::metadata(&path);
        there.with_context(|| format!("input {target}: cannot read {}", path.display()))?;
        found.push((local.input, path));
    }
    Ok(found)
}

/// Uploads a job's local paths and puts blobs in their place.
pub(super) async fn replace_inputs(client: &Client, job: &mut Job, inputs: Vec<(usize, PathBuf)>) -> Result<()> {
    for (input, path) in inputs {
        let blob = upload(client, &path).await?;
        resolve::replace_source(job, input, Source::Blob(blob.kind.content(blob.hash).into()));
    }
    Ok(())
}

/// Makes a file or a folder a blob of the node, which reads it itself if it can, and has it sent if not.
pub(super) async fn upload(client: &Client, path: &Path) -> Result<BlobView> {
    match import(client, path, false).await? {
        Some(blob) => Ok(blob),
        None => send(client, path).await,
    }
}

/// Makes a file or a folder a blob of the node that stays where it is, which the node must see too.
pub(super) async fn refer_to(client: &Client, path: &Path) -> Result<BlobView> {
    let blob = import(client, path, true).await?;
    blob.with_context(|| {
        let path = path.display();
        format!("cannot add {path} in place: the node does not see it at that path, leave out --in-place to send it")
    })
}

/// Has the node read a file or folder; none if it does not see it.
async fn import(client: &Client, path: &Path, in_place: bool) -> Result<Option<BlobView>> {
    let unreadable = || format!("cannot read {}", path.display());
    let metadata = std::fs::metadata(path).with_context(unreadable)?;
    let absolute = std::fs::canonicalize(path).with_context(unreadable)?;
    // Other names cannot travel in a request.
    if absolute.to_str().is_none() {
        return Ok(None);
    }
    let request = ImportRequest { path: absolute, device: metadata.dev(), inode: metadata.ino(), in_place };
    Ok(progress::import(client, &request, &path.display().to_string()).await?)
}

/// Uploads a file or a folder, with a bar on a terminal.
async fn send(client: &Client, path: &Path) -> Result<BlobView> {
    let metadata = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.is_file() {
        let bar = progress::bar(&path.display().to_string(), metadata.len());
        let blob = upload_file(client, path, &bar).await;
        bar.finish_and_clear();
        return blob;
    }
    if !metadata.is_dir() {
        bail!("{} is a device, socket or pipe: only files and folders can be added", path.display());
    }
    let files = local_files(path)?;
    let bytes = files.iter().filter_map(|file| Some(std::fs::metadata(&file.path).ok()?.len())).sum();
    let bar = progress::bar(&path.display().to_string(), bytes);
    let blob = upload_folder(client, files, &bar).await;
    bar.finish_and_clear();
    blob
}

async fn upload_folder(client: &Client, files: Vec<LocalFile>, bar: &ProgressBar) -> Result<BlobView> {
    let add = async |file: LocalFile| -> Result<EntryView> {
        let blob = upload_file(client, &file.path, bar).await?;
        Ok(EntryView { name: file.name, hash: blob.hash, bytes: None })
    };
    let entries: Vec<EntryView> = stream::iter(files).map(add).buffered(FILES_AT_ONCE).try_collect().await?;
    let folder = client.compose(&entries).await?;
    debug_assert_eq!(folder.kind, KindView::Folder);
    Ok(folder)
}

async fn upload_file(client: &Client, path: &Path, bar: &ProgressBar) -> Result<BlobView> {
    let unreadable = || format!("cannot read {}", path.display());
    let file = tokio::fs::File::open(path).await.with_context(unreadable)?;
    let bar = bar.clone();
    let pieces = ReaderStream::with_capacity(file, PIECE_BYTES).inspect(move |piece| {
        if let Ok(piece) = piece {
            bar.inc(piece.len() as u64);
        }
    });
    client.upload(Body::wrap_stream(pieces)).await.with_context(|| format!("cannot upload {}", path.display()))
}
