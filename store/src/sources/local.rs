//! Placeholder for the `local` reader.

use shoal_protocol::job::spec::LocalSource;

use super::{DataError, Obtained, Request};
use crate::blobs::Blobs;

/// Paths of this machine that jobs may read or write.
#[derive(Debug, Default, Clone)]
pub struct AllowList {}

/// Why there is no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern} is no pattern of paths: {reason}")]
pub struct AllowListError {
    /// What was written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

#[derive(Debug)]
pub(super) struct Reader {}

impl Reader {
    pub(super) fn new(_allowed: AllowList) -> Self {
        Self {}
    }

    pub(super) async fn obtain(
        &self,
        _blobs: &Blobs,
        source: &LocalSource,
        _request: &Request<'_>,
    ) -> Result<Obtained, DataError> {
        Err(DataError::new(&source.source_path, "cannot be read yet", "submit with `shoal job run`"))
    }
}
