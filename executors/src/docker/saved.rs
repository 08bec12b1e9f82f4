//! A saved image, as `docker save` writes it: a tar archive that a stranger may have made.
//!
//! The engine would unpack whatever it is given and give names to it. So it is only given an image that was looked
//! through before: one image, whose layers take no more room on the disk than in the archive, under a name of ours.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shoal_protocol::id::ImageId;
use tar::{Archive, Builder, Entry, EntryType, Header};

/// The list of images.
pub(super) const MANIFEST: &str = "manifest.json";
/// Other lists of images and names, which the engine would believe rather than ours.
const OTHER_LISTS: [&str; 3] = ["index.json", "oci-layout", "repositories"];
/// A file that describes something, in bytes.
const MAX_DESCRIPTION_BYTES: u64 = 4 << 20;
/// Headers that extend others, in bytes.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;
/// Files and folders of the archive: a handful for each layer.
const MAX_ENTRIES: usize = 4_096;
/// Files, folders and links of all layers: each takes an inode of the engine's disk, however small it is. Images with
/// all of a science toolkit have a third of it.
const MAX_FILES: usize = 1_000_000;
/// How compressed data begins: gzip, zstd, bzip2 and xz.
const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ"];

/// Why a blob is no image that can be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is something else.
    #[error("it is no saved image ({0}): make one with `shoal docker push-image`, or `docker save`")]
    NotSaved(&'static str),
    /// It holds several images.
    #[error("it holds {0} images: save one image alone")]
    Several(usize),
    /// A layer could take any room on the disk.
    #[error("{0} is {1}, so nobody knows how large it becomes: save the image again, with an engine that does not")]
    Unbounded(String, &'static str),
    /// Its layers, or what is said of them, are not what they should be.
    #[error("{0}: build it again, and push it")]
    Unsound(&'static str),
    /// Its layers unpack to more than may be kept.
    #[error("its layers take more than {0} bytes, which this worker keeps")]
    TooLarge(u64),
}

/// What a saved image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its id.
    pub id: ImageId,
    /// `OS/ARCHITECTURE` that it runs on.
    pub platform: String,
    /// All its files together, in bytes: what it takes on the engine's disk.
    pub bytes: u64,
    manifest: Manifest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Manifest {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    os: String,
    architecture: String,
}

/// Looks through a saved image, all of it.
pub fn look_through(archive: impl Read) -> Result<Saved, SavedError> {
    let mut descriptions: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let (mut bytes, mut files) = (0_u64, 0);
    each_entry(archive, |name, mut entry| {
        bytes = bytes.saturating_add(entry.size());
        if entry.header().entry_type() != EntryType::Regular {
            return Ok(());
        }
        let mut start = Vec::new();
        entry.by_ref().take(8).read_to_end(&mut start)?;
        if COMPRESSED.iter().any(|magic| start.starts_with(magic)) {
            return Err(SavedError::Unbounded(name, "compressed"));
        }
        match start.first() {
            Some(b'{' | b'[') if entry.size() <= MAX_DESCRIPTION_BYTES => {
                entry.read_to_end(&mut start)?;
                descriptions.insert(name, start);
                Ok(())
            }
            // Short files that say a version are there for older engines.
            _ if entry.size() < 512 => Ok(()),
            _ => check_layer(&name, start.chain(entry), &mut files),
        }
    })?;
    saved(&descriptions, bytes)
}

fn saved(descriptions: &BTreeMap<String, Vec<u8>>, bytes: u64) -> Result<Saved, SavedError> {
    let manifest = descriptions.get(MANIFEST).ok_or(SavedError::NotSaved("it has no manifest.json"))?;
    let mut images: Vec<Manifest> =
        serde_json::from_slice(manifest).map_err(|_| SavedError::NotSaved("its manifest.json is malformed"))?;
    if images.len() != 1 {
        return Err(SavedError::Several(images.len()));
    }
    let manifest = images.remove(0);
    let config = descriptions.get(&manifest.config).ok_or(SavedError::NotSaved("its configuration is missing"))?;
    let id = ImageId(Sha256::digest(config).into());
    let config: Config =
        serde_json::from_slice(config).map_err(|_| SavedError::NotSaved("its configuration is malformed"))?;
    Ok(Saved { id, platform: format!("{}/{}", config.os, config.architecture), bytes, manifest })
}

/// Writes the image again, under the name `tag` and no other.
pub(super) fn write_as(saved: &Saved, tag: &str, archive: impl Read, to: impl Write) -> Result<(), SavedError> {
    let mut to = Builder::new(to);
    let manifest = Manifest { repo_tags: Some(vec![tag.to_owned()]), ..saved.manifest.clone() };
    let manifest = serde_json::to_vec(&[manifest]).map_err(io::Error::from)?;
    let mut header = Header::new_gnu();
    header.set_size(manifest.len() as u64);
    header.set_mode(0o644);
    to.append_data(&mut header, MANIFEST, manifest.as_slice())?;
    each_entry(archive, |name, entry| {
        if name != MANIFEST && !OTHER_LISTS.contains(&name.as_str()) {
            to.append(&entry.header().clone(), entry)?;
        }
        Ok(())
    })?;
    Ok(to.finish()?)
}

/// Passes the files, folders and links of an archive on, and refuses what an engine does not write.
fn each_entry<R: Read>(
    archive: R,
    mut each: impl FnMut(String, Entry<'_, R>) -> Result<(), SavedError>,
) -> Result<(), SavedError> {
    let mut archive = Archive::new(archive);
    for (index, entry) in archive.entries()?.raw(true).enumerate() {
        let entry = entry.map_err(|_| SavedError::NotSaved("it is not a tar archive"))?;
        if index >= MAX_ENTRIES {
            return Err(SavedError::NotSaved("it has too many files"));
        }
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Directory | EntryType::Symlink => {}
            // Times more exact than a second, which mean nothing here.
            EntryType::XHeader if entry.size() <= MAX_EXTENSION_BYTES => continue,
            _ => return Err(SavedError::NotSaved("it holds what engines do not write")),
        }
        let name = std::str::from_utf8(&entry.path_bytes()).map(|name| name.trim_start_matches("./").to_owned());
        each(name.map_err(|_| SavedError::NotSaved("a name in it is not UTF-8"))?, entry)?;
    }
    Ok(())
}

/// A layer is an archive itself, whose files are counted. Every byte that it becomes must be in it: no file may have holes.
pub(super) fn check_layer(name: &str, layer: impl Read, files: &mut usize) -> Result<(), SavedError> {
    let sparse = || SavedError::Unbounded(name.to_owned(), "a layer with sparse files");
    let mut layer = Archive::new(layer);
    for entry in layer.entries()?.raw(true) {
        let mut entry = entry.map_err(|_| SavedError::NotSaved("a layer is not a tar archive"))?;
        *files += 1;
        if *files > MAX_FILES {
            return Err(SavedError::NotSaved("its layers have too many files"));
        }
        match entry.header().entry_type() {
            EntryType::GNUSparse => return Err(sparse()),
            EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName | EntryType::GNULongLink => {
                if entry.size() > MAX_EXTENSION_BYTES {
                    return Err(SavedError::NotSaved("a layer has a header that is too long"));
                }
                let mut extension = Vec::new();
                entry.read_to_end(&mut extension)?;
                if extension.windows(10).any(|words| words == b"GNU.sparse") {
                    return Err(sparse());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &[u8] = br#"{"os":"linux","architecture":"amd64","rootfs":{}}"#;

    fn layer(kind: EntryType, extension: Option<&[u8]>) -> Vec<u8> {
        let mut layer = Builder::new(Vec::new());
        if let Some(extension) = extension {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            header.set_size(extension.len() as u64);
            layer.append_data(&mut header, "x", extension).unwrap();
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(600);
        layer.append_data(&mut header, "bin/sh", [7; 600].as_slice()).unwrap();
        layer.into_inner().unwrap()
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = Header::new_gnu();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, *bytes).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn manifest(config: &str) -> String {
        format!(r#"{{"Config":"{config}","RepoTags":["alpine:3"],"Layers":["l/layer.tar"]}}"#)
    }

    fn image(layer: &[u8]) -> Vec<u8> {
        let manifest = format!("[{}]", manifest("c.json"));
        archive(&[
            ("l/layer.tar", layer),
            ("l/VERSION", b"1.0"),
            ("c.json", CONFIG),
            ("repositories", b"{}"),
            (MANIFEST, manifest.as_bytes()),
        ])
    }

    #[test]
    fn an_image_is_known_by_its_configuration() {
        let saved = look_through(image(&layer(EntryType::Regular, None)).as_slice()).unwrap();
        assert_eq!(saved.id, ImageId(Sha256::digest(CONFIG).into()));
        assert_eq!(saved.platform, "linux/amd64");
    }

    #[test]
    fn an_image_gets_our_name_and_loses_all_others() {
        let image = image(&layer(EntryType::Regular, None));
        let saved = look_through(image.as_slice()).unwrap();
        let mut again = Vec::new();
        write_as(&saved, "shoal/x:1", image.as_slice(), &mut again).unwrap();
        let renamed = look_through(again.as_slice()).unwrap();
        assert_eq!(renamed.id, saved.id);
        assert_eq!(renamed.manifest.repo_tags, Some(vec!["shoal/x:1".into()]));
        assert!(!String::from_utf8_lossy(&again).contains("repositories"));
    }

    #[test]
    fn what_could_become_larger_than_it_is_is_refused() {
        let sparse = b"22 GNU.sparse.major=1\n";
        let table: [(Vec<u8>, &str); 4] = [
            (layer(EntryType::GNUSparse, None), "sparse"),
            (layer(EntryType::Regular, Some(sparse)), "sparse"),
            ([b"\x1f\x8b".as_slice(), &[0; 600]].concat(), "compressed"),
            (vec![9; 2_000], "not a tar"),
        ];
        for (layer, word) in table {
            let error = look_through(image(&layer).as_slice()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_is_no_image_says_what_it_lacks() {
        let two = format!("[{0},{0}]", manifest("c.json"));
        let wrong = format!("[{}]", manifest("d.json"));
        let table: [(Vec<u8>, &str); 5] = [
            (b"hello, this is text".repeat(100), "not a tar"),
            (archive(&[("c.json", CONFIG)]), "no manifest.json"),
            (archive(&[("c.json", CONFIG), (MANIFEST, two.as_bytes())]), "2 images"),
            (archive(&[("c.json", CONFIG), (MANIFEST, wrong.as_bytes())]), "configuration is missing"),
            (archive(&[("c.json", b"{}"), (MANIFEST, format!("[{}]", manifest("c.json")).as_bytes())]), "malformed"),
        ];
        for (bytes, words) in table {
            let error = look_through(bytes.as_slice()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
