use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use shoal_protocol::id::BlobHash;
use shoal_protocol::job::spec::{IpfsSource, Source};
use shoal_protocol::task::ContentKind;

use super::*;
use crate::blobs::BlobsConfig;
use crate::ipfs::{DAG_PB, Hash, RAW, cid_of, encode_file, encode_folder, encode_shard};
use crate::sources::Asker;
use crate::sources::ipfs::fetch::Patience;
use crate::sources::ipfs::provider::{Archive, Provider};

/// Blocks in memory, made by the test.
#[derive(Debug, Default)]
struct Dag(BTreeMap<Hash, Bytes>);

impl fmt::Display for Dag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

#[async_trait]
impl Provider for Dag {
    async fn block(&self, cid: &Cid) -> Result<Bytes, String> {
        self.0.get(cid.hash()).cloned().ok_or_else(|| "it does not have it".to_owned())
    }

    async fn archive(&self, _: &Cid, _: &[String]) -> Result<Option<Archive>, String> {
        Ok(None)
    }
}

impl Dag {
    fn put(&mut self, codec: u64, block: impl Into<Bytes>) -> Link {
        let block = block.into();
        let cid = cid_of(codec, &block);
        self.0.insert(*cid.hash(), block.clone());
        Link { name: String::new(), cid, size: block.len() as u64 }
    }

    /// A file of two levels.
    fn file(&mut self, parts: &[&'static [u8]]) -> Link {
        let links: Vec<(Link, u64)> = parts.iter().map(|part| (self.put(RAW, *part), part.len() as u64)).collect();
        self.put(DAG_PB, encode_file(&links))
    }

    fn folder(&mut self, entries: &[(&str, &Link)]) -> Link {
        let links: Vec<Link> = entries.iter().map(|(name, link)| named(name, link)).collect();
        self.put(DAG_PB, encode_folder(&links))
    }

    /// A hash table of one level, right for these names or not.
    fn shard(&mut self, entries: &[(&str, &Link)]) -> Link {
        let links: Vec<Link> = entries.iter().map(|(name, link)| named(name, link)).collect();
        self.put(DAG_PB, encode_shard(&[1], &links))
    }
}

fn named(name: &str, link: &Link) -> Link {
    Link { name: name.into(), ..link.clone() }
}

/// What an import gave: the bytes of a file, or files by name.
type Read = BTreeMap<String, Bytes>;

async fn import(dag: Dag, root: &Link, path: &[&str], max_bytes: u64) -> Result<Read, WalkError> {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&dir.path().join("blobs"), BlobsConfig::default()).await.unwrap();
    let source = Source::Ipfs(IpfsSource { cid: root.cid.to_string() });
    let request = Request { source: &source, asker: Asker::Owner, max_bytes, partitions: 1, progress: &|_| {} };
    let fetcher = Fetcher::new([Arc::new(dag) as Arc<dyn Provider>], Patience::default());
    let path: Vec<String> = path.iter().map(|&part| part.to_owned()).collect();
    let imported = Walk::new(&blobs, fetcher, &request).import(root.cid, &path).await?;
    let read = async |hash: BlobHash| blobs.read(hash, 1 << 30).await.unwrap();
    let hash = imported.content.hash;
    if imported.content.kind == ContentKind::Raw {
        return Ok(Read::from([(String::new(), read(hash).await)]));
    }
    let mut files = Read::new();
    for file in blobs.files(hash).await.unwrap() {
        files.insert(file.name, read(file.hash).await);
    }
    Ok(files)
}

