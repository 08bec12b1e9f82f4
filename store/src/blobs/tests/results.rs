//! Results: the hash that workers vote on, and the folder that a user gets.

use std::os::unix::fs::symlink;

use super::*;

fn bytes(text: &str) -> ResultPart {
    ResultPart::Bytes(Bytes::copy_from_slice(text.as_bytes()))
}

fn result(parts: Vec<(&str, ResultPart)>) -> ResultFiles {
    let mut result = ResultFiles::new(3, bytes("out"), bytes("err"));
    parts.into_iter().for_each(|(name, part)| result.push(name, part));
    result
}

#[tokio::test]
async fn a_result_is_streams_exit_code_and_result_paths() {
    let home = Home::new().await;
    plant(&home.path("w/outputs"), &BTreeMap::from([("a/b".into(), b"1".to_vec()), ("c".into(), vec![])]));
    fs::write(home.path("w/report"), "2").unwrap();
    fs::write(home.path("w/stdout"), noise(LARGE, 30)).unwrap();
    let mut files = ResultFiles::new(-7, ResultPart::Path(home.path("w/stdout")), bytes(""));
    files.push("outputs", ResultPart::Path(home.path("w/outputs")));
    files.push("report.txt", ResultPart::Path(home.path("w/report")));
    let collected = home.blobs.collect(files).await.unwrap();
    assert_eq!(home.blobs.size(collected.content).await.unwrap(), Some(collected.bytes));

    home.blobs.export_result(collected.content.hash, &home.path("got")).await.unwrap();
    let expected = BTreeMap::from([
        ("exitCode".into(), b"-7".to_vec()),
        ("outputs/a/b".into(), b"1".to_vec()),
        ("outputs/c".into(), vec![]),
        ("report.txt".into(), b"2".to_vec()),
        ("stderr".into(), vec![]),
        ("stdout".into(), noise(LARGE, 30)),
    ]);
    assert_eq!(tree(&home.path("got")), expected);
}

