//! Files that stay where they are.

use std::fs::File;
use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::*;

async fn added(home: &Home, name: &str, content: &[u8]) -> (PathBuf, Imported) {
    let path = home.path(name);
    fs::write(&path, content).unwrap();
    let imported = home.blobs.import_in_place(&path, |_| {}).await.unwrap();
    (path, imported)
}

/// Every way in which bytes leave the store, and what it says.
async fn said(home: &Home, content: Content) -> [String; 4] {
    let target = home.path("staged");
    let staged = home.blobs.stage(content, &target).await.unwrap_err().to_string();
    let _ = fs::remove_file(&target);
    let exported = home.blobs.export(content, &target).await.unwrap_err().to_string();
    assert!(!target.exists(), "an export is all or nothing");
    let read = home.blobs.read(content.hash, u64::MAX).await.unwrap_err().to_string();
    let mut reader = home.blobs.reader(content.hash);
    let piece = reader.read_to_end(&mut Vec::new()).await.unwrap_err().to_string();
    [staged, exported, read, piece]
}

#[tokio::test]
async fn a_file_in_place_is_a_blob_that_takes_no_room_and_outlives_its_removal() {
    let home = Home::new().await;
    let data = noise(10 * LARGE, 1);
    let (path, imported) = added(&home, "file", &data).await;
    assert_eq!((imported.content, imported.bytes), (raw(BlobHash::of(&data)), data.len() as u64));
    home.blobs.stage(imported.content, &home.path("staged")).await.unwrap();
    assert_eq!(fs::read(home.path("staged")).unwrap(), data);
    assert!(home.blobs.usage().await.unwrap().used < data.len() as u64 / 100);

    let content = imported.content;
    drop(imported);
    home.blobs.gc().await.unwrap();
    home.blobs.tidy().await.unwrap();
    assert!(!home.has(content).await);
    assert_eq!(home.blobs.references.hashes(), BTreeSet::new());
    assert_eq!(fs::read(&path).unwrap(), data, "a collection leaves the file alone");
}

#[tokio::test]
async fn a_small_file_is_copied_all_the_same() {
    let home = Home::new().await;
    let (path, imported) = added(&home, "file", b"small").await;
    fs::remove_file(path).unwrap();
    assert_eq!(home.blobs.read(imported.content.hash, 5).await.unwrap(), &b"small"[..]);
}

#[tokio::test]
async fn what_has_changed_or_gone_is_never_read_and_named() {
    let home = Home::new().await;
    let data = noise(LARGE, 2);
    let (path, imported) = added(&home, "file", &data).await;
    let mut other = data.clone();
    other[LARGE - 1] ^= 1;
    for content in [&other[..], &data[..LARGE / 2], b""] {
        fs::write(&path, content).unwrap();
        for message in said(&home, imported.content).await {
            assert!(message.contains(path.to_str().unwrap()) && message.contains("has changed"), "{message}");
        }
        assert!(matches!(home.blobs.look_at(imported.content).await, Err(Altered::Changed { .. })));
    }
    fs::write(&path, &data).unwrap();
    assert_eq!(home.blobs.read(imported.content.hash, u64::MAX).await.unwrap(), data, "put back, it is there again");

    fs::remove_file(&path).unwrap();
    let home = home.again().await;
    for message in said(&home, imported.content).await {
        assert!(message.contains(path.to_str().unwrap()) && message.contains("is gone"), "{message}");
    }
}

#[tokio::test]
async fn a_change_without_a_trace_in_size_and_time_is_found_too() {
    let home = Home::new().await;
    let (path, imported) = added(&home, "file", &noise(LARGE, 3)).await;
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, noise(LARGE, 4)).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    home.blobs.look_at(imported.content).await.unwrap();
    for message in said(&home, imported.content).await {
        assert!(message.contains("has changed"), "{message}");
    }
}

