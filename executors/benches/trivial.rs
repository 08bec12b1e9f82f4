//! What a worker pays for a program that does nothing, module compiled before: `cargo bench -p shoal-executors`.
//!
//! Goal: at most 200 µs. Printed: the whole run (folder, thread, files, collection) by percentile, for an empty
//! module and for the program of `examples/fails`, which writes two streams and a file.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use shoal_executors::{Blobs, Executor, PROFILE, Task, WasmConfig, WasmExecutor};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::{Engine, Invocation, Limits, ResultPath, Wasm};
use tokio_util::sync::CancellationToken;

const RUNS: usize = 2_000;

struct One(Bytes);

#[async_trait]
impl Blobs for One {
    async fn read(&self, _: BlobHash, _: u64) -> io::Result<Bytes> {
        Ok(self.0.clone())
    }
}

fn invocation(module: BlobHash) -> Invocation {
    let (profile, entry_point) = (PROFILE.to_owned(), "_start".to_owned());
    let engine = Engine::Wasm(Wasm { profile, module, imports: vec![], entry_point, arguments: vec![] });
    let limits = Limits { memory_bytes: 64 << 20, fuel: 1 << 40, output_bytes: 1 << 20 };
    let result_paths = vec![ResultPath { name: "outputs".into(), path: "/outputs".into() }];
    Invocation { engine, environment: BTreeMap::new(), inputs: vec![], result_paths, limits }
}

async fn run(executor: &WasmExecutor, blobs: &One, invocation: &Invocation, folder: &Path) -> Duration {
    std::fs::create_dir(folder).expect("a folder");
    let (invocation, work_dir) = (invocation.clone(), folder.to_owned());
    let task = Task { invocation, inputs: vec![], work_dir, timeout: Duration::from_secs(10), trace: None };
    let start = Instant::now();
    executor.run(task, blobs, CancellationToken::new()).await.expect("a vote");
    let elapsed = start.elapsed();
    std::fs::remove_dir_all(folder).expect("a folder");
    elapsed
}

async fn measure(name: &str, module: Vec<u8>) {
    let executor = WasmExecutor::new(WasmConfig::default()).expect("an executor");
    let folder = tempfile::tempdir().expect("a folder");
    let invocation = invocation(BlobHash::of(&module));
    let blobs = One(module.into());
    let mut times = Vec::new();
    for index in 0..RUNS {
        times.push(run(&executor, &blobs, &invocation, &folder.path().join(index.to_string())).await);
    }
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100];
    println!("{name:<16} p10 {:>9.1?}  p50 {:>9.1?}  p99 {:>9.1?}", at(10), at(50), at(99));
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let empty = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
        measure("empty _start", wat::parse_str(empty).expect("a module")).await;
        measure("examples/fails", include_bytes!("../../examples/fails/fails.wasm").to_vec()).await;
    });
}
