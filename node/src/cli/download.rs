//! Content of a node becomes local files: all or nothing, and nothing that is there is overwritten.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use futures_util::{Stream, StreamExt, pin_mut};
use indicatif::ProgressBar;
use shoal_protocol::id::{BlobHash, JobId};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use super::{output, progress};
use crate::client::{Client, ClientError};
use crate::views::{EntryView, ExecutionView, FetchRequest, JobView, KindView};

/// Where a job's result goes unless told otherwise.
pub(super) fn usual_dir(job: JobId) -> PathBuf {
    PathBuf::from(format!("job-{}", job.short()))
}

/// Something that is made out of sight and appears in its place when it is complete.
struct Destination {
    target: PathBuf,
    // On the same disk as the target; removed with what is still in it.
    workshop: TempDir,
}

impl Destination {
    fn new(target: &Path) -> Result<Self> {
        check_free(target)?;
        let target = std::path::absolute(target).with_context(|| format!("cannot use {}", target.display()))?;
        let parent = target.parent().unwrap_or(&target);
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let workshop = tempfile::Builder::new().prefix(".shoal-").tempdir_in(parent);
        Ok(Self { workshop: workshop.with_context(|| format!("cannot write into {}", parent.display()))?, target })
    }

    /// Where to write.
    fn path(&self) -> PathBuf {
        self.workshop.path().join("new")
    }

    /// Moves what was written to its place. An empty folder there gives way.
    fn finish(self) -> Result<()> {
        check_free(&self.target)?;
        std::fs::rename(self.path(), &self.target).with_context(|| format!("cannot write {}", self.target.display()))
    }
}

/// Refuses a place where something is already, other than an empty folder.
pub(super) fn check_free(target: &Path) -> Result<()> {
    match std::fs::symlink_metadata(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot use {}", target.display())),
        Ok(metadata) if metadata.is_dir() && is_empty(target)? => Ok(()),
        Ok(_) => bail!("{} is there already, and nothing is overwritten: name another place", target.display()),
    }
}

fn is_empty(dir: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    Ok(entries.next().is_none())
}

/// Writes a job's believed result: its parts, or a folder of them for each of several partitions.
pub(super) async fn job_result(client: &Client, job: &JobView, target: &Path) -> Result<()> {
    let destination = Destination::new(target)?;
    let partitions = &job.verification.partitions;
    for partition in partitions {
        let index = partition.partition_index;
        let hash = partition.result_hash.with_context(|| format!("partition {index} has no result"))?;
        let dir = match partitions.len() {
            1 => destination.path(),
            _ => destination.path().join(index.to_string()),
        };
        folder(client, hash, &dir).await?;
    }
    destination.finish()
}

/// Writes what each execution of a job revealed, a folder for each; returns how many there were.
pub(super) async fn all_executions(client: &Client, job: &JobView, target: &Path) -> Result<usize> {
    let destination = Destination::new(target)?;
    let mut written = 0;
    for execution in &job.executions {
        let Some(hash) = execution.result_hash else { continue };
        match have(client, execution, hash).await {
            Ok(()) => {
                folder(client, hash, &destination.path().join(execution.execution_id.to_string())).await?;
                written += 1;
            }
            // What did not count need not have been kept by anybody.
            Err(error) => output::note(format_args!("execution {} is left out: {error}", execution.execution_id)),
        }
    }
    if written > 0 {
        destination.finish()?;
    }
    Ok(written)
}

async fn have(client: &Client, execution: &ExecutionView, hash: BlobHash) -> Result<(), ClientError> {
    let (hash, kind, providers) = (Some(hash), KindView::Folder, vec![execution.peer_id]);
    progress::fetch(client, &FetchRequest { hash, kind, providers, ticket: None }).await.map(drop)
}

/// Writes one blob to the file `target`.
pub(super) async fn blob_to(client: &Client, hash: BlobHash, bytes: u64, target: &Path) -> Result<()> {
    let destination = Destination::new(target)?;
    let bar = progress::bar(&target.display().to_string(), bytes);
    let written = file(client, hash, &destination.path(), &bar).await;
    bar.finish_and_clear();
    written?;
    destination.finish()
}

