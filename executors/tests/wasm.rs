//! What a program sees and what its end means, with real guests and small ones in text.

mod support;

use std::path::Path;
use std::time::Duration;

use shoal_executors::{RunError, WasmConfig, WasmExecutor};
use shoal_protocol::task::{Outcome, Trap};
use support::{Ended, Job, functions, job};

const PROBE: &[u8] = include_bytes!("guests/probe.wasm");
const PROBE_C: &[u8] = include_bytes!("guests/probe-c.wasm");

/// A folder with files whose names are not in the order of their making.
fn input_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["zebra", "file", "Apple", "ähre"] {
        std::fs::write(folder.path().join(name), format!("content of {name}\n")).unwrap();
    }
    std::fs::create_dir(folder.path().join("below")).unwrap();
    std::fs::write(folder.path().join("below/deep"), "deep").unwrap();
    folder
}

fn probe(questions: &[&str]) -> Job {
    job(PROBE).arguments(questions).result("out", "/out")
}

async fn answers(questions: &[&str]) -> String {
    let ended = probe(questions).vote().await;
    assert_eq!((ended.outcome, ended.stderr.as_str()), (Outcome::Exited(0), ""));
    ended.stdout
}

#[tokio::test]
async fn a_program_sees_its_arguments_and_its_environment_in_key_order() {
    let job = probe(&["arguments", "environment", "stdin"]).environment("Z", "1").environment("A", "2");
    assert_eq!(
        job.vote().await.stdout,
        "[\"main.wasm\", \"arguments\", \"environment\", \"stdin\"]\n[(\"A\", \"2\"), (\"Z\", \"1\")]\nstdin Ok(0)\n"
    );
}

#[tokio::test]
async fn time_passes_by_rule_and_sleeping_takes_none() {
    let expected = "now 1735689600.000001s, a millisecond takes 1000 readings\nslept 3600.000001s\n";
    let started = std::time::Instant::now();
    assert_eq!(answers(&["clock", "sleep"]).await, expected);
    assert!(started.elapsed() < Duration::from_secs(600));
}

#[tokio::test]
async fn randomness_is_the_invocations() {
    assert_eq!(answers(&["random"]).await, answers(&["random"]).await);
    let other = probe(&["random"]).environment("SEED", "other").vote().await;
    assert_ne!(answers(&["random"]).await, other.stdout);
}

#[tokio::test]
async fn folders_list_in_name_order_without_a_trace_of_the_host() {
    let expected = "\"Apple\" 17 1735689600s false\n\"below\" 0 1735689600s true\n\"deep\" 4 1735689600s false\n\
                    \"file\" 16 1735689600s false\n\"zebra\" 17 1735689600s false\n\"ähre\" 17 1735689600s false\n";
    let (first, second) = (input_folder(), input_folder());
    for folder in [first, second] {
        assert_eq!(probe(&["list=/in"]).input("/in", folder.path()).vote().await.stdout, expected);
    }
}

#[tokio::test]
async fn a_c_program_sees_the_same_world_by_absolute_and_relative_paths() {
    let folder = input_folder();
    let ended = job(PROBE_C).input("/in", folder.path()).result("out", "/out").vote().await;
    let expected = "content of file\n\
        . inode 2 links 1 size 0 mtime 1735689600\n\
        .. inode 1 links 1 size 0 mtime 1735689600\n\
        Apple inode 5 links 1 size 17 mtime 1735689600\n\
        below inode 6 links 1 size 0 mtime 1735689600\n\
        file inode 7 links 1 size 16 mtime 1735689600\n\
        zebra inode 8 links 1 size 17 mtime 1735689600\n\
        ähre inode 9 links 1 size 17 mtime 1735689600\n\
        symlink 0\n";
    assert_eq!((ended.outcome, ended.stdout.as_str()), (Outcome::Exited(3), expected));
    assert_eq!(ended.results["out/from-c"], b"1 main.wasm\n");
}

#[tokio::test]
async fn files_are_made_moved_cut_and_removed() {
    let ended = probe(&["edit"]).vote().await;
    assert_eq!(ended.stdout, "012xyz67end\n");
    let names: Vec<_> = ended.results.keys().map(String::as_str).collect();
    assert_eq!(names, ["out/", "out/a/", "out/a/second"]);
}

