//! Images: those that the engine has, and those that come as blobs or from a registry and are loaded once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bollard::Docker;
use bollard::models::ImageInspect;
use bollard::query_parameters::{ImportImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use shoal_protocol::id::{BlobHash, ImageId};
use shoal_protocol::message::Amount;
use shoal_protocol::task::{Docker as Program, Image, ImageOrigin};
use tokio::io::{AsyncRead, DuplexStream};
use tokio::sync::RwLockReadGuard;
use tokio_util::io::{ReaderStream, SyncIoBridge};

use super::engine::{self, Engine, is_missing, plain};
use super::layers;
use super::saved::{self, Saved, SavedError};
use crate::{Blobs, PullRequest, Pulled, RunError};

/// Images that were loaded and stay for the next run; the one that was used the longest time ago goes first.
const MAX_LOADED: usize = 16;
/// Where the names of all images are that nodes have loaded.
const NODES: &str = "shoal/";
/// What is on its way to the engine at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// The images that this node has loaded.
#[derive(Debug)]
pub(super) struct Images {
    /// The name of all of them; what they are is the tag.
    name: String,
    /// At most so many bytes of them stay, beside those that are in use; no image may be larger.
    max_bytes: u64,
    /// One at a time: each is as large as it likes.
    loading: tokio::sync::Mutex<()>,
    /// Read from the look at an image to the making of its container, written to remove images.
    resting: tokio::sync::RwLock<()>,
    /// The order of use, the latest last.
    used: Mutex<Vec<String>>,
}

/// A layer that is being read.
type Opened = SyncIoBridge<Box<dyn AsyncRead + Send + Unpin>>;

/// An image that stays as long as this lives.
#[derive(Debug)]
pub(super) struct Ready<'a> {
    pub(super) image: ImageInspect,
    _rests: RwLockReadGuard<'a, ()>,
}

/// What an engine knows of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: ImageId,
    /// What registries call it, as the engine remembers from pulling or pushing it: `NAME@DIGEST` each.
    pub digests: Vec<String>,
    /// `OS/ARCHITECTURE` that it runs on.
    pub platform: String,
}

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The engine does not have it.
    #[error("the engine has no image {0}: get it with `docker pull`, or check its name")]
    Missing(String),
    /// The engine does not say what it is.
    #[error("the engine does not tell the id of image {0}")]
    Nameless(String),
    /// The engine fails.
    #[error("the engine cannot give image {0}: {1}")]
    Engine(String, String),
}

impl Images {
    pub(super) fn new(node: &str, max_bytes: u64) -> Self {
        let node: String = node.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
        let name = format!("{NODES}{}", node.to_ascii_lowercase());
        Self { name, max_bytes, loading: Default::default(), resting: Default::default(), used: Default::default() }
    }

