//! The `ipfs` publisher: a result as a tree, which the operator's Kubo node keeps and this node serves.

use std::collections::BTreeMap;

use super::{Publication, Published};
use crate::sources::{DataError, IpfsConfig, Kubo};
use crate::trees::{Scope, TreeError, Trees};

/// What makes the same CID of the same files: IPIP-499's name for it.
const PROFILE: &str = "unixfs-v1-2025";

#[derive(Debug)]
pub(super) struct Writer {
    trees: Trees,
    kubo: Option<Kubo>,
    /// Where others reach this node's gateway, if it serves one.
    gateway: Option<String>,
}

impl Writer {
    pub(super) fn new(trees: Trees, config: &IpfsConfig, gateway: Option<String>) -> Result<Self, DataError> {
        let kubo = config.api.as_deref().map(Kubo::new).transpose()?;
        Ok(Self { trees, kubo, gateway })
    }

    pub(super) async fn publish(&self, publication: &Publication<'_>) -> Result<Published, DataError> {
        let failed = |error: TreeError| {
            let thing = format!("the result of {} for IPFS", publication.execution);
            DataError::new(thing, error.to_string(), "use the publisher blob or local, or look at the node's disk")
        };
        let tree = self.trees.add(publication.result).await.map_err(failed)?;
        let cid = tree.root().to_string();
        let mut details = BTreeMap::from([
            ("CID".to_owned(), cid.clone()),
            ("Profile".to_owned(), PROFILE.to_owned()),
            ("Bytes".to_owned(), tree.bytes.to_string()),
            ("Blocks".to_owned(), tree.blocks.to_string()),
        ]);
        if let Some(kubo) = &self.kubo {
            self.import(kubo, &cid).await?;
            details.insert("PinnedBy".to_owned(), kubo.to_string());
        }
        match &self.gateway {
            Some(gateway) => drop(details.insert("Gateway".to_owned(), gateway.clone())),
            None if self.kubo.is_none() => {
                let note = "only this node can read it: serve it with publish_listen, or set ipfs_api to have a Kubo node keep it";
                details.insert("Note".to_owned(), note.to_owned());
            }
            None => {}
        }
        Ok(Published { uri: format!("ipfs://{cid}"), details })
    }

    /// Forgets trees whose results are not kept any more. What a Kubo node pins is its own.
    pub(super) async fn sweep(&self) {
        if let Err(error) = self.trees.sweep().await {
            tracing::warn!(%error, "published trees were not swept");
        }
    }

    async fn import(&self, kubo: &Kubo, cid: &str) -> Result<(), DataError> {
        let failed = |reason| {
            let remedy = "see that the node runs and may write, or leave ipfs_api out";
            DataError::new(format!("ipfs://{cid}"), format!("{kubo} did not take it: {reason}"), remedy)
        };
        let found = self.trees.find(cid, &[]).await.map_err(|error| failed(error.to_string()))?;
        let found = found.ok_or_else(|| failed("it is gone".to_owned()))?;
        kubo.import(cid, self.trees.archive(found, Scope::All)).await.map_err(failed)
    }
}
