//! The `s3` publisher: a result as one archive, or as an object for each file.
//!
//! What is uploaded is made while it is sent, part by part, so that a large result needs no more memory or disk than a
//! small one. An upload that fails is aborted: an object is there whole or not at all.

mod upload;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use data_encoding::BASE64;
use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use shoal_protocol::job::spec::S3Publisher;
use time::OffsetDateTime;
use tokio_util::io::ReaderStream;

use super::archive::archive;
use super::{Publication, Published};
use crate::blobs::{Blobs, FolderFile, Status};
use crate::s3::{Connection, Connector, Place};
use crate::sources::DataError;
use upload::{Upload, Uploaded};

/// How the name of an archive ends.
const ARCHIVE: &str = ".tar.gz";
/// The longest key of an object, in bytes.
const MAX_KEY_BYTES: usize = 1_024;
/// Files of a plain result that are uploaded at once.
const AT_ONCE: usize = 4;
/// The size of a piece that is read from the store, in bytes.
const PIECE_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Writer {
    connector: Connector,
}

impl Writer {
    pub(super) async fn publish(
        &self,
        blobs: &Blobs,
        to: &S3Publisher,
        publication: &Publication<'_>,
    ) -> Result<Published, DataError> {
        let plain = to.encoding.eq_ignore_ascii_case("plain");
        let key = key(to, publication, plain);
        let place = Place { bucket: &to.bucket, region: &to.region, endpoint: &to.endpoint };
        let connection = self.connector.connect(&place).await?;
        let (version, details) = if plain {
            (None, publish_files(&connection, blobs, publication, &key).await?)
        } else {
            let uploaded = publish_archive(&connection, blobs, publication, &key).await?;
            (uploaded.version.clone(), describe(&uploaded))
        };
        Ok(Published { uri: uri(to, &key, version.as_deref()), details })
    }
}

async fn publish_archive(
    connection: &Connection,
    blobs: &Blobs,
    publication: &Publication<'_>,
    key: &str,
) -> Result<Uploaded, DataError> {
    let unreadable = |reason: String| DataError::new(connection.uri(key), reason, "see that the result is here");
    let bytes = blobs.size(publication.result).await.map_err(|error| unreadable(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| unreadable("the result is not complete here".into()))?;
    Upload::new(connection, key, bytes).send(archive(blobs.clone(), publication.result.hash)).await
}

/// Uploads each file of a result below the prefix `key`.
async fn publish_files(
    connection: &Connection,
    blobs: &Blobs,
    publication: &Publication<'_>,
    key: &str,
) -> Result<BTreeMap<String, String>, DataError> {
    let files = blobs
        .files(publication.result.hash)
        .await
        .map_err(|error| DataError::new(connection.uri(key), error.to_string(), "see that the result is here"))?;
    let (mut bytes, mut waiting, mut sending) = (0, files.iter(), FuturesUnordered::new());
    loop {
        for file in waiting.by_ref().take(AT_ONCE - sending.len()) {
            sending.push(publish_file(connection, blobs, file, format!("{key}{}", file.name)));
        }
        match sending.next().await {
            Some(uploaded) => bytes += uploaded?.bytes,
            None => break,
        }
    }
    let details = [("Objects", files.len().to_string()), ("Bytes", bytes.to_string())];
    Ok(details.map(|(name, value)| (name.to_owned(), value)).into())
}

async fn publish_file(
    connection: &Connection,
    blobs: &Blobs,
    file: &FolderFile,
    key: String,
) -> Result<Uploaded, DataError> {
    let Status::Complete { bytes } = file.status else {
        return Err(DataError::new(
            connection.uri(&key),
            "the file is not complete here",
            "see that the result is here",
        ));
    };
    check_length(connection.uri(&key), &key)?;
    let upload = Upload::new(connection, &key, bytes);
    // The store has no blob for what is empty.
    if bytes == 0 {
        return upload.send(stream::empty()).await;
    }
    upload.send(ReaderStream::with_capacity(blobs.reader(file.hash), PIECE_BYTES)).await
}

fn describe(uploaded: &Uploaded) -> BTreeMap<String, String> {
    let mut details = BTreeMap::from([
        ("ChecksumSHA256".to_owned(), BASE64.encode(&uploaded.sha256)),
        ("Bytes".to_owned(), uploaded.bytes.to_string()),
    ]);
    details.extend(uploaded.version.clone().map(|version| ("VersionID".to_owned(), version)));
    details
}

/// The key of the archive, or the prefix of the files, with its placeholders filled in.
fn key(to: &S3Publisher, publication: &Publication<'_>, plain: bool) -> String {
    let end = if plain { "/" } else { ARCHIVE };
    let mut key = if to.key.ends_with(end) { to.key.clone() } else { format!("{}{end}", to.key) };
    let (date, time) = moment(publication.at.0);
    let (worker, execution, job) = (publication.worker, publication.execution, publication.job);
    let values = [worker.to_string(), execution.to_string(), job.to_string(), date, time];
    for ((place, _), value) in S3Publisher::PLACEHOLDERS.iter().zip(values) {
        key = key.replace(place, &value);
    }
    key
}

fn check_length(thing: String, key: &str) -> Result<(), DataError> {
    if key.len() <= MAX_KEY_BYTES {
        return Ok(());
    }
    let reason = format!("has {} bytes with the names of files in it, and {MAX_KEY_BYTES} are allowed", key.len());
    Err(DataError::new(thing, reason, "write a shorter key"))
}

/// Date and time in UTC, as Bacalhau writes them into keys.
fn moment(millis: u64) -> (String, String) {
    let seconds = i64::try_from(millis / 1_000).unwrap_or_default();
    let moment = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = moment.to_calendar_date();
    let (hour, minute, second) = moment.to_hms();
    (format!("{year:04}{:02}{day:02}", u8::from(month)), format!("{hour:02}{minute:02}{second:02}"))
}

/// What `-i` reads this very result from.
fn uri(to: &S3Publisher, key: &str, version: Option<&str>) -> String {
    let uri = format!("s3://{}/{key}", to.bucket);
    let options =
        [("region", to.region.as_str()), ("endpoint", &to.endpoint), ("versionID", version.unwrap_or_default())];
    let options: String = options
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!(",opt={name}={value}"))
        .collect();
    // Without `src=`, what follows the last colon would be where the input goes.
    if options.is_empty() && !key.contains(':') { uri } else { format!("src={uri}{options}") }
}