/// Writes the files of a folder into `target`.
pub(super) async fn folder_to(client: &Client, hash: BlobHash, target: &Path) -> Result<()> {
    let destination = Destination::new(target)?;
    folder(client, hash, &destination.path()).await?;
    destination.finish()
}

/// The first bytes of one file of a folder, and whether that is all of it; none if there is no such file.
pub(super) async fn head(
    client: &Client,
    folder: BlobHash,
    name: &str,
    limit: usize,
) -> Result<Option<(Vec<u8>, bool)>> {
    let entries = client.entries(folder).await?;
    let Some(entry) = entries.into_iter().find(|entry| entry.name == name) else { return Ok(None) };
    let pieces = client.read(entry.hash).await?;
    pin_mut!(pieces);
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() > limit {
            bytes.truncate(limit);
            return Ok(Some((bytes, false)));
        }
    }
    Ok(Some((bytes, true)))
}

async fn folder(client: &Client, hash: BlobHash, dir: &Path) -> Result<()> {
    let entries = client.entries(hash).await?;
    let bytes = entries.iter().filter_map(|entry| entry.bytes).sum();
    let bar = progress::bar("downloading", bytes);
    let written = files(client, entries, dir, &bar).await;
    bar.finish_and_clear();
    written
}

async fn files(client: &Client, entries: Vec<EntryView>, dir: &Path, bar: &ProgressBar) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for entry in entries {
        let target = dir.join(safe(&entry.name)?);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        file(client, entry.hash, &target, bar).await?;
    }
    Ok(())
}

async fn file(client: &Client, hash: BlobHash, target: &Path, bar: &ProgressBar) -> Result<()> {
    let pieces = client.read(hash).await?;
    write(pieces, target, bar).await.with_context(|| format!("cannot write {}", target.display()))
}

async fn write(
    pieces: impl Stream<Item = Result<bytes::Bytes, ClientError>>,
    target: &Path,
    bar: &ProgressBar,
) -> Result<()> {
    let mut file = tokio::fs::File::create_new(target).await?;
    pin_mut!(pieces);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        file.write_all(&piece).await?;
        bar.inc(piece.len() as u64);
    }
    Ok(file.flush().await?)
}

/// A name as a path below where we write. Nodes check names too, but this is our disk.
fn safe(name: &str) -> Result<&Path> {
    let path = Path::new(name);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if is_plain && !name.is_empty() { Ok(path) } else { bail!("the name {name:?} leads out of its folder: refused") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "/etc/passwd", "../x", "a/../../x", "."] {
            assert!(safe(name).is_err(), "{name}");
        }
        assert_eq!(safe("out/a.txt").unwrap(), Path::new("out/a.txt"));
    }

    #[test]
    fn only_what_is_free_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (file, full, empty) = (dir.path().join("file"), dir.path().join("full"), dir.path().join("empty"));
        std::fs::write(&file, "mine").unwrap();
        std::fs::create_dir_all(full.join("x")).unwrap();
        std::fs::create_dir(&empty).unwrap();
        for taken in [&file, &full] {
            let message = check_free(taken).unwrap_err().to_string();
            assert!(message.contains(taken.to_str().unwrap()) && message.contains("overwritten"), "{message}");
        }
        check_free(&empty).unwrap();
        check_free(&dir.path().join("new")).unwrap();
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a").join("result");
        let half = Destination::new(&target).unwrap();
        std::fs::create_dir(half.path()).unwrap();
        drop(half);
        assert!(is_empty(&dir.path().join("a")).unwrap());

        std::fs::create_dir(&target).unwrap();
        let whole = Destination::new(&target).unwrap();
        std::fs::create_dir(whole.path()).unwrap();
        std::fs::write(whole.path().join("stdout"), "x").unwrap();
        whole.finish().unwrap();
        assert_eq!(std::fs::read_to_string(target.join("stdout")).unwrap(), "x");
        assert_eq!(std::fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }
}
