//! Data that is written into a job: a file, or a gzipped tar archive that becomes a folder.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use shoal_protocol::job::data_url;
use shoal_protocol::job::spec::InlineSource;

use super::{DataError, Obtained, Request};
use crate::blobs::{Blobs, Imported};

/// The most that an archive may unpack to, in bytes; larger inputs are blobs of their own.
const MAX_UNPACKED_BYTES: u64 = 256 << 20;
/// The most files in an archive.
const MAX_FILES: usize = 10_000;

pub(super) async fn obtain(
    blobs: &Blobs,
    source: &InlineSource,
    _request: &Request<'_>,
) -> Result<Obtained, DataError> {
    let wrong = |reason| DataError::new("inline data", reason, "write a data: URL");
    Ok(Obtained::one(import(blobs, &source.url).await.map_err(wrong)?, "inline"))
}

/// Imports the data of a `data:` URL. The error is for a person.
async fn import(blobs: &Blobs, url: &str) -> Result<Imported, String> {
    let data = data_url::parse(url).map_err(|error| error.to_string())?;
    if !data.is_archive() {
        return blobs.add_bytes(data.bytes).await.map_err(|error| error.to_string());
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let target = folder.path().to_owned();
    let unpacked = tokio::task::spawn_blocking(move || unpack(&data.bytes, &target));
    unpacked.await.map_err(|error| error.to_string())?.map_err(|error| format!("the archive is unusable: {error}"))?;
    blobs.import_path(folder.path()).await.map_err(|error| error.to_string())
}

fn unpack(archive: &[u8], target: &Path) -> std::io::Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive).take(MAX_UNPACKED_BYTES));
    for (index, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if index >= MAX_FILES {
            return Err(std::io::Error::other(format!("it has more than {MAX_FILES} files")));
        }
        // Links could lead out of the folder, and devices are nobody's input.
        if (kind.is_file() || kind.is_dir()) && !entry.unpack_in(target)? {
            return Err(std::io::Error::other(format!("the name {:?} leads out of it", entry.path()?)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn an_archive_becomes_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        unpack(&archive(&[("a.txt", b"one"), ("sub/b.txt", b"two")]), folder.path()).unwrap();
        assert_eq!(std::fs::read(folder.path().join("sub/b.txt")).unwrap(), b"two");
    }

    #[test]
    fn an_archive_cannot_write_outside_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        assert!(unpack(&archive(&[("../escaped", b"x")]), &inner).is_err());
        assert!(!folder.path().join("escaped").exists());
    }

    #[test]
    fn a_bomb_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
        let mut header = tar::Header::new_gnu();
        header.set_path("zeros").unwrap();
        header.set_size(MAX_UNPACKED_BYTES * 2);
        header.set_mode(0o644);
        header.set_cksum();
        bomb.write_all(header.as_bytes()).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..(MAX_UNPACKED_BYTES >> 20) + 1 {
            bomb.write_all(&zeros).unwrap();
        }
        assert!(unpack(&bomb.finish().unwrap(), folder.path()).is_err());
    }
}
