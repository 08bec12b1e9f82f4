//! Content of a node becomes local files: all or nothing, and nothing that is there is replaced unasked.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use futures_util::{Stream, StreamExt, pin_mut};
use indicatif::ProgressBar;
use shoal_protocol::id::{BlobHash, JobId};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use super::listing::{Holders, ListedFile, Listing};
use super::progress;
use crate::client::{Client, ClientError};
use crate::views::JobView;

/// Where a job's result goes unless told otherwise.
pub(super) fn usual_dir(job: JobId) -> PathBuf {
    PathBuf::from(format!("job-{}", job.short()))
}

/// What may happen to what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// Nothing may be there but an empty folder.
    Refused,
    /// Files of other names may be there.
    Joined,
    /// Files of the same names are replaced, others stay.
    Replaced,
}

/// Something that is made out of sight and appears in its place when it is complete.
struct Destination {
    target: PathBuf,
    existing: Existing,
    // On the same disk as the target; removed with what is still in it.
    workshop: TempDir,
}

impl Destination {
    fn new(target: &Path, existing: Existing) -> Result<Self> {
        if existing == Existing::Refused {
            check_free(target)?;
        }
        let target = std::path::absolute(target).with_context(|| format!("cannot use {}", target.display()))?;
        let parent = target.parent().unwrap_or(&target);
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let workshop = tempfile::Builder::new().prefix(".shoal-").tempdir_in(parent);
        let workshop = workshop.with_context(|| format!("cannot write into {}", parent.display()))?;
        Ok(Self { target, existing, workshop })
    }

    /// Where to write.
    fn path(&self) -> PathBuf {
        self.workshop.path().join("new")
    }

    /// Moves what was written to its place: as a whole if that is free, else these files into the folder there.
    fn finish(self, files: &[PathBuf]) -> Result<()> {
        let whole = || {
            let moved = std::fs::rename(self.path(), &self.target);
            moved.with_context(|| format!("cannot write {}", self.target.display()))
        };
        match check_free(&self.target) {
            Ok(()) => whole(),
            Err(error) if self.existing == Existing::Refused => Err(error),
            Err(_) if files.is_empty() => {
                check_place(&self.target, Path::new(""), self.existing)?;
                whole()
            }
            Err(_) => self.join(files),
        }
    }

    /// Checks all before it moves any.
    fn join(&self, files: &[PathBuf]) -> Result<()> {
        files.iter().try_for_each(|name| check_place(&self.target, name, self.existing))?;
        for name in files {
            let place = self.target.join(name);
            make_parent(&place)?;
            let moved = std::fs::rename(self.path().join(name), &place);
            moved.with_context(|| format!("cannot write {}", place.display()))?;
        }
        Ok(())
    }
}

/// Refuses a place where something is already, other than an empty folder.
pub(super) fn check_free(target: &Path) -> Result<()> {
    match std::fs::symlink_metadata(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot use {}", target.display())),
        Ok(metadata) if metadata.is_dir() && is_empty(target)? => Ok(()),
        Ok(_) => Err(taken(target)),
    }
}

/// Refuses a file's place below `dir` where something is that may not be replaced.
fn check_place(dir: &Path, name: &Path, existing: Existing) -> Result<()> {
    let place = if name == Path::new("") { dir.to_owned() } else { dir.join(name) };
    let folders = place.ancestors().skip(1).take(name.components().count());
    for folder in folders {
        if std::fs::metadata(folder).is_ok_and(|metadata| !metadata.is_dir()) {
            bail!("{} is there already and is no folder: remove it, or name another place", folder.display());
        }
    }
    match std::fs::symlink_metadata(&place) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot use {}", place.display())),
        Ok(metadata) if metadata.is_dir() => {
            bail!("{} is a folder, and a file is to be there: remove it, or name another place", place.display())
        }
        Ok(_) if existing == Existing::Replaced => Ok(()),
        Ok(_) => Err(taken(&place)),
    }
}

fn taken(place: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} is there already, and nothing is overwritten: name another place, or replace files with --force",
        place.display()
    )
}

fn is_empty(dir: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    Ok(entries.next().is_none())
}

fn make_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}

/// Writes a job's believed result: its parts, or a folder of them for each of several partitions.
pub(super) async fn job_result(client: &Client, job: &JobView, target: &Path) -> Result<()> {
    let files = Listing::believed(client, job).await?.find("")?.files();
    listed(client, files, target, true, false).await
}

