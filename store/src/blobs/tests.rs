//! What a caller of the store may rely on, shown on real stores in temporary folders.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt};

use super::*;

mod folders;
mod in_place;
mod keeping;
mod pinning;
mod results;

/// More than the store keeps in its database, so that files are involved.
const LARGE: usize = 100_000;

/// A store and the folder it lies in.
struct Home {
    dir: tempfile::TempDir,
    blobs: Blobs,
}

impl Home {
    async fn new() -> Self {
        Self::with(BlobsConfig::default()).await
    }

    async fn with(config: BlobsConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs"), config).await.unwrap();
        Self { dir, blobs }
    }

    /// Closes and opens the store.
    async fn again(self) -> Self {
        self.blobs.shutdown().await.unwrap();
        let blobs = Blobs::open(&self.dir.path().join("blobs"), BlobsConfig::default()).await.unwrap();
        Self { dir: self.dir, blobs }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn has(&self, content: Content) -> bool {
        self.blobs.status(content).await.unwrap().is_complete()
    }

    /// Adds a file per entry and makes them a folder, with names as they are.
    async fn unchecked_folder(&self, names: &[&str]) -> Imported {
        let file = self.blobs.add_bytes(&b"content"[..]).await.unwrap();
        let links = names.iter().map(|name| (name.to_string(), iroh(file.content.hash)));
        let tag =
            links.collect::<iroh_blobs::format::collection::Collection>().store(self.blobs.store()).await.unwrap();
        self.blobs.imported(tag, 0)
    }
}

fn raw(hash: BlobHash) -> Content {
    Content { hash, kind: ContentKind::Raw }
}

fn folder(hash: BlobHash) -> Content {
    Content { hash, kind: ContentKind::Collection }
}

fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Brings the first `bytes` of a blob from one store into another, as an interrupted fetch would.
async fn fetch_beginning(source: &Home, target: &Home, hash: BlobHash, bytes: u64) {
    let ranges = ChunkRanges::bytes(..bytes);
    let encoded = source.blobs.store().export_bao(iroh(hash), ranges.clone()).bao_to_vec().await.unwrap();
    target.blobs.store().import_bao_bytes(iroh(hash), ranges, encoded).await.unwrap();
}

#[tokio::test]
async fn bytes_come_back_by_their_hash() {
    let home = Home::new().await;
    for data in [vec![], b"hello".to_vec(), noise(LARGE, 1)] {
        let added = home.blobs.add_bytes(data.clone()).await.unwrap();
        assert_eq!(added.content, raw(BlobHash::of(&data)));
        assert_eq!(added.bytes, data.len() as u64);
        assert_eq!(home.blobs.size(added.content).await.unwrap(), Some(added.bytes));
        assert_eq!(home.blobs.read(added.content.hash, LARGE as u64).await.unwrap(), data);
    }
}

#[tokio::test]
async fn a_reader_reads_from_any_place() {
    use tokio::io::{AsyncReadExt, AsyncSeekExt};
    let home = Home::new().await;
    let data = noise(LARGE, 2);
    let added = home.blobs.add_bytes(data.clone()).await.unwrap();
    let mut reader = home.blobs.reader(added.content.hash);
    reader.seek(std::io::SeekFrom::Start(50_000)).await.unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, data[50_000..]);
}

#[tokio::test]
async fn what_is_too_large_or_absent_is_not_read() {
    let home = Home::new().await;
    let added = home.blobs.add_bytes(&b"12345"[..]).await.unwrap();
    let hash = added.content.hash;
    assert!(home.blobs.read(hash, 5).await.is_ok());
    let error = home.blobs.read(hash, 4).await.unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { bytes: 5, limit: 4, .. }), "{error}");
    let nobody = BlobHash::of(b"nobody has this");
    assert!(matches!(home.blobs.read(nobody, 5).await, Err(ReadError::Missing(hash)) if hash == nobody));
    assert_eq!(home.blobs.status(raw(nobody)).await.unwrap(), Status::Missing);
    assert_eq!(home.blobs.status(folder(nobody)).await.unwrap(), Status::Missing);
}

#[tokio::test]
async fn a_file_is_imported_as_its_content() {
    let home = Home::new().await;
    let path = home.path("file");
    for data in [vec![], b"small".to_vec(), noise(LARGE, 3)] {
        fs::write(&path, &data).unwrap();
        for imported in [home.blobs.import_file(&path).await.unwrap(), home.blobs.import_path(&path).await.unwrap()] {
            assert_eq!((imported.content, imported.bytes), (raw(BlobHash::of(&data)), data.len() as u64));
        }
    }
}

#[tokio::test]
async fn an_imported_file_may_change_afterwards() {
    let home = Home::new().await;
    let path = home.path("file");
    let data = noise(LARGE, 4);
    fs::write(&path, &data).unwrap();
    let imported = home.blobs.import_file(&path).await.unwrap();
    fs::write(&path, "other").unwrap();
    assert_eq!(home.blobs.read(imported.content.hash, LARGE as u64).await.unwrap(), data);
}

