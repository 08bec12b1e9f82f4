//! Images of registries: what a name stands for, and the layers that an image is made of.
//!
//! A registry is spoken to here and not by the engine, because its answers are a stranger's: where to they lead, how
//! much comes and whether it is what was named is checked before the engine hears of it. Layers become blobs, which
//! other images share and which make way like any other.

mod logins;

mod manifest;

mod session;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use shoal_protocol::id::{ImageId, ManifestDigest};
use shoal_protocol::image::{ImageName, Repository};
use shoal_protocol::text;

use self::logins::Logins;
use self::manifest::{ACCEPTED, Document, Layer, MAX_DESCRIPTION_BYTES, Manifest, pick, platforms, sha256};
use self::session::Session;
use super::reach::{Clients, Reach};
use super::url::transfer::{Bounds, Limits};
use super::{Asker, Cache, DataError, Progress};
use crate::blobs::{Blobs, Imported, Reservation};

/// Layers of one image that are fetched at once.
const LAYERS_AT_ONCE: usize = 3;
/// How long an image may take, in all: whoever sends it more slowly only keeps others from the worker.
const PULL: Duration = Duration::from_secs(3_600);
/// How long a registry may take to say what a name stands for.
const RESOLVE: Duration = Duration::from_secs(120);
/// What a registry is at fault for.
const FAULTY: &str = "the registry is at fault: push the image again, or to another one";
/// What to do about an image that runs elsewhere only.
const OTHER_PLATFORM: &str = "build it for this platform, or let workers of another one run it";

/// Reads registries.
#[derive(Debug)]
pub(super) struct Reader {
    clients: Clients,
    limits: Limits,
    logins: Logins,
    /// Whether jobs of other peers may have images of registries pulled that are not at public addresses.
    private_addresses: bool,
}

/// What a name stands for now, on one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The manifest.
    pub digest: ManifestDigest,
    /// What engines call it.
    pub id: ImageId,
    /// What is transferred, in bytes.
    pub bytes: u64,
}

/// An image to fetch.
#[derive(Clone, Copy)]
pub struct ImageRequest<'a> {
    /// Where it is.
    pub repository: &'a Repository,
    /// What it is called there.
    pub digest: ManifestDigest,
    /// What it must be.
    pub id: ImageId,
    /// What it must run on: `OS/ARCHITECTURE`.
    pub platform: &'a str,
    /// For whom.
    pub asker: Asker,
    /// Whether the registry is shown the operator's login, if there is one.
    pub login: bool,
    /// The most that may be transferred, in bytes.
    pub max_bytes: u64,
    /// Hears how much was fetched, often.
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
}

/// An image that is here, in pieces.
#[derive(Debug)]
#[must_use = "the layers may be collected once this is dropped"]
pub struct FetchedImage {
    /// Its configuration, whose hash is its id.
    pub config: Bytes,
    /// Its layers as they were transferred, from the bottom up.
    pub layers: Vec<Imported>,
    _room: Reservation,
}

/// Why an image is not here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Its registry does not give it, or gives something else.
    #[error(transparent)]
    Missing(DataError),
    /// It is not what this machine takes.
    #[error(transparent)]
    Unfit(DataError),
    /// This machine has no room for it.
    #[error("{0}")]
    Store(String),
}

impl Reader {
    pub(super) fn new(private_addresses: bool) -> Self {
        let (clients, limits) = (Clients::new(), Limits::default());
        Self { clients, limits, logins: Logins::of_user(), private_addresses }
    }

    /// Asks the registry what a name stands for on a platform, as the operator.
    pub(super) async fn resolve(&self, name: &ImageName, platform: &str) -> Result<ResolvedImage, DataError> {
        let late = |_| DataError::new(format!("image {name}"), "was not found in time", "see that its registry is up");
        tokio::time::timeout(RESOLVE, self.look_up(name, platform)).await.map_err(late)?
    }