#[tokio::test]
async fn who_only_touches_a_file_can_add_it_again() {
    let home = Home::new().await;
    let (path, imported) = added(&home, "file", &noise(LARGE, 5)).await;
    File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert!(home.blobs.look_at(imported.content).await.is_err());
    let again = home.blobs.import_in_place(&path, |_| {}).await.unwrap();
    assert_eq!(again.content, imported.content);
    home.blobs.look_at(again.content).await.unwrap();
    let home = home.again().await;
    home.blobs.look_at(again.content).await.unwrap();
}

#[tokio::test]
async fn a_copy_that_is_added_later_needs_no_file() {
    let home = Home::new().await;
    let data = noise(LARGE, 6);
    let (path, imported) = added(&home, "file", &data).await;
    let _copy = home.blobs.import_path(&path).await.unwrap();
    fs::remove_file(&path).unwrap();
    home.blobs.look_at(imported.content).await.unwrap();
    let content = imported.content;
    home.blobs.pin("user/copy", content).await.unwrap();
    let home = home.again().await;
    assert_eq!(home.blobs.read(content.hash, u64::MAX).await.unwrap(), data);
}

#[tokio::test]
async fn a_folder_in_place_refers_to_each_of_its_files() {
    let home = Home::new().await;
    fs::create_dir_all(home.path("tree/deep")).unwrap();
    fs::write(home.path("tree/deep/large"), noise(LARGE, 7)).unwrap();
    fs::write(home.path("tree/small"), "small").unwrap();
    let imported = home.blobs.import_in_place(&home.path("tree"), |_| {}).await.unwrap();
    home.blobs.stage(imported.content, &home.path("staged")).await.unwrap();
    assert_eq!(fs::read(home.path("staged/deep/large")).unwrap(), noise(LARGE, 7));

    fs::write(home.path("tree/deep/large"), noise(LARGE, 8)).unwrap();
    fs::write(home.path("tree/small"), "other").unwrap();
    let error = home.blobs.stage(imported.content, &home.path("again")).await.unwrap_err().to_string();
    assert!(error.contains("tree/deep/large has changed"), "{error}");
    assert!(home.blobs.look_at(imported.content).await.unwrap_err().to_string().contains("deep/large"));
}

#[tokio::test]
async fn what_the_store_may_remove_itself_is_not_referred_to() {
    let home = Home::new().await;
    let copied = home.blobs.add_bytes(noise(LARGE, 9)).await.unwrap();
    let own = home.path("blobs/data").join(format!("{}.data", copied.content.hash));
    for path in [own, home.path("blobs"), home.dir.path().to_owned()] {
        let error = home.blobs.import_in_place(&path, |_| {}).await.unwrap_err();
        assert!(matches!(error, ImportError::Own { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_table_whose_last_line_was_cut_off_goes_on() {
    let home = Home::new().await;
    let (_, first) = added(&home, "first", &noise(LARGE, 10)).await;
    let table = home.path("blobs/in-place");
    let whole = fs::read(&table).unwrap();
    fs::write(&table, [&whole[..], b"\n[\"01"].concat()).unwrap();
    home.blobs.pin("user/first", first.content).await.unwrap();
    let home = home.again().await;
    let (_, second) = added(&home, "second", &noise(LARGE, 11)).await;
    let both = BTreeSet::from([first.content.hash, second.content.hash]);
    assert_eq!(References::load(&table).hashes(), both);
}

#[tokio::test]
async fn a_reader_begins_where_it_is_told_to() {
    let home = Home::new().await;
    let data = noise(LARGE, 12);
    let hash = home.blobs.add_bytes(data.clone()).await.unwrap();
    let mut reader = home.blobs.reader(hash.content.hash);
    for from in [0, 1, 1023, 16 * 1024, 50_000, LARGE - 1, LARGE, LARGE + 5000] {
        reader.seek(io::SeekFrom::Start(from as u64)).await.unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, data[from.min(LARGE)..], "from {from}");
    }
    assert!(reader.seek(io::SeekFrom::End(-1)).await.is_err());
}
