//! Sources that a worker reads for a job of another: those kinds alone that its operator opened.

use std::collections::BTreeSet;

use shoal_executors::StagedInput;
use shoal_protocol::job::parse;
use shoal_protocol::job::spec::Source;
use shoal_protocol::message::{ExecutorKind, SourceKind};
use shoal_protocol::task::{Invocation, Mount, Unread};
use shoal_store::blobs::Guard;
use shoal_store::sources::{Asker, DataError, Request, Sources};

/// Reads sources for jobs of others. A clone is the same.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) sources: Sources,
    /// The kinds that the operator opened.
    pub(crate) open: BTreeSet<SourceKind>,
}

impl Reading {
    /// What sources hold now, for `partition` of so many, at most `max_bytes` together. The node's own jobs may read
    /// what others may not. The error is for a person.
    pub(crate) async fn read(
        &self,
        own: bool,
        unread: &[Unread],
        (partition, partitions): (u32, u32),
        max_bytes: u64,
    ) -> Result<Vec<(Mount, Guard)>, String> {
        let asker = if own { Asker::Owner } else { Asker::Peer };
        let (mut read, mut left) = (Vec::new(), max_bytes);
        for Unread { target, source } in unread {
            let source = parse::source(source).map_err(|error| format!("a source is malformed: {error}"))?;
            if source.is_written() {
                continue;
            }
            self.admit(asker, &source)?;
            let request = Request { source: &source, asker, max_bytes: left, partitions, progress: &|_| {} };
            let mut parts = self.sources.obtain(&request).await.map_err(|error| error.to_string())?.parts;
            let part = if parts.len() == 1 { 0 } else { partition as usize };
            if part >= parts.len() {
                return Err(format!("input {target} has {} parts for {partitions} partitions", parts.len()));
            }
            let part = parts.swap_remove(part);
            left = left.saturating_sub(part.bytes);
            read.push((Mount { target: target.clone(), content: part.content }, part.guard));
        }
        Ok(read)
    }

    /// What a program may write where it lies on this machine. The error is for a person.
    pub(crate) async fn writable(&self, own: bool, invocation: &Invocation) -> Result<Vec<StagedInput>, String> {
        let asker = if own { Asker::Owner } else { Asker::Peer };
        let mut writable = Vec::new();
        for Unread { target, source } in &invocation.unread {
            let source = parse::source(source).map_err(|error| format!("a source is malformed: {error}"))?;
            let Source::LocalDirectory(local) = &source else { continue };
            if !local.read_write {
                continue;
            }
            if invocation.engine.kind() != ExecutorKind::Docker {
                return Err(format!("input {target} is to be written, which only containers may"));
            }
            self.admit(asker, &source)?;
            let path = self.sources.mountable(local).await.map_err(|error| error.to_string())?;
            writable.push(StagedInput { target: target.clone(), path, writable: true });
        }
        Ok(writable)
    }

    fn admit(&self, asker: Asker, source: &Source) -> Result<(), String> {
        let Some(kind) = SourceKind::of(source) else { return Err("a source that workers do not read".into()) };
        if asker == Asker::Owner || self.open.contains(&kind) {
            return Ok(());
        }
        let (thing, reason) = (format!("a source of kind {kind}"), "this node reads none for others");
        Err(DataError::new(thing, reason, format!("its operator can open them with --sources {kind}")).to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shoal_store::blobs::{Blobs, BlobsConfig};
    use shoal_store::sources::SourcesConfig;
    use shoal_store::state::State;

    use super::*;

    const URL: &str = r#"{"Type": "urlDownload", "Params": {"URL": "http://127.0.0.1:1/a"}}"#;

    async fn refused(open: &[SourceKind], source: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs"), BlobsConfig::default()).await.unwrap();
        let state = Arc::new(State::open(&dir.path().join("state")).unwrap());
        let sources = Sources::new(blobs, state, SourcesConfig::default()).unwrap();
        let reading = Reading { sources, open: open.iter().copied().collect() };
        let unread = Unread { target: "/data".into(), source: source.into() };
        reading.read(false, &[unread], (0, 1), 1_000).await.map(drop).unwrap_err()
    }

    #[tokio::test]
    async fn others_read_only_what_the_operator_opened() {
        let closed = refused(&[SourceKind::S3], URL).await;
        assert!(closed.contains("reads none for others") && closed.contains("--sources url"), "{closed}");
        let private = refused(&[SourceKind::Url], URL).await;
        assert!(private.contains("127.0.0.1") && !private.contains("--sources"), "{private}");
    }

    #[tokio::test]
    async fn what_is_no_source_of_workers_is_not_read() {
        let inline = r#"{"Type": "inline", "Params": {"URL": "data:,x"}}"#;
        for source in [inline, "{}", "nonsense"] {
            refused(&[SourceKind::Url], source).await;
        }
    }
}