    async fn look_up(&self, name: &ImageName, platform: &str) -> Result<ResolvedImage, DataError> {
        let mut session = self.session(&name.repository, Asker::Owner, true).await;
        let named = name.digest.map(|digest| digest.to_string());
        let named = named.or_else(|| name.tag.clone()).unwrap_or_default();
        let (digest, manifest) = image(&mut session, &named, name.digest, platform).await?;
        config(&mut session, &manifest, platform).await?;
        Ok(ResolvedImage { digest, id: manifest.id, bytes: manifest.bytes() })
    }

    /// Fetches what is not here of an image.
    pub(super) async fn fetch(
        &self,
        blobs: &Blobs,
        cache: &Cache,
        request: &ImageRequest<'_>,
    ) -> Result<FetchedImage, ImageError> {
        let fetch = self.fetch_all(blobs, cache, request);
        tokio::time::timeout(PULL, fetch).await.unwrap_or_else(|_| {
            let reason = format!("was not fetched in {} s", PULL.as_secs());
            Err(missing(request, reason, "push it as a blob with `shoal docker push-image`"))
        })
    }

    async fn fetch_all(
        &self,
        blobs: &Blobs,
        cache: &Cache,
        request: &ImageRequest<'_>,
    ) -> Result<FetchedImage, ImageError> {
        let mut session = self.session(request.repository, request.asker, request.login).await;
        let named = request.digest.to_string();
        let found = image(&mut session, &named, Some(request.digest), request.platform).await;
        let (_, manifest) = found.map_err(ImageError::Missing)?;
        if manifest.id != request.id {
            return Err(missing(request, format!("is {}, not {}", manifest.id, request.id), FAULTY));
        }
        let total = manifest.bytes();
        if total > request.max_bytes {
            let reason = format!("has {total} bytes, and this worker takes {}", request.max_bytes);
            let error = DataError::new(format!("image {}", request.repository), reason, "use a smaller image");
            return Err(ImageError::Unfit(error));
        }
        let room = blobs.reserve_blobs(total).await.map_err(|error| ImageError::Store(error.to_string()))?;
        let config = config(&mut session, &manifest, request.platform).await.map_err(ImageError::Missing)?;
        let counters = Counters::new(&manifest, request.progress);
        let layers = stream::iter(manifest.layers.clone().into_iter().enumerate());
        let layers = layers.map(|(index, layer)| self.layer(blobs, cache, request, layer, counters.of(index)));
        let layers = layers.buffered(LAYERS_AT_ONCE).try_collect().await?;
        Ok(FetchedImage { config, layers, _room: room })
    }

    /// One layer, fetched if no image of this repository had it before.
    async fn layer(
        &self,
        blobs: &Blobs,
        cache: &Cache,
        request: &ImageRequest<'_>,
        layer: Layer,
        told: impl Fn(Progress) + Send + Sync,
    ) -> Result<Imported, ImageError> {
        let digest = ManifestDigest(layer.sha256);
        // The repository belongs to the key: who may not read it finds nothing here either.
        let slot = cache.slot(format!("image {} {digest}", request.repository)).await;
        if let Some(mut known) = slot.known().await
            && let Some(layer) = known.parts.pop()
        {
            told(Progress { bytes: layer.bytes, total: None });
            return Ok(layer);
        }
        let bounds = Bounds { max_bytes: layer.bytes, progress: &told };
        let mut session = self.session(request.repository, request.asker, request.login).await;
        let asked = session.ask(&format!("blobs/{digest}"), "*/*", bounds).await;
        let (mut transfer, answer) = asked.map_err(ImageError::Missing)?;
        let (imported, sha256) = transfer.import(answer, blobs).await.map_err(ImageError::Missing)?;
        if sha256 != layer.sha256 || imported.bytes != layer.bytes {
            return Err(missing(
                request,
                format!("has a layer {digest} that its registry gives with another content"),
                FAULTY,
            ));
        }
        let parts = [imported];
        slot.remember(&parts, "").await;
        let [imported] = parts;
        Ok(imported)
    }

