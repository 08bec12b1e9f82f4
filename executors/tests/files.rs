//! What programs do with files, as real programs do it: through the libraries of C and Rust.

mod support;

use std::io::{Seek as _, SeekFrom, Write as _};

use shoal_executors::{RunError, WasmConfig, WasmExecutor};
use shoal_protocol::task::Outcome;
use support::{Ended, Job, job};

const C: &[u8] = include_bytes!("guests/files.wasm");

fn input_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "content of file\n").unwrap();
    std::fs::create_dir(folder.path().join("below")).unwrap();
    std::fs::write(folder.path().join("below/deep"), "deep").unwrap();
    folder
}

/// Runs chapters of the C program; what it found wrong is the failure's text.
async fn chapter(job: Job, names: &[&str]) -> Ended {
    let ended = job.arguments(names).result("out", "/out").vote().await;
    assert_eq!((ended.outcome, ended.stderr.as_str()), (Outcome::Exited(0), ""), "{}", ended.stdout);
    ended
}

#[tokio::test]
async fn a_c_program_writes_seeks_cuts_and_appends() {
    let ended = chapter(job(C), &["writing", "pieces"]).await;
    assert_eq!(ended.results["out/file"], b"Q1ab");
}

#[tokio::test]
async fn a_c_program_makes_moves_and_removes() {
    let ended = chapter(job(C), &["names"]).await;
    assert_eq!(ended.results.keys().collect::<Vec<_>>(), ["out/"]);
}

#[tokio::test]
async fn links_lead_anywhere_inside_and_nowhere_outside() {
    let folder = input_folder();
    let ended = chapter(job(C).input("/in", folder.path()), &["links"]).await;
    // Symbolic links are no part of a result; a file with two names is there twice.
    let names: Vec<_> = ended.results.keys().map(String::as_str).collect();
    assert_eq!(names, ["out/", "out/dir/", "out/dir/hard", "out/file", "out/made"]);
    assert_eq!(ended.results["out/dir/hard"], ended.results["out/file"]);
}

#[tokio::test]
async fn inputs_are_read_only_with_the_right_errors() {
    let folder = input_folder();
    chapter(job(C).input("/in", folder.path()), &["inputs"]).await;
    assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), b"content of file\n");
}

#[tokio::test]
async fn large_folders_are_read_in_pieces_and_from_any_place() {
    chapter(job(C), &["folders"]).await;
}

#[tokio::test]
async fn a_program_has_thousands_of_files_open() {
    chapter(job(C), &["many"]).await;
}

#[tokio::test]
async fn an_input_larger_than_the_programs_memory_is_read_where_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    let mut file = std::fs::File::create(&path).unwrap();
    file.seek(SeekFrom::Start(6 << 30)).unwrap();
    file.write_all(b"tail").unwrap();
    chapter(job(C).input("/large", path), &["large"]).await;
}

#[tokio::test]
async fn standard_input_is_empty_or_the_file_that_is_mounted_there() {
    let empty = chapter(job(C), &["streams"]).await;
    assert_eq!(empty.stdout, "0 wrong\n");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x"), "first\nsecond line\n").unwrap();
    let given = chapter(job(C).input("/dev/stdin", folder.path().join("x")), &["streams"]).await;
    assert_eq!(given.stdout, "first\nsecond line\n0 wrong\n");
    let refused = job(C).input("/dev/stdin", folder.path()).run().await;
    assert!(matches!(&refused, Err(RunError::Declined(why)) if why.contains("standard input")), "{refused:?}");
}

#[tokio::test]
async fn looking_at_a_large_folder_again_and_again_costs_fuel() {
    let folder = tempfile::tempdir().unwrap();
    let mut used = Vec::new();
    for files in [1, 400] {
        for file in 0..files {
            std::fs::write(folder.path().join(file.to_string()), "").unwrap();
        }
        let (listing, work) = (job(LISTS_IN_TINY_PIECES).input("/in", folder.path()), tempfile::tempdir().unwrap());
        let executor = WasmExecutor::new(WasmConfig::default()).unwrap();
        used.push(listing.run_in(&executor, work.path()).await.unwrap().fuel_used);
    }
    assert!(used[1] > used[0] + 1_000 * 400, "{used:?}");
}

/// Reads the first bytes of the listing of `in` a thousand times.
const LISTS_IN_TINY_PIECES: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open" (func $open
        (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_readdir" (func $readdir (param i32 i32 i32 i64 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "in")
    (func (export "_start") (local $left i32)
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 2) (i64.const -1)
            (i64.const -1) (i32.const 0) (i32.const 8)) (then unreachable))
        (local.set $left (i32.const 1000))
        (loop
            (if (call $readdir (i32.load (i32.const 8)) (i32.const 16) (i32.const 1) (i64.const 0) (i32.const 12))
                (then unreachable))
            (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#;

#[tokio::test]
async fn the_peak_of_memory_is_told() {
    let (executor, work) = (WasmExecutor::new(WasmConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let grows = r#"(module (memory 2) (func (export "_start") (drop (memory.grow (i32.const 3)))))"#;
    let finished = job(grows).run_in(&executor, work.path()).await.unwrap();
    assert_eq!((finished.peak_memory_bytes, finished.calls.count), (5 << 16, 0));
}
