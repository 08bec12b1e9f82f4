//! An image in layers, as registries keep it. Each layer is unpacked, measured and checked before the engine sees any:
//! a few kilobytes can unpack to a full disk.

use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use shoal_protocol::id::ImageId;
use tar::{Builder, Header};

use super::saved::{MANIFEST, Manifest, SavedError, check_layer};
use super::zstd;

/// How a layer begins that is compressed with gzip.
const GZIP: &[u8] = b"\x1f\x8b";
/// How one begins that is compressed in a way that registries do not know: bzip2 and xz.
const OTHERWISE: [&[u8]; 2] = [b"BZh", b"\xfd7zXZ"];

/// The layers of an image, each unpacked: from the bottom up, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measured(Vec<u64>);

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<ImageId>,
}

/// Counts and hashes what is read, up to a bound.
struct Gauge<R> {
    inner: R,
    sha256: Sha256,
    bytes: u64,
    left: u64,
}

impl Measured {
    /// What the image takes on the engine's disk, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Unpacks every layer, checks it against the image's configuration, and keeps nothing. They may have `max_bytes`
/// together.
pub(super) fn look_through<R: Read>(config: &[u8], layers: Vec<R>, max_bytes: u64) -> Result<Measured, SavedError> {
    let config: Config =
        serde_json::from_slice(config).map_err(|_| SavedError::Unsound("its configuration is malformed"))?;
    if config.rootfs.diff_ids.len() != layers.len() {
        return Err(SavedError::Unsound("its configuration names other layers"));
    }
    let (mut sizes, mut files, mut left) = (Vec::new(), 0, max_bytes);
    for (number, (layer, expected)) in layers.into_iter().zip(&config.rootfs.diff_ids).enumerate() {
        let mut gauge = Gauge { inner: unpacked(layer)?, sha256: Sha256::new(), bytes: 0, left };
        let checked = check_layer(&format!("layer {number}"), &mut gauge, &mut files);
        let checked = checked.map_err(|error| match error {
            SavedError::NotSaved(why) => SavedError::Unsound(why),
            other => other,
        });
        // What follows the archive's end belongs to the layer.
        let checked = checked.and_then(|()| Ok(io::copy(&mut gauge, &mut io::sink())?));
        if gauge.left == 0 {
            return Err(SavedError::TooLarge(max_bytes));
        }
        checked?;
        if ImageId(gauge.sha256.finalize().into()) != *expected {
            return Err(SavedError::Unsound("a layer is not the one that its configuration names"));
        }
        sizes.push(gauge.bytes);
        left = gauge.left;
    }
    Ok(Measured(sizes))
}

/// Writes the image as `docker save` does, unpacked, under the name `tag`.
pub(super) fn write_as<R: Read>(
    (id, config): (ImageId, &[u8]),
    layers: Vec<R>,
    measured: &Measured,
    tag: &str,
    to: impl Write,
) -> Result<(), SavedError> {
    let mut to = Builder::new(to);
    let name = |number| format!("{number}/layer.tar");
    let config_name = format!("{}.json", id.to_string().trim_start_matches("sha256:"));
    let names = (0..measured.0.len()).map(name).collect();
    let manifest = Manifest { config: config_name.clone(), repo_tags: Some(vec![tag.to_owned()]), layers: names };
    let manifest = serde_json::to_vec(&[manifest]).map_err(io::Error::from)?;
    append(&mut to, MANIFEST, manifest.len() as u64, manifest.as_slice())?;
    append(&mut to, &config_name, config.len() as u64, config)?;
    for (number, (layer, bytes)) in layers.into_iter().zip(&measured.0).enumerate() {
        append(&mut to, &name(number), *bytes, unpacked(layer)?.take(*bytes))?;
    }
    Ok(to.finish()?)
}

fn append(to: &mut Builder<impl Write>, name: &str, bytes: u64, content: impl Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o644);
    to.append_data(&mut header, name, content)
}

