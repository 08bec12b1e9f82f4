//! Files and folders of this machine, where its operator allows.
//!
//! The path is resolved first and compared with the operator's list then, so that no link leads elsewhere. What it
//! names is opened step by step without following links, so that nothing that changes meanwhile does either.

mod allowed;
mod tree;

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};
use shoal_protocol::job::spec::{CreateAs, LocalSource};
use shoal_protocol::task::ContentKind;
use tokio_util::io::ReaderStream;

pub use self::allowed::{AllowList, AllowListError};
use self::tree::{Found, Tree, TreeError};
use super::{DataError, Obtained, Progress, Request};
use crate::blobs::{Blobs, Imported};

/// Files that are read at once.
const FILES_AT_ONCE: usize = 4;
/// Piece of a file that is read at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;
/// What is allowed where the list says nothing.
const REMEDY: &str = "let the operator of this node allow it with --allow-local-path GLOB[:ro|:rw]";

#[derive(Debug)]
pub(super) struct Reader {
    allowed: AllowList,
}

impl Reader {
    pub(super) fn new(allowed: AllowList) -> Self {
        Self { allowed }
    }

    /// Where a file or folder lies that a program may write, with all links resolved.
    pub(super) async fn mountable(&self, source: &LocalSource) -> Result<PathBuf, DataError> {
        let (allowed, source) = (self.allowed.clone(), source.clone());
        let path = source.source_path.clone();
        let found = tokio::task::spawn_blocking(move || mountable(&allowed, &source)).await;
        found.map_err(|failed| DataError::new(&path, failed.to_string(), "try again"))?
    }

    pub(super) async fn obtain(
        &self,
        blobs: &Blobs,
        source: &LocalSource,
        request: &Request<'_>,
    ) -> Result<Obtained, DataError> {
        let (allowed, source) = (self.allowed.clone(), source.clone());
        let path = source.source_path.clone();
        let error = |reason: String, remedy: &str| DataError::new(&path, reason, remedy);
        let open = move || {
            let resolved = resolve(&allowed, &source, false)?;
            Tree::open(&resolved).map_err(|error| describe(&source.source_path, &error))
        };
        let opened = tokio::task::spawn_blocking(open).await;
        let tree = opened.map_err(|failed| error(failed.to_string(), "try again"))??;
        if tree.bytes > request.max_bytes {
            let reason =
                format!("has {} bytes, more than the {} that an input may have", tree.bytes, request.max_bytes);
            return Err(error(reason, "name a smaller folder"));
        }
        let imported = import(blobs, tree, request).await;
        Ok(Obtained::one(imported.map_err(|reason| error(reason, "see that it rests while it is read"))?, &path))
    }
}

/// Where a path that a program is to write leads, if it may be mounted there.
fn mountable(allowed: &AllowList, source: &LocalSource) -> Result<PathBuf, DataError> {
    let error = |reason: &str, remedy: &str| DataError::new(&source.source_path, reason, remedy);
    let resolved = resolve(allowed, source, true)?;
    if !allowed.may_mount(&resolved) {
        let reason = "lies within what jobs may write, and only what the operator named itself is given to be written";
        return Err(error(reason, "name the folder that --allow-local-path names, or have the operator name this one"));
    }
    let found = resolved.symlink_metadata().map_err(|failed| error(&failed.to_string(), "check the path"))?;
    if found.is_dir() || found.is_file() {
        Ok(resolved)
    } else {
        Err(error("is neither a file nor a folder", "name one"))
    }
}

