//! The names and hashes of a folder's files, without the files: all that is needed to choose among them.

use shoal_protocol::id::{BlobHash, PeerId};
use shoal_protocol::task::{Content, ContentKind};
use shoal_store::blobs::{Blobs, MAX_LIST_BYTES, MAX_NAMES_BYTES};

use crate::network::Network;
use crate::query::ListError;
use crate::room;

/// Fetches what is missing of the two lists of a folder, which the caller protects; returns their size in bytes.
pub(crate) async fn have(
    (network, blobs): (&Network, &Blobs),
    folder: BlobHash,
    providers: &[PeerId],
) -> Result<u64, ListError> {
    let have = async |hash, limit| -> Result<u64, ListError> {
        let list = Content { hash, kind: ContentKind::Raw };
        match blobs.size(list).await? {
            Some(bytes) => Ok(bytes),
            None => Ok(room::fetch((network, blobs), list, providers.to_vec(), limit, |_| {}).await?),
        }
    };
    let bytes = have(folder, MAX_LIST_BYTES).await?;
    let names = blobs.names_of(folder).await?;
    Ok(bytes + have(names, MAX_NAMES_BYTES).await?)
}
