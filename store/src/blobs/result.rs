//! The result of an execution: `stdout`, `stderr`, `exitCode` and each result path, as one folder.
//!
//! Its hash is what workers vote on, so it depends on names and content alone. A result path that is a file becomes
//! a file of its name; one that is a folder becomes its files below that name, and an empty one leaves no trace.

use std::path::PathBuf;

use bytes::Bytes;

use super::Blobs;
use super::import::{Found, ImportError, Imported, blocking, describe, walk};

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
        let mut files = Vec::new();
        for (name, part) in result.parts {
            match part {
                ResultPart::Bytes(bytes) => files.push((name, self.add_bytes(bytes).await?)),
                ResultPart::Path(path) => {
                    let found = blocking(move || find(name, path)).await?;
                    files.extend(self.add_files(found).await?);
                }
            }
        }
        Ok(self.make_folder(files).await?)
    }
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
