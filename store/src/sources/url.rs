//! Placeholder for the `url` reader.

use shoal_protocol::job::spec::UrlSource;

use super::{Cache, DataError, Obtained, Request};
use crate::blobs::Blobs;

#[derive(Debug)]
pub(super) struct Reader {}

impl Reader {
    pub(super) fn new(_private_addresses: bool) -> Result<Self, DataError> {
        Ok(Self {})
    }

    pub(super) async fn obtain(
        &self,
        _blobs: &Blobs,
        _cache: &Cache,
        source: &UrlSource,
        _request: &Request<'_>,
    ) -> Result<Obtained, DataError> {
        Err(DataError::new(&source.url, "cannot be read yet", "download it"))
    }
}