    /// The image on the engine, loaded if it is not there yet and comes from somewhere. `told` hears how far it is.
    pub(super) async fn ready(
        &self,
        engine: &Engine,
        docker: &Program,
        blobs: &dyn Blobs,
        told: &(dyn Fn(Amount) + Send + Sync),
    ) -> Result<Ready<'_>, RunError> {
        let image = &docker.image;
        let rests = self.resting.read().await;
        if let Some(image) = self.present(engine, image).await? {
            return Ok(Ready { image, _rests: rests });
        }
        drop(rests);
        match &image.origin {
            ImageOrigin::Engine => {
                let why = format!("image {}: push it as a blob with `shoal docker push-image`", image.id.short());
                return Err(RunError::InputMissing(why));
            }
            ImageOrigin::Blob(hash) => self.load_saved(engine, image, *hash, blobs).await?,
            ImageOrigin::Registry(repository, digest) => {
                let (id, platform, max_bytes) = (image.id, docker.platform.as_str(), self.max_bytes);
                let pull = PullRequest { repository, digest: *digest, id, platform, max_bytes, told };
                let pulled = blobs.pull(&pull).await?;
                self.load_layers(engine, image, pulled, blobs).await?;
            }
        }
        let rests = self.resting.read().await;
        let loaded =
            self.present(engine, image).await?.ok_or_else(|| host("the engine does not have what it loaded"))?;
        Ok(Ready { image: loaded, _rests: rests })
    }

    /// What the engine calls an image, beside the names that nodes give; none if it does not have it, or has it from a
    /// node alone.
    pub(super) async fn names(&self, engine: &Engine, id: ImageId) -> Result<Option<Vec<String>>, ImageError> {
        match engine.client.inspect_image(&id.to_string()).await {
            Ok(found) => {
                let names = found.repo_tags.into_iter().chain(found.repo_digests).flatten();
                let (ours, others): (Vec<_>, Vec<_>) = names.partition(|name| name.starts_with(NODES));
                Ok(Some(others).filter(|others| ours.is_empty() || !others.is_empty()))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(ImageError::Engine(id.short(), plain(&error))),
        }
    }

    async fn present(&self, engine: &Engine, image: &Image) -> Result<Option<ImageInspect>, RunError> {
        let tag = self.tag(image);
        self.touch(&tag);
        for name in [image.id.to_string(), tag] {
            match engine.client.inspect_image(&name).await {
                Ok(found) => return Ok(Some(found)),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(host(plain(&error))),
            }
        }
        Ok(None)
    }

    async fn load_saved(
        &self,
        engine: &Engine,
        image: &Image,
        hash: BlobHash,
        blobs: &dyn Blobs,
    ) -> Result<(), RunError> {
        let _turn = self.loading.lock().await;
        // Whoever was before may have loaded it.
        if self.present(engine, image).await?.is_some() {
            return Ok(());
        }
        let saved = look_through(blobs.open(hash).await.map_err(missing)?).await.map_err(declined)?;
        if saved.id != image.id {
            return Err(declined(format!("the blob holds image {}, the job names {}", saved.id, image.id)));
        }
        if saved.bytes > self.max_bytes {
            return Err(declined(format!("it has {} bytes, and this worker keeps {}", saved.bytes, self.max_bytes)));
        }
        self.make_room(engine, saved.bytes).await?;
        let (tag, saved_archive) = (self.tag(image), SyncIoBridge::new(blobs.open(hash).await.map_err(missing)?));
        load(engine, image, written(move |to| saved::write_as(&saved, &tag, saved_archive, to))).await
    }

    async fn load_layers(
        &self,
        engine: &Engine,
        image: &Image,
        pulled: Pulled,
        blobs: &dyn Blobs,
    ) -> Result<(), RunError> {
        let _turn = self.loading.lock().await;
        if self.present(engine, image).await?.is_some() {
            return Ok(());
        }
        let (layers, config, max_bytes) = (opened(&pulled, blobs).await?, pulled.config.clone(), self.max_bytes);
        let look = tokio::task::spawn_blocking(move || layers::look_through(&config, layers, max_bytes));
        let measured = look.await.map_err(|error| host(error.to_string()))?.map_err(declined)?;
        self.make_room(engine, measured.bytes()).await?;
        let (layers, config, tag) = (opened(&pulled, blobs).await?, pulled.config.clone(), self.tag(image));
        let id = image.id;
        let archive = written(move |to| layers::write_as((id, &config), layers, &measured, &tag, to));
        load(engine, image, archive).await
    }

    /// Removes images that were used the longest time ago, until one more of `bytes` fits.
    async fn make_room(&self, engine: &Engine, bytes: u64) -> Result<(), RunError> {
        let _nobody_starts = self.resting.write().await;
        let loaded = self.loaded(engine).await?;
        let (mut count, mut bytes) = (loaded.len() + 1, loaded.iter().fold(bytes, |sum, (_, bytes)| sum + bytes));
        for (tag, size) in loaded {
            if count <= MAX_LOADED && bytes <= self.max_bytes {
                break;
            }
            // One that a container is made of stays, and is asked for again next time.
            let options = RemoveImageOptionsBuilder::default().build();
            if engine.client.remove_image(&tag, Some(options), None).await.is_ok() {
                (count, bytes) = (count - 1, bytes - size);
            }
        }
        Ok(())
    }

    /// The images that this node has loaded, by name, with their sizes in bytes: first what was used the longest time
    /// ago, and before that what an earlier process loaded.
    async fn loaded(&self, engine: &Engine) -> Result<Vec<(String, u64)>, RunError> {
        let filter = HashMap::from([("reference".to_owned(), vec![format!("{}:*", self.name)])]);
        let options = ListImagesOptionsBuilder::default().filters(&filter).build();
        let loaded = engine.client.list_images(Some(options)).await.map_err(|error| host(plain(&error)))?;
        let mut loaded: Vec<(String, u64)> = loaded
            .into_iter()
            .flat_map(|image| image.repo_tags.into_iter().map(move |tag| (tag, image.size.unsigned_abs())))
            .filter(|(tag, _)| tag.starts_with(&self.name))
            .collect();
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
        loaded.sort_by_key(|(tag, _)| used.iter().position(|name| name == tag));
        Ok(loaded)
    }

    /// The name that an image has from us: that of its blob, else its own.
    fn tag(&self, image: &Image) -> String {
        let name = image.blob().map_or_else(|| image.id.to_string(), |hash| hash.to_string());
        format!("{}:{}", self.name, name.trim_start_matches("sha256:"))
    }

    fn touch(&self, tag: &str) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|name| name != tag);
        used.push(tag.to_owned());
        let surplus = used.len().saturating_sub(2 * MAX_LOADED);
        used.drain(..surplus);
    }
}

