//! Finds out what of results is compared, from the lists of their files.

use shoal_protocol::id::{BlobHash, PeerId};
use shoal_protocol::machine::Unfit;
use shoal_protocol::task::{Claim, Compare, Content, ContentKind, EXIT_CODE};
use shoal_store::blobs::{Blobs, FolderError, folder_hash};

use crate::lists;
use crate::network::{FetchError, Network};
use crate::query::ListError;

/// Looks at results of others.
#[derive(Clone)]
pub(crate) struct Comparing {
    pub(crate) blobs: Blobs,
    pub(crate) network: Network,
}

impl Comparing {
    /// What is compared of a result that `from` has, as the hash of a folder with that alone.
    pub(crate) async fn examine(&self, from: PeerId, claim: Claim, compare: &Compare) -> Result<BlobHash, Unfit> {
        let list = Content { hash: claim.result, kind: ContentKind::Collection };
        let _list = self.blobs.protect(list).await.map_err(|error| Unfit::Missing(error.to_string()))?;
        let providers: Vec<PeerId> = Some(from).filter(|peer| *peer != self.network.peer_id()).into_iter().collect();
        lists::have((&self.network, &self.blobs), claim.result, &providers).await.map_err(|error| unfit(&error))?;
        let files = self.blobs.entries(claim.result).await.map_err(|error| unfit(&error.into()))?;
        let code = files.iter().find(|(name, _)| name == EXIT_CODE).map(|(_, hash)| *hash);
        if code != Some(BlobHash::of(claim.outcome.exit_code().to_string().as_bytes())) {
            return Err(Unfit::False(format!(
                "{EXIT_CODE} in its result is not that of a program that {}",
                claim.outcome
            )));
        }
        Ok(chosen(claim.result, &files, compare))
    }
}

/// What of a result that is here is compared.
pub(crate) async fn compared(blobs: &Blobs, result: BlobHash, compare: &Compare) -> Result<BlobHash, FolderError> {
    Ok(chosen(result, &blobs.entries(result).await?, compare))
}

fn chosen(result: BlobHash, files: &[(String, BlobHash)], compare: &Compare) -> BlobHash {
    match compare {
        Compare::All => result,
        Compare::Outputs | Compare::Part(_) => {
            let chosen = files.iter().filter(|(name, _)| compare.holds(name));
            folder_hash(chosen.map(|(name, hash)| (name.as_str(), *hash)))
        }
    }
}

/// Whether a result is not what it was said to be, or only not here.
pub(crate) fn unfit(error: &ListError) -> Unfit {
    let is_false = matches!(
        error,
        ListError::Folder(FolderError::Malformed { .. } | FolderError::Name { .. })
            | ListError::Fetch(FetchError::TooLarge { .. })
    );
    let why = error.to_string();
    if is_false { Unfit::False(why) } else { Unfit::Missing(why) }
}
