//! Archives from anybody become files in a folder that is ours.
//!
//! Whatever could lead out of the folder, or mean different things on different systems, is refused by name rather
//! than left out: an input that is not what was sent is worse than none.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use tar::{Archive, Entry, EntryType};

use crate::blobs::{NameError, check_name};

/// What one archive may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// All of it unpacked, in bytes.
    pub(super) bytes: u64,
    /// Files and folders.
    pub(super) entries: usize,
    /// How many times larger than itself, once it is past [`Bounds::any_ratio`].
    pub(super) ratio: u64,
    /// What any archive may unpack to, in bytes: small files of one repeated line are honest.
    pub(super) any_ratio: u64,
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("the archive is damaged: {0}")]
    Damaged(io::Error),
    #[error("the archive unpacks to more than {0} bytes")]
    TooLarge(u64),
    #[error("the archive has more than {0} files and folders")]
    TooMany(usize),
    #[error("the entry {name:?} is {kind}, and only files and folders can be unpacked")]
    Special { name: String, kind: &'static str },
    #[error("the name of the entry {0:?} is not UTF-8")]
    NotUtf8(String),
    #[error("the entry {0:?} is there twice")]
    Twice(String),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the entry {name:?} cannot be written: {source}")]
    Unwritable { name: String, source: io::Error },
}

/// Unpacks a `.tar.gz` into `target`, an empty folder. Blocks; what an error leaves behind is for the caller.
pub(super) fn unpack_tar_gz(packed: &[u8], target: &Path, bounds: Bounds) -> Result<(), UnpackError> {
    let most = bounds.bytes.min(bounds.any_ratio.max(bounds.ratio.saturating_mul(packed.len() as u64)));
    let mut archive = Archive::new(Bounded { inner: GzDecoder::new(packed), left: most, most });
    let mut names = BTreeSet::new();
    for (index, entry) in archive.entries().map_err(damaged)?.enumerate() {
        let mut entry = entry.map_err(damaged)?;
        if index >= bounds.entries {
            return Err(UnpackError::TooMany(bounds.entries));
        }
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        let name = name(&entry)?;
        let is_folder = is_folder(&entry, &name)?;
        if name.is_empty() {
            continue;
        }
        check_name(&name)?;
        if !names.insert(name.clone()) && !is_folder {
            return Err(UnpackError::Twice(name));
        }
        write(&mut entry, &name, is_folder, target)?;
    }
    Ok(())
}

/// An entry's name, without the `./` and `/` that archivers put around it. Empty for the folder itself.
fn name(entry: &Entry<'_, impl Read>) -> Result<String, UnpackError> {
    let bytes = entry.path_bytes();
    let lossy = || String::from_utf8_lossy(&bytes).into_owned();
    let name = std::str::from_utf8(&bytes).map_err(|_| UnpackError::NotUtf8(lossy()))?;
    let name = name.strip_suffix('/').unwrap_or(name);
    Ok(if name == "." { "" } else { name.strip_prefix("./").unwrap_or(name) }.to_owned())
}

fn is_folder(entry: &Entry<'_, impl Read>, name: &str) -> Result<bool, UnpackError> {
    let kind = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => return Ok(false),
        EntryType::Directory => return Ok(true),
        EntryType::Symlink => "a symbolic link",
        EntryType::Link => "a hard link",
        EntryType::Block | EntryType::Char | EntryType::Fifo => "a device or pipe",
        EntryType::GNUSparse => "a sparse file",
        _ => "of an unknown type",
    };
    Err(UnpackError::Special { name: name.to_owned(), kind })
}

fn write(entry: &mut Entry<'_, impl Read>, name: &str, is_folder: bool, target: &Path) -> Result<(), UnpackError> {
    let path = target.join(name);
    let folder = if is_folder { Some(path.as_path()) } else { path.parent() };
    let made = folder.map_or(Ok(()), fs::create_dir_all);
    if is_folder {
        return made.map_err(|source| UnpackError::Unwritable { name: name.to_owned(), source });
    }
    // A file that is there already is an entry of the same name, for a disk that does not tell `a` from `A`.
    let file = made.and_then(|()| File::create_new(&path));
    let mut file = file.map_err(|source| UnpackError::Unwritable { name: name.to_owned(), source })?;
    // Errors of the archive and of the disk cannot be told apart here, except for the bound.
    match io::copy(entry, &mut file) {
        Ok(_) => Ok(()),
        Err(error) if error.get_ref().is_some_and(|inner| inner.is::<PastBound>()) => Err(damaged(error)),
        Err(source) => Err(UnpackError::Unwritable { name: name.to_owned(), source }),
    }
}

fn damaged(error: io::Error) -> UnpackError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<PastBound>()) {
        Some(PastBound(most)) => UnpackError::TooLarge(*most),
        None => UnpackError::Damaged(error),
    }
}

