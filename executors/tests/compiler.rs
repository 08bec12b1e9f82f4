//! Compiling in a process of its own: it works, it is bounded, and it ends when nobody wants it.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_executors::wasm::compiler::{CompileLimits, Compiler};
use shoal_executors::{Blobs, Executor, RunError, Task, WasmConfig, WasmExecutor};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::Outcome;
use support::{Job, Memory, around, command, compile_bomb, compiler, exits, functions, job};
use tokio_util::sync::CancellationToken;

fn executor(cache: &Path, compiler: Compiler) -> WasmExecutor {
    let config = WasmConfig { cache_dir: Some(cache.into()), compiler: Some(compiler), ..WasmConfig::default() };
    WasmExecutor::new(config).unwrap()
}

#[tokio::test]
async fn a_module_compiled_by_a_child_runs_and_is_kept() {
    let cache = tempfile::tempdir().unwrap();
    let ended = job(exits(5)).run_on(&executor(cache.path(), compiler())).await.unwrap();
    assert_eq!(ended.outcome, Outcome::Exited(5));
    let mut again = job(exits(5));
    again.blobs = Memory::default();
    let ended = again.run_on(&executor(cache.path(), compiler())).await.unwrap();
    assert_eq!(ended.outcome, Outcome::Exited(5), "from disk, without its blob");
}

#[tokio::test]
async fn a_component_is_compiled_and_kept_in_the_same_way() {
    let cache = tempfile::tempdir().unwrap();
    let component = command("(i32.const 1)");
    let ended = job(&component).run_on(&executor(cache.path(), compiler())).await.unwrap();
    assert_eq!(ended.outcome, Outcome::Exited(1));
    let mut again = job(&component);
    again.blobs = Memory::default();
    let ended = again.run_on(&executor(cache.path(), compiler())).await.unwrap();
    assert_eq!(ended.outcome, Outcome::Exited(1), "from disk, without its blob");
}

#[tokio::test]
async fn a_module_beyond_a_limit_of_the_child_is_declined_with_the_limit() {
    let usual = CompileLimits::default();
    for (module, limits, words) in [
        (compile_bomb(), CompileLimits { memory_bytes: 48 << 20, ..usual }, "more than 48 MiB of memory"),
        (compile_bomb(), CompileLimits { cpu_seconds: 1, ..usual }, "more than 1 s of processor time"),
        (around(&compile_bomb()), CompileLimits { memory_bytes: 48 << 20, ..usual }, "more than 48 MiB of memory"),
        (around(&compile_bomb()), CompileLimits { cpu_seconds: 1, ..usual }, "more than 1 s of processor time"),
        (compile_bomb(), CompileLimits { wall: Duration::from_millis(100), ..usual }, "took more than"),
        (functions(5_000), CompileLimits { code_bytes: 64 << 10, ..usual }, "machine code"),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let executor = executor(cache.path(), Compiler { limits, ..compiler() });
        let declined = job(module).run_on(&executor).await;
        assert!(matches!(&declined, Err(RunError::Declined(why)) if why.contains(words)), "{words}: {declined:?}");
    }
}

#[tokio::test]
async fn a_small_module_does_not_wait_behind_a_compile_bomb() {
    let cache = tempfile::tempdir().unwrap();
    let executor = executor(cache.path(), compiler());
    let bomb = job(compile_bomb());
    let cancel = bomb.cancel.clone();
    let small = async {
        let ended = job(exits(3)).run_on(&executor).await;
        cancel.cancel();
        ended
    };
    let (bomb, small) = tokio::join!(bomb.run_on(&executor), small);
    assert_eq!(small.unwrap().outcome, Outcome::Exited(3));
    assert!(matches!(bomb, Err(RunError::Cancelled)), "{bomb:?}");
}

#[tokio::test]
async fn a_refused_module_is_not_tried_again_at_once() {
    let cache = tempfile::tempdir().unwrap();
    let limits = CompileLimits { code_bytes: 64 << 10, ..CompileLimits::default() };
    let executor = executor(cache.path(), Compiler { limits, ..compiler() });
    let declined = job(functions(5_000)).run_on(&executor).await;
    assert!(matches!(declined, Err(RunError::Declined(_))), "{declined:?}");
    let mut again = job(functions(5_000));
    again.blobs = Memory::default();
    assert!(matches!(again.run_on(&executor).await, Err(RunError::Declined(_))), "without its blob");
}

#[tokio::test]
async fn a_compiler_that_is_missing_or_something_else_is_a_failure_of_the_machine() {
    for program in ["/nonexistent/compiler", "/bin/false", "/bin/true"] {
        let cache = tempfile::tempdir().unwrap();
        let executor = executor(cache.path(), Compiler { program: program.into(), ..compiler() });
        let failed = job(exits(0)).run_on(&executor).await;
        assert!(matches!(failed, Err(RunError::HostFailed(_))), "{program}: {failed:?}");
    }
}