/// Writes files of a listing below `dir`: all of them (`whole`), so that nothing else may be there, or some.
pub(super) async fn listed(
    client: &Client,
    files: Vec<ListedFile>,
    dir: &Path,
    whole: bool,
    force: bool,
) -> Result<()> {
    let existing = match (whole, force) {
        (_, true) => Existing::Replaced,
        (true, false) => Existing::Refused,
        (false, false) => Existing::Joined,
    };
    write_files(client, files, dir, existing).await
}

/// Writes one blob to the file `target`.
pub(super) async fn blob_to(client: &Client, hash: BlobHash, bytes: u64, target: &Path, force: bool) -> Result<()> {
    let existing = if force { Existing::Replaced } else { Existing::Refused };
    let destination = Destination::new(target, existing)?;
    let bar = progress::bar(&target.display().to_string(), bytes);
    let written = file(client, hash, &destination.path(), &bar).await;
    bar.finish_and_clear();
    written?;
    destination.finish(&[])
}

/// Writes the files of a folder into `target`.
pub(super) async fn folder_to(client: &Client, hash: BlobHash, target: &Path, force: bool) -> Result<()> {
    let entries = client.entries(hash).await?.into_iter();
    let file = |entry: crate::views::EntryView| ListedFile {
        name: entry.name,
        hash: entry.hash,
        bytes: entry.bytes,
        holders: Holders::default(),
    };
    listed(client, entries.map(file).collect(), target, true, force).await
}

async fn write_files(client: &Client, files: Vec<ListedFile>, dir: &Path, existing: Existing) -> Result<()> {
    let names: Vec<PathBuf> = files.iter().map(|file| Ok(safe(&file.name)?.to_owned())).collect::<Result<_>>()?;
    if existing != Existing::Refused {
        // Before the download, for the sake of an early answer.
        names.iter().try_for_each(|name| check_place(dir, name, existing))?;
    }
    let destination = Destination::new(dir, existing)?;
    let bar = progress::bar("downloading", files.iter().filter_map(|file| file.bytes).sum());
    let written = async {
        for (listed, name) in files.iter().zip(&names) {
            let target = destination.path().join(name);
            make_parent(&target)?;
            listed.have(client).await?;
            file(client, listed.hash, &target, &bar).await?;
        }
        // A folder without files is still a folder.
        std::fs::create_dir_all(destination.path()).context("cannot make the folder")
    };
    let written = written.await;
    bar.finish_and_clear();
    written?;
    destination.finish(&names)
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
        let half = Destination::new(&target, Existing::Refused).unwrap();
        std::fs::create_dir(half.path()).unwrap();
        drop(half);
        assert!(is_empty(&dir.path().join("a")).unwrap());

        std::fs::create_dir(&target).unwrap();
        let whole = Destination::new(&target, Existing::Refused).unwrap();
        std::fs::create_dir(whole.path()).unwrap();
        std::fs::write(whole.path().join("stdout"), "x").unwrap();
        whole.finish(&["stdout".into()]).unwrap();
        assert_eq!(std::fs::read_to_string(target.join("stdout")).unwrap(), "x");
        assert_eq!(std::fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }
    #[test]
    fn files_join_a_folder_and_replace_only_what_may_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("result");
        let write = |existing, files: &[&str]| {
            let names: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            let destination = Destination::new(&target, existing)?;
            for name in &names {
                let path = destination.path().join(name);
                make_parent(&path)?;
                std::fs::write(&path, format!("{existing:?}"))?;
            }
            destination.finish(&names)
        };
        let read = |name: &str| std::fs::read_to_string(target.join(name)).unwrap();
        write(Existing::Refused, &["stdout"]).unwrap();
        write(Existing::Joined, &["out/a"]).unwrap();
        assert_eq!((read("stdout"), read("out/a")), ("Refused".into(), "Joined".into()));

        let error = write(Existing::Joined, &["new", "stdout"]).unwrap_err().to_string();
        assert!(error.contains("stdout") && error.contains("--force"), "{error}");
        assert!(!target.join("new").exists(), "one file that cannot be written keeps the others away");

        write(Existing::Replaced, &["stdout", "new"]).unwrap();
        assert_eq!(
            (read("stdout"), read("new"), read("out/a")),
            ("Replaced".into(), "Replaced".into(), "Joined".into())
        );

        for (name, expected) in [("out", "is a folder"), ("stdout/x", "is no folder")] {
            let error = write(Existing::Replaced, &[name]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no workshop is left");
    }
}