/// Reads so many bytes; more is an error, where `Read::take` would make an archive look complete.
struct Bounded<R> {
    inner: R,
    left: u64,
    most: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("more than {0} bytes")]
struct PastBound(u64);

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other(PastBound(self.most)))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 4 << 20, entries: 10, ratio: 100, any_ratio: 1 << 20 };

    /// An archive as its bytes say, whatever a library would refuse to write.
    fn archive(entries: &[(&[u8], EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, kind, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
            header.set_size(bytes.len() as u64);
            header.set_entry_type(*kind);
            header.set_mode(0o777);
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn files(names: &[&str]) -> Vec<u8> {
        let entries: Vec<_> = names.iter().map(|name| (name.as_bytes(), EntryType::Regular, name.as_bytes())).collect();
        archive(&entries)
    }

    /// Unpacks into a folder of its own, beside which nothing may appear.
    fn unpacked(packed: &[u8]) -> Result<tempfile::TempDir, String> {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        fs::create_dir(&target).unwrap();
        let unpacked = unpack_tar_gz(packed, &target, BOUNDS);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something has left the folder");
        unpacked.map(|()| dir).map_err(|error| error.to_string())
    }

    #[test]
    fn files_and_folders_are_unpacked() {
        let folder = (b"./sub/".as_slice(), EntryType::Directory, b"".as_slice());
        let here = (b"./".as_slice(), EntryType::Directory, b"".as_slice());
        let file = (b"./sub/b.txt".as_slice(), EntryType::Regular, b"two".as_slice());
        let dir = unpacked(&archive(&[here, folder, folder, file])).unwrap();
        assert_eq!(fs::read(dir.path().join("target/sub/b.txt")).unwrap(), b"two");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused_by_name() {
        for name in ["../escaped", "/etc/passwd", "a/../../b", "a//b", "..", "a\\b", "a\nb"] {
            let error = unpacked(&files(&["good", name])).unwrap_err();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
        let deep = "d/".repeat(45) + "x";
        assert!(unpacked(&files(&[&deep])).is_ok());
        let error = unpacked(&archive(&[(b"\xff\xfe", EntryType::Regular, b"")])).unwrap_err();
        assert!(error.contains("not UTF-8"), "{error}");
        let error = unpacked(&files(&["a", "b", "./a"])).unwrap_err();
        assert_eq!(error, "the entry \"a\" is there twice");
        let error = unpacked(&files(&["a", "a/b"])).unwrap_err();
        assert!(error.contains("\"a/b\" cannot be written"), "{error}");
    }

    #[test]
    fn links_and_devices_are_refused_by_name() {
        for (kind, words) in [
            (EntryType::Symlink, "a symbolic link"),
            (EntryType::Link, "a hard link"),
            (EntryType::Char, "a device or pipe"),
            (EntryType::Block, "a device or pipe"),
            (EntryType::Fifo, "a device or pipe"),
            (EntryType::new(b'?'), "of an unknown type"),
        ] {
            let error = unpacked(&archive(&[(b"odd", kind, b"")])).unwrap_err();
            assert!(error.contains("\"odd\"") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn an_archive_has_bounds_on_its_size_its_files_and_its_ratio() {
        let names: Vec<String> = (0..=BOUNDS.entries).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(unpacked(&files(&names[1..])).is_ok());
        assert_eq!(unpacked(&files(&names)).unwrap_err(), "the archive has more than 10 files and folders");

        let zeros = vec![0; 2 << 20];
        let bomb = archive(&[(b"zeros", EntryType::Regular, &zeros)]);
        assert!(unpacked(&bomb).unwrap_err().starts_with("the archive unpacks to more than"), "{} bytes", bomb.len());

        // Bytes that do not compress may be as large as all archives may.
        let noise = |seed: u32, bytes: u32| -> Vec<u8> {
            let hash = |n: u32| shoal_protocol::id::BlobHash::of(&[n.to_le_bytes(), seed.to_le_bytes()].concat()).0;
            (0..bytes / 32).flat_map(hash).collect()
        };
        let (fits, large) = (noise(1, 3 << 20), noise(2, 5 << 20));
        assert!(unpacked(&archive(&[(b"noise", EntryType::Regular, &fits)])).is_ok());
        let error = unpacked(&archive(&[(b"noise", EntryType::Regular, &large)])).unwrap_err();
        assert_eq!(error, format!("the archive unpacks to more than {} bytes", BOUNDS.bytes));
    }

    #[test]
    fn a_damaged_archive_is_none() {
        let good = files(&["a", "b"]);
        assert!(unpacked(&good[..good.len() / 2]).unwrap_err().contains("damaged"));
        assert!(unpacked(b"not gzip at all").unwrap_err().contains("damaged"));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&[b'x'; 600]).unwrap();
        assert!(unpacked(&gzip.finish().unwrap()).unwrap_err().contains("damaged"));
    }
}
