//! The `local` publisher: results on this node's disk, as archives that the node may serve, or as plain folders.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::{Stream, StreamExt};
use reqwest::Url;
use sha2::{Digest, Sha256};
use shoal_protocol::id::JobId;

use super::archive::archive;
use super::{Publication, Published, PublishersConfig};
use crate::blobs::{Blobs, StageError, StoreFailed};
use crate::sources::DataError;

/// Where archives grow until they are complete, beside those that are.
const DRAFTS: &str = ".drafts";
/// How archives' names end.
const ARCHIVE: &str = ".tar.gz";

#[derive(Debug)]
pub(super) struct Writer {
    /// Where archives go.
    archives: PathBuf,
    /// Where plain folders go instead, if the operator named a place.
    plain: Option<PathBuf>,
    /// Where others find the archives.
    base_url: Option<Url>,
    /// The most that archives may take, in bytes.
    max_bytes: u64,
    /// Archives are written one after the other, so that they share what room there is.
    turn: tokio::sync::Mutex<()>,
}

impl Writer {
    pub(super) fn new(config: &PublishersConfig) -> Result<Self, DataError> {
        let base_url = config.base_url.as_deref().map(parse_base).transpose()?;
        let (archives, plain) = (config.folder.clone(), config.plain_folder.clone());
        let max_bytes = config.max_bytes.unwrap_or(u64::MAX);
        Ok(Self { archives, plain, base_url, max_bytes, turn: tokio::sync::Mutex::default() })
    }

    pub(super) async fn publish(&self, blobs: &Blobs, publication: &Publication<'_>) -> Result<Published, DataError> {
        match &self.plain {
            Some(folder) => plain(blobs, publication, folder).await,
            None => self.archive(blobs, publication).await,
        }
    }

    /// Removes the archives of jobs whose results are not kept any more, and tells how many bytes that freed.
    pub(super) async fn sweep(&self, blobs: &Blobs) -> Result<u64, StoreFailed> {
        let _turn = self.turn.lock().await;
        let mut freed = 0;
        for (job, folder) in jobs(&self.archives) {
            if blobs.pins_with_prefix(&format!("job/{job}/")).await?.is_empty() {
                freed += bytes_below(&folder);
                if let Err(error) = tokio::fs::remove_dir_all(&folder).await {
                    tracing::warn!(%job, %error, "published archives were not removed");
                }
            }
        }
        Ok(freed)
    }

    async fn archive(&self, blobs: &Blobs, publication: &Publication<'_>) -> Result<Published, DataError> {
        let _turn = self.turn.lock().await;
        let name = format!("{}/{}{ARCHIVE}", publication.job, publication.execution);
        let path = self.archives.join(&name);
        let unwritable = |error: io::Error| {
            let remedy = "make room or `shoal blob gc`, and see that the node may write there";
            DataError::new(path.display().to_string(), error.to_string(), remedy)
        };
        let room = self.max_bytes.saturating_sub(bytes_below(&self.archives));
        let pieces = archive(blobs.clone(), publication.result.hash);
        let (checksum, bytes) = self.write(pieces, &path, room).await.map_err(unwritable)?;
        let mut details = BTreeMap::from([
            ("ChecksumSHA256".to_owned(), HEXLOWER.encode(&checksum)),
            ("Bytes".to_owned(), bytes.to_string()),
        ]);
        let uri = match &self.base_url {
            Some(base) => {
                if is_only_here(base) {
                    let note = "the address is good on this machine only: set publish_url to one that others reach";
                    details.insert("Note".to_owned(), note.to_owned());
                }
                format!("{}/{name}", base.as_str().trim_end_matches('/'))
            }
            None => format!("file://{}", path.display()),
        };
        Ok(Published { uri, details })
    }

    /// Writes an archive of at most `room` bytes: all of it or nothing.
    async fn write(
        &self,
        pieces: impl Stream<Item = io::Result<Bytes>>,
        path: &Path,
        room: u64,
    ) -> io::Result<([u8; 32], u64)> {
        let drafts = self.archives.join(DRAFTS);
        tokio::fs::create_dir_all(&drafts).await?;
        let mut draft = tempfile::NamedTempFile::new_in(&drafts)?;
        let (mut checksum, mut bytes) = (Sha256::new(), 0);
        let mut pieces = std::pin::pin!(pieces);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            bytes += piece.len() as u64;
            if bytes > room {
                return Err(io::Error::other(format!("published archives may take {} bytes in all", self.max_bytes)));
            }
            checksum.update(&piece);
            draft = blocking(move || draft.write_all(&piece).map(|()| draft)).await?;
        }
        let path = path.to_owned();
        blocking(move || {
            let folder = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(folder)?;
            draft.as_file().sync_all()?;
            draft.persist(&path)?;
            File::open(folder)?.sync_all()
        })
        .await?;
        Ok((checksum.finalize().into(), bytes))
    }
}

/// Writes a result as a folder of files. One that is there already is complete: it came there by one step.
async fn plain(blobs: &Blobs, publication: &Publication<'_>, folder: &Path) -> Result<Published, DataError> {
    let path = folder.join(publication.job.to_string()).join(publication.execution.to_string());
    let exists = tokio::fs::try_exists(&path).await.unwrap_or_default();
    match if exists { Ok(()) } else { blobs.export(publication.result, &path).await } {
        Ok(()) | Err(StageError::Exists { .. }) => {
            Ok(Published { uri: format!("file://{}", path.display()), details: BTreeMap::new() })
        }
        Err(error) => {
            let remedy = "make room, and see that the node may write into publish_dir";
            Err(DataError::new(path.display().to_string(), error.to_string(), remedy))
        }
    }
}

