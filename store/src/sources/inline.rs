//! Data that is written into a job: a file, or a gzipped tar archive that becomes a folder.

use shoal_protocol::job::data_url;
use shoal_protocol::job::spec::InlineSource;

use super::unpack::{Bounds, unpack_tar_gz};
use super::{DataError, Obtained, Request};
use crate::blobs::{Blobs, Imported};

/// What an archive may hold; larger inputs are blobs of their own.
const BOUNDS: Bounds = Bounds { bytes: 256 << 20, entries: 10_000, ratio: 200, any_ratio: 16 << 20 };

pub(super) async fn obtain(blobs: &Blobs, source: &InlineSource, request: &Request<'_>) -> Result<Obtained, DataError> {
    let imported = import(blobs, &source.url).await?;
    if imported.bytes > request.max_bytes {
        let reason =
            format!("has {} bytes, more than the {} that an input may have", imported.bytes, request.max_bytes);
        return Err(DataError::new(THING, reason, "write less"));
    }
    Ok(Obtained::one(imported, "inline"))
}

/// How errors call it: the data itself is nothing to repeat.
const THING: &str = "inline data";

async fn import(blobs: &Blobs, url: &str) -> Result<Imported, DataError> {
    let wrong = |error: data_url::DataUrlError| DataError::new(THING, error.to_string(), "write a data: URL");
    let unstored = |reason: String| DataError::new(THING, reason, "make room on the node's disk");
    let data = data_url::parse(url).map_err(wrong)?;
    if !data.is_archive() {
        return blobs.add_bytes(data.bytes).await.map_err(|error| unstored(error.to_string()));
    }
    let folder = tempfile::tempdir().map_err(|error| unstored(error.to_string()))?;
    let target = folder.path().to_owned();
    let unpacked = tokio::task::spawn_blocking(move || unpack_tar_gz(&data.bytes, &target, BOUNDS));
    let unusable = |reason: String| DataError::new(THING, reason, "pack plain files and folders with `tar -czf`");
    unpacked.await.map_err(|error| unstored(error.to_string()))?.map_err(|error| unusable(error.to_string()))?;
    blobs.import_path(folder.path()).await.map_err(|error| unusable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use shoal_protocol::job::spec::Source;

    use super::super::Asker;
    use super::*;
    use crate::blobs::BlobsConfig;

    async fn obtained(url: String) -> Result<Vec<String>, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs"), BlobsConfig::default()).await.unwrap();
        let inline = InlineSource { url };
        let source = Source::Inline(inline.clone());
        let request =
            Request { source: &source, asker: Asker::Owner, max_bytes: 1 << 20, partitions: 1, progress: &|_| {} };
        let obtained = super::obtain(&blobs, &inline, &request).await?;
        let files = blobs.files(obtained.parts[0].content.hash).await.unwrap_or_default();
        Ok(files.into_iter().map(|file| file.name).collect())
    }

    #[tokio::test]
    async fn an_archive_over_several_lines_becomes_a_folder() {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for name in ["a.txt", "sub/b.txt"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            builder.append_data(&mut header, name, b"one".as_slice()).unwrap();
        }
        let packed = data_encoding::BASE64.encode(&builder.into_inner().unwrap().finish().unwrap());
        let lines: Vec<&str> = packed.as_bytes().chunks(40).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let url = format!("data:application/gzip;base64,\n  {}\n", lines.join("\n  "));
        assert_eq!(obtained(url).await.unwrap(), ["a.txt", "sub/b.txt"]);
    }

    #[tokio::test]
    async fn data_that_cannot_be_used_is_named() {
        let table = [
            ("data:application/gzip;base64,AAAA".to_owned(), "damaged"),
            ("data:,%zz".to_owned(), "two hex digits"),
            (format!("data:,{}", "x".repeat(2 << 20)), "more than the 1048576"),
        ];
        for (url, expected) in table {
            let error = obtained(url).await.unwrap_err();
            assert!(error.thing == THING && error.reason.contains(expected), "{error}");
        }
    }
}
