//! The result of an execution: `stdout`, `stderr`, `exitCode` and each result path, as one folder.
//!
//! Its hash is what workers vote on, so it depends on names and content alone. A result path that is a file becomes
//! a file of its name; one that is a folder becomes its files below that name, and an empty one leaves no trace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::{Content, ContentKind};

use super::folder::lists;
use super::import::{FILES_AT_ONCE, Found, ImportError, Imported, blocking, describe, walk};
use super::names::check_names;
use super::{Blobs, MAX_LOOKED_UP};

/// What is read of one result at once, in bytes: its other files go through the store one by one.
const MAX_GATHERED: usize = 1 << 20;

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct ResultFiles {
    parts: Vec<(String, ResultPart)>,
}

/// One part of a result.
#[derive(Debug, Clone)]
pub enum ResultPart {
    /// A file that is in memory.
    Bytes(Bytes),
    /// A file or folder on disk. It must be there and must not be a link.
    Path(PathBuf),
}

impl ResultFiles {
    /// A result without result paths. `exitCode` holds the code in decimal, without a newline.
    pub fn new(exit_code: i32, stdout: ResultPart, stderr: ResultPart) -> Self {
        let exit_code = ResultPart::Bytes(exit_code.to_string().into());
        let parts = [("stdout", stdout), ("stderr", stderr), ("exitCode", exit_code)];
        Self { parts: parts.map(|(name, part)| (name.into(), part)).into() }
    }

    /// Adds the result path called `name`. Order does not matter.
    pub fn push(&mut self, name: impl Into<String>, part: ResultPart) {
        self.parts.push((name.into(), part));
    }
}

impl Blobs {
    /// Makes the folder that is a result. Its files have to rest while this reads them.
    pub async fn collect(&self, result: ResultFiles) -> Result<Imported, ImportError> {
        let files = gather(result).await?;
        if let Some(known) = self.known(&files).await? {
            return Ok(known);
        }
        let add = |(name, part): (String, ResultPart)| async move {
            let added = match part {
                ResultPart::Bytes(bytes) => self.add_bytes(bytes).await?,
                ResultPart::Path(path) => self.add_file(path).await?,
            };
            Ok::<_, ImportError>((name, added))
        };
        let files = stream::iter(files).map(add).buffered(FILES_AT_ONCE).try_collect().await?;
        Ok(self.make_folder(files).await?)
    }

    /// The folder of these files, if all of them are in memory and it is here already.
    async fn known(&self, files: &[(String, ResultPart)]) -> Result<Option<Imported>, ImportError> {
        let mut entries = BTreeMap::new();
        let mut bytes = 0;
        for (name, part) in files {
            let ResultPart::Bytes(data) = part else { return Ok(None) };
            entries.insert(name.as_str(), BlobHash::of(data));
            bytes += data.len();
        }
        check_names(entries.keys().copied())?;
        let [names, hashes] = lists(entries.iter().map(|(name, hash)| (*name, *hash)));
        let content = Content { hash: BlobHash::of(&hashes), kind: ContentKind::Collection };
        let parts = [content.hash, BlobHash::of(&names)].into_iter().chain(entries.into_values());
        let bytes = (bytes + names.len() + hashes.len()) as u64;
        Ok(self.guard_known(content, parts).await?.map(|guard| Imported { content, bytes, guard }))
    }
}

/// The files of a result by name. Small ones are read: the store would keep them in its database anyway.
async fn gather(result: ResultFiles) -> Result<Vec<(String, ResultPart)>, ImportError> {
    if result.parts.iter().all(|(_, part)| matches!(part, ResultPart::Bytes(_))) {
        return Ok(result.parts);
    }
    blocking(move || {
        let (mut files, mut room) = (Vec::new(), MAX_GATHERED);
        for (name, part) in result.parts {
            let ResultPart::Path(path) = part else {
                files.push((name, part));
                continue;
            };
            for found in find(name, path)? {
                let part = read_small(found.path, room.min(MAX_LOOKED_UP))?;
                room -= if let ResultPart::Bytes(bytes) = &part { bytes.len() } else { 0 };
                files.push((found.name, part));
            }
        }
        Ok(files)
    })
    .await
}

fn find(name: String, path: PathBuf) -> Result<Vec<Found>, ImportError> {
    let unreadable = |source| ImportError::Unreadable { path: path.clone(), source };
    let path = std::path::absolute(&path).map_err(unreadable)?;
    // Not followed: a program that leaves a link must not read the worker's files with it.
    let kind = std::fs::symlink_metadata(&path).map_err(unreadable)?.file_type();
    if kind.is_dir() {
        walk(&path, &format!("{name}/"))
    } else if kind.is_file() {
        Ok(vec![Found { name, path }])
    } else {
        Err(ImportError::Special { path, kind: describe(kind) })
    }
}

/// The file's bytes if it has at most `limit` of them.
fn read_small(path: PathBuf, limit: usize) -> Result<ResultPart, ImportError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(&path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| ImportError::Unreadable { path: path.clone(), source })?;
    Ok(if bytes.len() <= limit { ResultPart::Bytes(bytes.into()) } else { ResultPart::Path(path) })
}
