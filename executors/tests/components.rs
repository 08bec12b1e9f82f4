//! WASI preview 2: components see the same world as modules do.

mod support;

use std::time::{Duration, Instant};

use shoal_executors::{RunError, WasmConfig, WasmExecutor};
use shoal_protocol::task::{Outcome, Trap};
use support::{Ended, Job, command, every_call, job};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve, WorldId};

/// `files.wasm` with the usual adapter around it, so that preview 1 is told in terms of preview 2.
const FILES: &[u8] = include_bytes!("guests/files-component.wasm");

fn input_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "content of file\n").unwrap();
    std::fs::create_dir(folder.path().join("below")).unwrap();
    std::fs::write(folder.path().join("below/deep"), "deep").unwrap();
    folder
}

/// `probe.wasm` in the same way.
const PROBE: &[u8] = include_bytes!("guests/probe-component.wasm");
const PROBE_MODULE: &[u8] = include_bytes!("guests/probe.wasm");

async fn chapter(job: Job, names: &[&str]) -> Ended {
    let ended = job.arguments(names).result("out", "/out").vote().await;
    assert_eq!((ended.outcome, ended.stderr.as_str()), (Outcome::Exited(0), ""), "{}", ended.stdout);
    ended
}

#[tokio::test]
async fn a_component_does_with_files_what_a_module_does() {
    let folder = input_folder();
    let job = job(FILES).input("/in", folder.path());
    assert_eq!(job.check().await, Ok(()));
    let ended = chapter(job, &["writing", "names", "inputs", "links", "folders", "streams"]).await;
    assert_eq!(ended.results["out/dir/hard"], b"both");
}

#[tokio::test]
async fn a_component_sees_the_same_files_arguments_and_virtual_time_as_a_module() {
    let folder = input_folder();
    let run = async |program: &[u8]| {
        let job = job(program).arguments(&["arguments", "environment", "list=/in", "sleep", "edit", "escape", "exit"]);
        job.environment("KEY", "a=b").input("/in", folder.path()).result("out", "/out").vote().await
    };
    let (component, module) = (run(PROBE).await, run(PROBE_MODULE).await);
    // The adapter tells an exit code by whether it is 0, and asks the clock once more.
    assert_eq!((component.outcome, module.outcome), (Outcome::Exited(1), Outcome::Exited(7)));
    assert_eq!(component.stdout, module.stdout);
    assert_eq!(component.results, module.results);
}

#[tokio::test]
async fn a_components_randomness_is_the_invocations_and_its_calls_are_digested() {
    let (executor, mut ended) = (WasmExecutor::new(WasmConfig::default()).unwrap(), Vec::new());
    for seed in ["one", "one", "two"] {
        let work = tempfile::tempdir().unwrap();
        let mut job = job(PROBE).arguments(&["random", "clock"]).environment("SEED", seed);
        job.trace = Some(every_call(2, Some(0)));
        let finished = job.run_in(&executor, work.path()).await.unwrap();
        ended.push((std::fs::read(finished.outputs.stdout.unwrap()).unwrap(), finished.calls, finished.trace.unwrap()));
    }
    assert_eq!(ended[0], ended[1]);
    assert!(ended[0].0 != ended[2].0 && ended[0].1.digest != ended[2].1.digest);
    let [one, .., other] = &ended[..] else { unreachable!("three runs") };
    assert_eq!(one.2.calls.len(), 2);
    assert!(one.2.calls.iter().zip(&other.2.calls).all(|(one, other)| one != other), "the first call tells the seed");
    let description = r#"wasi:cli/environment.get-environment() 1 "SEED" "one" = 0"#;
    assert_eq!(ended[0].2.call.as_deref(), Some(description));
}

#[tokio::test]
async fn components_end_as_modules_do() {
    for (body, outcome) in [
        ("(i32.const 0)", Outcome::Exited(0)),
        ("(i32.const 1)", Outcome::Exited(1)),
        ("unreachable", Outcome::Trapped(Trap::Unreachable)),
        ("(loop (br 0)) (i32.const 0)", Outcome::Trapped(Trap::OutOfFuel)),
        ("(i32.load (i32.const 65536))", Outcome::Trapped(Trap::OutOfBounds)),
        ("(i32.wrap_i64 (call $deeper (i64.const 1)))", Outcome::Trapped(Trap::StackExhausted)),
        ("(throw $tag)", Outcome::Trapped(Trap::Uncaught)),
        ("(i32.eq (memory.grow (i32.const 1023)) (i32.const -1))", Outcome::Exited(0)),
        ("(i32.eq (memory.grow (i32.const 1024)) (i32.const -1))", Outcome::Exited(1)),
    ] {
        let ended = job(command(body)).limits(|limits| limits.fuel = 10_000_000).vote().await;
        assert_eq!(ended.outcome, outcome, "{body}");
    }
}