#[tokio::test]
async fn nothing_outside_can_be_read_written_or_removed() {
    let folder = input_folder();
    let ended = probe(&["escape"]).input("/in", folder.path()).vote().await;
    assert_eq!(ended.outcome, Outcome::Exited(0), "{}", ended.stderr);
    for line in ended.stdout.lines() {
        // The one path that stays inside: it leads from the result path back into it.
        assert!(line.ends_with("false"), "{line}");
    }
    assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), b"content of file\n");
}

#[tokio::test]
async fn a_symbolic_link_among_the_inputs_is_refused() {
    let folder = input_folder();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
    let failed = probe(&["read=/in/link"]).input("/in", folder.path()).run().await;
    assert!(matches!(&failed, Err(RunError::HostFailed(why)) if why.contains("neither file nor folder")), "{failed:?}");
}

#[tokio::test]
async fn a_result_path_is_a_folder_until_a_file_is_written_there() {
    let untouched = job(PROBE).result("out", "/deep/out").vote().await;
    assert_eq!(untouched.results.into_iter().collect::<Vec<_>>(), [("out/".to_owned(), vec![])]);
    let file = job(PROBE).arguments(&["write=/deep/out", "read=/deep/out"]).result("out", "/deep/out").vote().await;
    assert_eq!(file.stdout, "Ok(())\nOk(\"written\\n\")\n");
    assert_eq!(file.results.into_iter().collect::<Vec<_>>(), [("out".to_owned(), b"written\n".to_vec())]);
}

#[tokio::test]
async fn an_input_inside_a_result_path_is_seen_and_not_returned() {
    let folder = input_folder();
    let job = probe(&["read=/out/in/file", "write=/out/own"]).input("/out/in", folder.path());
    let ended = job.vote().await;
    assert_eq!(ended.stdout, "Ok(\"content of file\\n\")\nOk(())\n");
    assert_eq!(ended.results.keys().map(String::as_str).collect::<Vec<_>>(), ["out/", "out/own"]);
}

#[tokio::test]
async fn a_full_output_is_an_error_at_the_same_byte_and_removing_gives_room() {
    let job = probe(&["fill", "fill"]).limits(|limits| limits.output_bytes = 100_500);
    let expected = "100500 bytes, then Some(51)\n100472 bytes, then Some(51)\n";
    assert_eq!(job.vote().await.stdout, expected);
}

#[tokio::test]
async fn mounts_that_contradict_each_other_are_declined() {
    let folder = input_folder();
    for (input, result) in [("/in", "/in"), ("/in/../x", "/out"), ("relative", "/out"), ("/in", "relative")] {
        let failed = job(PROBE).input(input, folder.path()).result("out", result).run().await;
        assert!(matches!(failed, Err(RunError::Declined(_))), "{input} {result}: {failed:?}");
    }
    let failed = job(PROBE).input("/in", folder.path().join("absent")).run().await;
    assert!(matches!(failed, Err(RunError::InputMissing(_))), "{failed:?}");
}

/// A module around the body of `_start`, with one page of memory.
fn start(body: &str) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (table 2 funcref)
        (func $loop (param i32) (result i32) (i32.add (call $loop (local.get 0)) (i32.const 1)))
        (func (export "_start") {body}))"#
    )
}

#[tokio::test]
async fn every_end_is_a_vote_of_its_kind() {
    let trapped = Outcome::Trapped;
    for (body, outcome) in [
        ("", Outcome::Exited(0)),
        ("(call $exit (i32.const 0))", Outcome::Exited(0)),
        ("(call $exit (i32.const 200))", Outcome::Exited(200)),
        ("(call $exit (i32.const -1))", Outcome::Exited(-1)),
        ("unreachable", trapped(Trap::Unreachable)),
        ("(drop (i32.load (i32.const 65536)))", trapped(Trap::OutOfBounds)),
        ("(drop (table.get (i32.const 9)))", trapped(Trap::OutOfBounds)),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", trapped(Trap::Arithmetic)),
        ("(drop (i32.trunc_f32_u (f32.const nan)))", trapped(Trap::Arithmetic)),
        ("(call_indirect (i32.const 0))", trapped(Trap::BadCall)),
        ("(loop (br 0))", trapped(Trap::OutOfFuel)),
        ("(memory.fill (i32.const 0) (i32.const 0) (i32.const 65536)) (loop (br 0))", trapped(Trap::OutOfFuel)),
    ] {
        let ended = job(start(body)).limits(|limits| limits.fuel = 1_000_000).vote().await;
        assert_eq!(ended.outcome, outcome, "{body}");
    }
}

