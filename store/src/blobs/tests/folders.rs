//! Folders in and out, honest and hostile.

use std::os::unix::fs::{PermissionsExt, symlink};

use iroh_blobs::format::collection::CollectionMeta;
use iroh_blobs::hashseq::HashSeq;
use proptest::prelude::*;

use super::*;

fn files(names: &[&str]) -> BTreeMap<String, Vec<u8>> {
    names.iter().map(|name| (name.to_string(), format!("content of {name}").into_bytes())).collect()
}

fn some_tree() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    // Files end in `.f` and folders do not, so that no name is both.
    let name = prop::collection::vec("[a-c]{1,2}", 0..3).prop_flat_map(|folders| {
        "[a-cä ]{1,3}\\.f"
            .prop_map(move |file| folders.iter().map(|folder| format!("{folder}/")).collect::<String>() + &file)
    });
    let size = prop_oneof![4 => 0usize..50, 1 => 16_000usize..17_000, 1 => 60_000usize..70_000];
    let content = (size, any::<u8>()).prop_map(|(size, seed)| noise(size, seed));
    prop::collection::btree_map(name, content, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_folder_comes_back_as_it_went_in(expected in some_tree()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let home = Home::new().await;
            plant(&home.path("in"), &expected);
            let imported = home.blobs.import_path(&home.path("in")).await.unwrap();
            assert_eq!(imported.content.kind, ContentKind::Collection);
            assert_eq!(home.blobs.size(imported.content).await.unwrap(), Some(imported.bytes));
            home.blobs.stage(imported.content, &home.path("staged")).await.unwrap();
            home.blobs.export(imported.content, &home.path("exported")).await.unwrap();
            assert_eq!(tree(&home.path("staged")), expected);
            assert_eq!(tree(&home.path("exported")), expected);
            home.blobs.shutdown().await.unwrap();
        });
    }
}

#[tokio::test]
async fn an_import_tells_how_far_it_is_over_all_files() {
    let home = Home::new().await;
    for (name, size) in [("small", 10), ("large", 3 << 20), ("deep/large", 1 << 20)] {
        plant(&home.path("in"), &BTreeMap::from([(name.to_owned(), noise(size, 7))]));
    }
    let told = std::sync::Mutex::new(Vec::new());
    let tell = |progress| told.lock().unwrap().push(progress);
    let imported = home.blobs.import_path_watched(&home.path("in"), tell).await.unwrap();
    let told = told.into_inner().unwrap();
    let total = (4 << 20) + 10;
    assert!(imported.bytes > total, "with the lists of names and hashes");
    assert!(told.len() > 3 && told.iter().all(|progress| progress.total == total), "{told:?}");
    assert_eq!(told.iter().map(|progress| progress.bytes).max(), Some(total));
}

