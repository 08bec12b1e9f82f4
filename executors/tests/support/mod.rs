//! What the tests share: an executor, blobs in memory, and invocations that are written in one line.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_executors::wasm::compiler::{CompileLimits, Compiler};
use shoal_executors::{Blobs, Executor, Finished, PROFILE, RunError, StagedInput, Task, WasmConfig, WasmExecutor};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::{Engine, ImportModule, Invocation, Limits, Outcome, ResultPath, Wasm};
use shoal_protocol::trace::{TraceRequest, Window};
use tokio_util::sync::CancellationToken;

/// Blobs by hash.
#[derive(Default, Clone)]
pub struct Memory(pub BTreeMap<BlobHash, Bytes>);

#[async_trait]
impl Blobs for Memory {
    async fn read(&self, hash: BlobHash, max_bytes: u64) -> io::Result<Bytes> {
        let bytes = self.0.get(&hash).ok_or(io::ErrorKind::NotFound)?;
        if bytes.len() as u64 <= max_bytes { Ok(bytes.clone()) } else { Err(io::ErrorKind::FileTooLarge.into()) }
    }
}

impl Memory {
    pub fn add(&mut self, bytes: Vec<u8>) -> BlobHash {
        let hash = BlobHash::of(&bytes);
        self.0.insert(hash, bytes.into());
        hash
    }
}

/// One job in the making.
#[derive(Clone)]
pub struct Job {
    pub blobs: Memory,
    pub invocation: Invocation,
    pub inputs: Vec<StagedInput>,
    pub timeout: Duration,
    pub trace: Option<TraceRequest>,
    pub cancel: CancellationToken,
}

/// A job of a module in text or binary form.
pub fn job(module: impl AsRef<[u8]>) -> Job {
    let mut blobs = Memory::default();
    let module = blobs.add(binary(module.as_ref()));
    let engine = Engine::Wasm(Wasm {
        profile: PROFILE.into(),
        module,
        imports: vec![],
        entry_point: "_start".into(),
        arguments: vec![],
    });
    let limits = Limits { memory_bytes: 64 << 20, fuel: 20_000_000_000, output_bytes: 64 << 20 };
    let (environment, inputs, result_paths) = (BTreeMap::new(), vec![], vec![]);
    let invocation = Invocation { engine, environment, inputs, unread: Vec::new(), result_paths, limits };
    let (timeout, cancel) = (Duration::from_secs(120), CancellationToken::new());
    Job { blobs, invocation, inputs: vec![], timeout, trace: None, cancel }
}

/// Notes so many calls one by one, and describes one.
pub fn every_call(calls: u16, call: Option<u64>) -> TraceRequest {
    let window = Window::between(0, calls.into(), calls);
    TraceRequest { calls: window, checkpoints: Window::NOWHERE, call, checkpoint: None }
}

pub fn binary(module: &[u8]) -> Vec<u8> {
    wat::parse_bytes(module).expect("a guest assembles").into_owned()
}

/// What came of a job, with its files read.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub outcome: Outcome,
    pub stdout: String,
    pub stderr: String,
    /// Every file and folder (with a final slash) of the result paths, as `name/path`.
    pub results: BTreeMap<String, Vec<u8>>,
}

impl Job {
    pub fn wasm(&mut self) -> &mut Wasm {
        let Engine::Wasm(wasm) = &mut self.invocation.engine else { panic!("the job is a module") };
        wasm
    }

    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.wasm().arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    pub fn environment(mut self, key: &str, value: &str) -> Self {
        self.invocation.environment.insert(key.into(), value.into());
        self
    }

    pub fn import(mut self, name: &str, module: impl AsRef<[u8]>) -> Self {
        let module = self.blobs.add(binary(module.as_ref()));
        self.wasm().imports.push(ImportModule { name: name.into(), module });
        self
    }

    pub fn input(mut self, target: &str, path: impl Into<PathBuf>) -> Self {
        self.inputs.push(StagedInput { target: target.into(), path: path.into(), writable: false });
        self
    }

