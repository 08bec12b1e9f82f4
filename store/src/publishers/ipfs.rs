//! Placeholder for the `ipfs` publisher.

use super::{Publication, Published};
use crate::blobs::Blobs;
use crate::sources::{DataError, IpfsConfig};

#[derive(Debug, Default)]
pub(super) struct Writer {}

impl Writer {
    pub(super) fn new(_config: IpfsConfig) -> Result<Self, DataError> {
        Ok(Self {})
    }

    pub(super) async fn publish(&self, _blobs: &Blobs, _publication: &Publication<'_>) -> Result<Published, DataError> {
        Err(DataError::new("the publisher ipfs", "is not there yet", "use blob"))
    }
}
