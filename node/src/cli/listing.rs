//! The files of a job's result by name, before any of them is downloaded.
//!
//! A result with one partition has its parts at the top; with several, each partition has a folder. What executions
//! revealed is listed in a folder for each. Only lists travel for this, so that one file of a large result costs
//! that file.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Result, bail};
use shoal_protocol::id::{BlobHash, PeerId};

use super::{output, progress};
use crate::client::{Client, ClientError};
use crate::views::{EntryView, FetchRequest, JobView, KindView};

/// Names that an error lists when something is not there.
const MAX_NAMED: usize = 12;

/// A job, and what of its result is meant: `ID`, or `ID/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The job's id, or its beginning.
    pub(super) job: String,
    /// A file or folder of the result; empty for all of it.
    pub(super) path: String,
}

/// A file of a result, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedFile {
    /// Its name in the listing.
    pub(super) name: String,
    /// Its content.
    pub(super) hash: BlobHash,
    /// Its size, in bytes, if the node has it.
    pub(super) bytes: Option<u64>,
    /// Who has it otherwise.
    pub(super) holders: Holders,
}

/// Who may have what the node has not.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Holders {
    /// Peers that made it.
    makers: Vec<PeerId>,
    /// The folder that it is part of: others may have that.
    folder: Option<BlobHash>,
}

/// The files of a result.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Listing(Vec<ListedFile>);

/// What a path of a listing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// One file.
    File(ListedFile),
    /// A folder: its files, with their names in the whole listing.
    Folder(Vec<ListedFile>),
}

/// One line of a folder's listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// A file in it.
    File(ListedFile),
    /// A folder in it, with the number of its files and, if it is known of all, their size.
    Folder(String, u64, Option<u64>),
}

/// Something of a job that has a result: an execution or a partition.
struct Part {
    /// The folder that it has in the listing, or empty.
    folder: String,
    result: BlobHash,
    makers: Vec<PeerId>,
}

impl FromStr for Place {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (job, path) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self { job: job.to_owned(), path: path.trim_matches('/').to_owned() })
    }
}

impl Listing {
    /// What is believed of a job.
    pub(super) async fn believed(client: &Client, job: &JobView) -> Result<Self> {
        let partitions = &job.verification.partitions;
        let mut parts = Vec::new();
        for partition in partitions {
            let index = partition.partition_index;
            let Some(result) = partition.result_hash else { bail!(no_result(job, index)) };
            let folder = if partitions.len() == 1 { String::new() } else { index.to_string() };
            let agreeing = job.executions.iter().filter(|one| one.result_hash == Some(result));
            parts.push(Part { folder, result, makers: agreeing.map(|one| one.peer_id).collect() });
        }
        let mut files = Vec::new();
        for part in &parts {
            files.extend(part.files(client).await.map_err(|error| explained(job, error.into()))?);
        }
        Ok(Self(files))
    }

    /// What each execution of a job revealed, as far as anybody still has it.
    pub(super) async fn revealed(client: &Client, job: &JobView) -> Result<Self> {
        let mut files = Vec::new();
        for execution in &job.executions {
            let Some(result) = execution.result_hash else { continue };
            let folder = execution.execution_id.to_string();
            let part = Part { folder, result, makers: vec![execution.peer_id] };
            match part.files(client).await {
                Ok(more) => files.extend(more),
                // What did not count need not have been kept by anybody.
                Err(error) => output::note(format_args!("execution {} is left out: {error}", part.folder)),
            }
        }
        if files.is_empty() {
            bail!("job {} has no execution whose result can be had", job.job_id);
        }
        Ok(Self(files))
    }

    /// What is at `path`; empty for everything.
    pub(super) fn find(&self, path: &str) -> Result<Found> {
        if let Some(file) = self.0.iter().find(|file| file.name == path) {
            return Ok(Found::File(file.clone()));
        }
        let inside = |file: &&ListedFile| path.is_empty() || below(&file.name, path).is_some();
        let files: Vec<ListedFile> = self.0.iter().filter(inside).cloned().collect();
        if files.is_empty() {
            let names: Vec<String> = lines("", &self.0).iter().map(Line::name).collect();
            let more = if names.len() > MAX_NAMED { ", …" } else { "" };
            let names: Vec<String> = names.into_iter().take(MAX_NAMED).collect();
            bail!("there is no {path:?} in the result: it has {}{more}", names.join(", "));
        }
        Ok(Found::Folder(files))
    }
}

impl Part {
    async fn files(&self, client: &Client) -> Result<Vec<ListedFile>, ClientError> {
        let entries = match client.entries(self.result).await {
            Err(error) if error.code() == Some("not_found") => {
                let providers = self.makers.clone();
                let (hash, kind) = (Some(self.result), KindView::Folder);
                let list = FetchRequest { hash, kind, providers, list_only: true, ..FetchRequest::default() };
                progress::fetch(client, &list).await?;
                client.entries(self.result).await?
            }
            entries => entries?,
        };
        let holders = Holders { makers: self.makers.clone(), folder: Some(self.result) };
        let file = |EntryView { name, hash, bytes }| {
            let name = if self.folder.is_empty() { name } else { format!("{}/{name}", self.folder) };
            ListedFile { name, hash, bytes, holders: holders.clone() }
        };
        Ok(entries.into_iter().map(file).collect())
    }
}

