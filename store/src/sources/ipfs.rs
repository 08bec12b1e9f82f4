//! The `ipfs` source: files and folders by CID, from a Kubo node or trustless gateways that the operator named.
//!
//! A gateway needs no trust: each block proves itself. So they are asked in order until one has it, and a CID never
//! decides whom this node talks to.

mod provider;

mod fetch;

mod walk;

use std::sync::Arc;

use shoal_protocol::job::spec::IpfsSource;

use self::fetch::{FetchError, Fetcher, Patience};
pub(crate) use self::provider::Kubo;
use self::provider::{Gateway, Provider};
use self::walk::{Walk, WalkError};
use super::{Cache, DataError, Obtained, Request};
use crate::blobs::Blobs;
use crate::ipfs::{Address, Cid, Root};
use crate::trees::Trees;

/// Where content of IPFS comes from, and goes to.
#[derive(Debug, Default, Clone)]
pub struct IpfsConfig {
    /// The RPC address of a Kubo node, for example `http://127.0.0.1:5001`.
    pub api: Option<String>,
    /// Trustless gateways, for example `https://gateway.example`.
    pub gateways: Vec<String>,
}

/// Reads `ipfs` sources.
#[derive(Debug)]
pub(super) struct Reader {
    /// What this node published itself.
    own: Trees,
    kubo: Option<Kubo>,
    /// The Kubo node, then the gateways.
    providers: Vec<Arc<dyn Provider>>,
    patience: Patience,
}

impl Reader {
    pub(super) fn new(own: Trees, config: &IpfsConfig) -> Result<Self, DataError> {
        let kubo = config.api.as_deref().map(Kubo::new).transpose()?;
        let mut providers: Vec<Arc<dyn Provider>> = Vec::new();
        providers.extend(kubo.clone().map(|kubo| Arc::new(kubo) as _));
        for gateway in &config.gateways {
            providers.push(Arc::new(Gateway::new(gateway)?));
        }
        Ok(Self { own, kubo, providers, patience: Patience::default() })
    }

    pub(super) async fn obtain(
        &self,
        blobs: &Blobs,
        cache: &Cache,
        source: &IpfsSource,
        request: &Request<'_>,
    ) -> Result<Obtained, DataError> {
        let address = Address::parse(&source.cid).map_err(|reason| {
            let remedy = "write a CID, a CID and a path below it (CID/path), or ipns://NAME";
            DataError::new(format!("ipfs content {:?}", shorten(&source.cid)), reason, remedy)
        })?;
        let (root, path) = self.locate(&address).await?;
        let exact = Address { root: Root::Cid(root), path };
        let slot = cache.slot(format!("{exact}")).await;
        if let Some(known) = slot.known().await {
            return Ok(Obtained { parts: known.parts, origin: origin(&address, &exact) });
        }
        let fetcher = Fetcher::new(self.providers(&root).await, self.patience);
        let walked = Walk::new(blobs, fetcher, request).import(root, &exact.path).await;
        let imported = walked.map_err(|error| explain(&exact, &error))?;
        let obtained = Obtained::one(imported, origin(&address, &exact));
        slot.remember(&obtained.parts, "").await;
        Ok(obtained)
    }

    /// Whom to ask for a tree: nobody else if it is one of our own.
    async fn providers(&self, root: &Cid) -> Vec<Arc<dyn Provider>> {
        match self.own.has(root).await {
            Ok(true) => vec![Arc::new(self.own.clone())],
            _ => self.providers.clone(),
        }
    }

    /// The CID where an address begins, and the path from there.
    async fn locate(&self, address: &Address) -> Result<(Cid, Vec<String>), DataError> {
        let mut address = address.clone();
        let name = match address.root {
            Root::Cid(cid) => return Ok((cid, address.path)),
            Root::Name(name) => name,
        };
        let wrong = |reason: String, remedy: &str| DataError::new(format!("ipns://{name}"), reason, remedy);
        let Some(kubo) = &self.kubo else {
            let reason = "is a name, and only a Kubo node can look names up";
            return Err(wrong(reason.into(), "start the node with --ipfs-api http://127.0.0.1:5001, or write the CID"));
        };
        let found = tokio::time::timeout(self.patience.answer, kubo.resolve(&name)).await;
        let found = found.unwrap_or_else(|_| Err(format!("it does not answer within {:?}", self.patience.answer)));
        let found = found.map_err(|reason| wrong(format!("{kubo}: {reason}"), "check the name, or write the CID"))?;
        match found.root {
            Root::Cid(cid) => Ok((cid, found.path.into_iter().chain(std::mem::take(&mut address.path)).collect())),
            Root::Name(_) => Err(wrong(format!("{kubo}: it leads to another name"), "write the CID")),
        }
    }
}

fn origin(asked: &Address, exact: &Address) -> String {
    if asked == exact { exact.to_string() } else { format!("{asked} = {exact}") }
}

fn explain(address: &Address, error: &WalkError) -> DataError {
    let (reason, remedy) = match error {
        WalkError::Fetch(FetchError::Nobody) => (
            "this node knows no Kubo node and no gateway to ask".to_owned(),
            "start it with --ipfs-gateway URL or --ipfs-api http://127.0.0.1:5001 \
             (ipfs_gateways, ipfs_api in config.toml)",
        ),
        WalkError::Fetch(FetchError::AllFailed(_)) => (
            format!("no provider has it: {error}"),
            "check the CID and the addresses, or name another gateway with --ipfs-gateway",
        ),
        WalkError::NoEntry { .. } | WalkError::NoFolder(_) => (error.to_string(), "check the path"),
        WalkError::TooLarge(_) | WalkError::Fetch(FetchError::TooMany) => {
            (error.to_string(), "name a part of it with a path, or allow more with --max-disk")
        }
        WalkError::TooManyFiles | WalkError::TooManyEntries => {
            (error.to_string(), "name a part of it with a path, or pack the files into an archive")
        }
        WalkError::Name(_) | WalkError::Node { .. } | WalkError::Compose(_) => {
            (error.to_string(), "name a part of it with a path, or publish it anew without that")
        }
        WalkError::FolderInFile(_) | WalkError::TooDeep(_) => {
            (error.to_string(), "publish it anew: no known tool writes this")
        }
        WalkError::Store(_) => (error.to_string(), "look at the node's disk"),
    };
    DataError::new(address.to_string(), reason, remedy)
}

fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}
