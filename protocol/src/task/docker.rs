//! A program in a container, and what a worker may be asked to mount for it.

use serde::{Deserialize, Serialize};

use crate::id::{BlobHash, ImageId, ManifestDigest};
use crate::image::Repository;
use crate::job::paths::{below, normalised};
use crate::limits::{MAX_TEXT_BYTES, MAX_WORDS};

use super::{Divided, Invocation, Network, Work};

/// Folders that belong to the engine.
const RESERVED: [&str; 3] = ["/dev", "/proc", "/sys"];

/// A program in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Docker {
    /// `OS/ARCHITECTURE`, for example `linux/amd64`. Workers of another platform do not bid.
    pub platform: String,
    /// What the container is made of.
    pub image: Image,
    /// Replaces the image's entry point, unless it is empty.
    pub entrypoint: Vec<String>,
    /// Replaces the image's command, unless it is empty.
    pub parameters: Vec<String>,
    /// Replaces the folder where the image's program starts: an absolute path.
    pub working_directory: Option<String>,
    /// Whom the program may reach.
    pub network: Network,
    /// Processor time, in thousandths of a core.
    pub cpu_millis: u32,
    /// GPUs, which nobody else has meanwhile.
    pub gpus: u16,
}

/// An image. Its id says what it holds, its origin only where to get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What its engine calls it.
    pub id: ImageId,
    /// Where a worker gets it that does not have it yet.
    pub origin: ImageOrigin,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageOrigin {
    /// From nowhere: the worker's engine has it.
    Engine,
    /// From the mesh: a blob that holds the image as `docker save` writes it.
    Blob(BlobHash),
    /// From a registry, by the digest of its manifest or of the list of its platforms' manifests.
    Registry(Repository, ManifestDigest),
}

impl Docker {
    /// Whether every part is of a size and form that an engine takes.
    pub(super) fn is_sound(&self) -> bool {
        let words = self.entrypoint.iter().chain(&self.parameters).chain(&self.working_directory);
        let platform = is_platform(&self.platform);
        let folder = self.working_directory.as_deref().is_none_or(|folder| folder.starts_with('/'));
        let few = self.entrypoint.len() + self.parameters.len() <= MAX_WORDS;
        let words = words.into_iter().all(|word| !word.contains('\0'));
        platform && folder && few && self.cpu_millis > 0 && words && self.network.is_sound()
    }
}

impl Image {
    /// The blob that holds it, if it comes as one.
    pub fn blob(&self) -> Option<BlobHash> {
        match self.origin {
            ImageOrigin::Blob(hash) => Some(hash),
            ImageOrigin::Engine | ImageOrigin::Registry(..) => None,
        }
    }
}

