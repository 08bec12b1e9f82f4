//! Makes compiled modules, from the cache folder or by compiling.

use std::io;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use shoal_protocol::id::BlobHash;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Component;
use wasmtime::{Engine, Module, Precompiled};

use super::disk::Disk;
use super::{Compiled, CompiledModule, NoModule};
use crate::wasm::compiler::{self, Compiler, Stopped};
use crate::wasm::components::Command;
use crate::wasm::engines::{self, CompileError, Engines, Platform};
use crate::wasm::{WasmConfig, inspect};

/// Modules up to this size, in bytes, have a lane of their own, so that they do not wait behind large ones.
const SMALL_MODULE_BYTES: usize = 256 << 10;

/// Makes compiled modules.
pub(super) struct Maker {
    engines: Arc<Engines>,
    disk: Option<Disk>,
    compiler: Option<Compiler>,
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Maker {
    pub(super) fn new(engines: Arc<Engines>, config: WasmConfig) -> io::Result<Self> {
        let open = |folder| Disk::open(folder, &engines.on_demand.engine, config.cache_bytes);
        let disk = config.cache_dir.map(open).transpose()?;
        let lane = || Arc::new(Semaphore::new(config.compilations.max(1)));
        Ok(Self { disk, compiler: config.compiler, small: lane(), large: lane(), engines })
    }

    /// The module as it was compiled before.
    pub(super) async fn load(self: &Arc<Self>, hash: BlobHash) -> Result<Option<Compiled>, NoModule> {
        if self.disk.is_none() {
            return Ok(None);
        }
        let maker = Arc::clone(self);
        blocking(move || Ok(maker.load_blocking(hash))).await
    }

    fn load_blocking(&self, hash: BlobHash) -> Option<Compiled> {
        let disk = self.disk.as_ref()?;
        let code = disk.load(hash)?;
        let compiled = self.take(hash, &code);
        compiled
            .inspect_err(|error| {
                tracing::warn!(?error, module = %hash, "compiled module unusable, compiling it again");
                disk.remove(hash);
            })
            .ok()
    }

    /// Inspects and compiles a module.
    pub(super) async fn compile(self: Arc<Self>, hash: BlobHash, module: Bytes) -> Result<Compiled, NoModule> {
        let lane = if module.len() <= SMALL_MODULE_BYTES { &self.small } else { &self.large };
        let permit = Arc::clone(lane).acquire_owned().await.map_err(|error| NoModule::Host(error.to_string()))?;
        let (maker, bytes) = (Arc::clone(&self), module.clone());
        blocking(move || maker.inspect(hash, &bytes)).await?;
        match &self.compiler {
            Some(compiler) => self.compile_apart(compiler, hash, module).await,
            None => self.compile_here(hash, module, permit).await,
        }
    }

    /// In a process of its own, which ends when this future is dropped.
    async fn compile_apart(
        self: &Arc<Self>,
        compiler: &Compiler,
        hash: BlobHash,
        module: Bytes,
    ) -> Result<Compiled, NoModule> {
        let folder = self.disk.as_ref().map_or_else(std::env::temp_dir, |disk| disk.folder().to_owned());
        let code = compiler::compile(compiler, &folder, module).await.map_err(|stopped| match stopped {
            Stopped::Invalid(why) => refused(hash, &why),
            Stopped::Limit(why) => NoModule::Limit(format!("module {} cannot be compiled here: {why}", hash.short())),
            Stopped::Host(why) => NoModule::Host(why),
        })?;
        let maker = Arc::clone(self);
        blocking(move || maker.keep(hash, &code)).await
    }

    /// In this process. The permit is held by the compilation itself, which goes on when nobody waits for it any more.
    async fn compile_here(
        self: &Arc<Self>,
        hash: BlobHash,
        module: Bytes,
        permit: OwnedSemaphorePermit,
    ) -> Result<Compiled, NoModule> {
        let maker = Arc::clone(self);
        blocking(move || {
            let _permit = permit;
            let code = engines::compile(&maker.engines.on_demand.engine, &module).map_err(|error| match error {
                CompileError::Invalid(why) => refused(hash, &why),
                CompileError::Host(why) => NoModule::Host(format!("compiler: {why}")),
            })?;
            maker.keep(hash, &code)
        })
        .await
    }

    fn inspect(&self, hash: BlobHash, module: &Bytes) -> Result<(), NoModule> {
        let inspected = inspect::inspect(&self.engines.on_demand.engine, hash, module);
        inspected.map(drop).map_err(|error| refused(hash, &error.to_string()))
    }

    fn keep(&self, hash: BlobHash, code: &[u8]) -> Result<Compiled, NoModule> {
        let compiled = self.take(hash, code)?;
        if let Some(Err(error)) = self.disk.as_ref().map(|disk| disk.save(hash, code)) {
            tracing::warn!(%error, "compiled module not cached");
        }
        Ok(compiled)
    }

    /// Loads machine code. What does not link does so nowhere: every machine of the profile provides the same.
    fn take(&self, hash: BlobHash, code: &[u8]) -> Result<Compiled, NoModule> {
        let unusable = |error: wasmtime::Error| NoModule::Host(format!("compiled module: {error:#}"));
        if let Some(Precompiled::Component) = Engine::detect_precompiled(code) {
            let component = deserialize_component(&self.engines.on_demand.engine, code).map_err(unusable)?;
            let linked = self.engines.components.instantiate_pre(&component);
            let linked = linked.map_err(|error| refused(hash, &format!("{error:#}")))?;
            return Ok(Compiled::Component(Command { linked, code_bytes: code.len() }));
        }
        self.take_module(code).map(Compiled::Module).map_err(unusable)
    }

    /// Loads machine code where it runs best: into the pool, if it fits there.
    fn take_module(&self, code: &[u8]) -> wasmtime::Result<CompiledModule> {
        let pooled = self.engines.pooled.as_ref().and_then(|pool| Some((deserialize(&pool.engine, code).ok()?, pool)));
        let (module, platform) = match pooled {
            Some(loaded) => loaded,
            None => (deserialize(&self.engines.on_demand.engine, code)?, &self.engines.on_demand),
        };
        let linked = platform.linker.instantiate_pre(&module).ok();
        Ok(CompiledModule { module, linked, together: Arc::default(), code_bytes: code.len() })
    }

    /// The module for instances beside others.
    pub(super) async fn together(self: &Arc<Self>, compiled: CompiledModule) -> Result<Module, NoModule> {
        if let Some(module) = compiled.together.get() {
            return Ok(module.clone());
        }
        let maker = Arc::clone(self);
        blocking(move || {
            let module = on_demand(&maker.engines.on_demand, &compiled.module);
            let module = module.map_err(|error| NoModule::Host(format!("compiled module: {error:#}")))?;
            Ok(OnceLock::get_or_init(&compiled.together, || module).clone())
        })
        .await
    }
}

/// The same module in the engine that takes any number of instances.
fn on_demand(platform: &Platform, module: &Module) -> wasmtime::Result<Module> {
    if Engine::same(module.engine(), &platform.engine) {
        return Ok(module.clone());
    }
    deserialize(&platform.engine, &module.serialize()?)
}

fn refused(hash: BlobHash, why: &str) -> NoModule {
    tracing::debug!(module = %hash, why, "module refused");
    NoModule::Invalid
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NoModule> + Send + 'static,
) -> Result<T, NoModule> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(NoModule::Host(format!("compilation did not end: {error}"))))
}

/// Takes machine code for what it says it is.
#[expect(unsafe_code, reason = "deserialising native code cannot be checked")]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Module> {
    // SAFETY: these are bytes that `Engine::precompile_module` or `Module::serialize` gave: in this process, in a
    // process of the program that the operator chose, or before and sealed by us since. wasmtime itself checks
    // version and settings.
    unsafe { Module::deserialize(engine, code) }
}

/// Likewise.
#[expect(unsafe_code, reason = "deserialising native code cannot be checked")]
fn deserialize_component(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: as above, with `Engine::precompile_component`.
    unsafe { Component::deserialize(engine, code) }
}
