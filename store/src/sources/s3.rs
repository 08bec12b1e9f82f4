//! Placeholder for the `s3` reader.

use shoal_protocol::job::spec::S3Source;

use super::{Cache, DataError, Obtained, Request};
use crate::blobs::Blobs;

#[derive(Debug, Default)]
pub(super) struct Reader {}

impl Reader {
    pub(super) async fn obtain(
        &self,
        _blobs: &Blobs,
        _cache: &Cache,
        source: &S3Source,
        _request: &Request<'_>,
    ) -> Result<Obtained, DataError> {
        Err(DataError::new(&source.bucket, "cannot be read yet", "download it"))
    }
}
