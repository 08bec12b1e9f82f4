use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Mutex;

use shoal_protocol::job::spec::Source;

use super::super::Asker;
use super::*;
use crate::blobs::BlobsConfig;

struct World {
    _dir: tempfile::TempDir,
    root: PathBuf,
    blobs: Blobs,
    heard: Mutex<Vec<Progress>>,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let blobs = Blobs::open(&root.join("blobs"), BlobsConfig::default()).await.unwrap();
        for (name, text) in [("data/a.txt", "one"), ("data/sub/b.txt", "two"), ("secret/key", "secret")] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), text).unwrap();
        }
        Self { _dir: dir, root, blobs, heard: Mutex::default() }
    }

    fn source(&self, path: &str) -> LocalSource {
        LocalSource { source_path: self.root.join(path).to_str().unwrap().to_owned(), ..LocalSource::default() }
    }

    /// Reads with `data` allowed, to be written too if `mode` says so.
    async fn obtain(&self, source: LocalSource, mode: &str) -> Result<Imported, DataError> {
        let allowed = AllowList::new([format!("{}/data{mode}", self.root.display()).as_str()]).unwrap();
        let note = |progress| self.heard.lock().unwrap().push(progress);
        let wrapped = Source::LocalDirectory(source.clone());
        let request =
            Request { source: &wrapped, asker: Asker::Owner, max_bytes: 1 << 20, partitions: 1, progress: &note };
        let obtained = Reader::new(allowed).obtain(&self.blobs, &source, &request).await?;
        assert_eq!(obtained.origin, source.source_path);
        Ok(obtained.parts.into_iter().next().unwrap())
    }

    async fn read(&self, path: &str) -> Result<Imported, DataError> {
        self.obtain(self.source(path), "").await
    }

    async fn refused(&self, path: &str, words: &[&str]) {
        let error = self.read(path).await.unwrap_err();
        assert!(error.thing.ends_with(path), "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word:?} is missing in: {error}");
        }
    }
}

#[tokio::test]
async fn a_folder_that_is_allowed_is_what_an_import_of_it_is() {
    let world = World::new().await;
    let folder = world.read("data").await.unwrap();
    let imported = world.blobs.import_path(&world.root.join("data")).await.unwrap();
    assert_eq!((folder.content, folder.bytes), (imported.content, imported.bytes));
    let last = world.heard.lock().unwrap().last().copied();
    assert_eq!(last, Some(Progress { bytes: 6, total: Some(6) }));
    let file = world.read("data/sub/b.txt").await.unwrap();
    assert_eq!(world.blobs.read(file.content.hash, 10).await.unwrap(), "two");
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_whether_it_is_there_or_not() {
    let world = World::new().await;
    for path in [
        "secret",
        "secret/key",
        "secret/missing",
        "secret/none/key",
        "secret/key/below",
        "data/../secret/key",
        "data/../none/x",
        "",
    ] {
        world.refused(path, &["is not among the paths", "--allow-local-path"]).await;
    }
    let relative = LocalSource { source_path: "data".into(), ..LocalSource::default() };
    assert!(world.obtain(relative, "").await.unwrap_err().to_string().contains("not an absolute path"));
}

#[tokio::test]
async fn links_lead_nowhere_that_is_not_allowed() {
    let world = World::new().await;
    symlink(world.root.join("secret"), world.root.join("data/link")).unwrap();
    world.refused("data/link", &["is not among the paths"]).await;
    world.refused("data/link/key", &["is not among the paths"]).await;
    world.refused("data", &["\"link\"", "neither a file nor a folder"]).await;
    symlink(world.root.join("data/sub"), world.root.join("way")).unwrap();
    assert!(world.read("way").await.is_ok(), "a link to what is allowed is as good as its name");
}

#[tokio::test]
async fn what_becomes_a_link_after_it_was_listed_is_not_followed() {
    let world = World::new().await;
    let tree = Tree::open(&world.root.join("data")).unwrap();
    fs::remove_file(world.root.join("data/a.txt")).unwrap();
    symlink(world.root.join("secret/key"), world.root.join("data/a.txt")).unwrap();
    fs::rename(world.root.join("data/sub"), world.root.join("old")).unwrap();
    symlink(world.root.join("secret"), world.root.join("data/sub")).unwrap();
    fs::write(world.root.join("secret/b.txt"), "secret").unwrap();
    for name in ["a.txt", "sub/b.txt"] {
        assert!(tree.file(name).is_err(), "{name}");
    }
}

#[tokio::test]
async fn odd_things_in_a_folder_are_refused_by_name() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new().await;
    let socket = std::os::unix::net::UnixListener::bind(world.root.join("data/sub/socket")).unwrap();
    world.refused("data", &["\"sub/socket\""]).await;
    drop(socket);
    fs::remove_file(world.root.join("data/sub/socket")).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"\xff");
    fs::write(world.root.join("data").join(name), "").unwrap();
    world.refused("data", &["not UTF-8"]).await;
    fs::remove_file(world.root.join("data").join(name)).unwrap();
    fs::write(world.root.join("data/large"), vec![0; 2 << 20]).unwrap();
    world.refused("data", &["2097158 bytes", "1048576"]).await;
}