#[tokio::test]
async fn the_hash_of_a_folder_is_that_of_its_names_and_content() {
    let home = Home::new().await;
    let (one, two) = (home.path("one"), home.path("two"));
    plant(&one, &files(&["z", "a/b", "a.b", "a/a/a"]));
    for name in ["a/a/a", "a.b", "z", "a/b"] {
        plant(&two, &files(&[name]));
    }
    fs::create_dir(two.join("empty")).unwrap();
    fs::set_permissions(two.join("z"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::File::open(two.join("z")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let (one, two) = (home.blobs.import_path(&one).await.unwrap(), home.blobs.import_path(&two).await.unwrap());
    assert_eq!(one.content, two.content);
    assert_eq!(one.bytes, two.bytes);
}

#[tokio::test]
async fn a_folder_is_complete_only_with_all_its_files() {
    let (source, target) = (Home::new().await, Home::new().await);
    let large = noise(LARGE, 20);
    plant(&source.path("in"), &BTreeMap::from([("a".into(), b"small".to_vec()), ("b".into(), large.clone())]));
    let sent = source.blobs.import_path(&source.path("in")).await.unwrap();
    let _guard = target.blobs.protect(sent.content).await.unwrap();
    let mut parts = source.blobs.folder_blobs(sent.content.hash).await.unwrap();
    parts.insert(0, sent.content.hash);
    for part in parts {
        assert!(!target.has(sent.content).await);
        fetch_beginning(&source, &target, part, LARGE as u64).await;
    }
    assert_eq!(target.blobs.status(sent.content).await.unwrap(), Status::Complete { bytes: sent.bytes });
}

#[tokio::test]
async fn a_folder_without_all_its_files_is_not_staged() {
    let (source, target) = (Home::new().await, Home::new().await);
    plant(&source.path("in"), &files(&["a", "b"]));
    let sent = source.blobs.import_path(&source.path("in")).await.unwrap();
    let parts = source.blobs.folder_blobs(sent.content.hash).await.unwrap();
    fetch_beginning(&source, &target, sent.content.hash, 1_000).await;
    let error = target.blobs.stage(sent.content, &target.path("out")).await.unwrap_err();
    assert!(matches!(error, StageError::Folder(FolderError::Missing(hash)) if hash == sent.content.hash), "{error}");
    fetch_beginning(&source, &target, parts[0], 1_000).await;
    fetch_beginning(&source, &target, parts[1], 1_000).await;
    let error = target.blobs.stage(sent.content, &target.path("out")).await.unwrap_err();
    assert!(matches!(error, StageError::Missing(hash) if hash == parts[2]), "{error}");
}

#[tokio::test]
async fn links_and_devices_in_a_folder_are_refused_and_named() {
    let home = Home::new().await;
    plant(&home.path("in"), &files(&["a/file"]));
    symlink("/etc/passwd", home.path("in/a/link")).unwrap();
    let error = home.blobs.import_path(&home.path("in")).await.unwrap_err();
    assert!(matches!(&error, ImportError::Special { path, .. } if path.ends_with("a/link")), "{error}");

    fs::remove_file(home.path("in/a/link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(home.path("in/socket")).unwrap();
    let error = home.blobs.import_path(&home.path("in")).await.unwrap_err();
    assert!(matches!(&error, ImportError::Special { path, .. } if path.ends_with("socket")), "{error}");
}

#[tokio::test]
async fn a_link_that_the_user_names_is_followed() {
    let home = Home::new().await;
    plant(&home.path("in"), &files(&["a"]));
    symlink(home.path("in"), home.path("folder")).unwrap();
    symlink(home.path("in/a"), home.path("file")).unwrap();
    let direct = home.blobs.import_path(&home.path("in")).await.unwrap();
    assert_eq!(home.blobs.import_path(&home.path("folder")).await.unwrap().content, direct.content);
    assert_eq!(home.blobs.import_path(&home.path("file")).await.unwrap().bytes, 12);
}

#[tokio::test]
async fn names_that_cannot_travel_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let home = Home::new().await;
    plant(&home.path("in"), &files(&["back\\slash"]));
    let error = home.blobs.import_path(&home.path("in")).await.unwrap_err();
    assert!(matches!(error, ImportError::Name(NameError::Bad { .. })), "{error}");

    fs::create_dir(home.path("latin")).unwrap();
    fs::write(home.path("latin").join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "").unwrap();
    let error = home.blobs.import_path(&home.path("latin")).await.unwrap_err();
    assert!(matches!(error, ImportError::NotUtf8 { .. }), "{error}");
}

#[tokio::test]
async fn a_folder_that_is_nested_too_deeply_is_refused() {
    let home = Home::new().await;
    let deep = "d/".repeat(MAX_DEPTH) + "file";
    plant(&home.path("in"), &BTreeMap::from([(deep, vec![])]));
    let error = home.blobs.import_path(&home.path("in")).await.unwrap_err();
    assert!(matches!(error, ImportError::TooDeep { .. }), "{error}");
}

#[tokio::test]
async fn staged_files_are_read_only_and_exported_ones_are_not() {
    let home = Home::new().await;
    let blob = home.blobs.add_bytes(noise(LARGE, 21)).await.unwrap();
    let empty = home.blobs.add_bytes(&b""[..]).await.unwrap();
    for (content, name) in [(blob.content, "blob"), (empty.content, "empty")] {
        let (staged, exported) = (home.path(name), home.path(&format!("{name}.user")));
        home.blobs.stage(content, &staged).await.unwrap();
        home.blobs.export(content, &exported).await.unwrap();
        assert_eq!(fs::metadata(&staged).unwrap().permissions().mode() & 0o777, 0o444);
        assert_eq!(fs::metadata(&exported).unwrap().permissions().mode() & 0o200, 0o200);
        assert_eq!(fs::read(&staged).unwrap(), fs::read(&exported).unwrap());
    }
}

#[tokio::test]
async fn what_is_there_is_not_staged_over() {
    let home = Home::new().await;
    let blob = home.blobs.add_bytes(&b"new"[..]).await.unwrap();
    fs::write(home.path("file"), "old").unwrap();
    symlink("/nowhere", home.path("link")).unwrap();
    for name in ["file", "link", "blobs"] {
        for result in [
            home.blobs.stage(blob.content, &home.path(name)).await,
            home.blobs.export(blob.content, &home.path(name)).await,
        ] {
            assert!(matches!(result, Err(StageError::Exists { path }) if path == home.path(name)));
        }
    }
    assert_eq!(fs::read(home.path("file")).unwrap(), b"old");
}

#[tokio::test]
async fn a_hostile_folder_writes_nothing() {
    let home = Home::new().await;
    let hostile: &[&[&str]] = &[
        &["../escaped"],
        &["/tmp/shoal-escaped"],
        &["a", "a"],
        &["a", "a/b"],
        &["ok", "a/../../escaped"],
        &["a\0b"],
        &["a\\..\\b"],
        &["."],
        &[""],
        &["a//b"],
    ];
    for names in hostile {
        let folder = home.unchecked_folder(names).await;
        for result in [
            home.blobs.stage(folder.content, &home.path("out")).await,
            home.blobs.export(folder.content, &home.path("out")).await,
        ] {
            let error = result.unwrap_err();
            assert!(matches!(error, StageError::Folder(FolderError::Name { .. })), "{names:?}: {error}");
            assert!(!home.path("out").exists() && !home.path("escaped").exists(), "{names:?}");
        }
    }
}

/// Adds a folder's root as a peer could have made it.
async fn root(home: &Home, list: impl Into<Bytes>) -> Imported {
    let add = home.blobs.store().add_bytes_with_opts((list.into(), BlobFormat::HashSeq));
    home.blobs.imported(add.temp_tag().await.unwrap(), 0)
}

#[tokio::test]
async fn what_is_no_folder_is_refused_before_it_is_read() {
    let home = Home::new().await;
    let names = |count: usize| {
        let mut meta = CollectionMeta::default();
        meta.names_mut().extend((0..count).map(|name| name.to_string()));
        postcard::to_stdvec(&meta).unwrap()
    };
    let two = home.blobs.add_bytes(names(2)).await.unwrap();
    let garbage = home.blobs.add_bytes(noise(500, 22)).await.unwrap();
    let trailing = home.blobs.add_bytes([names(1), vec![0]].concat()).await.unwrap();
    let header = home.blobs.add_bytes([b"CollectionV9.".to_vec(), vec![0]].concat()).await.unwrap();
    // Three names are announced, one is there.
    let short = home.blobs.add_bytes([b"CollectionV0.".to_vec(), vec![3, 1, b'a']].concat()).await.unwrap();
    let list = |hashes: &[BlobHash]| Bytes::from(hashes.iter().map(|hash| iroh(*hash)).collect::<HashSeq>());
    let file = BlobHash::of(b"file");
    let lists = [
        ("empty", Bytes::new()),
        ("no list of hashes", noise(33, 23).into()),
        ("too many files", vec![7; 32 * (MAX_FILES + 2)].into()),
        ("more names than files", list(&[two.content.hash, file])),
        ("more files than names", list(&[two.content.hash, file, file, file])),
        ("names are garbage", list(&[garbage.content.hash, file])),
        ("names with a tail", list(&[trailing.content.hash, file])),
        ("another header", list(&[header.content.hash])),
        ("names cut short", list(&[short.content.hash, file, file, file])),
    ];
    for (what, list) in lists {
        let folder = root(&home, list).await;
        let error = home.blobs.stage(folder.content, &home.path("out")).await.unwrap_err();
        assert!(matches!(error, StageError::Folder(FolderError::Malformed { .. })), "{what}: {error}");
        assert!(!home.path("out").exists());
    }
}

#[tokio::test]
async fn the_status_of_what_is_no_folder_is_an_error() {
    let home = Home::new().await;
    for list in [noise(33, 24), vec![7; 32 * (MAX_FILES + 2)]] {
        let folder = root(&home, list).await;
        assert!(matches!(home.blobs.status(folder.content).await, Err(FolderError::Malformed { .. })));
    }
}
