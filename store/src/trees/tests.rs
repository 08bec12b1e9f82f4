use futures_util::StreamExt;
use tokio_util::io::StreamReader;

use super::*;
use crate::blobs::{BlobsConfig, Imported};
use crate::ipfs::{CarReader, RAW, cid_of, verify};

/// A node's stores, with trees in them.
pub(super) struct World {
    pub(super) blobs: Blobs,
    pub(super) trees: Trees,
    _dir: tempfile::TempDir,
}

impl World {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs"), BlobsConfig::default()).await.unwrap();
        let state = Arc::new(State::open(&dir.path().join("state.redb")).unwrap());
        Self { trees: Trees::new(blobs.clone(), state), blobs, _dir: dir }
    }

    /// A pinned folder of these files.
    async fn result(&self, files: &[(&str, &[u8])]) -> Imported {
        let (mut parts, mut guards) = (Vec::new(), Vec::new());
        for (name, bytes) in files {
            let added = self.blobs.add_bytes(bytes.to_vec()).await.unwrap();
            parts.push(((*name).to_owned(), added.content.hash));
            guards.push(added);
        }
        let result = self.blobs.compose(parts).await.unwrap();
        self.blobs.pin("job/1/result", result.content).await.unwrap();
        result
    }

    async fn archive(&self, tree: &Tree, path: &[&str], scope: Scope) -> Vec<(Cid, Bytes)> {
        let found = self.trees.find(&tree.root().to_string(), path).await.unwrap().unwrap();
        let mut reader = CarReader::new(StreamReader::new(self.trees.archive(found, scope).boxed()));
        let mut blocks = Vec::new();
        while let Some((cid, block)) = reader.next().await.unwrap() {
            assert_eq!(verify(&cid, &block), Ok(()));
            blocks.push((cid, block));
        }
        blocks
    }
}

static LARGE: [u8; 2_500_000] = [7; 2_500_000];
static FILES: [(&str, &[u8]); 4] = [("exitCode", b"0"), ("out/a", b"one"), ("out/large", &LARGE), ("stderr", b"")];

#[tokio::test]
async fn an_archive_holds_what_its_scope_says() {
    let world = World::new().await;
    let result = world.result(&FILES).await;
    let tree = world.trees.add(result.content).await.unwrap();
    assert_eq!(tree.bytes, 2_500_004);
    let table: [(&[&str], Scope, usize); 6] = [
        // The root, exitCode, out, a, large and its three leaves, stderr.
        (&[], Scope::All, 9),
        (&[], Scope::Entity, 1),
        (&[], Scope::Block, 1),
        (&["out"], Scope::All, 7),
        (&["out", "large"], Scope::Entity, 6),
        (&["out", "a"], Scope::Block, 3),
    ];
    for (path, scope, blocks) in table {
        assert_eq!(world.archive(&tree, path, scope).await.len(), blocks, "{path:?} {scope:?}");
    }
    let a = world.archive(&tree, &["out", "a"], Scope::All).await.pop().unwrap();
    assert_eq!(a, (cid_of(RAW, b"one"), Bytes::from_static(b"one")));
}

#[tokio::test]
async fn the_same_result_is_the_same_tree_and_is_made_once() {
    let world = World::new().await;
    let result = world.result(&FILES).await;
    let tree = world.trees.add(result.content).await.unwrap();
    assert_eq!(world.trees.add(result.content).await.unwrap(), tree);
    assert_eq!(world.trees.numbered().await.unwrap().len(), 1);
}

#[tokio::test]
async fn only_what_was_published_is_found() {
    let world = World::new().await;
    let result = world.result(&FILES).await;
    let _private = world.blobs.add_bytes("private").await.unwrap();
    let root = world.trees.add(result.content).await.unwrap().root().to_string();
    let found = async |cid: &str, path: &[&str]| world.trees.find(cid, path).await.unwrap().is_some();
    assert!(found(&root, &["out", "a"]).await);
    assert!(found(&cid_of(RAW, b"one").to_string(), &[]).await);
    for path in [&["out", "b"][..], &["out", "a", "b"], &["..", "out"]] {
        assert!(!found(&root, path).await, "{path:?}");
    }
    assert!(!found(&cid_of(RAW, b"private").to_string(), &[]).await);
    assert!(matches!(world.trees.find("nonsense", &[]).await, Err(TreeError::Address(_))));
}

#[tokio::test]
async fn a_tree_goes_with_the_pin_of_its_result() {
    let world = World::new().await;
    let result = world.result(&FILES).await;
    let root = world.trees.add(result.content).await.unwrap().root();
    world.trees.sweep().await.unwrap();
    assert!(world.trees.has(&root).await.unwrap());
    world.blobs.unpin("job/1/result").await.unwrap();
    world.trees.sweep().await.unwrap();
    assert!(!world.trees.has(&root).await.unwrap());
    assert_eq!(world.trees.state.count(Table::Trees).unwrap(), 0);
}

#[tokio::test]
async fn the_oldest_trees_make_room() {
    let world = World::new().await;
    let first = world.result(&FILES[..1]).await;
    let first = world.trees.add(first.content).await.unwrap();
    let second = world.result(&FILES[1..]).await;
    let second = world.trees.add(second.content).await.unwrap();
    let known = world.trees.numbered().await.unwrap();
    world.trees.make_room(known, MAX_ALL_BLOCKS - second.blocks).await.unwrap();
    let roots: Vec<Cid> = world.trees.numbered().await.unwrap().iter().map(|(_, tree)| tree.root()).collect();
    assert_eq!(roots, [second.root()]);
    assert!(!world.trees.has(&first.root()).await.unwrap());
}