    pub fn result(mut self, name: &str, path: &str) -> Self {
        self.invocation.result_paths.push(ResultPath { name: name.into(), path: path.into() });
        self
    }

    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.invocation.limits);
        self
    }

    pub async fn check(&self) -> Result<(), String> {
        let executor = WasmExecutor::new(WasmConfig::default()).expect("an executor");
        executor.check(&self.invocation.engine, &self.blobs).await.map_err(|error| error.to_string())
    }

    /// Runs on an executor of its own.
    pub async fn run(self) -> Result<Ended, RunError> {
        let executor = WasmExecutor::new(WasmConfig::default()).expect("an executor");
        self.run_on(&executor).await
    }

    pub async fn run_on(self, executor: &WasmExecutor) -> Result<Ended, RunError> {
        let folder = tempfile::tempdir().expect("a folder");
        let finished = self.run_in(executor, folder.path()).await?;
        Ok(ended(&finished))
    }

    pub async fn run_in(self, executor: &WasmExecutor, folder: &Path) -> Result<Finished, RunError> {
        let (invocation, inputs) = (self.invocation, self.inputs);
        let (work_dir, timeout, trace) = (folder.to_owned(), self.timeout, self.trace);
        let task = Task { invocation, inputs, work_dir, timeout, trace, stage: Default::default() };
        executor.run(task, &self.blobs, self.cancel).await
    }

    /// Runs and expects a vote.
    pub async fn vote(self) -> Ended {
        self.run().await.expect("a vote")
    }
}

pub fn ended(finished: &Finished) -> Ended {
    let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).expect("an output")).into_owned();
    let mut results = BTreeMap::new();
    for (name, path) in &finished.outputs.results {
        read_tree(name, path, &mut results);
    }
    let text = |path: &Option<PathBuf>| path.as_deref().map(text).unwrap_or_default();
    let outputs = &finished.outputs;
    Ended { outcome: finished.outcome, stdout: text(&outputs.stdout), stderr: text(&outputs.stderr), results }
}

/// Every file and folder below `path`, as `name/path`.
pub fn read_tree(name: &str, path: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
    if path.is_file() {
        into.insert(name.to_owned(), std::fs::read(path).expect("a file"));
        return;
    }
    into.insert(format!("{name}/"), Vec::new());
    for entry in std::fs::read_dir(path).expect("a folder") {
        let entry = entry.expect("an entry");
        read_tree(&format!("{name}/{}", entry.file_name().display()), &entry.path(), into);
    }
}

/// Whether an example has a program of its own; those that show where data comes from or goes borrow one.
pub fn has_program(folder: &Path) -> bool {
    let mut files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("an entry").path());
    files.any(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

/// The program that compiles for the tests.
pub fn compiler() -> Compiler {
    let program = env!("CARGO_BIN_EXE_shoal-compile").into();
    Compiler { program, arguments: vec![], limits: CompileLimits::default() }
}

/// A module that exits with a code.
pub fn exits(code: i32) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code}))))"#
    )
}

/// A component around the body of its `run`, which returns 0 for success.
pub fn command(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m (memory 1) (tag $tag)
                (func $deeper (param i64) (result i64) (i64.add (local.get 0) (call $deeper (local.get 0))))
                (func $f (result i32) {body}) (export "run" (func $f)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $x (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $x)))"#
    );
    wat::parse_str(text).expect("a component")
}

/// A component that instantiates a module, and does no more.
pub fn around(module: &[u8]) -> Vec<u8> {
    let mut component = wasm_encoder::ComponentBuilder::default();
    let module = component.core_module_raw(None, module);
    component.core_instantiate(None, module, []);
    component.finish()
}

/// A valid module within the profile's static limits that takes long to compile: as many functions as there may be.
pub fn compile_bomb() -> Vec<u8> {
    functions(700_000)
}

/// A module of `count` functions, each adding a few numbers, the first of them `_start`.
pub fn functions(count: u32) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, &[1, 0x60, 0, 0]);
    let types = leb(count).into_iter().chain(std::iter::repeat_n(0, count as usize)).collect::<Vec<_>>();
    section(&mut module, 3, &types);
    section(&mut module, 7, b"\x01\x06_start\0\0");
    // No locals; (drop (i32.add (i32.const 1) (i32.const 2))).
    let body = [8, 0, 0x41, 1, 0x41, 2, 0x6a, 0x1a, 0x0b];
    let bodies = leb(count).into_iter().chain(std::iter::repeat_n(body, count as usize).flatten()).collect::<Vec<_>>();
    section(&mut module, 10, &bodies);
    module
}

/// Appends a section to a binary module.
pub fn section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    module.extend(leb(content.len().try_into().expect("a section of a test's size")));
    module.extend(content);
}

/// A number in LEB128.
pub fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
    bytes
}
