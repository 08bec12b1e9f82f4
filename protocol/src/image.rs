//! Names of images, read and completed as Docker does: `busybox` is `docker.io/library/busybox`.
//!
//! The grammar is that of <https://github.com/distribution/reference>, with SHA-256 as the only digest. What passes
//! it cannot be anything but a name: no scheme, no password, no path that leads elsewhere.

mod pattern;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::id::ManifestDigest;

pub use pattern::{ImagePattern, PatternError};

/// What an image that is a blob is named with: this and the blob's hash.
pub const BLOB_PREFIX: &str = "blob://";
/// The registry of names without one.
const DEFAULT_REGISTRY: &str = "docker.io";
/// What Docker calls it in old files.
const OLD_DEFAULT_REGISTRY: &str = "index.docker.io";
/// Where its images are whose names have one part.
const DEFAULT_NAMESPACE: &str = "library";
/// The tag of names without tag and digest.
const DEFAULT_TAG: &str = "latest";
/// Registry and repository together, in bytes.
const MAX_REPOSITORY_BYTES: usize = 255;
/// A tag, in bytes.
const MAX_TAG_BYTES: usize = 128;

/// Where images of one name are: a registry and a repository of it, without a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: String,
    path: String,
}

/// A name as people write it: `[REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST]`, completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    /// Where it is.
    pub repository: Repository,
    /// What it is called there; `latest` where neither tag nor digest is written.
    pub tag: Option<String>,
    /// What it is, whatever the tag says.
    pub digest: Option<ManifestDigest>,
}

/// Why a text is no image's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no image: {reason}; write [REGISTRY/]NAME[:TAG][@sha256:DIGEST], for example busybox:1.37")]
pub struct ImageNameError {
    text: String,
    reason: &'static str,
}

impl Repository {
    /// The registry: a host, perhaps with a port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's path in its registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the registry is this machine, which is spoken to without TLS as Docker does.
    pub fn is_loopback(&self) -> bool {
        let host = host(&self.registry);
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Reads `[REGISTRY/]REPOSITORY` and completes it.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (registry, path) = match text.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) || has_upper_case(first) => {
                (first, rest)
            }
            _ => (DEFAULT_REGISTRY, text),
        };
        let registry = if registry == OLD_DEFAULT_REGISTRY { DEFAULT_REGISTRY } else { registry };
        let path = match registry == DEFAULT_REGISTRY && !path.contains('/') {
            true => format!("{DEFAULT_NAMESPACE}/{path}"),
            false => path.to_owned(),
        };
        if has_upper_case(&path) {
            return Err("its name has upper-case letters");
        }
        let repository = Self { registry: registry.to_owned(), path };
        if repository.to_string().len() > MAX_REPOSITORY_BYTES {
            return Err("its name is too long");
        }
        if !is_registry(registry) {
            return Err("its registry is no host");
        }
        let sound = repository.path.split('/').all(is_component);
        sound.then_some(repository).ok_or("its name has characters that names do not have")
    }
}

impl FromStr for Repository {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, ImageNameError> {
        Self::parse(text).map_err(|reason| wrong(text, reason))
    }
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, ImageNameError> {
        Self::parse(text).map_err(|reason| wrong(text, reason))
    }
}

impl ImageName {
    /// As short as Docker shows it; it reads back to the same name.
    pub fn familiar(&self) -> String {
        let whole = self.to_string();
        let reads_back = |short: &&str| short.parse().as_ref() == Ok(self);
        let path = whole.strip_prefix(DEFAULT_REGISTRY).and_then(|rest| rest.strip_prefix('/'));
        let official = path.and_then(|path| path.strip_prefix(DEFAULT_NAMESPACE)?.strip_prefix('/'));
        official.filter(reads_back).or(path.filter(reads_back)).unwrap_or(&whole).to_owned()
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| "its digest is not sha256: and 64 hex digits")?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon before the last slash is a port's.
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err("its tag has characters that tags do not have, or too many");
        }
        let tag = tag.or(digest.is_none().then_some(DEFAULT_TAG)).map(str::to_owned);
        Ok(Self { repository: Repository::parse(rest)?, tag, digest })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl Serialize for Repository {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Repository {
    /// Only the complete form is taken, so that what two peers mean by one name is the same bytes.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let repository: Self = text.parse().map_err(D::Error::custom)?;
        if repository.to_string() == text { Ok(repository) } else { Err(D::Error::custom("an incomplete name")) }
    }
}

fn wrong(text: &str, reason: &'static str) -> ImageNameError {
    ImageNameError { text: text.chars().take(80).collect(), reason }
}

fn has_upper_case(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_uppercase())
}

/// The host of `HOST[:PORT]`.
fn host(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => registry,
    }
}

fn is_registry(text: &str) -> bool {
    let host = host(text);
    let port = text[host.len()..].strip_prefix(':');
    if port.is_some_and(|port| port.len() > 5 || port.parse::<u16>().is_err() || port.starts_with('+')) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let is_label = |label: &str| {
        let ends = [label.chars().next(), label.chars().next_back()];
        label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && ends.into_iter().all(|end| end.is_some_and(|c| c != '-'))
    };
    host.split('.').all(is_label)
}

