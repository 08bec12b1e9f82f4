//! A probe for every channel through which a host could leak into a result: each shows the leak under an engine or a
//! file system as they come, and that nothing of it passes here.
//!
//! Whoever changes the engine, its version or its settings runs these first.

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use shoal_executors::{RunError, WasmConfig, WasmExecutor};
use shoal_protocol::task::{Outcome, Trap};
use support::{Job, binary, command, job};
use wasmtime::{Config, Engine, Instance, Module, Store, StoreLimitsBuilder};

const REPORT: &[u8] = include_bytes!("guests/report.wasm");
const REPORT_COMPONENT: &[u8] = include_bytes!("guests/report-component.wasm");
/// Makes a run of this binary print the report of its host state.
const CHILD: &str = "SHOAL_PROBE_CHILD";

/// A module that exits with what `body` leaves: an i32. It has a page of zeros and a function that recurses.
fn exits(body: &str) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1) (table 1 funcref) {HELPERS}
            (func $value (export "value") (result i32) {body})
            (func (export "_start") (call $exit (call $value))))"#
    )
}

/// How deep a recursion goes can be seen in a global.
const HELPERS: &str = r#"(global $depth (export "depth") (mut i32) (i32.const 0))
    (func $deeper (param i64 i64) (result i64) (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
        (i64.add (local.get 0) (call $deeper (i64.mul (local.get 1) (i64.const 3)) (local.get 0))))"#;

async fn sealed(body: &str) -> Outcome {
    job(exits(body)).vote().await.outcome
}

/// The value of `body` and the depth of its recursion, in wasmtime as `config` says.
fn plain(config: &Config, body: &str) -> (Option<i32>, i32) {
    let engine = Engine::new(config).unwrap();
    let module = exits(body).replace(
        r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#,
        "(func $exit (param i32))",
    );
    let module = Module::new(&engine, binary(module.as_bytes())).unwrap();
    let mut store = Store::new(&engine, StoreLimitsBuilder::new().memory_size(5 << 16).build());
    store.limiter(|limits| limits);
    store.set_epoch_deadline(1);
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let value = instance.get_typed_func::<(), i32>(&mut store, "value").unwrap().call(&mut store, ()).ok();
    let depth = instance.get_global(&mut store, "depth").unwrap().get(&mut store).unwrap_i32();
    (value, depth)
}

#[tokio::test]
async fn nan_bits() {
    let canonical = 0x7fc0_0000;
    let with_payload = "(i32.reinterpret_f32 (f32.add (f32.reinterpret_i32 (i32.or (i32.load (i32.const 0))
        (i32.const 0x7fe00001))) (f32.const 1)))";
    let of_zeros = "(i32.reinterpret_f32 (f32.div (f32.load (i32.const 0)) (f32.load (i32.const 0))))";
    assert_ne!(plain(&Config::new(), with_payload).0, Some(canonical), "the payload passes");
    if cfg!(target_arch = "x86_64") {
        assert_ne!(plain(&Config::new(), of_zeros).0, Some(canonical), "the sign is the machine's");
    }
    for body in [with_payload, of_zeros] {
        assert_eq!(sealed(body).await, Outcome::Exited(canonical), "{body}");
        let component = command(&format!("(i32.ne {body} (i32.const {canonical}))"));
        assert_eq!(job(component).vote().await.outcome, Outcome::Exited(0), "{body}");
    }
}

#[tokio::test]
async fn features_whose_results_depend_on_the_machine() {
    let relaxed = r#"(module (func (export "_start") (drop (f32x4.relaxed_madd
        (v128.const i64x2 0 0) (v128.const i64x2 0 0) (v128.const i64x2 0 0)))))"#;
    let shared = r#"(module (memory 1 1 shared) (func (export "_start")))"#;
    let garbage_collected = r#"(module (type (array i8)) (func (export "_start")))"#;
    let mut config = Config::new();
    config.wasm_relaxed_simd(true).wasm_threads(true).shared_memory(true).wasm_gc(true).wasm_function_references(true);
    let open = Engine::new(&config).unwrap();
    for module in [relaxed, shared, garbage_collected] {
        assert!(Module::new(&open, binary(module.as_bytes())).is_ok(), "plain wasmtime takes {module}");
        assert!(job(module).check().await.is_err(), "{module}");
        assert_eq!(job(module).vote().await.outcome, Outcome::Trapped(Trap::Instantiation), "{module}");
    }
}