#[tokio::test]
async fn modules_that_cannot_begin_are_votes_too() {
    for module in [
        r#"(module (memory 1) (data (i32.const 65535) "ab") (func (export "_start")))"#,
        r#"(module (memory 4000) (func (export "_start")))"#,
        r#"(module (table 100000000 funcref) (func (export "_start")))"#,
        r#"(module (import "env" "absent" (func)) (func (export "_start")))"#,
        r#"(module (func (export "main")))"#,
        r#"(module (func (export "_start") (param i32)))"#,
        r#"(module (memory 1 1 shared) (func (export "_start")))"#,
    ] {
        assert_eq!(job(module).vote().await.outcome, Outcome::Trapped(Trap::Instantiation), "{module}");
    }
    let start_function = r#"(module (func $f (loop (br 0))) (start $f) (func (export "_start")))"#;
    let ended = job(start_function).limits(|limits| limits.fuel = 1_000_000).vote().await;
    assert_eq!(ended.outcome, Outcome::Trapped(Trap::OutOfFuel));
}

#[tokio::test]
async fn an_uncaught_exception_is_a_vote() {
    let ended = job(r#"(module (tag $t) (func (export "_start") (throw $t)))"#).vote().await;
    assert_eq!(ended.outcome, Outcome::Trapped(Trap::Uncaught));
}

#[tokio::test]
async fn endless_recursion_is_a_vote() {
    let ended = job(start("(drop (call $loop (i32.const 0)))")).vote().await;
    assert_eq!(ended.outcome, Outcome::Trapped(Trap::StackExhausted));
}

/// Prints the four bytes at 16 of memory after `body`.
fn prints(body: &str) -> String {
    start(&format!(
        "{body} (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 4))
         (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
    ))
}

#[tokio::test]
async fn nan_has_one_pattern_of_bits() {
    for nan in [
        "(f32.div (f32.load (i32.const 32)) (f32.load (i32.const 32)))",
        "(f32.add (f32.const nan:0x200001) (f32.const nan:0x300001))",
        "(f32.sqrt (f32.const -1))",
        "(f32.min (f32.const -nan:0x212345) (f32.const 1))",
    ] {
        let module = prints(&format!("(f32.store (i32.const 16) {nan})"));
        let folder = tempfile::tempdir().unwrap();
        let executor = WasmExecutor::new(WasmConfig::default()).unwrap();
        let finished = job(module).run_in(&executor, folder.path()).await.unwrap();
        assert_eq!(std::fs::read(finished.outputs.stdout.unwrap()).unwrap(), [0, 0, 0xc0, 0x7f], "{nan}");
    }
}

#[tokio::test]
async fn memory_beyond_the_limit_is_minus_one_at_the_same_page() {
    for (pages, grown) in [("(i32.const 1022)", true), ("(i32.const 1024)", false), ("(i32.const 65535)", false)] {
        let body = format!("(if (i32.eq (memory.grow {pages}) (i32.const -1)) (then (call $exit (i32.const 9))))");
        let ended = job(start(&body)).vote().await;
        assert_eq!(ended.outcome, Outcome::Exited(if grown { 0 } else { 9 }), "{pages}");
    }
    // More than a memory can ever have is refused before the limiter is asked.
    let body = "(drop (memory.grow (i32.const 1))) (if (i32.ne (memory.grow (i32.const 65535)) (i32.const -1)) (then unreachable))";
    let ended = job(start(body)).limits(|limits| limits.memory_bytes = 4 << 30).vote().await;
    assert_eq!(ended.outcome, Outcome::Exited(0));
}

#[tokio::test]
async fn wrong_pointers_and_descriptors_are_errors_and_nothing_more() {
    for (call, errno) in [
        ("(call $write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 8))", 21),
        ("(call $write (i32.const 1) (i32.const 65532) (i32.const 1) (i32.const 8))", 21),
        ("(call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 65533))", 21),
        ("(call $write (i32.const 1) (i32.const 0) (i32.const 100000) (i32.const 8))", 28),
        ("(call $write (i32.const 99) (i32.const 0) (i32.const 1) (i32.const 8))", 8),
        ("(call $write (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))", 8),
        ("(call $write (i32.const -1) (i32.const 0) (i32.const 1) (i32.const 8))", 8),
    ] {
        let ended = job(start(&format!("(call $exit {call})"))).vote().await;
        assert_eq!(ended.outcome, Outcome::Exited(errno), "{call}");
    }
}

#[tokio::test]
async fn results_and_output_of_a_failed_run_are_kept() {
    let ended = probe(&["write=/out/kept", "exit"]).vote().await;
    assert_eq!(ended.outcome, Outcome::Exited(7));
    assert_eq!(ended.results["out/kept"], b"written\n");
}

#[tokio::test]
async fn import_modules_share_one_instance_after_initialize() {
    let counter = r#"(module
        (global $count (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $count (i32.const 40)))
        (func (export "next") (result i32)
            (global.set $count (i32.add (global.get $count) (i32.const 1))) (global.get $count)))"#;
    let twice = r#"(module
        (import "counter" "next" (func $next (result i32)))
        (func (export "twice") (result i32) (drop (call $next)) (call $next)))"#;
    let entry = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "twice" "twice" (func $twice (result i32)))
        (import "counter" "next" (func $next (result i32)))
        (memory (export "memory") 1)
        (func (export "_start") (drop (call $twice)) (call $exit (call $next))))"#;
    // Named so that neither the given nor the alphabetical order would do.
    let job = job(entry).import("twice", twice).import("counter", counter);
    assert_eq!(job.check().await, Ok(()));
    assert_eq!(job.vote().await.outcome, Outcome::Exited(43));
}

