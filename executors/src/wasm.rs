//! The `wasm` executor: modules under a determinism profile, in wasmtime.
//!
//! [`profile`] is what every machine must agree on, `inspect` what is known of a module before it is compiled,
//! [`report`] the same for people, `modules` how compiled modules are kept, `run` one execution.

pub mod profile;

mod inspect;

mod externs;

pub mod report;

mod census;

mod names;

mod modules;

mod host;

mod run;

mod backtrace;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shoal_protocol::id::BlobHash;
use shoal_protocol::message::ExecutorKind;
use shoal_protocol::task::{Engine, ImportModule, Outcome, Trap, Wasm};
use tokio_util::sync::CancellationToken;
use wasmtime::Linker;

use crate::wasi;
use crate::{Blobs, CheckError, Executor, Finished, RunError, Task};
use host::Host;
use inspect::Inspected;
use modules::{Modules, NoModule};
pub use profile::PROFILE;
use run::{Program, Run};

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct WasmConfig {
    /// Where compiled modules are kept between processes; a folder of the executor's own.
    pub cache_dir: Option<PathBuf>,
    /// Most bytes of compiled modules in that folder.
    pub cache_bytes: u64,
    /// Compiled modules kept in memory.
    pub modules_in_memory: usize,
    /// Modules compiled at once; each may use all cores and some hundred MiB.
    pub compilations: usize,
}

impl Default for WasmConfig {
    fn default() -> Self {
        Self { cache_dir: None, cache_bytes: 2 << 30, modules_in_memory: 64, compilations: 1 }
    }
}

/// Runs WebAssembly modules with WASI preview 1 under [`PROFILE`].
pub struct WasmExecutor {
    modules: Modules,
    linker: Arc<Linker<Host>>,
}

impl WasmExecutor {
    /// An executor; its cache folder is made if it is not there.
    pub fn new(config: WasmConfig) -> std::io::Result<Self> {
        let engine = wasmtime::Engine::new(&profile::config()).map_err(std::io::Error::other)?;
        let mut linker = Linker::new(&engine);
        wasi::abi::add_to_linker(&mut linker).map_err(std::io::Error::other)?;
        let linker = Arc::new(linker);
        Ok(Self { modules: Modules::new(engine, Arc::clone(&linker), config)?, linker })
    }

    async fn prepare(&self, wasm: &Wasm, blobs: &dyn Blobs) -> Result<Program, NoModule> {
        let entry = self.modules.get(wasm.module, blobs).await?;
        let mut imports = BTreeMap::new();
        for import in &wasm.imports {
            imports.insert(import.name.clone(), self.modules.get(import.module, blobs).await?);
        }
        let order = order(&wasm.imports, |name| {
            imports[name].module.imports().map(|import| import.module().to_owned()).collect()
        });
        let order = order.map_err(|_| NoModule::Invalid)?;
        let imports = order.into_iter().filter_map(|name| imports.remove_entry(&name)).collect();
        Ok(Program { linker: Arc::clone(&self.linker), entry, imports, entry_point: wasm.entry_point.clone() })
    }

    /// Prepares and runs, without regard to time.
    async fn execute(&self, run: Arc<Run>, wasm: Wasm, blobs: &dyn Blobs) -> Result<Finished, RunError> {
        match self.prepare(&wasm, blobs).await {
            Ok(program) => run.on_thread(self.modules.engine(), program).await,
            Err(NoModule::Invalid) => run.without_program(Outcome::Trapped(Trap::Instantiation)),
            Err(NoModule::Missing(why)) => Err(RunError::InputMissing(why)),
            Err(NoModule::Host(why)) => Err(RunError::HostFailed(why)),
        }
    }
}

#[async_trait]
impl Executor for WasmExecutor {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Wasm
    }

    fn profile(&self) -> &str {
        PROFILE
    }

    async fn check(&self, engine: &Engine, blobs: &dyn Blobs) -> Result<(), CheckError> {
        let Engine::Wasm(wasm) = engine;
        if wasm.profile != PROFILE {
            return Err(CheckError::Profile(wasm.profile.clone(), PROFILE));
        }
        let entry = self.inspect(wasm.module, blobs).await?;
        let mut libraries = BTreeMap::new();
        for import in &wasm.imports {
            libraries.insert(import.name.clone(), self.inspect(import.module, blobs).await?);
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
        let Engine::Wasm(wasm) = task.invocation.engine.clone();
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
        run.kill(self.modules.engine()).await;
        Err(killed)
    }
}

impl WasmExecutor {
    async fn inspect(&self, hash: BlobHash, blobs: &dyn Blobs) -> Result<Inspected, CheckError> {
        let bytes = blobs.read(hash, profile::MAX_MODULE_BYTES).await;
        let bytes = bytes.map_err(|error| CheckError::Unreadable(hash, error))?;
        let engine = self.modules.engine().clone();
        let inspected = tokio::task::spawn_blocking(move || inspect::inspect(&engine, hash, &bytes)).await;
        inspected.map_err(|error| CheckError::NotWasm(hash, error.to_string()))?
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