#[tokio::test]
async fn stack_depth() {
    let recursion = "(drop (call $deeper (i64.const 1) (i64.const 2))) (i32.const 0)";
    let (mut one, mut other) = (Config::new(), Config::new());
    one.max_wasm_stack(512 << 10);
    other.max_wasm_stack(512 << 10).epoch_interruption(true);
    assert_ne!(
        plain(&one, recursion).1,
        plain(&other, recursion).1,
        "the compiler and its settings decide how deep a recursion goes"
    );
    let component = job(command("(i32.wrap_i64 (call $deeper (i64.const 1)))")).vote().await;
    assert_eq!(component.outcome, Outcome::Trapped(Trap::StackExhausted));
    match job(exits(recursion)).run().await {
        Ok(ended) => assert!(matches!(ended.outcome, Outcome::Trapped(_)), "{:?}", ended.outcome),
        Err(failed) => assert!(matches!(&failed, RunError::HostFailed(why) if why.contains("stack")), "{failed:?}"),
    }
}

#[tokio::test]
async fn memory_growth() {
    // Pages until the first refusal.
    let grows = "(local $pages i32)
        (loop (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1))
            (then (local.set $pages (i32.add (local.get $pages) (i32.const 1))) (br 1))))
        (local.get $pages)";
    assert_eq!(plain(&Config::new(), grows).0, Some(4), "where the host has five pages");
    for (pages, grown) in [(1, 0), (100, 99), (1_000, 999)] {
        let ended = job(exits(grows)).limits(|limits| limits.memory_bytes = pages << 16).vote().await;
        assert_eq!(ended.outcome, Outcome::Exited(grown));
    }
    let tables = "(i32.eq (table.grow (ref.null func) (i32.const 3999999)) (i32.const 1))";
    assert_eq!(sealed(tables).await, Outcome::Exited(1));
    let too_many = "(i32.eq (table.grow (ref.null func) (i32.const 4000000)) (i32.const -1))";
    assert_eq!(sealed(too_many).await, Outcome::Exited(1));
}

/// Prints a byte again and again until its fuel is used up.
const PRINTS: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (i32.store (i32.const 4) (i32.const 1))
        (loop (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))))"#;

#[tokio::test]
async fn fuel() {
    let (one, other) =
        (WasmExecutor::new(WasmConfig::default()).unwrap(), WasmExecutor::new(WasmConfig::default()).unwrap());
    let mut lengths = BTreeSet::new();
    // A cold executor, a warm one, another.
    for executor in [&one, &one, &other] {
        let ended = job(PRINTS).limits(|limits| limits.fuel = 1_000_000).run_on(executor).await.unwrap();
        assert_eq!(ended.outcome, Outcome::Trapped(Trap::OutOfFuel));
        lengths.insert(ended.stdout.len());
    }
    assert_eq!(lengths.len(), 1, "{lengths:?}");
    let mut used = BTreeSet::new();
    for executor in [&one, &one, &other] {
        let work = tempfile::tempdir().unwrap();
        let counted = "(local i32) (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000)))) (i32.const 7)";
        used.insert(job(exits(counted)).run_in(executor, work.path()).await.unwrap().fuel_used);
    }
    assert_eq!(used.len(), 1, "{used:?}");
}

#[tokio::test]
async fn memory_of_former_runs() {
    let executor = WasmExecutor::new(WasmConfig::default()).unwrap();
    let writes = "(memory.fill (i32.const 0) (i32.const 255) (i32.const 65536)) (i32.const 0)";
    let looks = "(i32.or (i32.load (i32.const 0)) (i32.load (i32.const 65532)))";
    for _ in 0..3 {
        assert_eq!(job(exits(writes)).run_on(&executor).await.unwrap().outcome, Outcome::Exited(0));
        assert_eq!(job(exits(looks)).run_on(&executor).await.unwrap().outcome, Outcome::Exited(0));
    }
}

/// Folders with the same files, made in different order, at different times, with other rights and second names.
fn folders() -> (tempfile::TempDir, tempfile::TempDir) {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for index in 0..50 {
        make(one.path(), index, 0o600, 1_000);
        make(other.path(), 49 - index, 0o644, 2_000_000_000);
    }
    // A second name outside the input is a link more, and a removed file leaves a larger directory.
    std::fs::hard_link(other.path().join("file-7"), other.path().with_extension("linked")).unwrap();
    std::fs::remove_file(other.path().with_extension("linked")).unwrap();
    std::fs::hard_link(other.path().join("file-8"), other.path().join("again")).unwrap();
    std::fs::hard_link(one.path().join("file-8"), one.path().join("again")).unwrap();
    std::fs::hard_link(one.path().join("file-9"), one.path().join("folder-9/again")).unwrap();
    std::fs::write(other.path().join("folder-9/again"), "content 9").unwrap();
    (one, other)
}

fn make(folder: &Path, index: u64, mode: u32, seconds: u64) {
    let path = folder.join(format!("file-{index}"));
    std::fs::create_dir(folder.join(format!("folder-{index}"))).unwrap();
    std::fs::write(&path, format!("content {index}")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds + index);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
}