#[tokio::test]
async fn equal_results_have_equal_hashes_on_every_worker() {
    let (one, two) = (Home::new().await, Home::new().await);
    let content = BTreeMap::from([("x".to_owned(), noise(LARGE, 31)), ("y/z".to_owned(), b"z".to_vec())]);
    plant(&one.path("o"), &content);
    for (name, data) in content.iter().rev() {
        plant(&two.path("p"), &BTreeMap::from([(name.clone(), data.clone())]));
    }
    fs::File::open(two.path("p/x")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::create_dir(two.path("p/empty")).unwrap();
    fs::write(two.path("file"), "in memory").unwrap();

    let here = vec![("o", ResultPart::Path(one.path("o"))), ("m", bytes("in memory"))];
    let there = vec![("m", ResultPart::Path(two.path("file"))), ("o", ResultPart::Path(two.path("p")))];
    let (here, there) =
        (one.blobs.collect(result(here)).await.unwrap(), two.blobs.collect(result(there)).await.unwrap());
    assert_eq!((here.content, here.bytes), (there.content, there.bytes));
}

#[tokio::test]
async fn a_result_that_is_here_already_is_the_same_and_is_kept_as_well() {
    let home = Home::new().await;
    let first = home.blobs.collect(result(vec![("x", bytes("y"))])).await.unwrap();
    let second = home.blobs.collect(result(vec![("x", bytes("y"))])).await.unwrap();
    assert_eq!((first.content, first.bytes), (second.content, second.bytes));

    drop(first);
    assert_eq!(home.blobs.gc().await.unwrap().blobs, 0);
    assert_eq!(home.blobs.size(second.content).await.unwrap(), Some(second.bytes));
}

#[tokio::test]
async fn results_that_differ_in_anything_have_different_hashes() {
    let home = Home::new().await;
    let results = [
        ResultFiles::new(0, bytes("a"), bytes("")),
        ResultFiles::new(1, bytes("a"), bytes("")),
        ResultFiles::new(0, bytes("b"), bytes("")),
        ResultFiles::new(0, bytes(""), bytes("a")),
        result(vec![("x", bytes(""))]),
        result(vec![("y", bytes(""))]),
    ];
    let mut hashes = BTreeSet::new();
    for result in results {
        hashes.insert(home.blobs.collect(result).await.unwrap().content.hash);
    }
    assert_eq!(hashes.len(), 6);
}

#[tokio::test]
async fn the_format_of_a_result_does_not_change() {
    let home = Home::new().await;
    let collected = home.blobs.collect(result(vec![("data", bytes("d"))])).await.unwrap();
    // Workers of different builds vote on this hash: another one here is another protocol version.
    let golden = "4488139c6154089b70d910275135a4a0be2ed1c232011c828da990d21c248936";
    assert_eq!(collected.content.hash.to_string(), golden);
}

#[tokio::test]
async fn a_program_cannot_smuggle_the_workers_files_out() {
    let home = Home::new().await;
    fs::create_dir(home.path("outputs")).unwrap();
    symlink("/etc/passwd", home.path("link")).unwrap();
    symlink("/etc", home.path("outputs/etc")).unwrap();
    for path in [home.path("link"), home.path("outputs")] {
        let error = home.blobs.collect(result(vec![("o", ResultPart::Path(path))])).await.unwrap_err();
        assert!(matches!(error, ImportError::Special { .. }), "{error}");
    }
}

#[tokio::test]
async fn result_names_that_clash_are_refused() {
    let home = Home::new().await;
    for name in ["stdout", "exitCode", "stdout/x", "../x", "/x", ""] {
        let error = home.blobs.collect(result(vec![(name, bytes("mine"))])).await.unwrap_err();
        assert!(matches!(error, ImportError::Name(_)), "{name:?}: {error}");
    }
}

#[tokio::test]
async fn a_result_path_that_is_not_there_is_an_error_with_its_path() {
    let home = Home::new().await;
    let error = home.blobs.collect(result(vec![("o", ResultPart::Path(home.path("nothing")))])).await.unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
}

#[tokio::test]
async fn a_result_goes_into_a_folder_that_exists_beside_what_is_there() {
    let home = Home::new().await;
    let collected = home.blobs.collect(result(vec![("o/x", bytes("x"))])).await.unwrap();
    fs::create_dir(home.path("got")).unwrap();
    fs::write(home.path("got/notes"), "mine").unwrap();
    home.blobs.export_result(collected.content.hash, &home.path("got")).await.unwrap();
    let names: Vec<_> = tree(&home.path("got")).into_keys().collect();
    assert_eq!(names, ["exitCode", "notes", "o/x", "stderr", "stdout"]);
}

#[tokio::test]
async fn a_result_overwrites_nothing_and_leaves_nothing_behind() {
    let home = Home::new().await;
    let collected = home.blobs.collect(result(vec![])).await.unwrap();
    fs::create_dir(home.path("got")).unwrap();
    fs::write(home.path("got/stderr"), "mine").unwrap();
    let error = home.blobs.export_result(collected.content.hash, &home.path("got")).await.unwrap_err();
    assert!(matches!(&error, StageError::Exists { path } if path.ends_with("got/stderr")), "{error}");
    assert_eq!(tree(&home.path("got")), BTreeMap::from([("stderr".into(), b"mine".to_vec())]));
    let left: BTreeSet<_> = fs::read_dir(home.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, BTreeSet::from(["blobs".into(), "got".into()]));
}

#[tokio::test]
async fn a_result_survives_its_guard_once_pinned() {
    let home = Home::new().await;
    plant(&home.path("o"), &BTreeMap::from([("large".into(), noise(LARGE, 32))]));
    let collected = home.blobs.collect(result(vec![("o", ResultPart::Path(home.path("o")))])).await.unwrap();
    let (content, size) = (collected.content, collected.bytes);
    home.blobs.gc().await.unwrap();
    home.blobs.pin("execution/e/result", content).await.unwrap();
    drop(collected);
    home.blobs.gc().await.unwrap();
    assert_eq!(home.blobs.size(content).await.unwrap(), Some(size));
}
