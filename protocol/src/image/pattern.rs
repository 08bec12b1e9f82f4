//! What an operator writes to mean one image or many.

use std::fmt;
use std::str::FromStr;

use super::{BLOB_PREFIX, DEFAULT_TAG, ImageName};
use crate::id::{BlobHash, ImageId, ManifestDigest};

/// What a star is read as, to complete a pattern the way names are.
const STAND_IN: &str = "0star0";

/// One image, or many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePattern {
    text: String,
    meaning: Meaning,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    /// Every image.
    Any,
    /// The one with this id: nobody can pretend to have it.
    Id(ImageId),
    /// The one that this blob holds.
    Blob(BlobHash),
    /// Those whose names are such. `*` stands for any characters.
    Named { registry: String, path: String, tag: Option<String>, digest: Option<ManifestDigest> },
}

/// Why a text is no pattern of images.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} means no image: write NAME[:TAG], REGISTRY/PATH/*, NAME:*, NAME@sha256:DIGEST, sha256:ID, blob://HASH or *"
)]
pub struct PatternError(String);

impl ImagePattern {
    /// Whether it depends on what an image is called.
    pub fn is_name(&self) -> bool {
        matches!(self.meaning, Meaning::Named { .. })
    }

    /// Whether it means the image with this id.
    pub fn means_id(&self, id: ImageId) -> bool {
        self.meaning == Meaning::Any || self.meaning == Meaning::Id(id)
    }

    /// Whether it means what this blob holds.
    pub fn means_blob(&self, hash: BlobHash) -> bool {
        self.meaning == Meaning::Any || self.meaning == Meaning::Blob(hash)
    }

    /// Whether it means images of this name.
    pub fn means_name(&self, name: &ImageName) -> bool {
        match &self.meaning {
            Meaning::Any => true,
            Meaning::Id(_) | Meaning::Blob(_) => false,
            Meaning::Named { registry, path, tag, digest } => {
                let tag = match (tag.as_deref(), digest) {
                    (_, Some(digest)) => name.digest == Some(*digest),
                    (Some("*") | None, None) => true,
                    (Some(tag), None) => name.tag.as_ref().is_some_and(|other| matches(tag, other)),
                };
                *registry == name.repository.registry() && matches(path, name.repository.path()) && tag
            }
        }
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ImagePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = || PatternError(text.chars().take(80).collect());
        let text = text.trim();
        let meaning = if text == "*" {
            Meaning::Any
        } else if let Some(hash) = text.strip_prefix(BLOB_PREFIX) {
            Meaning::Blob(hash.parse().map_err(|_| wrong())?)
        } else if let Ok(id) = text.parse() {
            Meaning::Id(id)
        } else {
            named(text).ok_or_else(wrong)?
        };
        Ok(Self { text: text.to_owned(), meaning })
    }
}

fn named(text: &str) -> Option<Meaning> {
    // Any registry, or any owner on the default one? Nobody could tell.
    let first_is_open = text.split_once('/').is_some_and(|(first, _)| first.contains('*'));
    if first_is_open || text.contains(STAND_IN) {
        return None;
    }
    let name: ImageName = text.replace('*', STAND_IN).parse().ok()?;
    let starred = |part: &str| part.replace(STAND_IN, "*");
    let (path, tag) = (starred(name.repository.path()), name.tag.as_deref().map(starred));
    // Everything below a folder means everything that is there, whatever its tag.
    let is_default = tag.as_deref() == Some(DEFAULT_TAG) && !text.ends_with(DEFAULT_TAG);
    let tag = tag.filter(|_| !(is_default && path.ends_with('*')));
    Some(Meaning::Named { registry: name.repository.registry().to_owned(), path, tag, digest: name.digest })
}

/// Whether `text` is like `pattern`, in which a star stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(begin) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    // The earliest place for each part leaves the most for those behind it.
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const OTHER: &str = "sha256:ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn pattern(text: &str) -> ImagePattern {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_pattern_means_what_docker_would_read_in_it() {
        let table = [
            ("busybox", "busybox:latest", true),
            ("busybox", "docker.io/library/busybox", true),
            ("busybox", "busybox:1.37", false),
            ("busybox", "evil.example/library/busybox", false),
            ("busybox:*", "busybox:1.37", true),
            ("busybox:*", &format!("busybox@{DIGEST}"), true),
            ("busybox:1.*", "busybox:1.37", true),
            ("busybox:1.*", "busybox:2", false),
            ("busybox:1.*", &format!("busybox@{DIGEST}"), false),
            ("busybox", &format!("busybox:1@{DIGEST}"), false),
            ("ghcr.io/ann/*", "ghcr.io/ann/tool:v1", true),
            ("ghcr.io/ann/*", "ghcr.io/ann/deep/tool", true),
            ("ghcr.io/ann/*", "ghcr.io/annex/tool", false),
            ("ghcr.io/*", "ghcr.io.evil.example/a", false),
            ("ghcr.io/*/tool", "ghcr.io/ann/tool", true),
            ("ghcr.io/*/tool", "ghcr.io/ann/tool:v1", false),
            ("docker.io/*", "busybox:1", true),
            (&format!("busybox@{DIGEST}"), &format!("busybox:1@{DIGEST}"), true),
            (&format!("busybox@{DIGEST}"), &format!("busybox@{OTHER}"), false),
            (&format!("busybox@{DIGEST}"), "busybox", false),
            ("*", "localhost:5000/anything", true),
        ];
        for (text, name, expected) in table {
            assert_eq!(pattern(text).means_name(&name.parse().unwrap()), expected, "{text} of {name}");
        }
    }

    #[test]
    fn ids_and_blobs_mean_themselves_alone() {
        let (id, blob) = (DIGEST.parse().unwrap(), BlobHash([7; 32]));
        assert!(pattern(DIGEST).means_id(id) && !pattern(OTHER).means_id(id) && !pattern("busybox").means_id(id));
        assert!(!pattern(DIGEST).means_name(&format!("busybox@{DIGEST}").parse().unwrap()));
        let text = format!("blob://{blob}");
        assert!(pattern(&text).means_blob(blob) && !pattern(&text).means_blob(BlobHash([8; 32])));
        assert!(pattern("*").means_id(id) && pattern("*").means_blob(blob));
    }

    #[test]
    fn what_means_no_image_is_refused_with_what_would() {
        let bad =
            ["", "Busybox", "*/tool", "*.io/tool", "blob://12", "a:", "a:b c", "http://a/b", "a@sha256:1", "a//*"];
        for text in bad {
            let error = text.parse::<ImagePattern>().expect_err(text).to_string();
            assert!(error.contains("blob://HASH"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_star_stands_for_any_characters(a in "[ab]{0,4}", b in "[ab]{0,4}", c in "[ab]{0,4}", filling in "[ab/]{0,5}") {
            let pattern = format!("{a}*{b}*{c}");
            let text = format!("{a}{filling}{b}{filling}{c}");
            prop_assert!(matches(&pattern, &text));
            let [before, behind] = [format!("x{pattern}"), format!("{pattern}x")];
            prop_assert!(!matches(&before, &text) && !matches(&behind, &text));
        }
    }
}
