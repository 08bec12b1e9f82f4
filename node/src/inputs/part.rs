//! Content of the mesh as an input: all of it, or one file or folder of a folder, fetched without the rest.

use std::collections::BTreeSet;

use shoal_protocol::id::{BlobHash, PeerId};
use shoal_protocol::job::spec::{BlobRoot, BlobSource};
use shoal_protocol::task::{Content, ContentKind};
use shoal_store::blobs::{FolderFile, Guard, Status};
use shoal_store::sources::Progress;

use super::{Counter, Obtained, unreadable};
use crate::network;
use crate::node::Node;
use crate::query::ListError;
use crate::submit::{SubmitError, store};
use crate::tickets;

/// Names that a message about a wrong path lists.
const MAX_NAMED: usize = 10;

/// Something that is being fetched for an input.
struct Fetching<'a> {
    node: &'a Node,
    target: &'a str,
    providers: Vec<PeerId>,
    left: u64,
    counter: Counter<'a>,
    guards: Vec<Guard>,
}

impl Node {
    /// Fetches what is missing of a blob, or of the part of it that is meant.
    pub(super) async fn part(
        &self,
        source: &BlobSource,
        target: &str,
        max_bytes: u64,
        told: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Obtained, SubmitError> {
        let (root, providers) = match &source.root {
            BlobRoot::Content(content) => (*content, Vec::new()),
            BlobRoot::Ticket(ticket) => {
                let remedy = "copy all of it, as `shoal job describe` or `shoal blob add` shows it";
                let wrong = || unreadable(target, "the blob ticket", "cannot be read", remedy);
                let (content, provider) = tickets::read(self.network(), ticket).ok_or_else(wrong)?;
                (content, vec![provider])
            }
        };
        let counter = Counter::new(told);
        let mut fetching = Fetching { node: self, target, providers, left: max_bytes, counter, guards: Vec::new() };
        let (content, bytes) = match source.path.as_str() {
            "" => (root, fetching.have(root).await?),
            path => fetching.have_part(root.hash, path).await?,
        };
        let origin = format!("{}/{}", root.hash, source.path).trim_end_matches('/').to_owned();
        Ok(Obtained { parts: vec![(content, bytes)], origin, guards: fetching.guards })
    }
}

impl Fetching<'_> {
    /// Fetches what is missing of some content, and guards it; returns its size.
    async fn have(&mut self, content: Content) -> Result<u64, SubmitError> {
        let blobs = self.node.blobs();
        self.guards.push(blobs.protect(content).await.map_err(store)?);
        let bytes = match blobs.status(content).await {
            Ok(Status::Complete { bytes }) => bytes,
            _ => {
                let missing = |reason| SubmitError::Missing { target: self.target.to_owned(), reason };
                let (providers, counter) = (self.providers.clone(), &self.counter);
                let told = |progress: network::Progress| counter.tell(progress.bytes, progress.total);
                self.node.fetch_blob(content, providers, self.left, told).await.map_err(missing)?
            }
        };
        self.counter.next(bytes);
        self.left = self.left.saturating_sub(bytes);
        Ok(bytes)
    }

    /// Fetches one file or folder of a folder: the list of its files first.
    async fn have_part(&mut self, root: BlobHash, path: &str) -> Result<(Content, u64), SubmitError> {
        let files = self.list(root).await?;
        if let Some(file) = files.iter().find(|file| file.name == path) {
            let content = raw(file.hash);
            return Ok((content, self.have(content).await?));
        }
        let inside = files.iter().filter_map(|file| Some((below(&file.name, path)?.to_owned(), file.hash)));
        let inside: Vec<(String, BlobHash)> = inside.collect();
        if inside.is_empty() {
            let names = files.iter().map(|file| file.name.as_str());
            let (thing, reason) = (format!("{path} in blob {root}"), format!("is not there; {}", what_is(names, path)));
            return Err(unreadable(self.target, &thing, reason, "write a path that is there"));
        }
        for (_, file) in &inside {
            self.have(raw(*file)).await?;
        }
        let folder = self.node.blobs().compose(inside).await.map_err(store)?;
        let found = (folder.content, folder.bytes);
        self.guards.push(folder.guard);
        Ok(found)
    }

    /// The files of a folder, none of which need be here.
    async fn list(&mut self, root: BlobHash) -> Result<Vec<FolderFile>, SubmitError> {
        let blobs = self.node.blobs().clone();
        // Only the folder as a whole is in the mesh's directory.
        if self.providers.is_empty() && !matches!(blobs.status(raw(root)).await, Ok(Status::Complete { .. })) {
            self.providers = self.node.network().providers(root).await;
        }
        let no_folder = |reason: String| {
            unreadable(self.target, &format!("blob {root}"), reason, "a path can only follow a folder's hash")
        };
        let missing = |error| match error {
            ListError::Fetch(reason) => SubmitError::Missing { target: self.target.to_owned(), reason },
            error => no_folder(error.to_string()),
        };
        let (_list, _) = self.node.fetch_list(root, self.providers.clone()).await.map_err(missing)?;
        blobs.files(root).await.map_err(|error| no_folder(error.to_string()))
    }
}

fn raw(hash: BlobHash) -> Content {
    Content { hash, kind: ContentKind::Raw }
}

/// The name of a file below a folder.
fn below<'a>(name: &'a str, folder: &str) -> Option<&'a str> {
    name.strip_prefix(folder)?.strip_prefix('/')
}

/// What is there instead, where the path still led somewhere: `sub has: a.txt, b/`.
fn what_is<'a>(names: impl Iterator<Item = &'a str> + Clone, path: &str) -> String {
    let folders = path.match_indices('/').rev().map(|(end, _)| &path[..end]);
    let deepest = folders.into_iter().find(|folder| names.clone().any(|name| below(name, folder).is_some()));
    let inside = names.filter_map(|name| deepest.map_or(Some(name), |folder| below(name, folder)));
    let step = |name: &str| name.split_once('/').map_or(name.to_owned(), |(folder, _)| format!("{folder}/"));
    let all: BTreeSet<String> = inside.map(step).collect();
    let mut listed: Vec<&str> = all.iter().take(MAX_NAMED).map(String::as_str).collect();
    if all.len() > MAX_NAMED {
        listed.push("…");
    }
    format!("{} has: {}", deepest.unwrap_or("it"), listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_path_is_answered_with_what_is_there() {
        let names = ["a.txt", "sub/b.txt", "sub/deep/c.txt"];
        let table = [
            ("b.txt", "it has: a.txt, sub/"),
            ("sub/x", "sub has: b.txt, deep/"),
            ("sub/deep/x/y", "sub/deep has: c.txt"),
            ("nowhere/x", "it has: a.txt, sub/"),
            ("su", "it has: a.txt, sub/"),
        ];
        for (path, expected) in table {
            assert_eq!(what_is(names.into_iter(), path), expected, "{path}");
        }
        let many: Vec<String> = (10..99).map(|number| number.to_string()).collect();
        assert!(what_is(many.iter().map(String::as_str), "x").ends_with("18, 19, …"));
    }

    #[test]
    fn only_whole_names_lead_into_a_folder() {
        assert_eq!(below("sub/a", "sub"), Some("a"));
        assert_eq!((below("sub", "sub"), below("subway/a", "sub")), (None, None));
    }
}