/// Where a path leads, if that is allowed. What is missing is made, where that is allowed. `mounts` says that it is to
/// be mounted where it lies.
fn resolve(allowed: &AllowList, source: &LocalSource, mounts: bool) -> Result<PathBuf, DataError> {
    let written = Path::new(&source.source_path);
    let error = |reason: String, remedy: &str| DataError::new(&source.source_path, reason, remedy);
    if !written.is_absolute() {
        return Err(error("is not an absolute path".into(), "write it from / on"));
    }
    let forbidden = || error("is not among the paths that jobs may read".into(), REMEDY);
    // Whether something is there is nobody's business where nothing is allowed.
    let unusable = |reason: String| {
        let plain = written.components().all(|part| part != Component::ParentDir);
        if plain && allowed.may_read(written) { error(reason, "check the path") } else { forbidden() }
    };
    let found = match written.canonicalize() {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => None,
        found => Some(found.map_err(|failed| unusable(failed.to_string()))?),
    };
    let resolved = match &found {
        Some(resolved) => resolved.clone(),
        None => would_be(written).ok_or_else(|| unusable("is not there, nor its folder".into()))?,
    };
    if !allowed.may_read(&resolved) {
        return Err(forbidden());
    }
    let makes = found.is_none() && source.create_as != CreateAs::NoCreate;
    if (makes || source.read_write) && !allowed.may_write(&resolved) {
        let reason = if makes { "is not there, and jobs may not make it" } else { "may be read, but not written" };
        return Err(error(reason.into(), REMEDY));
    }
    if source.read_write && !mounts {
        let reason = "is written by the program, and so is not the same for everybody who reads it";
        return Err(error(reason.into(), "leave ReadWrite out, or let workers read it"));
    }
    if found.is_none() {
        make(&resolved, source.create_as).map_err(|failed| error(failed.to_string(), "check the path"))?;
    }
    Ok(resolved)
}

/// Where something would be that is not there, if its folder is.
fn would_be(path: &Path) -> Option<PathBuf> {
    Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
}

fn make(path: &Path, kind: CreateAs) -> io::Result<()> {
    match kind {
        CreateAs::Dir => std::fs::create_dir(path),
        CreateAs::File => std::fs::File::create_new(path).map(drop),
        CreateAs::NoCreate => Err(io::Error::new(io::ErrorKind::NotFound, "it is not there")),
    }
}

fn describe(path: &str, error: &TreeError) -> DataError {
    DataError::new(path, error.to_string(), "only files and folders are read, and links in a folder are not followed")
}

/// Makes blobs of what was found; the error is for a person.
async fn import(blobs: &Blobs, tree: Tree, request: &Request<'_>) -> Result<Imported, String> {
    let tree = Arc::new(tree);
    let read = AtomicU64::new(0);
    let add = |found: Found| {
        let (tree, read) = (Arc::clone(&tree), &read);
        async move {
            let added = add(blobs, &tree, &found).await.map_err(|error| format!("{}: {error}", found.name))?;
            let bytes = read.fetch_add(added.bytes, Ordering::Relaxed) + added.bytes;
            (request.progress)(Progress { bytes, total: Some(tree.bytes) });
            Ok::<_, String>((found.name, added))
        }
    };
    let mut files: Vec<(String, Imported)> =
        stream::iter(tree.files.clone()).map(add).buffered(FILES_AT_ONCE).try_collect().await?;
    match tree.kind {
        ContentKind::Raw => Ok(files.remove(0).1),
        ContentKind::Collection => {
            let files = files.iter().map(|(name, file)| (name.clone(), file.content.hash)).collect();
            blobs.compose(files).await.map_err(|error| error.to_string())
        }
    }
}

async fn add(blobs: &Blobs, tree: &Arc<Tree>, found: &Found) -> Result<Imported, String> {
    let (tree, name) = (Arc::clone(tree), found.name.clone());
    let file = tokio::task::spawn_blocking(move || tree.file(&name)).await.map_err(|error| error.to_string())?;
    let file = tokio::fs::File::from_std(file.map_err(|error| error.to_string())?);
    // What grows meanwhile is read as far as it was when it was measured.
    let pieces = ReaderStream::with_capacity(tokio::io::AsyncReadExt::take(file, found.bytes), PIECE_BYTES);
    blobs.add_stream(pieces).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
