//! Compiled modules and components: found in memory, else on disk, else compiled.
//!
//! However many jobs want one, it is read and compiled once; when none of them waits any more, compiling stops.
//! What is said of modules here is said of components too.

mod disk;

mod maker;

mod recent;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use shoal_protocol::id::BlobHash;
use wasmtime::{InstancePre, Module};

use super::WasmConfig;
use super::components::Command;
use super::engines::Engines;
use super::host::Host;
use super::profile::MAX_MODULE_BYTES;
use crate::Blobs;
use maker::Maker;
use recent::{Compilation, Known, Recent, Slot};

/// How long a module is not tried again that needed more than this machine gives: each try costs all of it.
const REFUSED_FOR: Duration = Duration::from_secs(600);

/// Why there is no compiled module.
#[derive(Debug, Clone)]
pub(super) enum NoModule {
    /// It is not valid under the profile: every machine says so.
    Invalid,
    /// It could not be read.
    Missing(String),
    /// It needs more than this machine gives to a compilation.
    Limit(String),
    /// This machine failed.
    Host(String),
}

/// What was compiled.
#[derive(Clone)]
pub(super) enum Compiled {
    Module(CompiledModule),
    Component(Command),
}

/// A compiled module.
#[derive(Clone)]
pub(super) struct CompiledModule {
    /// To run by itself.
    pub(super) module: Module,
    /// Linked against WASI alone; none if it needs import modules.
    pub(super) linked: Option<InstancePre<Host>>,
    /// To run together with others, made when first asked for: only [`Engines::on_demand`] takes any number.
    together: Arc<OnceLock<Module>>,
    code_bytes: usize,
}

/// All compiled modules that are at hand.
pub(super) struct Modules {
    maker: Arc<Maker>,
    recent: Mutex<Recent>,
}

impl Modules {
    pub(super) fn new(engines: Arc<Engines>, config: WasmConfig) -> io::Result<Self> {
        let recent = Mutex::new(Recent::new(config.memory_bytes));
        Ok(Self { maker: Arc::new(Maker::new(engines, config)?), recent })
    }

    /// The compiled module `hash`.
    pub(super) async fn get(&self, hash: BlobHash, blobs: &dyn Blobs) -> Result<Compiled, NoModule> {
        let slot = self.recent().slot(hash);
        if !slot.known.initialized() {
            let _waiting = slot.wait();
            slot.known.get_or_try_init(|| self.learn(&slot, hash, blobs)).await?;
            self.recent().evict();
        }
        match slot.known.get().expect("it was learnt") {
            Known::Compiled(compiled) => Ok(compiled.clone()),
            Known::Refused(why, _) => Err(why.clone()),
        }
    }

    /// The compiled module `hash` for an instance beside others, which no component can be.
    pub(super) async fn get_together(&self, hash: BlobHash, blobs: &dyn Blobs) -> Result<Module, NoModule> {
        match self.get(hash, blobs).await? {
            Compiled::Module(module) => self.maker.together(module).await,
            Compiled::Component(_) => Err(NoModule::Invalid),
        }
    }

    async fn learn(&self, slot: &Arc<Slot>, hash: BlobHash, blobs: &dyn Blobs) -> Result<Known, NoModule> {
        match self.make(slot, hash, blobs).await {
            Ok(compiled) => Ok(Known::Compiled(compiled)),
            Err(why @ NoModule::Invalid) => Ok(Known::Refused(why, None)),
            Err(why @ NoModule::Limit(_)) => Ok(Known::Refused(why, Some(Instant::now() + REFUSED_FOR))),
            Err(why) => Err(why),
        }
    }

    async fn make(&self, slot: &Slot, hash: BlobHash, blobs: &dyn Blobs) -> Result<Compiled, NoModule> {
        let begun = Option::<Compilation>::clone(&slot.compilation());
        if let Some(begun) = begun {
            return begun.await;
        }
        if let Some(compiled) = self.maker.load(hash).await? {
            return Ok(compiled);
        }
        let bytes = blobs.read(hash, MAX_MODULE_BYTES).await;
        let bytes = bytes.map_err(|error| NoModule::Missing(format!("module {}: {error}", hash.short())))?;
        let compilation = Arc::clone(&self.maker).compile(hash, bytes).boxed().shared();
        *slot.compilation() = Some(compilation.clone());
        let made = compilation.await;
        *slot.compilation() = None;
        made
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Compiled {
    /// What it takes of memory.
    fn bytes(&self) -> usize {
        match self {
            Self::Module(module) if module.together.get().is_some() => 2 * module.code_bytes,
            Self::Module(module) => module.code_bytes,
            Self::Component(command) => command.code_bytes,
        }
    }
}