fn files(expected: &[(&str, &'static str)]) -> Read {
    expected.iter().map(|(name, text)| ((*name).to_owned(), Bytes::from_static(text.as_bytes()))).collect()
}

const PLENTY: u64 = 1 << 30;

#[tokio::test]
async fn files_of_any_depth_become_one_blob() {
    let mut dag = Dag::default();
    let (a, b) = (dag.file(&[b"one ", b"two "]), dag.file(&[b"three"]));
    let root = dag.put(DAG_PB, encode_file(&[(a, 8), (b, 5)]));
    assert_eq!(import(dag, &root, &[], PLENTY).await.unwrap(), files(&[("", "one two three")]));
}

#[tokio::test]
async fn folders_keep_their_names_and_paths_lead_into_them() {
    let table = [
        (vec![], files(&[("a", "leaf"), ("sub/b", "one two"), ("sub/deep/a", "leaf")])),
        (vec!["sub"], files(&[("b", "one two"), ("deep/a", "leaf")])),
        (vec!["sub", "b"], files(&[("", "one two")])),
        (vec!["empty"], files(&[])),
    ];
    for (path, expected) in table {
        let mut dag = Dag::default();
        let (leaf, file, empty) = (dag.put(RAW, "leaf"), dag.file(&[b"one ", b"two"]), dag.folder(&[]));
        let deep = dag.folder(&[("a", &leaf)]);
        let sub = dag.folder(&[("b", &file), ("deep", &deep)]);
        let root = dag.folder(&[("a", &leaf), ("empty", &empty), ("sub", &sub)]);
        assert_eq!(import(dag, &root, &path, PLENTY).await.unwrap(), expected, "{path:?}");
    }
}

#[tokio::test]
async fn a_sharded_folder_is_a_folder() {
    for path in [vec![], vec!["hello"]] {
        let mut dag = Dag::default();
        let (one, two) = (dag.put(RAW, "1"), dag.put(RAW, "2"));
        // The hash of "hello" begins with CB D8.
        let below = dag.shard(&[("D8hello", &one)]);
        let root = dag.shard(&[("CB", &below), ("F2other", &two)]);
        let expected = if path.is_empty() { files(&[("hello", "1"), ("other", "2")]) } else { files(&[("", "1")]) };
        assert_eq!(import(dag, &root, &path, PLENTY).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_wrong_path_says_what_is_there() {
    for (path, words) in [
        (vec!["x"], r#"there is no "x" in "#),
        (vec!["x"], r#"which has "a", "sub""#),
        (vec!["a", "b"], "is a file, and the path goes on below it"),
        (vec!["sub", "b"], "which is empty"),
    ] {
        let mut dag = Dag::default();
        let (leaf, sub) = (dag.put(RAW, "leaf"), dag.folder(&[]));
        let root = dag.folder(&[("a", &leaf), ("sub", &sub)]);
        let error = import(dag, &root, &path, PLENTY).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn names_that_could_lead_elsewhere_are_refused_before_anything_is_fetched() {
    for name in ["..", ".", "", "/etc/passwd", "a/b", "a\0", "c\\d"] {
        let mut dag = Dag::default();
        let missing = Link { name: String::new(), cid: cid_of(RAW, b"not there"), size: 9 };
        let root = dag.folder(&[(name, &missing)]);
        let error = import(dag, &root, &[], PLENTY).await.unwrap_err();
        assert!(matches!(error, WalkError::Name(_)), "{name:?}: {error}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_cut_off() {
    let mut dag = Dag::default();
    let root = dag.file(&[b"0123456789", b"0123456789"]);
    let error = import(dag, &root, &[], 19).await.unwrap_err();
    assert!(matches!(error, WalkError::TooLarge(19)), "{error}");
}

#[tokio::test]
async fn small_blocks_that_unfold_without_end_are_cut_off() {
    // Each folder holds the one below it twice: 2^60 of them.
    let mut dag = Dag::default();
    let mut root = dag.folder(&[]);
    for _ in 0..60 {
        root = dag.folder(&[("a", &root), ("b", &root)]);
    }
    let error = import(dag, &root, &[], PLENTY).await.unwrap_err();
    assert!(matches!(error, WalkError::TooManyEntries), "{error}");

    let mut dag = Dag::default();
    let mut root = dag.put(RAW, "0123456789abcdef");
    for _ in 0..MAX_LEVELS + 2 {
        root = dag.put(DAG_PB, encode_file(&[(root, 16)]));
    }
    let error = import(dag, &root, &[], PLENTY).await.unwrap_err();
    assert!(matches!(error, WalkError::TooDeep(_)), "{error}");
}

#[tokio::test]
async fn trees_that_no_tool_writes_are_refused() {
    let mut dag = Dag::default();
    let folder = dag.folder(&[]);
    let root = dag.put(DAG_PB, encode_file(&[(folder, 1)]));
    let error = import(dag, &root, &[], PLENTY).await.unwrap_err();
    assert!(matches!(error, WalkError::FolderInFile(_)), "{error}");

    let mut dag = Dag::default();
    let leaf = dag.put(RAW, "leaf");
    let root = dag.shard(&[("CB", &leaf)]);
    let error = import(dag, &root, &[], PLENTY).await.unwrap_err();
    assert!(matches!(error, WalkError::NoFolder(_)), "{error}");
}
