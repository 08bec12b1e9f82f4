//! Measures the engine on this machine: what `shoal bench wasm` and `cargo bench` of this crate print.
//!
//! Every figure is taken through [`Executor::run`], as a node does it: from the task to the collected outcome. Plain
//! wasmtime and native code are measured in the same minutes, taking turns.

mod large;

mod plain;

mod native;

mod record;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::{Engine, Invocation, Limits, Outcome, Wasm};
use tokio_util::sync::CancellationToken;

use crate::wasm::compiler::Compiler;
use crate::{Blobs, Executor, Finished, PROFILE, Task, WasmConfig, WasmExecutor};

/// `(module (memory (export "memory") 1) (func (export "_start")))`.
const EMPTY: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\
    \x07\x13\x02\x06memory\x02\0\x06_start\0\0\x0a\x04\x01\x02\0\x0b";
/// Guests as modules and in C. Each exits with 0 only if its result is the right one.
macro_rules! guest {
    ($name:literal) => {
        Source {
            name: $name,
            module: include_bytes!(concat!("../benches/guests/", $name, ".wasm")),
            source: include_str!(concat!("../benches/guests/", $name, ".c")),
        }
    };
}
/// Guests without input or output, compared with plain wasmtime and native code: integers, floats, allocation.
const GUESTS: [Source; 3] = [guest!("sha256"), guest!("nbody"), guest!("trees")];
/// A guest that uses files, and how many calls it makes for that. Plain wasmtime has no files to compare with.
const FILES: (Source, u32) = (guest!("files"), 200 * 37);
/// A guest that reads the clock, and how often.
const CALLS: (Source, u32) = (guest!("calls"), 1_000_000);
/// Bytes that are moved by the calls whose record is measured.
const RECORDED: [usize; 2] = [16, 4096];
/// Runs of each guest, variants in turns; the fastest counts.
const GUEST_RUNS: usize = 5;
/// Longest run of any guest.
const TIMEOUT: Duration = Duration::from_secs(600);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Runs of the trivial job, one after the other and side by side.
    pub trivial_runs: usize,
    /// Size of the large module, in MiB.
    pub large_mib: u32,
}

/// One thing that was measured.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

/// Measures everything. Modules are compiled by `compiler`, if there is one.
pub async fn measure(compiler: Option<Compiler>, effort: Effort) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let folder = tempfile::tempdir()?;
    let bench = Bench { executor: Arc::new(executor(folder.path(), compiler.clone())?), folder: folder.path() };
    bench.trivial(effort.trivial_runs, &mut figures).await?;
    bench.guests(&mut figures).await?;
    bench.calls(&mut figures).await?;
    first_run(folder.path(), compiler, effort.large_mib, &mut figures).await?;
    Ok(figures)
}

/// A guest as it was built, and as it was written.
struct Source {
    name: &'static str,
    module: &'static [u8],
    source: &'static str,
}

struct Bench<'a> {
    executor: Arc<WasmExecutor>,
    folder: &'a Path,
}

fn executor(folder: &Path, compiler: Option<Compiler>) -> io::Result<WasmExecutor> {
    WasmExecutor::new(WasmConfig { cache_dir: Some(folder.join("modules")), compiler, ..WasmConfig::default() })
}

fn figure(figures: &mut Vec<Figure>, name: impl Into<String>, value: f64, unit: &'static str) {
    figures.push(Figure { name: name.into(), value, unit });
}

impl Bench<'_> {
    async fn trivial(&self, runs: usize, figures: &mut Vec<Figure>) -> io::Result<()> {
        let guest = Guest::new(EMPTY);
        guest.run(&self.executor, self.folder).await?;
        let mut times = Vec::new();
        for _ in 0..runs {
            times.push(guest.run(&self.executor, self.folder).await?.0);
        }
        times.sort();
        for percent in [50, 90, 99] {
            let time = times[(times.len() * percent / 100).min(times.len() - 1)];
            figure(figures, format!("trivial job, p{percent}"), micros(time), "µs");
        }
        let cores = std::thread::available_parallelism()?.get();
        let start = Instant::now();
        let lanes = (0..cores).map(|_| {
            let (guest, executor, folder) = (guest.clone(), Arc::clone(&self.executor), self.folder.to_owned());
            tokio::spawn(async move {
                for _ in 0..runs {
                    guest.run(&executor, &folder).await?;
                }
                io::Result::Ok(())
            })
        });
        for lane in lanes.collect::<Vec<_>>() {
            lane.await??;
        }
        let per_second = (runs * cores) as f64 / start.elapsed().as_secs_f64();
        figure(figures, format!("trivial jobs, {cores} at once"), per_second, "per second");
        Ok(())
    }

    async fn guests(&self, figures: &mut Vec<Figure>) -> io::Result<()> {
        let (mut of_plain, mut of_native) = (Vec::new(), Vec::new());
        for source in GUESTS {
            let guest = Guest::new(source.module);
            let plain = plain::Plain::new(source.module).map_err(io::Error::other)?;
            let native = native::Native::new(source.name, source.source, self.folder)?;
            let mut best = Best::default();
            for _ in 0..GUEST_RUNS {
                faster(&mut best.profile, guest.run(&self.executor, self.folder).await?.1.run);
                let plain = plain.clone();
                faster(&mut best.plain, tokio::task::spawn_blocking(move || plain.run()).await??);
                if let Some(native) = &native {
                    faster(&mut best.native, native.run()?);
                }
            }
            best.compare(source.name, figures);
            of_plain.extend(best.ratio(best.plain));
            of_native.extend(best.ratio(best.native));
        }
        for (ratios, against) in [(of_plain, "plain wasmtime"), (of_native, "native code")] {
            if let Some(mean) = mean(&ratios) {
                figure(figures, format!("geometric mean, against {against}"), mean, "times");
            }
        }
        Ok(())
    }

    /// Guests that call the host all the time.
    async fn calls(&self, figures: &mut Vec<Figure>) -> io::Result<()> {
        let (files, calls) = (Guest::new(FILES.0.module), Guest::new(CALLS.0.module));
        let native = native::Native::new(FILES.0.name, FILES.0.source, self.folder)?;
        let (mut of_files, mut of_calls) = (Best::default(), Best::default());
        for _ in 0..GUEST_RUNS {
            faster(&mut of_files.profile, files.run(&self.executor, self.folder).await?.1.run);
            if let Some(native) = &native {
                faster(&mut of_files.native, native.run()?);
            }
            faster(&mut of_calls.profile, calls.run(&self.executor, self.folder).await?.1.run);
        }
        figure(figures, "files, a call", micros(of_files.profile() / FILES.1), "µs");
        of_files.compare("files", figures);
        figure(figures, "reading the clock, a call", of_calls.profile().as_nanos() as f64 / f64::from(CALLS.1), "ns");
        for bytes in RECORDED {
            let times = (0..GUEST_RUNS).map(|_| record::a_call(&vec![b'x'; bytes]));
            let time = times.min().unwrap_or_default();
            figure(figures, format!("digest of a call, {bytes} bytes moved"), time.as_nanos() as f64, "ns");
        }
        Ok(())
    }
}

