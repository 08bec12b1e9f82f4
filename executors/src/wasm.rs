//! The `wasm` executor: modules under a determinism profile, in wasmtime.
//!
//! [`profile`] is what every machine must agree on, `inspect` what is known of a module before it is compiled,
//! [`report`] the same for people, [`rewrite`] what is done to it, [`compiler`] the process that compiles it, `modules`
//! how what was compiled is kept, `components` what is run of a component, `engines` where all run, `fuel` how long a
//! program may run, `run` one execution.

pub mod profile;

pub mod rewrite;

mod inspect;

mod externs;

pub mod report;

mod census;

mod names;

pub mod compiler;

mod modules;

mod components;

mod engines;

mod host;

pub(crate) mod fuel;

mod run;

mod threads;

mod backtrace;

mod checkpoints;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shoal_protocol::id::BlobHash;
use shoal_protocol::message::ExecutorKind;
use shoal_protocol::task::{Engine, ImportModule, Outcome, Trap, Wasm};
use tokio_util::sync::CancellationToken;

use crate::wasi;
use crate::{Blobs, CheckError, Executor, Finished, RunError, Task};
use compiler::Compiler;
use components::Command;
use engines::Engines;
use inspect::Inspected;
use modules::{Compiled, Modules, NoModule};
pub use profile::PROFILE;
use run::{Program, Run, Runnable};
use threads::Threads;

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct WasmConfig {
    /// Where compiled modules are kept between processes; a folder of the executor's own.
    pub cache_dir: Option<PathBuf>,
    /// Most bytes of compiled modules in that folder.
    pub cache_bytes: u64,
    /// Most bytes of compiled modules in memory, beside those that are running.
    pub memory_bytes: usize,
    /// Modules compiled at once, of the large and of the small ones each; each may use all cores.
    pub compilations: usize,
    /// The program that compiles, within limits that hold; without one, modules are compiled in this process, where
    /// only the profile's limits bound what a hostile module costs.
    pub compiler: Option<Compiler>,
}

impl Default for WasmConfig {
    fn default() -> Self {
        Self { cache_dir: None, cache_bytes: 2 << 30, memory_bytes: 512 << 20, compilations: 1, compiler: None }
    }
}

/// Runs WebAssembly under [`PROFILE`]: modules with WASI preview 1, components with preview 2.
pub struct WasmExecutor {
    engines: Arc<Engines>,
    modules: Modules,
    threads: Threads,
}

impl WasmExecutor {
    /// An executor; its cache folder is made if it is not there.
    pub fn new(config: WasmConfig) -> std::io::Result<Self> {
        let engines = Engines::shared().map_err(std::io::Error::other)?;
        let modules = Modules::new(Arc::clone(&engines), config)?;
        Ok(Self { engines, modules, threads: Threads::new()? })
    }

    async fn prepare(&self, wasm: &Wasm, blobs: &dyn Blobs) -> Result<Prepared, NoModule> {
        if !wasm.imports.is_empty() {
            return Ok(Prepared::Program(self.prepare_together(wasm, blobs).await?));
        }
        Ok(match self.modules.get(wasm.module, blobs).await? {
            Compiled::Component(command) => Prepared::Command(command),
            Compiled::Module(compiled) => Prepared::Program(Program {
                linker: Arc::clone(&self.engines.on_demand.linker),
                entry: compiled.module,
                linked: compiled.linked,
                imports: vec![],
                entry_point: wasm.entry_point.clone(),
            }),
        })
    }

    async fn prepare_together(&self, wasm: &Wasm, blobs: &dyn Blobs) -> Result<Program, NoModule> {
        let entry_point = wasm.entry_point.clone();
        let entry = self.modules.get_together(wasm.module, blobs).await?;
        let mut imports = BTreeMap::new();
        for import in &wasm.imports {
            imports.insert(import.name.clone(), self.modules.get_together(import.module, blobs).await?);
        }
        let order =
            order(&wasm.imports, |name| imports[name].imports().map(|import| import.module().to_owned()).collect());
        let order = order.map_err(|_| NoModule::Invalid)?;
        let imports = order.into_iter().filter_map(|name| imports.remove_entry(&name)).collect();
        Ok(Program { linker: Arc::clone(&self.engines.on_demand.linker), entry, linked: None, imports, entry_point })
    }

    /// Prepares and runs, without regard to time.
    async fn execute(&self, run: Arc<Run>, wasm: Wasm, blobs: &dyn Blobs) -> Result<Finished, RunError> {
        match self.prepare(&wasm, blobs).await {
            Ok(Prepared::Program(program)) => self.perform(run, program).await,
            Ok(Prepared::Command(command)) => self.perform(run, command).await,
            Err(why) => ended_before(&run, why),
        }
    }