/// Every job that has archives in `folder`.
fn jobs(folder: &Path) -> Vec<(JobId, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let job = |entry: fs::DirEntry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()));
    entries.flatten().filter_map(job).collect()
}

/// What the archives in a folder of the publisher take; it has two levels.
fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn parse_base(text: &str) -> Result<Url, DataError> {
    let wrong = |reason: String| {
        let remedy = "write a URL that others reach, for example http://192.0.2.7:6001";
        DataError::new(format!("publish_url {text:?}"), reason, remedy)
    };
    let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        scheme => Err(wrong(format!("has the scheme {scheme}"))),
    }
}

/// Whether a URL names this machine rather than one that others can reach.
fn is_only_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback() || address.is_unspecified())
}

#[cfg(test)]
mod tests {

    use shoal_protocol::id::{ExecutionId, PeerId};
    use shoal_protocol::job::spec::Publisher;
    use shoal_protocol::time::Time;

    use super::*;
    use crate::blobs::{BlobsConfig, Imported, ResultFiles, ResultPart};

    struct World {
        dir: tempfile::TempDir,
        blobs: Blobs,
        result: Imported,
    }

    impl World {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let config = BlobsConfig::default();
            let blobs = Blobs::open(&dir.path().join("blobs"), config).await.unwrap();
            let part = |text: &'static str| ResultPart::Bytes(text.into());
            let result = blobs.collect(ResultFiles::new(0, part("said"), part(""))).await.unwrap();
            Self { dir, blobs, result }
        }

        fn config(&self) -> PublishersConfig {
            PublishersConfig { folder: self.dir.path().join("published"), ..PublishersConfig::default() }
        }

        fn publication(&self) -> Publication<'static> {
            Publication {
                publisher: &Publisher::Local,
                result: self.result.content,
                job: JobId([1; 16]),
                partition: (0, 1),
                execution: ExecutionId([2; 16]),
                worker: PeerId([3; 32]),
                at: Time(0),
            }
        }

        async fn publish(&self, config: &PublishersConfig) -> Result<Published, DataError> {
            Writer::new(config).unwrap().publish(&self.blobs, &self.publication()).await
        }

        fn archives(&self) -> Vec<PathBuf> {
            jobs(&self.config().folder).into_iter().map(|(_, path)| path).collect()
        }
    }

    #[tokio::test]
    async fn an_archive_is_a_file_that_inputs_can_name() {
        let world = World::new().await;
        let published = world.publish(&world.config()).await.unwrap();
        let path = published.uri.strip_prefix("file://").unwrap();
        let bytes = fs::read(path).unwrap();
        assert_eq!(published.details["ChecksumSHA256"], HEXLOWER.encode(&Sha256::digest(&bytes)));
        assert_eq!(published.details["Bytes"], bytes.len().to_string());
        assert_eq!(world.publish(&world.config()).await.unwrap(), published, "once more is the same");
    }

    #[tokio::test]
    async fn what_is_served_has_a_url_that_says_who_can_use_it() {
        let world = World::new().await;
        let name = format!("{}/{}.tar.gz", JobId([1; 16]), ExecutionId([2; 16]));
        let table = [
            ("http://192.0.2.7:6001", "http://192.0.2.7:6001", false),
            ("https://home.example/shoal/", "https://home.example/shoal", false),
            ("http://127.0.0.1:6001", "http://127.0.0.1:6001", true),
            ("http://[::]:6001", "http://[::]:6001", true),
            ("http://localhost:1", "http://localhost:1", true),
        ];
        for (base, expected, only_here) in table {
            let config = PublishersConfig { base_url: Some(base.into()), ..world.config() };
            let published = world.publish(&config).await.unwrap();
            assert_eq!(published.uri, format!("{expected}/{name}"));
            assert_eq!(published.details.contains_key("Note"), only_here, "{base}");
        }
        let config = PublishersConfig { base_url: Some("ftp://x".into()), ..world.config() };
        assert!(Writer::new(&config).unwrap_err().to_string().contains("ftp"));
    }

    #[tokio::test]
    async fn a_folder_of_the_operator_gets_plain_files() {
        let world = World::new().await;
        let plain_folder = Some(world.dir.path().join("plain"));
        let config = PublishersConfig { plain_folder, ..world.config() };
        let published = world.publish(&config).await.unwrap();
        let folder = PathBuf::from(published.uri.strip_prefix("file://").unwrap());
        assert_eq!(fs::read(folder.join("stdout")).unwrap(), b"said");
        assert_eq!(world.publish(&config).await.unwrap(), published, "once more is the same");
    }

    #[tokio::test]
    async fn archives_take_no_more_than_they_may() {
        let world = World::new().await;
        let config = PublishersConfig { max_bytes: Some(10), ..world.config() };
        let error = world.publish(&config).await.unwrap_err().to_string();
        assert!(error.contains("may take 10 bytes"), "{error}");
        assert_eq!(bytes_below(&config.folder), 0, "nothing of it is left");
    }

    #[tokio::test]
    async fn an_archive_goes_when_the_result_is_not_kept_any_more() {
        let world = World::new().await;
        let writer = Writer::new(&world.config()).unwrap();
        let pin = format!("job/{}/result/0", JobId([1; 16]));
        world.blobs.pin(&pin, world.result.content).await.unwrap();
        writer.publish(&world.blobs, &world.publication()).await.unwrap();
        assert_eq!(writer.sweep(&world.blobs).await.unwrap(), 0);
        assert_eq!(world.archives().len(), 1);
        world.blobs.unpin(&pin).await.unwrap();
        assert!(writer.sweep(&world.blobs).await.unwrap() > 0);
        assert!(world.archives().is_empty());
    }
}