/// A compiler that never ends, and says who it is.
fn endless(folder: &Path) -> Compiler {
    let script = format!("echo $$ >{0}/new; mv {0}/new {0}/pid; exec sleep 1000", folder.display());
    Compiler {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        limits: CompileLimits::default(),
    }
}

/// Waits for the endless compiler to have started, and returns its process id.
async fn started(folder: &Path) -> u32 {
    loop {
        if let Ok(pid) = std::fs::read_to_string(folder.join("pid")) {
            return pid.trim().parse().unwrap();
        }
        tokio::task::yield_now().await;
    }
}

/// Waits for a process to be gone.
async fn gone(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    while rustix::process::test_kill_process(pid).is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_child_lives_as_long_as_one_job_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let executor = executor(folder.path(), endless(folder.path()));
    let (first, second) = (job(exits(0)), job(exits(0)));
    let (cancel_first, cancel_second) = (first.cancel.clone(), second.cancel.clone());
    let both = async { tokio::join!(first.run_on(&executor), second.run_on(&executor)) };
    let watch = async {
        let pid = started(folder.path()).await;
        cancel_first.cancel();
        std::fs::remove_file(folder.path().join("pid")).unwrap();
        // Work of our own goes on in between: had the child been started anew, it would say so.
        let quick = job(exits(3)).run().await.unwrap();
        assert_eq!(quick.outcome, Outcome::Exited(3));
        assert!(!folder.path().join("pid").exists());
        cancel_second.cancel();
        gone(pid).await;
    };
    let ((first, second), ()) = tokio::join!(both, watch);
    assert!(matches!(first, Err(RunError::Cancelled)) && matches!(second, Err(RunError::Cancelled)));
}

#[test]
fn the_child_ends_when_its_parent_closes_the_pipe() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let module = compile_bomb();
    let mut child = Command::new(compiler().program)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    for number in [1 << 32, 600, 1 << 30, module.len() as u64] {
        pipe.write_all(&u64::to_le_bytes(number)).unwrap();
    }
    pipe.write_all(&module).unwrap();
    drop(pipe);
    assert_eq!(child.wait().unwrap().code(), Some(1), "compiling takes much longer than noticing");
}

#[tokio::test]
async fn modules_beyond_the_bound_of_memory_are_forgotten_and_the_last_used_is_kept() {
    let config = WasmConfig { memory_bytes: 1, ..WasmConfig::default() };
    let executor = WasmExecutor::new(config).unwrap();
    let without_its_blob = |code| {
        let mut job = job(exits(code));
        job.blobs = Memory::default();
        job.run_on(&executor)
    };
    for code in [1, 2] {
        assert_eq!(job(exits(code)).run_on(&executor).await.unwrap().outcome, Outcome::Exited(code));
        assert_eq!(without_its_blob(code).await.unwrap().outcome, Outcome::Exited(code));
    }
    assert!(matches!(without_its_blob(1).await, Err(RunError::InputMissing(_))));
}

/// Blobs that count how often they are read.
struct Counting(Memory, AtomicUsize);

#[async_trait]
impl Blobs for Counting {
    async fn read(&self, hash: BlobHash, max_bytes: u64) -> std::io::Result<Bytes> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.read(hash, max_bytes).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_arrive_together_read_and_compile_their_module_once() {
    let cache = tempfile::tempdir().unwrap();
    let log = cache.path().join("log");
    let counted = format!("echo started >>{}; exec {}", log.display(), compiler().program.display());
    let arguments = vec!["-c".into(), counted.into()];
    let executor = executor(cache.path(), Compiler { program: "/bin/sh".into(), arguments, ..compiler() });
    let Job { blobs, invocation, timeout, .. } = job(exits(5));
    let blobs = Counting(blobs, AtomicUsize::new(0));
    let folders: Vec<_> = (0..8).map(|_| tempfile::tempdir().unwrap()).collect();
    let runs = folders.iter().map(|folder| {
        let (invocation, work_dir): (_, PathBuf) = (invocation.clone(), folder.path().into());
        executor.run(
            Task { invocation, inputs: vec![], work_dir, timeout, trace: None, stage: Default::default() },
            &blobs,
            CancellationToken::new(),
        )
    });
    for finished in futures_util::future::join_all(runs).await {
        assert_eq!(finished.unwrap().outcome, Outcome::Exited(5));
    }
    assert_eq!(blobs.1.load(Ordering::SeqCst), 1);
    assert_eq!(std::fs::read_to_string(log).unwrap().lines().count(), 1);
}
