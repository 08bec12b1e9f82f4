//! What a job runs: the modules' profile, or the image that its name stands for now.
//!
//! The node that takes a job looks the name up once, so that all executions run the same image, and workers of
//! another platform do not bid.

use shoal_executors::PROFILE;
use shoal_executors::docker::{ImageError, look_through, platform_here};
use shoal_protocol::id::BlobHash;
use shoal_protocol::image::{ImageName, ImageNameError, Repository};
use shoal_protocol::job::spec::{BlobSource, Docker, Engine, Job};
use shoal_protocol::task::{Content, ContentKind, Image, ImageOrigin};
use shoal_store::blobs::Guard;
use shoal_store::sources::DataError;

use super::Watcher;
use crate::node::Node;
use crate::submit::SubmitError;

/// How an image that is a blob is named.
const BLOB_PREFIX: &str = "blob://";

/// How an image's id is written.
const ID_PREFIX: &str = "sha256:";

/// What is to be run.
pub(crate) struct Program {
    /// What its executor must be.
    pub(crate) profile: String,
    /// The image, and its size in bytes where it comes from, as far as is known.
    pub(crate) image: Option<(Image, u64)>,
    /// They keep that blob.
    pub(crate) guards: Vec<Guard>,
}

impl Node {
    /// Looks up what a job runs.
    pub(crate) async fn program(&self, job: &Job, watch: Watcher<'_>) -> Result<Program, SubmitError> {
        match &job.task.engine {
            Engine::Docker(docker) => match docker.image.strip_prefix(BLOB_PREFIX) {
                Some(hash) => self.image_of_blob(docker, hash, job.task.input_sources.len(), watch).await,
                None => self.image_of_name(docker).await,
            },
            Engine::Wasm(_) | Engine::Noop => {
                Ok(Program { profile: PROFILE.to_owned(), image: None, guards: Vec::new() })
            }
        }
    }

    /// An image that this node's engine has, as `docker run` would take it, else one of a registry.
    async fn image_of_name(&self, docker: &Docker) -> Result<Program, SubmitError> {
        let (name, asked) = (docker.image.as_str(), docker.platform.as_deref());
        let wrong = |error: ImageNameError| SubmitError::Image(name.to_owned(), error.to_string());
        let named: ImageName = name.parse().map_err(wrong)?;
        let Some(containers) = &self.0.containers else {
            return self.image_of_registry(name, named, asked.unwrap_or(&platform_here())).await;
        };
        let usual = || containers.platform().unwrap_or_else(platform_here);
        match containers.executor.image(name).await {
            Ok(found) if asked.is_none_or(|asked| asked == found.platform) => {
                let origin = origin(named.repository, &found.digests);
                let image = Image { id: found.id, origin };
                Ok(Program { profile: found.platform, image: Some((image, 0)), guards: Vec::new() })
            }
            Ok(found) if name.starts_with(ID_PREFIX) => Err(other_platform(docker, &found.platform)),
            Err(error) if name.starts_with(ID_PREFIX) || !matches!(error, ImageError::Missing(_)) => Err(error.into()),
            Ok(_) | Err(_) => self.image_of_registry(name, named, asked.unwrap_or(&usual())).await,
        }
    }

    async fn image_of_registry(&self, text: &str, name: ImageName, platform: &str) -> Result<Program, SubmitError> {
        let wrong = |why: String| SubmitError::Image(text.to_owned(), why);
        if text.starts_with(ID_PREFIX) {
            let why = "an id says not where the image is: write its name, or push it with `shoal docker push-image`";
            return Err(wrong(why.to_owned()));
        }
        // The image is named already; another thing that is wrong, such as an address, is not.
        let said = |error: DataError| match error.thing.starts_with("image ") {
            true => format!("{}; {}", error.reason, error.remedy),
            false => error.to_string(),
        };
        let found = self.0.sources.resolve_image(&name, platform).await.map_err(|error| wrong(said(error)))?;
        let image = Image { id: found.id, origin: ImageOrigin::Registry(name.repository, found.digest) };
        Ok(Program { profile: platform.to_owned(), image: Some((image, found.bytes)), guards: Vec::new() })
    }

    async fn image_of_blob(
        &self,
        docker: &Docker,
        hash: &str,
        index: usize,
        watch: Watcher<'_>,
    ) -> Result<Program, SubmitError> {
        let name = docker.image.as_str();
        let wrong = |why: String| SubmitError::Image(name.to_owned(), why);
        let hash: BlobHash = hash.parse().map_err(|error| wrong(format!("{error}; write blob://HASH")))?;
        let source = BlobSource::from(Content { hash, kind: ContentKind::Raw });
        let told = |progress| watch(index, name, progress);
        let obtained = self.part(&source, name, self.0.config.capacity.disk_bytes, &told).await?;
        let saved = look_through(self.blobs().reader(hash)).await.map_err(|error| wrong(error.to_string()))?;
        if docker.platform.as_ref().is_some_and(|asked| *asked != saved.platform) {
            return Err(other_platform(docker, &saved.platform));
        }
        let image = Image { id: saved.id, origin: ImageOrigin::Blob(hash) };
        Ok(Program { profile: saved.platform, image: Some((image, obtained.bytes())), guards: obtained.guards })
    }
}

/// What names one image alone cannot be had for another platform.
fn other_platform(docker: &Docker, found: &str) -> SubmitError {
    let asked = docker.platform.as_deref().unwrap_or_default();
    SubmitError::Image(
        docker.image.clone(),
        format!("it is for {found}, not {asked}: name an image that is, or leave the platform out"),
    )
}

/// Where workers get an image that this node's engine has: from the registry that the engine remembers for its name.
fn origin(repository: Repository, digests: &[String]) -> ImageOrigin {
    let known = digests.iter().filter_map(|digest| digest.parse::<ImageName>().ok());
    let mut known = known.filter(|known| known.repository == repository).filter_map(|known| known.digest);
    known.next().map_or(ImageOrigin::Engine, |digest| ImageOrigin::Registry(repository, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_get_a_local_image_where_its_name_came_from() {
        let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
        let digests = [format!("other@{}", digest("a")), format!("busybox@{}", digest("b"))];
        let registry = ImageOrigin::Registry("busybox".parse().unwrap(), digest("b").parse().unwrap());
        let origin = |name: &str, digests| super::origin(name.parse::<ImageName>().unwrap().repository, digests);
        for name in ["busybox", "busybox:1.37", "docker.io/library/busybox"] {
            assert_eq!(origin(name, &digests), registry, "{name}");
        }
        for name in ["busybox2", &digest("c"), "quay.io/busybox", "0a1b2c"] {
            assert_eq!(origin(name, &digests), ImageOrigin::Engine, "{name}");
        }
        assert_eq!(origin("busybox", &[]), ImageOrigin::Engine);
    }
}