/// The fastest runs of one guest.
#[derive(Default)]
struct Best {
    profile: Option<Duration>,
    plain: Option<Duration>,
    native: Option<Duration>,
}

fn faster(best: &mut Option<Duration>, time: Duration) {
    *best = Some(best.map_or(time, |best| best.min(time)));
}

impl Best {
    fn profile(&self) -> Duration {
        self.profile.unwrap_or_default()
    }

    /// How many times as long the profile takes as something else that was measured.
    fn ratio(&self, other: Option<Duration>) -> Option<f64> {
        Some(self.profile?.as_secs_f64() / other?.as_secs_f64())
    }

    /// Figures for whatever the profile was measured against.
    fn compare(&self, name: &str, figures: &mut Vec<Figure>) {
        for (other, against) in [(self.plain, "plain wasmtime"), (self.native, "native code")] {
            if let Some(ratio) = self.ratio(other) {
                figure(figures, format!("{name}, against {against}"), ratio, "times");
            }
        }
    }
}

/// The geometric mean of ratios, if there are any.
fn mean(ratios: &[f64]) -> Option<f64> {
    let logarithms: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    (!ratios.is_empty()).then(|| (logarithms / ratios.len() as f64).exp())
}

/// The first run of a large module, the first after a restart, and the next.
async fn first_run(folder: &Path, compiler: Option<Compiler>, mib: u32, figures: &mut Vec<Figure>) -> io::Result<()> {
    let guest = Guest::new(&large::module(mib));
    for state in ["compiled", "from the cache folder", "from memory"] {
        let executor = executor(folder, compiler.clone())?;
        if state == "from memory" {
            guest.run(&executor, folder).await?;
        }
        let time = guest.run(&executor, folder).await?.0;
        figure(figures, format!("module of {mib} MiB, {state}"), time.as_secs_f64() * 1e3, "ms");
    }
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A program that takes nothing and must exit with 0.
#[derive(Clone)]
struct Guest {
    module: Bytes,
    invocation: Invocation,
}

impl Guest {
    fn new(module: &[u8]) -> Self {
        let engine = Engine::Wasm(Wasm {
            profile: PROFILE.into(),
            module: BlobHash::of(module),
            imports: vec![],
            entry_point: "_start".into(),
            arguments: vec![],
        });
        let limits = Limits { memory_bytes: 1 << 30, fuel: 1 << 50, output_bytes: 1 << 30 };
        let (environment, inputs, result_paths) = (BTreeMap::new(), vec![], vec![]);
        let invocation = Invocation { engine, environment, inputs, unread: Vec::new(), result_paths, limits };
        Self { module: Bytes::copy_from_slice(module), invocation }
    }

    /// Runs it in a folder of its own: how long it took from the task to the outcome, and the outcome.
    async fn run(&self, executor: &WasmExecutor, folder: &Path) -> io::Result<(Duration, Finished)> {
        let work = tempfile::tempdir_in(folder)?;
        let (invocation, work_dir) = (self.invocation.clone(), work.path().to_owned());
        let task =
            Task { invocation, inputs: vec![], work_dir, timeout: TIMEOUT, trace: None, stage: Default::default() };
        let start = Instant::now();
        let finished = executor.run(task, self, CancellationToken::new()).await.map_err(io::Error::other)?;
        let time = start.elapsed();
        match finished.outcome {
            Outcome::Exited(0) => Ok((time, finished)),
            outcome => Err(io::Error::other(format!("a guest of the benchmark ended with {outcome:?}"))),
        }
    }
}

#[async_trait]
impl Blobs for Guest {
    async fn read(&self, _: BlobHash, _: u64) -> io::Result<Bytes> {
        Ok(self.module.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn everything_is_measured_and_is_more_than_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let executor = Arc::new(executor(folder.path(), None).unwrap());
        let mut figures = Vec::new();
        Bench { executor, folder: folder.path() }.trivial(2, &mut figures).await.unwrap();
        first_run(folder.path(), None, 1, &mut figures).await.unwrap();
        assert_eq!(figures.len(), 4 + 3);
        assert_eq!(mean(&[2.0, 8.0]), Some(4.0));
        assert!(figures.iter().all(|figure| figure.value > 0.0), "{figures:?}");
    }
}