/// What a layer unpacks to.
fn unpacked<'a>(layer: impl Read + 'a) -> Result<Box<dyn Read + 'a>, SavedError> {
    let mut layer = BufReader::with_capacity(64 << 10, layer);
    let start = layer.fill_buf()?;
    if OTHERWISE.iter().any(|magic| start.starts_with(magic)) {
        return Err(SavedError::Unsound("a layer is compressed with something else than gzip or zstd"));
    }
    let (is_gzip, is_zstd) = (start.starts_with(GZIP), zstd::is_zstd(start));
    let unpacked: Box<dyn Read + 'a> = match (is_gzip, is_zstd) {
        (true, _) => Box::new(MultiGzDecoder::new(layer)),
        (_, true) => Box::new(zstd::Unpacked::new(layer)),
        _ => Box::new(layer),
    };
    Ok(unpacked)
}

impl<R: Read> Read for Gauge<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other("it is too large"));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        self.sha256.update(&buffer[..read]);
        self.bytes += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;
    use crate::docker::saved;

    fn layer(name: &str, bytes: usize) -> Vec<u8> {
        let mut layer = Builder::new(Vec::new());
        append(&mut layer, name, bytes as u64, vec![0; bytes].as_slice()).unwrap();
        layer.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn config(layers: &[Vec<u8>]) -> Vec<u8> {
        let ids = layers.iter().map(|layer| format!("\"{}\"", ImageId(Sha256::digest(layer).into())));
        let ids = ids.collect::<Vec<_>>().join(",");
        format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#)
            .into_bytes()
    }

    fn look(config: &[u8], layers: &[Vec<u8>], max_bytes: u64) -> Result<Measured, SavedError> {
        look_through(config, layers.iter().map(Vec::as_slice).collect(), max_bytes)
    }

    #[test]
    fn layers_become_the_archive_that_engines_load() {
        let plain = [layer("a", 600), layer("b", 700), layer("c", 800)];
        let packed = [gzip(&plain[0]), plain[1].clone(), zstd(&plain[2])];
        let config = config(&plain);
        let measured = look(&config, &packed, 1 << 20).unwrap();
        assert_eq!(measured.bytes(), plain.iter().map(|layer| layer.len() as u64).sum::<u64>());
        let id = ImageId(Sha256::digest(&config).into());
        let mut archive = Vec::new();
        let layers = packed.iter().map(Vec::as_slice).collect();
        write_as((id, &config), layers, &measured, "shoal/x:1", &mut archive).unwrap();
        let saved = saved::look_through(archive.as_slice()).unwrap();
        assert_eq!((saved.id, saved.platform.as_str()), (id, "linux/amd64"));
    }

    #[test]
    fn several_pieces_of_gzip_are_one_layer() {
        let plain = layer("a", 6_000);
        let packed = [gzip(&plain[..1_000]), gzip(&plain[1_000..])].concat();
        assert_eq!(
            look(&config(std::slice::from_ref(&plain)), &[packed], 1 << 20).unwrap().bytes(),
            plain.len() as u64
        );
    }

    #[test]
    fn a_small_layer_that_unpacks_to_a_large_one_is_stopped_at_the_bound() {
        let plain = [layer("zeros", 64 << 20)];
        for packed in [gzip(&plain[0]), zstd(&plain[0])] {
            assert!(packed.len() < 1 << 20);
            let error = look(&config(&plain), &[packed], 1 << 20).unwrap_err();
            assert!(matches!(error, SavedError::TooLarge(1_048_576)), "{error}");
        }
    }

    #[test]
    fn what_is_not_the_layer_that_was_promised_is_refused() {
        let plain = [layer("a", 600)];
        let table: [(Vec<Vec<u8>>, &str); 7] = [
            (vec![layer("b", 600)], "not the one"),
            (Vec::new(), "other layers"),
            (vec![b"BZh91AY and more".to_vec()], "gzip or zstd"),
            (vec![b"\x28\xb5\x2f\xfd and more".to_vec()], "not a tar"),
            (vec![zstd(&plain[0])[..20].to_vec()], "not a tar"),
            (vec![gzip(&plain[0])[..40].to_vec()], "not a tar"),
            (vec![b"this is text".repeat(100)], "not a tar"),
        ];
        for (layers, words) in table {
            let error = look(&config(&plain), &layers, 1 << 20).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(look(b"{}", &plain, 1 << 20).unwrap_err().to_string().contains("configuration"));
    }
}