/// Letters and digits, apart by one dot, one or two underscores, or any number of hyphens.
fn is_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let whole = text.starts_with(is_word) && text.ends_with(is_word);
    let apart = |between: &str| matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-');
    whole && text.split(is_word).all(apart)
}

fn is_tag(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let rest = |c: char| is_word(c) || matches!(c, '.' | '-');
    text.len() <= MAX_TAG_BYTES && text.starts_with(is_word) && text.chars().all(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    #[test]
    fn names_are_completed_as_docker_does() {
        let table = [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.37", "docker.io/library/busybox:1.37"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
            ("opensuse/leap:15.3", "docker.io/opensuse/leap:15.3"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("test.com:5000", "docker.io/library/test.com:5000"),
            ("test:5000/repo", "test:5000/repo:latest"),
            ("Host/repo", "Host/repo:latest"),
            ("b.gcr.io/test.example.com/my-app:test.example.com", "b.gcr.io/test.example.com/my-app:test.example.com"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
            ("[::1]:5000/a:b", "[::1]:5000/a:b"),
            ("a__b/c--d.e:F_1.2-3", "docker.io/a__b/c--d.e:F_1.2-3"),
            ("lowercase:Upper", "docker.io/library/lowercase:Upper"),
        ];
        for (text, whole) in table {
            let name: ImageName = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(name.to_string(), whole);
            assert_eq!(name.to_string().parse(), Ok(name), "{text}");
        }
        let pinned = format!("busybox@{DIGEST}");
        assert_eq!(pinned.parse::<ImageName>().unwrap().to_string(), format!("docker.io/library/busybox@{DIGEST}"));
        let both = format!("quay.io/a/b:1@{DIGEST}");
        assert_eq!(both.parse::<ImageName>().unwrap().to_string(), both);
    }

    #[test]
    fn names_are_shown_as_short_as_docker_shows_them() {
        let table = [
            ("busybox", "busybox:latest"),
            ("docker.io/library/busybox:1.37", "busybox:1.37"),
            ("docker.io/ann/tool", "ann/tool:latest"),
            ("library/a/b", "library/a/b:latest"),
            ("docker.io/a.b/c", "docker.io/a.b/c:latest"),
            ("ghcr.io/ann/tool:v1", "ghcr.io/ann/tool:v1"),
        ];
        for (text, short) in table {
            assert_eq!(text.parse::<ImageName>().unwrap().familiar(), short);
        }
    }

    #[test]
    fn what_is_no_name_says_why() {
        let table = [
            ("", "characters"),
            ("Busybox", "upper-case"),
            ("a//b", "characters"),
            ("a/../b", "characters"),
            ("-a", "characters"),
            ("a-", "characters"),
            ("a...b", "characters"),
            ("a___b", "characters"),
            ("a?x=y", "characters"),
            ("a b", "characters"),
            ("a:", "tag"),
            ("a:b c", "tag"),
            ("a@sha256:12", "digest"),
            ("a@md5:ffffffffffffffffffffffffffffffff", "digest"),
            ("http://x.org/a", "registry"),
            ("u:p@x.org/a", "digest"),
            ("x.org:70000/a", "registry"),
            ("x.org:+80/a", "registry"),
            ("-x.org/a", "registry"),
            ("x..org/a", "registry"),
            ("[::1/a", "registry"),
            ("[x]:1/a", "registry"),
            ("x.org:80:80/a", "registry"),
        ];
        for (text, word) in table {
            let error = text.parse::<ImageName>().expect_err(text).to_string();
            assert!(error.contains(word) && error.contains("busybox:1.37"), "{text}: {error}");
        }
        assert!("a".repeat(300).parse::<ImageName>().is_err());
        assert!(format!("a:{}", "b".repeat(129)).parse::<ImageName>().is_err());
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        let loopback = |text: &str| text.parse::<Repository>().unwrap().is_loopback();
        for text in ["localhost/a", "localhost:5000/a", "127.0.0.1:5000/a", "127.8.9.1/a", "[::1]:5000/a"] {
            assert!(loopback(text), "{text}");
        }
        for text in ["busybox", "localhost.example.org/a", "10.0.0.1:5000/a", "127.0.0.1.example.org/a", "[::2]/a"] {
            assert!(!loopback(text), "{text}");
        }
    }

    #[test]
    fn peers_write_repositories_whole() {
        let read = |text: &str| serde_json::from_value::<Repository>(text.into());
        assert!(read("docker.io/library/busybox").is_ok());
        assert!(read("busybox").is_err() && read("docker.io/library/busybox:1").is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_taken_again(text in "[a-zA-Z0-9:/._@-]{0,40}") {
            if let Ok(name) = text.parse::<ImageName>() {
                prop_assert_eq!(name.familiar().parse::<ImageName>(), Ok(name.clone()));
                prop_assert_eq!(name.to_string().parse::<ImageName>(), Ok(name));
            }
        }
    }
}