/// What the engine calls `name`.
pub(super) async fn find(client: &Docker, name: &str) -> Result<Found, ImageError> {
    let image = client.inspect_image(name).await.map_err(|error| match error {
        error if is_missing(&error) => ImageError::Missing(name.into()),
        error => ImageError::Engine(name.into(), plain(&error)),
    })?;
    let id = image.id.as_deref().and_then(|id| id.parse().ok());
    let platform = image.os.zip(image.architecture).map(|(os, architecture)| format!("{os}/{architecture}"));
    let (id, platform) = id.zip(platform).ok_or_else(|| ImageError::Nameless(name.into()))?;
    Ok(Found { id, digests: image.repo_digests.unwrap_or_default(), platform })
}

/// The image `name` of the engine at `host`, as `docker save` writes it, without a name.
pub async fn save(
    host: &str,
    name: &str,
) -> Result<impl Stream<Item = std::io::Result<Bytes>> + Send + use<>, ImageError> {
    let failed = |error| ImageError::Engine(name.into(), plain(&error));
    let client = engine::connect(host).map_err(failed)?.negotiate_version().await.map_err(failed)?;
    let found = find(&client, name).await?;
    Ok(client.export_image(&found.id.to_string()).map_err(|error| std::io::Error::other(plain(&error))))
}

/// Looks through a saved image while it is read.
pub async fn look_through(archive: impl AsyncRead + Send + Unpin + 'static) -> Result<Saved, SavedError> {
    let archive = SyncIoBridge::new(archive);
    let look = tokio::task::spawn_blocking(move || saved::look_through(archive));
    look.await.map_err(std::io::Error::other)?
}

/// The layers of an image, for threads that may block.
async fn opened(pulled: &Pulled, blobs: &dyn Blobs) -> Result<Vec<Opened>, RunError> {
    let mut layers = Vec::new();
    for layer in &pulled.layers {
        layers.push(SyncIoBridge::new(blobs.open(*layer).await.map_err(missing)?));
    }
    Ok(layers)
}

/// Gives an archive with one image to the engine.
async fn load(
    engine: &Engine,
    image: &Image,
    archive: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Result<(), RunError> {
    let options = ImportImageOptionsBuilder::default().quiet(true).build();
    let told = engine.client.import_image_stream(options, archive, None).try_collect::<Vec<_>>().await;
    told.map(drop).map_err(|error| host(format!("cannot load image {}: {}", image.id.short(), plain(&error))))
}

/// What `write` writes, while it does. Should it break off, the engine finds the archive incomplete.
fn written(
    write: impl FnOnce(SyncIoBridge<DuplexStream>) -> Result<(), SavedError> + Send + 'static,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let (read, to) = tokio::io::duplex(PIECE_BYTES);
    let to = SyncIoBridge::new(to);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write(to) {
            tracing::warn!(%error, "an image was not written to the engine");
        }
    });
    ReaderStream::with_capacity(read, PIECE_BYTES)
}

fn missing(error: std::io::Error) -> RunError {
    RunError::InputMissing(format!("image: {error}"))
}

fn declined(error: impl std::fmt::Display) -> RunError {
    RunError::Declined(format!("image: {error}"))
}

fn host(why: impl Into<String>) -> RunError {
    RunError::HostFailed(why.into())
}
