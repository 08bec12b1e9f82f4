//! Reads objects into blobs, piece by piece.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumMode;
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use futures_util::stream;
use sha2::{Digest, Sha256};
use shoal_protocol::job::spec::S3Source;
use shoal_protocol::task::{Content, ContentKind};
use tokio::sync::mpsc;

use super::listing::Object;
use super::memory::Copy;
use crate::blobs::{Blobs, Imported};
use crate::s3::{Connection, innermost};
use crate::sources::{DataError, Progress, Request};

/// Pieces that wait to be written; reading rests meanwhile.
const MAX_WAITING: usize = 4;
/// How often an object is read whose transfer breaks off.
const MAX_ATTEMPTS: u32 = 3;
/// Pause before the next attempt, doubled each time.
const PAUSE: Duration = Duration::from_millis(500);

/// Reads the objects of one source.
pub(super) struct Transfer<'a> {
    connection: &'a Connection,
    blobs: &'a Blobs,
    request: &'a Request<'a>,
    /// What the one object must hash to.
    checksum: Option<[u8; 32]>,
    read: AtomicU64,
    total: u64,
}

/// Why an attempt failed.
enum Fault {
    /// Again, it may be different.
    Passing(DataError),
    Lasting(DataError),
    /// The store takes no more, and says why.
    Unwanted,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        blobs: &'a Blobs,
        source: &S3Source,
        request: &'a Request<'a>,
        objects: &[Object],
    ) -> Result<Self, DataError> {
        let total = objects.iter().map(|object| object.bytes).sum();
        let checksum = checksum(connection, source)?;
        Ok(Self { connection, blobs, request, checksum, read: AtomicU64::new(0), total })
    }

    /// The object, if its copy of last time is still it and still here.
    pub(super) async fn reuse(&self, object: &Object, copy: &Copy) -> Option<Imported> {
        if object.etag.as_ref() != Some(&copy.etag) {
            return None;
        }
        let content = Content { hash: copy.hash, kind: ContentKind::Raw };
        let guard = self.blobs.protect(content).await.ok()?;
        let bytes = self.blobs.size(content).await.ok()?.filter(|bytes| *bytes == object.bytes)?;
        self.progress(bytes);
        Some(Imported { content, bytes, guard })
    }

    /// Reads an object, again if that breaks off.
    pub(super) async fn read(&self, object: &Object) -> Result<Imported, DataError> {
        let mut attempt = 1;
        loop {
            match self.attempt(object).await {
                Err(Fault::Passing(error)) if attempt < MAX_ATTEMPTS => {
                    tracing::debug!(%error, attempt, "an object is read again");
                    tokio::time::sleep(PAUSE * (1 << attempt)).await;
                    attempt += 1;
                }
                Ok(imported) => return Ok(imported),
                Err(Fault::Passing(error) | Fault::Lasting(error)) => return Err(error),
                Err(Fault::Unwanted) => {
                    return Err(not_kept(&self.connection.uri(&object.key), &"the store takes no more"));
                }
            }
        }
    }

    async fn attempt(&self, object: &Object) -> Result<Imported, Fault> {
        let request = self.connection.client.get_object().bucket(&self.connection.bucket).key(&object.key);
        let request = request.set_if_match(object.etag.clone()).set_version_id(object.version.clone());
        let answer = request.checksum_mode(ChecksumMode::Enabled).send().await;
        let answer = answer.map_err(|error| self.refused(object, &error))?;
        let (pieces, mut made) = mpsc::channel(MAX_WAITING);
        let import = self.blobs.add_stream(stream::poll_fn(move |context| made.poll_recv(context)));
        let (pumped, imported) = tokio::join!(self.pump(object, answer.body, pieces), import);
        match (pumped, imported) {
            (Ok(()), Ok(imported)) => Ok(imported),
            (Ok(()) | Err(Fault::Unwanted), Err(error)) => {
                Err(Fault::Lasting(not_kept(&self.connection.uri(&object.key), &error)))
            }
            (Err(fault), _) => Err(fault),
        }
    }

    fn refused<E>(&self, object: &Object, error: &SdkError<E, aws_sdk_s3::config::http::HttpResponse>) -> Fault
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        // The SDK has repeated what may pass.
        Fault::Lasting(self.connection.explain(&object.key, error))
    }

    /// Hands a body over to the store. An error ends the import, so that nothing of it is added.
    async fn pump(
        &self,
        object: &Object,
        body: ByteStream,
        pieces: mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), Fault> {
        let pumped = self.pump_pieces(object, body, &pieces).await;
        if pumped.is_err() {
            let _ = pieces.send(Err(io::Error::other("the object was not read to its end"))).await;
        }
        pumped
    }

    async fn pump_pieces(
        &self,
        object: &Object,
        mut body: ByteStream,
        pieces: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), Fault> {
        let (mut read, mut hash) = (0, Sha256::new());
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| {
                self.read.fetch_sub(read, Ordering::Relaxed);
                let reason = format!("breaks off after {read} of {} bytes: {}", object.bytes, innermost(&error));
                Fault::Passing(self.fault(object, reason, "try again, and check the network"))
            })?;
            read += piece.len() as u64;
            self.progress(piece.len() as u64);
            if read > object.bytes {
                return Err(self.wrong_length(object, "more"));
            }
            if self.checksum.is_some() {
                hash.update(&piece);
            }
            pieces.send(Ok(piece)).await.map_err(|_| Fault::Unwanted)?;
        }
        if read < object.bytes {
            return Err(self.wrong_length(object, "less"));
        }
        self.check(object, hash.finalize().into())
    }

    fn check(&self, object: &Object, found: [u8; 32]) -> Result<(), Fault> {
        match self.checksum {
            Some(expected) if expected != found => {
                let reason = format!("has the SHA-256 {}, not the one that the job names", BASE64.encode(&found));
                Err(Fault::Lasting(self.fault(object, reason, "correct ChecksumSHA256, or find out who changed it")))
            }
            _ => Ok(()),
        }
    }

    fn wrong_length(&self, object: &Object, relation: &str) -> Fault {
        let reason = format!("has {relation} than the {} bytes that were announced", object.bytes);
        Fault::Lasting(self.fault(object, reason, "submit the job again when nobody writes there"))
    }

    fn fault(&self, object: &Object, reason: String, remedy: &str) -> DataError {
        DataError::new(self.connection.uri(&object.key), reason, remedy)
    }

    fn progress(&self, bytes: u64) {
        let bytes = self.read.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.request.progress)(Progress { bytes, total: Some(self.total) });
    }
}

/// What was read cannot be kept.
pub(super) fn not_kept(thing: &str, error: &dyn fmt::Display) -> DataError {
    DataError::new(thing, format!("cannot be kept: {error}"), "make room on this node's disk")
}

/// Reads a SHA-256 in hex or, as S3 writes it, in base64.
fn checksum(connection: &Connection, source: &S3Source) -> Result<Option<[u8; 32]>, DataError> {
    let text = source.checksum_sha256.as_bytes();
    if text.is_empty() {
        return Ok(None);
    }
    let decoded = HEXLOWER_PERMISSIVE.decode(text).ok().filter(|bytes| bytes.len() == 32);
    let decoded = decoded.or_else(|| BASE64.decode(text).ok()).and_then(|bytes| bytes.try_into().ok());
    let remedy = "write the SHA-256 in base64 or as 64 hex digits";
    let wrong = || DataError::new(connection.uri(&source.key), "has a ChecksumSHA256 that is none", remedy);
    decoded.map(Some).ok_or_else(wrong)
}