    async fn session<'a>(&'a self, repository: &'a Repository, asker: Asker, login: bool) -> Session<'a> {
        let reach = match asker {
            Asker::Owner => Reach::Anywhere,
            Asker::Peer if self.private_addresses => Reach::Anywhere,
            Asker::Peer => Reach::Public,
        };
        let login = if login { self.logins.find(repository.registry()).await } else { None };
        Session::new(&self.clients, self.limits, repository, reach, login)
    }
}

/// The image that a tag or a digest stands for on a platform, and the digest of its manifest.
async fn image(
    session: &mut Session<'_>,
    named: &str,
    digest: Option<ManifestDigest>,
    platform: &str,
) -> Result<(ManifestDigest, Manifest), DataError> {
    let (digest, entries) = match document(session, named, digest).await? {
        (digest, Document::Manifest(manifest)) => return Ok((digest, manifest)),
        (digest, Document::Index(entries)) => (digest, entries),
    };
    let Some(entry) = pick(&entries, platform) else {
        let there = text::ends(&platforms(&entries), 200);
        return Err(session.error(format!("({digest}) is not there for {platform}, but for {there}"), OTHER_PLATFORM));
    };
    match document(session, &entry.digest.to_string(), Some(entry.digest)).await? {
        (digest, Document::Manifest(manifest)) => Ok((digest, manifest)),
        (_, Document::Index(_)) => Err(session.error("is a list of lists", FAULTY)),
    }
}

/// A list of platforms or a manifest, checked against its digest if that is known.
async fn document(
    session: &mut Session<'_>,
    named: &str,
    digest: Option<ManifestDigest>,
) -> Result<(ManifestDigest, Document), DataError> {
    let bytes = session.get(&format!("manifests/{named}"), ACCEPTED, MAX_DESCRIPTION_BYTES).await?;
    let found = ManifestDigest(sha256(&bytes));
    if let Some(digest) = digest.filter(|digest| *digest != found) {
        return Err(session.error(format!("is given as {found}, not {digest}"), FAULTY));
    }
    let document = Document::read(&bytes).map_err(|reason| session.error(reason, "name an image of a container"))?;
    Ok((found, document))
}

/// The configuration of an image, which says what it runs on.
async fn config(session: &mut Session<'_>, manifest: &Manifest, platform: &str) -> Result<Bytes, DataError> {
    let bytes = session.get(&format!("blobs/{}", manifest.id), "*/*", MAX_DESCRIPTION_BYTES).await?;
    if ImageId(sha256(&bytes)) != manifest.id {
        return Err(session.error("has a configuration that its registry gives with another content", FAULTY));
    }
    match manifest::platform(&bytes) {
        Ok(runs_on) if runs_on == platform => Ok(bytes),
        Ok(runs_on) => Err(session.error(format!("is for {runs_on}, not {platform}"), OTHER_PLATFORM)),
        Err(reason) => Err(session.error(reason, FAULTY)),
    }
}

fn missing(request: &ImageRequest<'_>, reason: impl Into<String>, remedy: &str) -> ImageError {
    ImageError::Missing(DataError::new(format!("image {}", request.repository), reason, remedy))
}

/// Adds up how far the layers are.
struct Counters<'a> {
    layers: Vec<AtomicU64>,
    total: u64,
    told: &'a (dyn Fn(Progress) + Send + Sync),
}

impl<'a> Counters<'a> {
    fn new(manifest: &Manifest, told: &'a (dyn Fn(Progress) + Send + Sync)) -> Self {
        let layers = manifest.layers.iter().map(|_| AtomicU64::new(0)).collect();
        let total = manifest.layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.bytes));
        Self { layers, total, told }
    }

    fn of(&self, index: usize) -> impl Fn(Progress) + Send + Sync {
        move |progress| {
            self.layers[index].store(progress.bytes, Ordering::Relaxed);
            let bytes = self.layers.iter().map(|layer| layer.load(Ordering::Relaxed)).sum::<u64>();
            (self.told)(Progress { bytes: bytes.min(self.total), total: Some(self.total) });
        }
    }
}