/// What the host says of a folder's entries, in its order.
fn host_says(folder: &Path) -> Vec<(std::ffi::OsString, u64, u64, i64, u32)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        (entry.file_name(), metadata.ino(), metadata.nlink(), metadata.mtime(), metadata.mode())
    });
    entries.collect()
}

fn report(program: &[u8], folder: &Path) -> Job {
    job(program).arguments(&["-x"]).environment("GIVEN", "yes").input("/in", folder)
}

#[tokio::test]
async fn directory_order_inodes_links_times_modes_and_sizes() {
    let (one, other) = folders();
    let differing = host_says(one.path()).into_iter().zip(host_says(other.path())).filter(|(one, other)| one != other);
    assert!(differing.count() > 25, "the host tells the folders apart");
    for program in [REPORT, REPORT_COMPONENT] {
        let (one, other) = (report(program, one.path()).vote().await, report(program, other.path()).vote().await);
        assert_eq!((one.outcome, one.stderr.as_str()), (Outcome::Exited(0), ""));
        assert!(one.stdout.contains("/in/folder-9/again"), "{}", one.stdout);
        assert_eq!(one, other);
    }
}

#[tokio::test]
async fn clocks_sleep_chance_terminals_and_environment() {
    let folder = tempfile::tempdir().unwrap();
    for (program, expected) in [
        (REPORT, "real 1735689600.000001000 monotonic 1.000002000 resolution 0.000001000 slept 101.000003000"),
        (
            REPORT_COMPONENT,
            "real 1735689600.000001000 monotonic 1.000002000 resolution 0.000001000 slept 101.000003000",
        ),
    ] {
        let ended = report(program, folder.path()).vote().await;
        let lines: Vec<_> = ended.stdout.lines().map(str::trim).collect();
        assert_eq!(&lines[..4], &["argument main.wasm", "argument -x", "environment GIVEN=yes", expected]);
        assert_eq!(lines[4], "local Wed Jan  1 00:01:40 2025 UTC locale C.UTF-8;C;C;C;C;C number 1234.50");
        assert!(lines[6].starts_with("terminals 000 poll 1"), "{}", lines[6]);
        let other = report(program, folder.path()).environment("OTHER", "1").vote().await;
        assert_ne!(lines[5], other.stdout.lines().nth(6).unwrap(), "chance is the invocation's");
    }
}

/// One line for each program: the hash of all that it printed.
#[tokio::test]
async fn child_report() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let (one, _) = folders();
    for program in [REPORT, REPORT_COMPONENT] {
        let ended = report(program, one.path()).vote().await;
        println!("REPORT {} {:?}", blake3::hash(ended.stdout.as_bytes()).to_hex(), ended.outcome);
    }
}

/// The child's report under another host state: a shell's preparation, and variables.
fn under(preparation: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let exe = std::env::current_exe().unwrap();
    let script = format!("{preparation} exec \"$0\" --exact child_report --nocapture");
    let output =
        Command::new("sh").arg("-c").arg(script).arg(exe).env(CHILD, "1").envs(variables.iter().copied()).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let reports: Vec<_> =
        text.lines().filter_map(|line| line.split_once("REPORT ")).map(|(_, hash)| hash.to_owned()).collect();
    assert_eq!(reports.len(), 2, "{preparation}: {text} {}", String::from_utf8_lossy(&output.stderr));
    reports
}

#[test]
fn time_zone_locale_umask_working_folder_and_limits_of_the_host() {
    let expected = under("", &[]);
    for (preparation, variables) in [
        ("", &[("TZ", "Asia/Tokyo"), ("LC_ALL", "de_DE.UTF-8"), ("LANG", "ja_JP.UTF-8"), ("HOME", "/nowhere")][..]),
        ("umask 077;", &[]),
        ("umask 000; cd /;", &[("RUST_LOG", "trace"), ("HOSTNAME", "another")]),
        ("ulimit -n 256;", &[]),
        ("exec 0</dev/null;", &[]),
    ] {
        assert_eq!(under(preparation, variables), expected, "{preparation} {variables:?}");
    }
}

#[test]
fn a_host_without_memory_is_no_vote() {
    let exe = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 600000; exec \"$0\" --exact child_report --nocapture"])
        .arg(exe)
        .env(CHILD, "1")
        .output();
    let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
    // Either it has enough after all, or there is no outcome.
    let reports: Vec<_> =
        text.lines().filter_map(|line| line.split_once("REPORT ")).map(|(_, hash)| hash.to_owned()).collect();
    assert!(under("", &[]).starts_with(&reports), "{text}");
}
