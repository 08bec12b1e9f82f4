//! What registries say of images: lists of platforms, manifests and configurations. All of it is checked against its
//! digest before it is read.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use shoal_protocol::id::{ImageId, ManifestDigest};

/// The forms that are understood, for the question's `Accept`: lists before single images.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";
/// A manifest or a configuration, in bytes: what registries themselves take.
pub(super) const MAX_DESCRIPTION_BYTES: u64 = 4 << 20;
/// Layers of one image: engines take 128.
const MAX_LAYERS: usize = 128;
/// Configurations of container images; other things that registries keep have others.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// What a digest or a tag stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// One image for each of some platforms.
    Index(Vec<Entry>),
    /// One image.
    Manifest(Manifest),
}

/// One platform's image in a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) digest: ManifestDigest,
    /// `OS/ARCHITECTURE`, and the architecture's variant if it has one.
    platform: (String, String),
}

/// One image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) id: ImageId,
    pub(super) config_bytes: u64,
    /// From the bottom up.
    pub(super) layers: Vec<Layer>,
}

/// One layer, as it is transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) sha256: [u8; 32],
    pub(super) bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    manifests: Option<Vec<Described>>,
    #[serde(default)]
    config: Option<Described>,
    #[serde(default)]
    layers: Option<Vec<Described>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: String,
}

impl Document {
    /// Reads what a registry gave; the error says what it is instead.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let written: Written = serde_json::from_slice(bytes).map_err(|_| "has a manifest that cannot be read")?;
        match written {
            Written { manifests: Some(entries), .. } => {
                Ok(Self::Index(entries.into_iter().filter_map(entry).collect()))
            }
            Written { config: Some(config), layers: Some(layers), .. } => {
                manifest(&config, &layers).map(Self::Manifest)
            }
            _ => Err("has a manifest of an old or unknown form"),
        }
    }
}

fn entry(described: Described) -> Option<Entry> {
    let Platform { architecture, os, variant } = described.platform?;
    let digest = described.digest.parse().ok()?;
    Some(Entry { digest, platform: (format!("{os}/{architecture}"), variant) })
}

fn manifest(config: &Described, layers: &[Described]) -> Result<Manifest, &'static str> {
    if !CONFIGS.contains(&config.media_type.as_str()) {
        return Err("is no image of a container");
    }
    if layers.len() > MAX_LAYERS {
        return Err("has more layers than engines take");
    }
    if layers.iter().any(|layer| layer.media_type.contains("foreign") || layer.media_type.contains("nondistributable"))
    {
        return Err("has layers that are not in the registry");
    }
    if config.size > MAX_DESCRIPTION_BYTES {
        return Err("has a configuration that is too large");
    }
    let unknown = "has a digest that is no SHA-256";
    let layer = |layer: &Described| -> Result<Layer, &'static str> {
        let ManifestDigest(sha256) = layer.digest.parse().map_err(|_| unknown)?;
        Ok(Layer { sha256, bytes: layer.size })
    };
    let layers = layers.iter().map(layer).collect::<Result<_, _>>()?;
    Ok(Manifest { id: config.digest.parse().map_err(|_| unknown)?, config_bytes: config.size, layers })
}

impl Manifest {
    /// What is transferred, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.layers.iter().fold(self.config_bytes, |sum, layer| sum.saturating_add(layer.bytes))
    }
}

/// The image for a platform. Of several for one architecture it is the plainest, which runs on all its machines.
pub(super) fn pick<'a>(entries: &'a [Entry], platform: &str) -> Option<&'a Entry> {
    // On arm64 the variant v8 is all there is.
    entries.iter().filter(|entry| entry.platform.0 == platform).min_by_key(|entry| &entry.platform.1)
}

/// The platforms of a list, for people.
pub(super) fn platforms(entries: &[Entry]) -> String {
    const MAX_NAMED: usize = 10;
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.platform.0.as_str()).collect();
    // What a build tool says of an image is listed as one for an unknown platform.
    names.retain(|name| !name.starts_with("unknown"));
    names.sort_unstable();
    names.dedup();
    names.truncate(MAX_NAMED);
    names.join(", ")
}