/// A library that recurses as deep as it is told, then throws; a program that recurses itself and catches that.
#[tokio::test]
async fn modules_of_one_run_share_stack_and_fuel_and_exceptions() {
    let library = r#"(module
        (tag $tag (export "tag") (param i32))
        (func $deep (export "deep") (param i32)
            (if (i32.eqz (local.get 0)) (then (throw $tag (i32.const 5))))
            (call $deep (i32.sub (local.get 0) (i32.const 1)))))"#;
    let entry = |own: u32, its: u32| {
        format!(
            r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "library" "tag" (tag $tag (param i32)))
            (import "library" "deep" (func $deep (param i32)))
            (memory (export "memory") 1)
            (func $own (param i32)
                (if (local.get 0) (then (call $own (i32.sub (local.get 0) (i32.const 1)))) (else (call $deep (i32.const {its})))))
            (func (export "_start") (local i32)
                (loop (local.set 0 (i32.add (local.get 0) (block $c (result i32)
                    (try_table (catch $tag $c) (call $own (i32.const {own}))) (unreachable))))
                    (br_if 0 (i32.lt_u (local.get 0) (i32.const 50))))
                (call $exit (local.get 0))))"#
        )
    };
    for (own, its, outcome) in [
        (3_000, 10, Outcome::Exited(50)),
        (10, 3_000, Outcome::Exited(50)),
        (3_000, 3_000, Outcome::Trapped(Trap::StackExhausted)),
    ] {
        let job = job(entry(own, its)).import("library", library);
        assert_eq!(job.vote().await.outcome, outcome, "{own} {its}");
    }
    let job = job(entry(3_000, 10)).import("library", library).limits(|limits| limits.fuel = 100_000);
    assert_eq!(job.vote().await.outcome, Outcome::Trapped(Trap::OutOfFuel));
}

#[tokio::test]
async fn a_program_that_does_not_end_is_stopped_by_its_timeout_without_a_vote() {
    for body in [
        "(loop (br 0))",
        "(drop (memory.grow (i32.const 1000)))
         (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536000)) (br 0))",
        "(loop (table.fill (i32.const 0) (ref.null func) (i32.const 2)) (br 0))",
        "(loop $l (try_table (catch_all $l) (throw $tag)))",
        "(loop (drop (call $write (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 8))) (br 0))",
    ] {
        let module = start(body).replace("(memory ", "(tag $tag) (memory ");
        let mut endless = job(module).limits(|limits| (limits.fuel, limits.memory_bytes) = (u64::MAX / 2, 128 << 20));
        endless.timeout = Duration::from_millis(50);
        assert!(matches!(endless.run().await, Err(RunError::TimedOut(_))), "{body}");
    }
}

