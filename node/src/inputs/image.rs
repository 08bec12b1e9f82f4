//! What a job runs: the modules' profile, or the image that its name stands for now.
//!
//! The node that takes a job looks the name up once, so that all executions run the same image, and workers of
//! another platform do not bid.

use shoal_executors::PROFILE;
use shoal_executors::docker::look_through;
use shoal_protocol::id::BlobHash;
use shoal_protocol::job::spec::{BlobSource, Engine, Job};
use shoal_protocol::task::{Content, ContentKind, Image, ImageOrigin};
use shoal_store::blobs::Guard;

use super::Watcher;
use crate::node::Node;
use crate::submit::SubmitError;

/// How an image that is a blob is named.
const BLOB_PREFIX: &str = "blob://";

/// What is to be run.
pub(crate) struct Program {
    /// What its executor must be.
    pub(crate) profile: String,
    /// The image, and its size in bytes if it is a blob.
    pub(crate) image: Option<(Image, u64)>,
    /// They keep that blob.
    pub(crate) guards: Vec<Guard>,
}

impl Node {
    /// Looks up what a job runs.
    pub(crate) async fn program(&self, job: &Job, watch: Watcher<'_>) -> Result<Program, SubmitError> {
        match &job.task.engine {
            Engine::Docker(docker) => match docker.image.strip_prefix(BLOB_PREFIX) {
                Some(hash) => self.image_of_blob(&docker.image, hash, job.task.input_sources.len(), watch).await,
                None => self.image_of_engine(&docker.image).await,
            },
            Engine::Wasm(_) | Engine::Noop => {
                Ok(Program { profile: PROFILE.to_owned(), image: None, guards: Vec::new() })
            }
        }
    }

    async fn image_of_engine(&self, name: &str) -> Result<Program, SubmitError> {
        let no_engine = || {
            let why = "this node has no docker engine to look it up: start it with `--executors docker`, or push the \
                       image with `shoal docker push-image` and name it blob://HASH";
            SubmitError::Image(name.to_owned(), why.to_owned())
        };
        let found = self.0.containers.as_ref().ok_or_else(no_engine)?.executor.image(name).await?;
        let image = Image { id: found.id, origin: ImageOrigin::Engine };
        Ok(Program { profile: found.platform, image: Some((image, 0)), guards: Vec::new() })
    }

    async fn image_of_blob(
        &self,
        name: &str,
        hash: &str,
        index: usize,
        watch: Watcher<'_>,
    ) -> Result<Program, SubmitError> {
        let wrong = |why: String| SubmitError::Image(name.to_owned(), why);
        let hash: BlobHash = hash.parse().map_err(|error| wrong(format!("{error}; write blob://HASH")))?;
        let source = BlobSource::from(Content { hash, kind: ContentKind::Raw });
        let told = |progress| watch(index, name, progress);
        let obtained = self.part(&source, name, self.0.config.capacity.disk_bytes, &told).await?;
        let saved = look_through(self.blobs().reader(hash)).await.map_err(|error| wrong(error.to_string()))?;
        let image = Image { id: saved.id, origin: ImageOrigin::Blob(hash) };
        Ok(Program { profile: saved.platform, image: Some((image, obtained.bytes())), guards: obtained.guards })
    }
}
