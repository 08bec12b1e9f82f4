//! WASI preview 2: components see the same world as modules do.

mod support;

use std::time::Duration;

use shoal_executors::{RunError, WasmConfig, WasmExecutor};
use shoal_protocol::task::{Outcome, Trap};
use support::{Ended, Job, every_call, job};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

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

/// A component around the body of its `run`, which returns 0 for success.
fn command(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m (memory 1) (func $f (result i32) {body}) (export "run" (func $f)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $x (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $x)))"#
    );
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn components_end_as_modules_do() {
    for (body, outcome) in [
        ("(i32.const 0)", Outcome::Exited(0)),
        ("(i32.const 1)", Outcome::Exited(1)),
        ("unreachable", Outcome::Trapped(Trap::Unreachable)),
        ("(loop (br 0)) (i32.const 0)", Outcome::Trapped(Trap::OutOfFuel)),
        ("(i32.load (i32.const 65536))", Outcome::Trapped(Trap::OutOfBounds)),
        ("(i32.eq (memory.grow (i32.const 1023)) (i32.const -1))", Outcome::Exited(0)),
        ("(i32.eq (memory.grow (i32.const 1024)) (i32.const -1))", Outcome::Exited(1)),
    ] {
        let ended = job(command(body)).limits(|limits| limits.fuel = 1_000_000).vote().await;
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

#[tokio::test]
async fn a_component_that_does_not_end_is_stopped() {
    let mut endless = job(command("(loop (br 0)) (i32.const 0)")).limits(|limits| limits.fuel = u64::MAX / 2);
    endless.timeout = Duration::from_millis(50);
    assert!(matches!(endless.run().await, Err(RunError::TimedOut(_))));
}

/// A component that imports all of a world, and whose functions trap.
fn dummy(world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wit")).unwrap();
    let package = resolve.push_str("world.wit", &format!("package shoal:dummy; world dummy {{ {world} }}")).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
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