impl Found {
    /// Its files.
    pub(super) fn files(self) -> Vec<ListedFile> {
        match self {
            Found::File(file) => vec![file],
            Found::Folder(files) => files,
        }
    }
}

impl Line {
    /// How it is listed: a folder ends in `/`.
    pub(super) fn name(&self) -> String {
        match self {
            Line::File(file) => file.name.clone(),
            Line::Folder(name, ..) => format!("{name}/"),
        }
    }
}

impl ListedFile {
    /// Makes sure that the node has it, and returns its size in bytes.
    pub(super) async fn have(&self, client: &Client) -> Result<u64, ClientError> {
        if let Some(bytes) = self.bytes {
            return Ok(bytes);
        }
        let (hash, kind) = (Some(self.hash), KindView::File);
        let Holders { makers: providers, folder } = self.holders.clone();
        let file = FetchRequest { hash, kind, providers, folder, ..FetchRequest::default() };
        Ok(progress::fetch(client, &file).await?.bytes)
    }
}

/// What lies directly in the folder `path`, of which `files` are all files: files first come where they are, folders
/// where their first file does.
pub(super) fn lines(path: &str, files: &[ListedFile]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut folders: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files {
        let rest = if path.is_empty() { Some(file.name.as_str()) } else { below(&file.name, path) };
        let Some(rest) = rest else { continue };
        let Some((folder, _)) = rest.split_once('/') else {
            lines.push(Line::File(ListedFile { name: rest.to_owned(), ..file.clone() }));
            continue;
        };
        let at = *folders.entry(folder).or_insert_with(|| {
            lines.push(Line::Folder(folder.to_owned(), 0, Some(0)));
            lines.len() - 1
        });
        if let Line::Folder(_, count, bytes) = &mut lines[at] {
            *count += 1;
            *bytes = bytes.zip(file.bytes).map(|(sum, more)| sum + more);
        }
    }
    lines
}

/// The name within a folder, of what is in it.
pub(super) fn below<'a>(name: &'a str, folder: &str) -> Option<&'a str> {
    name.strip_prefix(folder)?.strip_prefix('/')
}

/// Why a result cannot be had: when nobody has it any more, until when it was kept and what to do.
pub(super) fn explained(job: &JobView, error: anyhow::Error) -> anyhow::Error {
    let missing = error.downcast_ref::<ClientError>().is_some_and(|error| error.code() == Some("not_found"));
    match &job.result {
        Some(result) if missing => anyhow::anyhow!(
            "the result of job {id} is gone: it was to be kept until {until}, and nobody who can be reached has it any \
             more; submit the job again, with a longer Retention (-p blob,opt=retention=90d)",
            id = job.job_id,
            until = result.kept_until,
        ),
        _ => error,
    }
}

fn no_result(job: &JobView, partition: u32) -> String {
    let (id, state) = (job.job_id, job.state);
    if !state.is_over() {
        return format!("job {id} has no result yet: it is {state:?}; wait with `shoal job logs -f {id}`");
    }
    let reason = if job.state_reason.is_empty() { String::new() } else { format!(" ({})", job.state_reason) };
    format!(
        "job {id} has no believed result for partition {partition}: it is {state:?}{reason}; \
         what its executions revealed can be had with --all-executions"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let files = [("exitCode", Some(1)), ("out/a", Some(10)), ("out/sub/b", None), ("stdout", Some(3))];
        let file = |(index, (name, bytes)): (u8, (&str, Option<u64>))| ListedFile {
            name: name.into(),
            hash: BlobHash([index; 32]),
            bytes,
            holders: Holders::default(),
        };
        Listing((0..).zip(files).map(file).collect())
    }

    #[test]
    fn a_place_is_a_job_and_a_path_of_its_result() {
        let place = |text: &str| text.parse::<Place>().unwrap();
        assert_eq!(place("j-1"), Place { job: "j-1".into(), path: String::new() });
        assert_eq!(place("j-1/out/sub/"), Place { job: "j-1".into(), path: "out/sub".into() });
    }

    #[test]
    fn a_path_is_a_file_a_folder_or_an_error_that_names_what_is_there() {
        let names = |path: &str| {
            let files = listing().find(path).unwrap().files();
            files.into_iter().map(|file| file.name).collect::<Vec<_>>()
        };
        assert_eq!(names("out/a"), ["out/a"]);
        assert_eq!(names("out"), ["out/a", "out/sub/b"]);
        assert_eq!(names("").len(), 4);
        let error = listing().find("ou").unwrap_err().to_string();
        assert_eq!(error, "there is no \"ou\" in the result: it has exitCode, out/, stdout");
    }

    #[test]
    fn a_folder_lists_what_lies_directly_in_it() {
        let all = listing().0;
        let folder = |name: &str, count, bytes| Line::Folder(name.into(), count, bytes);
        let top = lines("", &all);
        assert_eq!(top.iter().map(Line::name).collect::<Vec<_>>(), ["exitCode", "out/", "stdout"]);
        assert_eq!(top[1], folder("out", 2, None), "the size of a file that is elsewhere is not known");
        let out = lines("out", &all);
        assert_eq!(out.iter().map(Line::name).collect::<Vec<_>>(), ["a", "sub/"]);
        assert_eq!(lines("out/sub", &all).len(), 1);
    }
}