#[tokio::test]
async fn a_handle_that_a_component_does_not_have_is_its_own_mistake() {
    let component = r#"(component
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $p (sub resource)))
            (export "[method]pollable.block" (func (param "self" (borrow $p))))))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core module $m
            (import "" "block" (func $block (param i32)))
            (func (export "run") (result i32) (call $block (i32.const 99)) (i32.const 0)))
        (core instance $i (instantiate $m (with "" (instance (export "block" (func $block))))))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $x (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $x)))"#;
    assert_eq!(job(component).vote().await.outcome, Outcome::Trapped(Trap::Other));
}

#[tokio::test]
async fn a_component_beyond_the_profile_is_a_vote() {
    let component = r#"(component (core module (memory i64 1)))"#;
    assert_eq!(job(component).vote().await.outcome, Outcome::Trapped(Trap::Instantiation));
}

/// A component that prints `bytes` bytes, again and again, and whose allocator turns a loop `turns` times.
fn prints(bytes: u32, turns: u64) -> String {
    format!(
        r#"(component
            (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
            (alias export $error "error" (type $error))
            (import "wasi:io/streams@0.2.0" (instance $streams
                (export "output-stream" (type $output (sub resource)))
                (alias outer 1 $error (type $outer-error))
                (export "error" (type $error (eq $outer-error)))
                (type $fault (variant (case "last-operation-failed" (own $error)) (case "closed")))
                (export "stream-error" (type $stream-error (eq $fault)))
                (export "[method]output-stream.blocking-write-and-flush"
                    (func (param "self" (borrow $output)) (param "contents" (list u8))
                        (result (result (error $stream-error)))))))
            (alias export $streams "output-stream" (type $output))
            (import "wasi:cli/stdout@0.2.0" (instance $stdout
                (alias outer 1 $output (type $outer-output))
                (export "output-stream" (type $output (eq $outer-output)))
                (export "get-stdout" (func (result (own $output))))))
            (import "wasi:random/random@0.2.0" (instance $random
                (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
            (core module $libc (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $turn i64)
                    (loop (local.set $turn (i64.add (local.get $turn) (i64.const 1)))
                        (br_if 0 (i64.lt_u (local.get $turn) (i64.const {turns}))))
                    (i32.const 1024)))
            (core instance $libc (instantiate $libc))
            (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
                (memory (core memory $libc "memory"))))
            (core func $stdout (canon lower (func $stdout "get-stdout")))
            (core func $random (canon lower (func $random "get-random-bytes")
                (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
            (core module $m
                (import "host" "write" (func $write (param i32 i32 i32 i32)))
                (import "host" "stdout" (func $stdout (result i32)))
                (import "host" "random" (func $random (param i64 i32)))
                (func (export "run") (result i32) (local $out i32)
                    (local.set $out (call $stdout))
                    (loop
                        (call $random (i64.const 8) (i32.const 512))
                        (call $write (local.get $out) (i32.const 1024) (i32.const {bytes}) (i32.const 0))
                        (br 0))
                    (i32.const 0)))
            (core instance $i (instantiate $m (with "host" (instance
                (export "write" (func $write)) (export "stdout" (func $stdout)) (export "random" (func $random))))))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $x (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $x)))"#
    )
}

#[tokio::test]
async fn the_last_call_that_fuel_is_enough_for_is_the_same_everywhere() {
    let printed = async |fuel, bytes| {
        let ended = job(prints(bytes, 1)).limits(|limits| limits.fuel = fuel).vote().await;
        assert_eq!(ended.outcome, Outcome::Trapped(Trap::OutOfFuel));
        // Random bytes are no text: each that is none was read as one character.
        ended.stdout.chars().count()
    };
    // 100 a call, and a unit for each byte that it moves; little else.
    let few = printed(1_000_000, 1).await;
    assert!((1_000_000 / 300..=1_000_000 / 209).contains(&few), "{few}");
    let many = printed(1_000_000, 30_000).await;
    assert!((900_000..1_000_000).contains(&many), "{many}");
    assert_eq!((few, many), (printed(1_000_000, 1).await, printed(1_000_000, 30_000).await));
}

#[tokio::test]
async fn an_allocator_that_does_not_end_is_stopped_alike_everywhere() {
    let ended = job(prints(1, u64::MAX)).vote().await;
    assert_eq!((ended.outcome, ended.stdout.as_str()), (Outcome::Trapped(Trap::Other), ""));
}

#[tokio::test]
async fn a_component_that_does_not_end_is_stopped() {
    let loops = [
        command("(loop (br 0)) (i32.const 0)"),
        command("(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br 0)) (i32.const 0)"),
        prints(0, 1).into_bytes(),
    ];
    for endless in loops {
        let mut endless = job(endless).limits(|limits| limits.fuel = u64::MAX / 2);
        endless.timeout = Duration::from_millis(50);
        let start = Instant::now();
        assert!(matches!(endless.run().await, Err(RunError::TimedOut(_))));
        // Compiling included, on a busy machine.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn composed_components_are_refused_at_submit_and_a_vote_elsewhere() {
    let composed = job("(component (component (core module)))");
    assert!(composed.check().await.unwrap_err().contains("components inside that have modules of their own"));
    assert_eq!(composed.vote().await.outcome, Outcome::Trapped(Trap::Instantiation));
}

#[tokio::test]
async fn a_component_that_calls_itself_traps() {
    let component = r#"(component
        (core module $shim (table (export "table") 1 funcref)
            (func (export "again") (call_indirect (i32.const 0))))
        (core instance $shim (instantiate $shim))
        (core module $m (import "" "again" (func $again))
            (func (export "run") (result i32) (call $again) (i32.const 0))
            (func (export "again") (call $again)))
        (core instance $i (instantiate $m (with "" (instance $shim))))
        (func $again (canon lift (core func $i "again")))
        (core func $lowered (canon lower (func $again)))
        (core module $fill (import "" "table" (table 1 funcref)) (import "" "again" (func $again))
            (elem (i32.const 0) func $again))
        (core instance (instantiate $fill (with "" (instance
            (export "table" (table $shim "table")) (export "again" (func $lowered))))))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $x (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $x)))"#;
    assert_eq!(job(component).vote().await.outcome, Outcome::Trapped(Trap::Other));
}

/// A component that imports all of a world, and whose functions trap.
fn dummy(world: &str) -> Vec<u8> {
    encoded(world, |resolve, world| dummy_module(resolve, world, ManglingAndAbi::Standard32))
}

/// A component of a world, around a module.
fn encoded(world: &str, module: impl FnOnce(&Resolve, WorldId) -> Vec<u8>) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wit")).unwrap();
    let package = resolve.push_str("world.wit", &format!("package shoal:dummy; world dummy {{ {world} }}")).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = module(&resolve, world);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

#[tokio::test]
async fn what_one_call_hands_over_is_bounded() {
    let world = "import wasi:cli/stdout@0.2.12; export wasi:cli/run@0.2.12;";
    for (bytes, outcome) in [(128 << 20, Outcome::Exited(0)), ((128 << 20) + 1, Outcome::Trapped(Trap::Other))] {
        let module = format!(
            r#"(module
                (import "cm32p2|wasi:cli/stdout@0.2" "get-stdout" (func $stdout (result i32)))
                (import "cm32p2|wasi:io/streams@0.2" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
                (memory (export "cm32p2_memory") 2200)
                (func (export "cm32p2_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export "cm32p2_initialize"))
                (func (export "cm32p2|wasi:cli/run@0.2|run") (result i32)
                    (call $write (call $stdout) (i32.const 64) (i32.const {bytes}) (i32.const 0))
                    ;; There is no room for so much, but it was taken.
                    (i32.eqz (i32.load8_u (i32.const 0)))))"#
        );
        let writes = job(encoded(world, |_, _| wat::parse_str(module).unwrap()));
        assert_eq!(writes.limits(|limits| limits.memory_bytes = 1 << 30).vote().await.outcome, outcome, "{bytes}");
    }
}

#[tokio::test]
async fn every_function_of_every_interface_links() {
    let job = job(dummy("include shoal:test/everything;"));
    assert_eq!(job.check().await, Ok(()));
    // What matters is that its code is reached, which is nothing but a trap.
    assert_eq!(job.vote().await.outcome, Outcome::Trapped(Trap::Unreachable));
}

#[tokio::test]
async fn what_is_not_provided_is_refused_with_its_name() {
    let network =
        "import wasi:sockets/tcp@0.2.3; import wasi:http/outgoing-handler@0.2.0; import wasi:cli/stdin@0.3.0;";
    for (module, words) in [
        (
            component(network),
            &["wasi:sockets/tcp@0.2.3", "wasi:http/outgoing-handler@0.2.0", "wasi:cli/stdin@0.3.0"][..],
        ),
        (component(""), &["wasi:cli/run@0.2", "exports nothing"]),
        (dummy("import wasi:cli/stdin@0.2.12; export wasi:cli/run@0.2.12;").repeat(2), &["not a WebAssembly"]),
    ] {
        let refused = job(module).check().await.unwrap_err();
        assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
    }
    let mut other_entry = job(FILES);
    other_entry.wasm().entry_point = "main".into();
    assert!(other_entry.check().await.unwrap_err().contains("wasi:cli/run@0.2"));
    let library = job(r#"(module (func (export "_start")))"#).import("library", "(component)");
    assert!(library.check().await.unwrap_err().contains("import modules are core modules"));
    assert_eq!(library.vote().await.outcome, Outcome::Trapped(Trap::Instantiation));
}

/// A component that imports empty interfaces.
fn component(imports: &str) -> Vec<u8> {
    let name =
        |import: &str| import.trim().strip_prefix("import ").map(|name| format!("(import \"{name}\" (instance))"));
    let imports: String = imports.split(';').filter_map(name).collect();
    wat::parse_str(format!("(component {imports})")).unwrap()
}
