//! Placeholder for the `s3` publisher.

use shoal_protocol::job::spec::S3Publisher;

use super::{Publication, Published};
use crate::blobs::Blobs;
use crate::sources::DataError;

#[derive(Debug, Default)]
pub(super) struct Writer {}

impl Writer {
    pub(super) async fn publish(
        &self,
        _blobs: &Blobs,
        _to: &S3Publisher,
        _publication: &Publication<'_>,
    ) -> Result<Published, DataError> {
        Err(DataError::new("the publisher s3", "is not there yet", "use blob"))
    }
}