/// `OS/ARCHITECTURE` that an image runs on.
pub(super) fn platform(config: &[u8]) -> Result<String, &'static str> {
    let unreadable = |_| "has a configuration that cannot be read";
    let Platform { architecture, os, .. } = serde_json::from_slice(config).map_err(unreadable)?;
    Ok(format!("{os}/{architecture}"))
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(letter: char) -> String {
        format!("sha256:{}", letter.to_string().repeat(64))
    }

    fn index(platforms: &[(&str, &str)]) -> Vec<Entry> {
        let entries = platforms.iter().zip('a'..='f').map(|((architecture, variant), letter)| {
            format!(
                r#"{{"mediaType":"x","size":1,"digest":"{}","platform":{{"os":"linux","architecture":"{architecture}","variant":"{variant}"}}}}"#,
                digest(letter)
            )
        });
        let list = format!(r#"{{"manifests":[{}]}}"#, entries.collect::<Vec<_>>().join(","));
        match Document::read(list.as_bytes()).unwrap() {
            Document::Index(entries) => entries,
            Document::Manifest(_) => panic!("it is a list"),
        }
    }

    #[test]
    fn the_plainest_image_of_a_platform_is_picked() {
        let entries = index(&[("amd64", "v3"), ("amd64", ""), ("arm", "v7"), ("arm", "v6"), ("arm64", "v8")]);
        let picked = |platform| pick(&entries, platform).map(|entry| entry.digest.to_string());
        assert_eq!(picked("linux/amd64"), Some(digest('b')));
        assert_eq!(picked("linux/arm"), Some(digest('d')));
        assert_eq!(picked("linux/arm64"), Some(digest('e')));
        assert_eq!(picked("linux/s390x"), None);
        assert_eq!(platforms(&entries), "linux/amd64, linux/arm, linux/arm64");
    }

    fn written(config: &str, layers: &str) -> String {
        format!(r#"{{"config":{{"mediaType":"{config}","digest":"{}","size":10}},"layers":[{layers}]}}"#, digest('a'))
    }

    #[test]
    fn an_image_has_a_configuration_and_layers() {
        let layer = format!(r#"{{"mediaType":"x+gzip","digest":"{}","size":5}}"#, digest('b'));
        let read = Document::read(written(CONFIGS[1], &layer).as_bytes()).unwrap();
        let layers = vec![Layer { sha256: [0xbb; 32], bytes: 5 }];
        let manifest = Manifest { id: ImageId([0xaa; 32]), config_bytes: 10, layers };
        assert_eq!(manifest.bytes(), 15);
        assert_eq!(read, Document::Manifest(manifest));
    }

    #[test]
    fn what_is_no_image_is_named() {
        let layer = |kind: &str, digest: &str| format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":5}}"#);
        let foreign = layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", &digest('b'));
        let many = vec![layer("x", &digest('b')); 129].join(",");
        let table = [
            ("no JSON".to_owned(), "cannot be read"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "old or unknown"),
            (written("application/vnd.cncf.helm.config.v1+json", ""), "no image"),
            (written(CONFIGS[0], &foreign), "not in the registry"),
            (written(CONFIGS[0], &many), "more layers"),
            (written(CONFIGS[0], &layer("x", "sha512:ff")), "no SHA-256"),
            (written(CONFIGS[0], "").replace("\"size\":10", "\"size\":9000000"), "too large"),
        ];
        for (text, words) in table {
            assert!(Document::read(text.as_bytes()).unwrap_err().contains(words), "{words}");
        }
    }

    #[test]
    fn an_entry_without_a_platform_is_none() {
        let list = format!(r#"{{"manifests":[{{"digest":"{}","size":1}}]}}"#, digest('a'));
        assert_eq!(Document::read(list.as_bytes()), Ok(Document::Index(Vec::new())));
    }
}
