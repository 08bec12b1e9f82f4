//! What the tests share: an executor, blobs in memory, and invocations that are written in one line.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_executors::{Blobs, Executor, Finished, PROFILE, RunError, StagedInput, Task, WasmConfig, WasmExecutor};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::{Engine, ImportModule, Invocation, Limits, Outcome, ResultPath, Wasm};
use tokio_util::sync::CancellationToken;

/// Blobs by hash.
#[derive(Default)]
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
pub struct Job {
    pub blobs: Memory,
    pub invocation: Invocation,
    pub inputs: Vec<StagedInput>,
    pub timeout: Duration,
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
    let invocation = Invocation { engine, environment, inputs, result_paths, limits };
    Job { blobs, invocation, inputs: vec![], timeout: Duration::from_secs(120), cancel: CancellationToken::new() }
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
        let Engine::Wasm(wasm) = &mut self.invocation.engine;
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
        self.inputs.push(StagedInput { target: target.into(), path: path.into() });
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
        let task = Task { invocation, inputs, work_dir: folder.to_owned(), timeout: self.timeout };
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