/// Whether variables and mounts are such that a container can have them.
pub(super) fn fits(work: &Work) -> bool {
    let Invocation { environment, inputs, unread, result_paths, .. } = &work.invocation;
    let variables = environment
        .iter()
        .all(|(name, value)| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
    let divided = work.divided.iter().map(|Divided { target, .. }| target);
    let targets = inputs.iter().map(|mount| &mount.target).chain(unread.iter().map(|unread| &unread.target));
    let results = result_paths.iter().map(|result| &result.path);
    let mut mounts: Vec<&str> = targets.chain(divided).chain(results).map(String::as_str).collect();
    // What lies below a path comes after it.
    mounts.sort_unstable();
    let apart = |(index, outer): (usize, &&str)| mounts[index + 1..].iter().all(|inner| below(inner, outer).is_none());
    variables && mounts.iter().all(|path| is_mountable(path)) && mounts.iter().enumerate().all(apart)
}

/// Whether a job may put something at this path of a container: the root and the engine's own folders are not for it.
pub(crate) fn is_mountable(path: &str) -> bool {
    let reserved = RESERVED.iter().any(|folder| below(path, folder).is_some());
    normalised(path).is_some_and(|normal| normal == path && normal != "/") && !reserved
}

/// Whether a text is `OS/ARCHITECTURE`.
pub(crate) fn is_platform(text: &str) -> bool {
    text.split_once('/').is_some_and(|(os, architecture)| is_name(os) && is_name(architecture))
}

fn is_name(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !word.is_empty() && word.len() <= MAX_TEXT_BYTES && word.chars().all(plain)
}

#[cfg(test)]
impl Docker {
    /// For tests: a container of `image` with nothing else to say about it.
    pub(crate) fn of(image: Image) -> Self {
        Self {
            platform: "linux/amd64".into(),
            image,
            entrypoint: Vec::new(),
            parameters: Vec::new(),
            working_directory: None,
            network: Network::None,
            cpu_millis: 500,
            gpus: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Compare, Engine, Limits, ResultPath};
    use super::*;

    fn docker() -> Docker {
        Docker {
            platform: "linux/amd64".into(),
            image: Image { id: ImageId([1; 32]), origin: ImageOrigin::Engine },
            entrypoint: vec!["sh".into()],
            parameters: vec!["-c".into(), "true".into()],
            working_directory: Some("/work".into()),
            network: Network::None,
            cpu_millis: 500,
            gpus: 0,
        }
    }

    fn work(docker: Docker, results: &[&str]) -> Work {
        let result = |path: &&str| ResultPath { name: path.replace('/', "-"), path: (*path).to_owned() };
        let invocation = Invocation {
            engine: Engine::Docker(docker),
            environment: BTreeMap::from([("A".into(), "b".into())]),
            inputs: Vec::new(),
            unread: Vec::new(),
            result_paths: results.iter().map(result).collect(),
            limits: Limits { memory_bytes: 1 << 20, fuel: 0, output_bytes: 1 << 20 },
        };
        let (divided, compare) = (Vec::new(), Compare::All);
        Work { invocation, divided, partitions: 1, execution_timeout_ms: 60_000, compare, validator: None }
    }

    #[test]
    fn what_no_engine_should_be_given_is_not_sound() {
        assert!(work(docker(), &["/out", "/out-2", "/tmp"]).is_sound());
        let unsound = [
            Docker { platform: "linux".into(), ..docker() },
            Docker { platform: "linux/".into(), ..docker() },
            Docker { platform: "linux/amd64?x=y".into(), ..docker() },
            Docker { cpu_millis: 0, ..docker() },
            Docker { network: Network::Http(vec!["A b".into()]), ..docker() },
            Docker { working_directory: Some("work".into()), ..docker() },
            Docker { parameters: vec!["a\0b".into()], ..docker() },
            Docker { parameters: vec![String::new(); MAX_WORDS], ..docker() },
        ];
        for docker in unsound {
            assert!(!work(docker.clone(), &[]).is_sound(), "{docker:?}");
        }
    }

    #[test]
    fn a_registrys_image_is_only_read_if_its_name_is_one() {
        let origin = |name: &str| {
            // What `ImageOrigin::Registry` encodes to, with a name that its type would not hold.
            let mut bytes = vec![2, u8::try_from(name.len()).unwrap()];
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&[7; 32]);
            bytes
        };
        let read = |name: &str| crate::wire::parse::<ImageOrigin>(&origin(name)).ok();
        let named = ImageOrigin::Registry("docker.io/library/a".parse().unwrap(), ManifestDigest([7; 32]));
        assert_eq!(read("docker.io/library/a"), Some(named));
        for name in ["a", "docker.io/library/a:1", "docker.io/library/../a", "http://x.org/a", "x.org/a?b=c", ""] {
            assert_eq!(read(name), None, "{name}");
        }
    }

    #[test]
    fn mounts_lie_apart_and_beside_what_is_the_engines() {
        let unsound: [&[&str]; 10] = [
            &["/"],
            &["out"],
            &["/out/"],
            &["/a/../b"],
            &["/proc"],
            &["/dev/shm/x"],
            &["/sys"],
            &["/out", "/out"],
            &["/out", "/out-2", "/out/in"],
            &[""],
        ];
        for paths in unsound {
            assert!(!work(docker(), paths).is_sound(), "{paths:?}");
        }
        let mut odd = work(docker(), &[]);
        odd.invocation.environment.insert("A=B".into(), "c".into());
        assert!(!odd.is_sound());
    }
}
