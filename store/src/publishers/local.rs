//! Placeholder for the `local` publisher.

use super::{Publication, Published};
use crate::blobs::Blobs;
use crate::sources::DataError;

#[derive(Debug, Default)]
pub(super) struct Writer {}

impl Writer {
    pub(super) fn new(_folder: std::path::PathBuf, _base_url: Option<String>) -> Self {
        Self {}
    }

    pub(super) async fn publish(&self, _blobs: &Blobs, _publication: &Publication<'_>) -> Result<Published, DataError> {
        Err(DataError::new("the publisher local", "is not there yet", "use blob"))
    }
}