#[tokio::test]
async fn cancelling_one_run_leaves_the_others_alone() {
    let executor = WasmExecutor::new(WasmConfig::default()).unwrap();
    let endless = job(start("(loop (br 0))")).limits(|limits| limits.fuel = u64::MAX / 2);
    let cancel = endless.cancel.clone();
    let long = job(start(
        "(local i32) (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 100000000))))",
    ));
    let (cancelled, ended, ()) =
        tokio::join!(endless.run_on(&executor), long.run_on(&executor), async { cancel.cancel() });
    assert!(matches!(cancelled, Err(RunError::Cancelled)), "{cancelled:?}");
    assert_eq!(ended.unwrap().outcome, Outcome::Exited(0));
}

#[tokio::test]
async fn what_cannot_run_is_refused_at_submit_with_its_name() {
    let unknown = r#"(module (import "env" "magic" (func)) (import "wasi_snapshot_preview1" "fd_fly" (func))
        (func (export "_start")))"#;
    let wrong = r#"(module (import "wasi_snapshot_preview1" "fd_close" (func (param i64) (result i32)))
        (func (export "_start")))"#;
    for (module, words) in [
        (unknown, &["env.magic", "wasi_snapshot_preview1.fd_fly"][..]),
        (wrong, &["wasi_snapshot_preview1.fd_close as function (i64) -> (i32)", "it is function (i32) -> (i32)"]),
        (r#"(module (func (export "main")))"#, &["_start", "main"]),
        (r#"(module (func (export "_start") (param i32)))"#, &["_start", "function (i32) -> ()"]),
        (r#"(module (func (export "main") (param i32)))"#, &["_start", "none such"]),
        (r#"(module (memory 1 1 shared) (func (export "_start")))"#, &["shared memory", "without threads"]),
        (r#"(component)"#, &["component", "wasi:cli/run"]),
        (r#"(module (memory i64 1) (func (export "_start")))"#, &["not a WebAssembly module"]),
    ] {
        let refused = job(module).check().await.unwrap_err();
        assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
    }
    let mut text = job(r#"(module (func (export "_start")))"#);
    text.wasm().module = text.blobs.add(b"(module)".to_vec());
    assert!(text.check().await.unwrap_err().contains("text"));
    text.wasm().module = text.blobs.add(b"#!/bin/sh".to_vec());
    assert!(text.check().await.unwrap_err().contains("not a WebAssembly module"));
}

#[tokio::test]
async fn real_programs_pass_the_check() {
    for module in [PROBE, PROBE_C] {
        assert_eq!(job(module).check().await, Ok(()));
    }
}

#[tokio::test]
async fn import_modules_in_a_circle_are_refused() {
    let module = |other: &str| format!(r#"(module (import "{other}" "f" (func)) (func (export "f")))"#);
    let job = job(r#"(module (func (export "_start")))"#).import("a", module("b")).import("b", module("a"));
    assert!(job.check().await.unwrap_err().contains("circle"));
}

#[tokio::test]
async fn a_module_with_too_many_functions_is_refused_before_it_is_compiled() {
    let bomb = job(functions(700_001));
    assert!(bomb.check().await.unwrap_err().contains("functions"));
    assert_eq!(bomb.vote().await.outcome, Outcome::Trapped(Trap::Instantiation));
}

fn compiled(cache: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect()
}

#[tokio::test]
async fn compiled_modules_are_kept_on_disk_and_an_altered_one_is_compiled_again() {
    let cache = tempfile::tempdir().unwrap();
    let config = WasmConfig { cache_dir: Some(cache.path().to_owned()), ..WasmConfig::default() };
    let run = async |blobs: bool| -> Result<Ended, RunError> {
        let mut job = job(start("(call $exit (i32.const 5))"));
        if !blobs {
            job.blobs.0.clear();
        }
        job.run_on(&WasmExecutor::new(config.clone()).unwrap()).await
    };
    run(true).await.unwrap();
    let [file] = &compiled(cache.path())[..] else { panic!("one file") };
    assert_eq!(run(false).await.unwrap().outcome, Outcome::Exited(5), "from disk, without its blob");
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
    assert!(matches!(run(false).await, Err(RunError::InputMissing(_))), "altered code is not run");
    assert_eq!(run(true).await.unwrap().outcome, Outcome::Exited(5));
    assert_eq!(run(false).await.unwrap().outcome, Outcome::Exited(5));
}