#[tokio::test]
async fn what_is_no_file_is_refused_with_its_path() {
    let home = Home::new().await;
    for path in [home.path("missing"), home.dir.path().into(), "/dev/null".into()] {
        let error = home.blobs.import_file(&path).await.unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert!(home.blobs.import_path(&home.path("missing")).await.is_err());
}

#[tokio::test]
async fn only_what_is_guarded_or_pinned_survives_a_collection() {
    let home = Home::new().await;
    let guarded = home.blobs.add_bytes(noise(LARGE, 5)).await.unwrap();
    let pinned = home.blobs.add_bytes(noise(LARGE, 6)).await.unwrap().content_after(&home, "job/a/module").await;
    let folder_root = home.unchecked_folder(&["a", "b"]).await.content_after(&home, "user/folder").await;
    let lost = home.blobs.add_bytes(noise(LARGE, 7)).await.unwrap().content;

    let collected = home.blobs.gc().await.unwrap();
    assert_eq!(collected, Collected { blobs: 1, bytes: LARGE as u64 });
    assert!(!home.has(lost).await);
    for kept in [guarded.content, pinned, folder_root] {
        assert!(home.has(kept).await, "{kept:?}");
    }

    drop(guarded);
    home.blobs.unpin("job/a/module").await.unwrap();
    home.blobs.unpin("user/folder").await.unwrap();
    home.blobs.gc().await.unwrap();
    assert_eq!(home.blobs.list().await.unwrap().len(), 0);
}

impl Imported {
    /// Pins it and gives up the guard.
    async fn content_after(self, home: &Home, pin: &str) -> Content {
        home.blobs.pin(pin, self.content).await.unwrap();
        self.content
    }
}

#[tokio::test]
async fn nothing_is_collected_before_it_is_time() {
    let home = Home::new().await;
    let unwanted = home.blobs.add_bytes(noise(LARGE, 10)).await.unwrap().content;
    home.blobs.sync().await.unwrap();
    assert!(home.has(unwanted).await);
}

#[tokio::test]
async fn many_may_ask_for_a_collection_at_once() {
    let home = Home::new().await;
    let runs = (0..8).map(|_| home.blobs.gc());
    let results = futures_util::future::join_all(runs).await;
    assert!(results.iter().all(Result::is_ok));
}

#[tokio::test]
async fn what_is_added_again_while_it_is_collected_stays() {
    let home = Home::new().await;
    for round in 0..20 {
        let data = noise(100, round);
        drop(home.blobs.add_bytes(data.clone()).await.unwrap());
        let (again, collected) = tokio::join!(home.blobs.add_bytes(data), home.blobs.gc());
        collected.unwrap();
        assert!(home.has(again.unwrap().content).await, "round {round}");
    }
}

#[tokio::test]
async fn a_guard_keeps_what_is_still_arriving() {
    let (source, target) = (Home::new().await, Home::new().await);
    let sent = source.blobs.add_bytes(noise(LARGE, 11)).await.unwrap();
    let guard = target.blobs.protect(sent.content).await.unwrap();
    fetch_beginning(&source, &target, sent.content.hash, 32 << 10).await;
    target.blobs.gc().await.unwrap();
    assert_eq!(target.blobs.status(sent.content).await.unwrap(), Status::Partial { bytes: 32 << 10 });
    drop(guard);
    target.blobs.gc().await.unwrap();
    assert_eq!(target.blobs.status(sent.content).await.unwrap(), Status::Missing);
}

#[tokio::test]
async fn what_has_arrived_and_what_is_pinned_survive_a_restart() {
    let (source, target) = (Home::new().await, Home::new().await);
    let sent = source.blobs.add_bytes(noise(LARGE, 12)).await.unwrap();
    target.blobs.pin("execution/e/input", sent.content).await.unwrap();
    fetch_beginning(&source, &target, sent.content.hash, 48 << 10).await;

    let target = target.again().await;
    target.blobs.gc().await.unwrap();
    assert_eq!(target.blobs.status(sent.content).await.unwrap(), Status::Partial { bytes: 48 << 10 });
    assert_eq!(target.blobs.size(sent.content).await.unwrap(), None);
    fetch_beginning(&source, &target, sent.content.hash, LARGE as u64).await;

    let target = target.again().await;
    assert_eq!(target.blobs.status(sent.content).await.unwrap(), Status::Complete { bytes: LARGE as u64 });
}

#[tokio::test]
async fn a_closed_store_answers_with_errors() {
    let home = Home::new().await;
    home.blobs.shutdown().await.unwrap();
    assert!(home.blobs.add_bytes(&b"x"[..]).await.is_err());
    assert!(home.blobs.pins().await.is_err());
    assert!(home.blobs.gc().await.is_err());
}

#[tokio::test]
async fn a_store_that_is_open_is_not_opened_twice() {
    let home = Home::new().await;
    let second = Blobs::open(&home.path("blobs"), BlobsConfig::default()).await;
    assert!(second.is_err());
}

/// Every file below `root`, by relative name.
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn plant(root: &Path, files: &BTreeMap<String, Vec<u8>>) {
    fs::create_dir_all(root).unwrap();
    for (name, content) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}
