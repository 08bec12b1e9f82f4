//! Components: WASI preview 2 commands, compiled for an engine of their own and kept in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::{Outcome, Trap};
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::component::{Component, Instance, InstancePre, Linker, TypedFunc};
use wasmtime::{Engine, Store, UpdateDeadline};

use super::host::{Host, HostIsFull};
use super::modules::NoModule;
use super::profile::{self, MAX_MODULE_BYTES};
use super::run::{End, Runnable, end_of_instantiation, stopped};
use super::{WasmConfig, inspect};
use crate::Blobs;
use crate::wasi;
use crate::wasi::abi::Stop;

/// The interface that a command exports, whatever its version 0.2 is.
pub(super) const RUN: &str = "wasi:cli/run@0.2.";

/// Compiled components that are kept in memory.
const MAX_COMPONENTS: usize = 16;

/// All compiled components that are at hand.
pub(super) struct Components {
    engine: Engine,
    linker: Linker<Host>,
    recent: Mutex<BTreeMap<BlobHash, (u64, Cell)>>,
    compiling: Arc<Semaphore>,
}

/// Filled once, however many ask for it.
type Cell = Arc<OnceCell<Command>>;

/// A component, linked.
#[derive(Clone)]
pub(super) struct Command(InstancePre<Host>);

impl Components {
    pub(super) fn new(config: &WasmConfig) -> wasmtime::Result<Self> {
        let engine = Engine::new(&profile::component_config())?;
        let mut linker = Linker::new(&engine);
        wasi::component::add_to_linker(&mut linker)?;
        let recent = Mutex::default();
        Ok(Self { engine, linker, recent, compiling: Arc::new(Semaphore::new(config.compilations.max(1))) })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) async fn get(&self, hash: BlobHash, blobs: &dyn Blobs) -> Result<Command, NoModule> {
        self.cell(hash).get_or_try_init(|| self.make(hash, blobs)).await.cloned()
    }

    fn cell(&self, hash: BlobHash) -> Cell {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let last = recent.values().map(|(used, _)| *used).max().unwrap_or(0);
        let (used, cell) = recent.entry(hash).or_default();
        *used = last + 1;
        let cell = Arc::clone(cell);
        if recent.len() > MAX_COMPONENTS {
            let oldest = recent.iter().min_by_key(|(_, (used, _))| *used).map(|(hash, _)| *hash);
            oldest.and_then(|hash| recent.remove(&hash));
        }
        cell
    }

    async fn make(&self, hash: BlobHash, blobs: &dyn Blobs) -> Result<Command, NoModule> {
        let bytes = blobs.read(hash, MAX_MODULE_BYTES).await;
        let bytes = bytes.map_err(|error| NoModule::Missing(format!("component {}: {error}", hash.short())))?;
        let permit = Arc::clone(&self.compiling).acquire_owned().await.map_err(|e| NoModule::Host(e.to_string()))?;
        let engine = self.engine.clone();
        let compiled = tokio::task::spawn_blocking(move || {
            // Held by the compilation itself, which goes on when nobody waits for it any more.
            let _permit = permit;
            compile(&engine, hash, &bytes)
        });
        let component =
            compiled.await.map_err(|error| NoModule::Host(format!("compilation did not end: {error}")))??;
        // What does not link does so nowhere: every machine of the profile provides the same.
        self.linker.instantiate_pre(&component).map(Command).map_err(|error| {
            tracing::debug!(%error, "component refused");
            NoModule::Invalid
        })
    }
}

fn compile(engine: &Engine, hash: BlobHash, bytes: &Bytes) -> Result<Component, NoModule> {
    inspect::inspect(engine, hash, bytes).map_err(|_| NoModule::Invalid)?;
    Component::new(engine, bytes).map_err(|error| {
        tracing::debug!(%error, "component refused");
        // The engine allows less than the inspection and says so alike everywhere; anything else is this machine.
        match error.is::<wasmparser::BinaryReaderError>() {
            true => NoModule::Invalid,
            false => NoModule::Host(format!("compiler: {error:#}")),
        }
    })
}

impl Runnable for Command {
    fn engine(&self) -> &Engine {
        self.0.engine()
    }

    fn run(&self, store: &mut Store<Host>) -> End {
        let limit = store.data().fuel.left();
        if let Err(error) = store.set_fuel(limit) {
            return End::Host(error.to_string());
        }
        // Any run's kill advances the epoch for all; each looks whether it is meant.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| match store.data().fuel.is_killed() {
            true => Ok(UpdateDeadline::Interrupt),
            false => Ok(UpdateDeadline::Continue(1)),
        });
        let end = self.start(store);
        let left = store.get_fuel().unwrap_or(0);
        store.data_mut().fuel.leave(left);
        end
    }
}

impl Command {
    fn start(&self, store: &mut Store<Host>) -> End {
        let instance = match self.0.instantiate(&mut *store) {
            Ok(instance) => instance,
            Err(error) => return end_of_instantiation(store, &error),
        };
        let Some(run) = self.entry(store, &instance) else {
            return End::Vote(Outcome::Trapped(Trap::Instantiation));
        };
        match run.call(&mut *store, ()) {
            Ok((result,)) => End::Vote(Outcome::Exited(result.is_err().into())),
            Err(error) => end_of_call(store, &error),
        }
    }

    fn entry(&self, store: &mut Store<Host>, instance: &Instance) -> Option<TypedFunc<(), (Result<(), ()>,)>> {
        let kind = self.0.component().component_type();
        let name = kind.exports(self.0.engine()).map(|(name, _)| name).find(|name| name.starts_with(RUN))?;
        let interface = instance.get_export_index(&mut *store, None, name)?;
        let run = instance.get_export_index(&mut *store, Some(&interface), "run")?;
        instance.get_typed_func(&mut *store, run).ok()
    }
}

/// Besides traps a component has mistakes of its own: handles that it does not have, strings that are none. Those are
/// the same on every machine.
fn end_of_call(store: &mut Store<Host>, error: &wasmtime::Error) -> End {
    let hosts = error.is::<Stop>() || error.is::<wasmtime::Trap>() || error.is::<HostIsFull>();
    match stopped(store, error) {
        End::Host(_) if !hosts && !error.is::<wasmtime::OutOfMemory>() => End::Vote(Outcome::Trapped(Trap::Other)),
        end => end,
    }
}
