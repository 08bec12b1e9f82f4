//! Images of registries for containers: whether they are pulled here at all, and whether a registry is shown the
//! operator's login.
//!
//! A login is shown for the node's own jobs. With it, a stranger's job could run an image that only the operator may
//! read, so for those it is shown where the operator said so.

use shoal_executors::{PullRequest, Pulled, RunError};
use shoal_protocol::image::Repository;
use shoal_protocol::message::Amount;
use shoal_store::sources::{Asker, ImageError, ImageRequest, Progress, Sources};

/// Gets images of registries. A clone is the same.
#[derive(Clone)]
pub(crate) struct Pulling {
    pub(crate) sources: Sources,
    /// Whether the operator wants any pulled.
    pub(crate) is_open: bool,
    /// Where the operator's login is shown for jobs of others.
    pub(crate) shared_logins: Vec<LoginScope>,
}

/// A registry, or a part of one: repositories that are it, or lie below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginScope(String);

impl Pulling {
    /// Fetches an image for a job of this node or of another.
    pub(crate) async fn pull(&self, own: bool, image: &PullRequest<'_>) -> Result<Pulled, RunError> {
        let &PullRequest { repository, digest, id, platform, max_bytes, told } = image;
        if !self.is_open {
            return Err(RunError::Declined(format!(
                "image {repository}: its operator has none pulled (--docker-pull)"
            )));
        }
        let login = own || self.shared_logins.iter().any(|scope| scope.holds(repository));
        let asker = if own { Asker::Owner } else { Asker::Peer };
        let progress = |Progress { bytes, total }| {
            let total_bytes = total.unwrap_or(bytes).max(bytes);
            told(Amount { done_bytes: bytes, total_bytes });
        };
        let request = ImageRequest { repository, digest, id, platform, asker, login, max_bytes, progress: &progress };
        tracing::info!(%repository, %digest, "pulling an image");
        let fetched = self.sources.fetch_image(&request).await.map_err(failed)?;
        let layers = fetched.layers.iter().map(|layer| layer.content.hash).collect();
        Ok(Pulled { config: fetched.config.clone(), layers, guard: Box::new(fetched) })
    }
}

impl LoginScope {
    /// Reads `REGISTRY[/REPOSITORY]`; the error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no registry; write REGISTRY[/REPOSITORY], for example ghcr.io/acme");
        let below: Repository = format!("{text}/x").parse().map_err(|_| wrong())?;
        match text.contains('/') {
            false if below.registry() == text => Ok(Self(text.to_owned())),
            // What is no registry would be a name at Docker Hub, which nobody means by one word.
            false => Err(wrong()),
            true => Ok(Self(below.to_string().strip_suffix("/x").ok_or_else(wrong)?.to_owned())),
        }
    }

    fn holds(&self, repository: &Repository) -> bool {
        let name = repository.to_string();
        name.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn failed(error: ImageError) -> RunError {
    match error {
        ImageError::Missing(error) => RunError::InputMissing(error.to_string()),
        ImageError::Unfit(error) => RunError::Declined(error.to_string()),
        ImageError::Store(why) => RunError::HostFailed(format!("image: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_shared_for_what_was_named_and_what_is_below() {
        let table = [
            ("ghcr.io", "ghcr.io/a/b", true),
            ("ghcr.io", "ghcr.io.evil.org/a", false),
            ("ghcr.io/acme", "ghcr.io/acme/app", true),
            ("ghcr.io/acme", "ghcr.io/acme", true),
            ("ghcr.io/acme", "ghcr.io/acme-2/app", false),
            ("ghcr.io/acme/app", "ghcr.io/acme/other", false),
            ("ghcr.io/x", "ghcr.io/other", false),
            ("docker.io", "busybox", true),
            ("acme/private", "docker.io/acme/private", true),
            ("localhost:5000", "localhost:5001/a", false),
        ];
        for (scope, name, expected) in table {
            let scope = LoginScope::parse(scope).unwrap();
            assert_eq!(scope.holds(&name.parse().unwrap()), expected, "{scope:?} {name}");
        }
    }

    #[test]
    fn what_is_no_registry_is_refused() {
        for text in ["", "acme", "https://ghcr.io", "ghcr.io/", "ghcr.io/acme:1", "*", "ghcr.io/*"] {
            assert!(LoginScope::parse(text).unwrap_err().contains("ghcr.io/acme"), "{text}");
        }
    }
}
