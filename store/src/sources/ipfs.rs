//! Placeholder for the `ipfs` reader.

use shoal_protocol::job::spec::IpfsSource;

use super::{Cache, DataError, Obtained, Request};
use crate::blobs::Blobs;

/// Where content of IPFS comes from.
#[derive(Debug, Default, Clone)]
pub struct IpfsConfig {
    /// The RPC address of a Kubo node, for example `http://127.0.0.1:5001`.
    pub api: Option<String>,
    /// Trustless gateways, for example `https://trustless-gateway.link`.
    pub gateways: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Reader {}

impl Reader {
    pub(super) fn new(_config: IpfsConfig) -> Result<Self, DataError> {
        Ok(Self {})
    }

    pub(super) async fn obtain(
        &self,
        _blobs: &Blobs,
        _cache: &Cache,
        source: &IpfsSource,
        _request: &Request<'_>,
    ) -> Result<Obtained, DataError> {
        Err(DataError::new(&source.cid, "cannot be read yet", "download it"))
    }
}
