//! The engines: one whose instances come from a pool, and one that makes each anew for what does not fit there.
//!
//! Both have the same settings as far as code and results are concerned, so machine code of one is good for the
//! other.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;
use wasmparser::Parser;
use wasmtime::{Engine, InstanceAllocationStrategy, Linker, PoolingAllocationConfig, component};

use super::fuel;
use super::host::Host;
use super::profile::{self, MAX_TABLE_ELEMENTS};
use super::rewrite::rewrite;
use crate::wasi;

/// Largest memory of a module without 64-bit memories, in bytes. A pool with less would change how memories grow.
const MAX_MEMORY_BYTES: usize = 4 << 30;
/// Tables of a module that fits in the pool. Compilers make one; each reserves addresses for the most elements.
const POOLED_TABLES: u32 = 4;
/// Programs that run at once, of all kinds: each has a thread.
pub(super) const MAX_RUNS: u32 = 128;

/// How wasmtime says that a valid module or component is beyond what it implements. That is found before anything of
/// the machine matters, so all engines of this version say so.
const TRANSLATION: [&str; 2] = ["WebAssembly translation error", "failed to parse WebAssembly module"];

/// The engines of an executor.
pub(super) struct Engines {
    /// None if this process may not reserve so many addresses.
    pub(super) pooled: Option<Platform>,
    pub(super) on_demand: Platform,
    /// Components run on demand too: each is several modules.
    pub(super) components: component::Linker<Host>,
    /// A place in the pool for each run.
    pub(super) runs: Semaphore,
}

/// An engine, and WASI for its programs.
pub(super) struct Platform {
    pub(super) engine: Engine,
    pub(super) linker: Arc<Linker<Host>>,
}

/// Why a module cannot be compiled.
#[derive(Debug)]
pub(super) enum CompileError {
    /// No machine can.
    Invalid(String),
    /// This one could not.
    Host(String),
}

impl Engines {
    /// Those of this process: several nodes in one share them, as each pool takes a terabyte of addresses.
    pub(super) fn shared() -> wasmtime::Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Engines>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engines) = shared.upgrade() {
            return Ok(engines);
        }
        let engines = Arc::new(Self::new()?);
        *shared = Arc::downgrade(&engines);
        Ok(engines)
    }

    fn new() -> wasmtime::Result<Self> {
        let on_demand = Platform::new(compiling()?)?;
        let pooled = Engine::new(profile::config().allocation_strategy(pool()));
        let pooled = pooled.inspect_err(|error| tracing::info!(%error, "no pool of instances")).ok();
        let mut components = component::Linker::new(&on_demand.engine);
        wasi::component::add_to_linker(&mut components)?;
        fuel::add_to_component_linker(&mut components)?;
        let runs = Semaphore::new(MAX_RUNS as usize);
        Ok(Self { pooled: pooled.map(Platform::new).transpose()?, on_demand, components, runs })
    }
}

impl Platform {
    fn new(engine: Engine) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(&engine);
        wasi::abi::add_to_linker(&mut linker)?;
        fuel::add_to_linker(&mut linker)?;
        Ok(Self { engine, linker: Arc::new(linker) })
    }
}

/// An engine to compile with.
pub(super) fn compiling() -> wasmtime::Result<Engine> {
    Engine::new(&profile::config())
}

/// Machine code of a module or component that was inspected before.
pub(super) fn compile(engine: &Engine, program: &[u8]) -> Result<Vec<u8>, CompileError> {
    let program = rewrite(program).map_err(|refused| CompileError::Invalid(refused.to_string()))?;
    let compiled = match Parser::is_component(&program) {
        true => engine.precompile_component(&program),
        false => engine.precompile_module(&program),
    };
    compiled.map_err(|error| {
        let why = format!("{error:#}");
        match TRANSLATION.iter().any(|words| why.contains(words)) {
            true => CompileError::Invalid(why),
            false => CompileError::Host(why),
        }
    })
}

fn pool() -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(MAX_RUNS)
        // A memory each, and a heap for exceptions.
        .total_memories(2 * MAX_RUNS)
        .total_gc_heaps(MAX_RUNS)
        .total_tables(POOLED_TABLES * MAX_RUNS)
        .max_tables_per_module(POOLED_TABLES)
        .max_memory_size(MAX_MEMORY_BYTES)
        .table_elements(MAX_TABLE_ELEMENTS);
    InstanceAllocationStrategy::Pooling(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_for_one_engine_is_good_for_the_other() {
        let engines = Engines::new().unwrap();
        let pooled = engines.pooled.expect("addresses for a pool");
        let hash = |engine: &Engine| {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(&pooled.engine), hash(&engines.on_demand.engine));
    }
}