    async fn perform(&self, run: Arc<Run>, program: impl Runnable) -> Result<Finished, RunError> {
        // Never closed.
        let _slot = self.engines.runs.acquire().await;
        run.on_thread(&self.threads, program).await
    }
}

/// What is ready to be run.
enum Prepared {
    Program(Program),
    Command(Command),
}

#[async_trait]
impl Executor for WasmExecutor {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Wasm
    }

    async fn check(&self, engine: &Engine, blobs: &dyn Blobs) -> Result<(), CheckError> {
        let Engine::Wasm(wasm) = engine else {
            return Err(CheckError::OtherEngine(self.kind(), engine.kind()));
        };
        if wasm.profile != PROFILE {
            return Err(CheckError::Profile(wasm.profile.clone(), PROFILE));
        }
        let entry = self.inspect(wasm.module, blobs).await?;
        let mut libraries = BTreeMap::new();
        for import in &wasm.imports {
            let library = self.inspect(import.module, blobs).await?;
            library.check_library(import.module)?;
            libraries.insert(import.name.clone(), library);
        }
        order(&wasm.imports, |name| libraries[name].import_modules())?;
        for (hash, module) in [(wasm.module, &entry)]
            .into_iter()
            .chain(wasm.imports.iter().map(|import| (import.module, &libraries[&import.name])))
        {
            module.check_imports(hash, &libraries)?;
        }
        entry.check_entry_point(wasm.module, &wasm.entry_point)
    }

    async fn run(&self, task: Task, blobs: &dyn Blobs, cancel: CancellationToken) -> Result<Finished, RunError> {
        let Engine::Wasm(wasm) = task.invocation.engine.clone() else {
            return Err(RunError::Declined("this executor runs modules, not containers".into()));
        };
        if wasm.profile != PROFILE {
            return Err(RunError::Declined(format!(
                "determinism profile {:?}; this worker has {PROFILE}",
                wasm.profile
            )));
        }
        let timeout: Duration = task.timeout;
        let run = Arc::new(Run::new(task));
        let killed = tokio::select! {
            finished = self.execute(Arc::clone(&run), wasm, blobs) => return finished,
            () = cancel.cancelled() => RunError::Cancelled,
            () = tokio::time::sleep(timeout) => RunError::TimedOut(timeout),
        };
        // The program's thread must be gone before its folder is.
        run.kill().await;
        Err(killed)
    }
}

impl WasmExecutor {
    async fn inspect(&self, hash: BlobHash, blobs: &dyn Blobs) -> Result<Inspected, CheckError> {
        let bytes = blobs.read(hash, profile::MAX_MODULE_BYTES).await;
        let bytes = bytes.map_err(|error| CheckError::Unreadable(hash, error))?;
        let engine = self.engines.on_demand.engine.clone();
        let inspected = tokio::task::spawn_blocking(move || {
            let inspected = inspect::inspect(&engine, hash, &bytes)?;
            rewrite::rewrite(&bytes).map_err(|refused| inspect::refused(hash, &refused))?;
            Ok(inspected)
        });
        let inspected = inspected.await;
        inspected.map_err(|error| CheckError::NotWasm(hash, error.to_string()))?
    }
}

/// The end of a run that has nothing to run.
fn ended_before(run: &Run, why: NoModule) -> Result<Finished, RunError> {
    match why {
        NoModule::Invalid => run.without_program(Outcome::Trapped(Trap::Instantiation)),
        NoModule::Limit(why) => Err(RunError::Declined(why)),
        NoModule::Missing(why) => Err(RunError::InputMissing(why)),
        NoModule::Host(why) => Err(RunError::HostFailed(why)),
    }
}

/// The import modules, each after those that it imports itself.
fn order(imports: &[ImportModule], needs: impl Fn(&str) -> Vec<String>) -> Result<Vec<String>, CheckError> {
    let mut left = BTreeMap::new();
    for import in imports {
        if import.name == wasi::abi::MODULE {
            return Err(CheckError::ImportModules(import.name.clone(), "has WASI's own name; choose another"));
        }
        if left.insert(import.name.clone(), needs(&import.name)).is_some() {
            return Err(CheckError::ImportModules(import.name.clone(), "is given twice; choose another name"));
        }
    }
    let mut order = Vec::new();
    while let Some(first) = left.keys().next().cloned() {
        let free = left.iter().find(|(_, needs)| !needs.iter().any(|need| left.contains_key(need)));
        let Some((name, _)) = free.map(|(name, needs)| (name.clone(), needs)) else {
            return Err(CheckError::ImportModules(first, "and others import each other in a circle; merge them"));
        };
        left.remove(&name);
        order.push(name);
    }
    Ok(order)
}
