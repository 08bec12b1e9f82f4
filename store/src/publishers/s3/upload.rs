//! One object, sent while it is made: at once if it is small, else in parts.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Config;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use data_encoding::BASE64;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};

use crate::s3::{Connection, MAX_ATTEMPTS};
use crate::sources::DataError;

/// Size of a part, in bytes, unless there would be too many. S3 takes none below 5 MiB but the last.
const PART_BYTES: u64 = 8 << 20;
/// The most parts of an object.
const MAX_PARTS: u64 = 10_000;
/// How long a service may take beside receiving what is sent.
const ANSWER: Duration = Duration::from_secs(15);
/// The slowest connection that is waited for, in bytes each second.
const SLOWEST: u64 = 50_000;

/// An object to be.
pub(super) struct Upload<'a> {
    connection: &'a Connection,
    key: &'a str,
    /// Every part but the last has it: some services take no others.
    part_bytes: usize,
}

/// An object that is there.
#[derive(Debug)]
pub(super) struct Uploaded {
    pub(super) sha256: [u8; 32],
    pub(super) bytes: u64,
    pub(super) version: Option<String>,
}

impl<'a> Upload<'a> {
    /// An upload of at most about `bytes`.
    pub(super) fn new(connection: &'a Connection, key: &'a str, bytes: u64) -> Self {
        // An archive of what cannot be compressed is a little larger than it.
        let least = (bytes + bytes / 8) / MAX_PARTS + 1;
        let part_bytes = usize::try_from(least.max(PART_BYTES)).unwrap_or(usize::MAX);
        Self { connection, key, part_bytes }
    }

    pub(super) async fn send(
        &self,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<Uploaded, DataError> {
        let mut parts = Parts { content: Box::pin(content), rest: BytesMut::new(), hash: Sha256::new(), bytes: 0 };
        let first = self.next(&mut parts).await?;
        let version = if first.len() < self.part_bytes {
            self.put(first).await?
        } else {
            self.put_parts(first, &mut parts).await?
        };
        Ok(Uploaded { sha256: parts.hash.finalize().into(), bytes: parts.bytes, version })
    }

    async fn next(&self, parts: &mut Parts<'_>) -> Result<Bytes, DataError> {
        let unreadable = |error: io::Error| {
            DataError::new(self.connection.uri(self.key), format!("the result cannot be read: {error}"), "try again")
        };
        parts.next(self.part_bytes).await.map_err(unreadable)
    }

    /// Makes the object with one request, and tells its version.
    async fn put(&self, content: Bytes) -> Result<Option<String>, DataError> {
        let request = self.connection.client.put_object().bucket(&self.connection.bucket).key(self.key);
        let (checksum, limits) = (checksum(&content), limits(content.len()));
        let request = request.checksum_sha256(checksum).body(content.into()).customize().config_override(limits);
        let put = request.send().await.map_err(|error| self.connection.explain(self.key, &error))?;
        Ok(put.version_id)
    }

    /// Makes the object of several parts, or leaves nothing of it.
    async fn put_parts(&self, first: Bytes, parts: &mut Parts<'_>) -> Result<Option<String>, DataError> {
        let request = self.connection.client.create_multipart_upload().bucket(&self.connection.bucket).key(self.key);
        let created = request.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await;
        let created = created.map_err(|error| self.connection.explain(self.key, &error))?;
        let id = created.upload_id.unwrap_or_default();
        let put = self.complete(&id, first, parts).await;
        if put.is_err() {
            let abort = self.connection.client.abort_multipart_upload().bucket(&self.connection.bucket);
            if let Err(error) = abort.key(self.key).upload_id(&id).send().await {
                let error = self.connection.explain(self.key, &error);
                tracing::warn!(%error, "parts of an upload may be left: let the bucket remove them after a while");
            }
        }
        put
    }

    async fn complete(&self, id: &str, first: Bytes, parts: &mut Parts<'_>) -> Result<Option<String>, DataError> {
        let (mut part, mut completed) = (first, CompletedMultipartUpload::builder());
        for number in 1.. {
            let is_last = part.len() < self.part_bytes;
            if !part.is_empty() {
                completed = completed.parts(self.put_part(id, number, part).await?);
            }
            if is_last {
                break;
            }
            part = self.next(parts).await?;
        }
        let request = self.connection.client.complete_multipart_upload().bucket(&self.connection.bucket).key(self.key);
        let request = request.upload_id(id).multipart_upload(completed.build());
        let completed = request.send().await.map_err(|error| self.connection.explain(self.key, &error))?;
        Ok(completed.version_id)
    }

    async fn put_part(&self, id: &str, number: i32, part: Bytes) -> Result<CompletedPart, DataError> {
        let (checksum, limits) = (checksum(&part), limits(part.len()));
        let request = self.connection.client.upload_part().bucket(&self.connection.bucket).key(self.key);
        let request = request.upload_id(id).part_number(number).checksum_sha256(&checksum).body(part.into());
        let put = request.customize().config_override(limits).send().await;
        let put = put.map_err(|error| self.connection.explain(self.key, &error))?;
        Ok(CompletedPart::builder().part_number(number).checksum_sha256(checksum).set_e_tag(put.e_tag).build())
    }
}

/// Content cut into parts, and what it is in all.
struct Parts<'a> {
    content: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send + 'a>>,
    rest: BytesMut,
    hash: Sha256,
    bytes: u64,
}

impl Parts<'_> {
    /// The next part; a shorter one is the last.
    async fn next(&mut self, part_bytes: usize) -> io::Result<Bytes> {
        while self.rest.len() < part_bytes {
            let Some(piece) = self.content.next().await.transpose()? else { break };
            self.rest.extend_from_slice(&piece);
        }
        let part = self.rest.split_to(self.rest.len().min(part_bytes)).freeze();
        self.hash.update(&part);
        self.bytes += part.len() as u64;
        Ok(part)
    }
}

fn checksum(content: &[u8]) -> String {
    BASE64.encode(&Sha256::digest(content))
}

/// As much time as so many bytes need on a slow connection.
fn limits(bytes: usize) -> aws_sdk_s3::config::Builder {
    let attempt = ANSWER + Duration::from_secs(bytes as u64 / SLOWEST);
    let timeouts = TimeoutConfig::builder()
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .operation_timeout(attempt * (MAX_ATTEMPTS + 1));
    Config::builder().timeout_config(timeouts.build())
}