#[tokio::test]
async fn what_is_missing_is_made_where_jobs_may_write() {
    let world = World::new().await;
    world.refused("data/new", &["is not there, and jobs may not make it", ":rw"]).await;
    let source = |path, create_as| LocalSource { create_as, ..world.source(path) };
    let folder = world.obtain(source("data/new", CreateAs::Dir), ":rw").await.unwrap();
    assert!(world.root.join("data/new").is_dir());
    assert_eq!(folder.content.kind, ContentKind::Collection);
    let file = world.obtain(source("data/file", CreateAs::File), ":rw").await.unwrap();
    assert_eq!((file.content.kind, file.bytes), (ContentKind::Raw, 0));
    let error = world.obtain(source("data/none", CreateAs::NoCreate), ":rw").await.unwrap_err();
    assert!(error.to_string().contains("is not there"), "{error}");
    world.refused("data/a/b", &["nor its folder"]).await;
}

#[tokio::test]
async fn what_a_program_writes_is_not_read_for_everybody() {
    let world = World::new().await;
    let source = || LocalSource { read_write: true, ..world.source("data") };
    let error = world.obtain(source(), ":ro").await.unwrap_err().to_string();
    assert!(error.contains("may be read, but not written"), "{error}");
    let error = world.obtain(source(), ":rw").await.unwrap_err().to_string();
    assert!(error.contains("is written by the program"), "{error}");
}

#[tokio::test]
async fn only_what_the_operator_named_itself_is_given_to_be_written() {
    let world = World::new().await;
    symlink(world.root.join("secret"), world.root.join("data/link")).unwrap();
    let mountable = async |path: &str, patterns: &[&str]| {
        let patterns: Vec<String> =
            patterns.iter().map(|pattern| format!("{}/{pattern}", world.root.display())).collect();
        let allowed = AllowList::new(patterns.iter().map(String::as_str)).unwrap();
        let source = LocalSource { read_write: true, ..world.source(path) };
        Reader::new(allowed).mountable(&source).await.map_err(|error| error.to_string())
    };
    assert_eq!(mountable("data", &["data:rw"]).await, Ok(world.root.join("data")));
    assert_eq!(mountable("data/sub", &["data/*:rw"]).await, Ok(world.root.join("data/sub")));
    assert_eq!(mountable("data/new", &["data/*:rw"]).await, Ok(world.root.join("data/new")), "it is made");
    let refused = [
        ("data", &["data:ro"] as &[_], "may be read, but not written"),
        ("data/sub", &["data:rw"], "only what the operator named itself"),
        ("data/sub", &["data:rw", "data/sub:rw"], "only what the operator named itself"),
        ("data/link", &["data/*:rw"], "is not among the paths"),
        ("secret", &["data:rw"], "is not among the paths"),
    ];
    for (path, patterns, words) in refused {
        let error = mountable(path, patterns).await.unwrap_err();
        assert!(error.contains(words), "{path} of {patterns:?}: {error}");
    }
}
