//! What a run that is looked into notes at the ends of its slices of fuel.
//!
//! A slice ends at the same place of the program on every machine, where the program's memory and calls are the same
//! too. The memory is the one that the module exports as `memory`, as each must that calls WASI.

use shoal_protocol::limits::MAX_BACKTRACE_BYTES;
use shoal_protocol::trace::{Checkpoint, Mark, TraceRequest, Window};
use wasmtime::{AsContextMut, Caller, Extern, Memory, StoreContextMut, WasmBacktrace};

use super::backtrace;
use super::host::Host;
use crate::wasi::calls::{clip, mark};

/// Notes what was asked for.
#[derive(Debug)]
pub(super) struct Checkpoints {
    window: Window,
    describe: Option<u64>,
    /// What the run began with, to tell what was used.
    fuel: u64,
    pub(super) passed: u64,
    pub(super) marks: Vec<Mark>,
    pub(super) described: Option<Checkpoint>,
}

impl Checkpoints {
    pub(super) fn new(request: TraceRequest, fuel: u64) -> Self {
        let (window, describe) = (request.checkpoints, request.checkpoint);
        Self { window, describe, fuel, passed: 0, marks: Vec::new(), described: None }
    }
}

/// A module has used up a slice.
pub(super) fn pass(caller: &mut Caller<'_, Host>) {
    if caller.data().checkpoints.is_some() {
        let memory = caller.get_export("memory").and_then(Extern::into_memory);
        pass_with(caller.as_context_mut(), memory);
    }
}

/// A component has used up a slice. Its memories are hidden from the host, so what it has called and used must do.
pub(super) fn pass_in_component(store: StoreContextMut<'_, Host>) {
    pass_with(store, None);
}

fn pass_with(mut store: StoreContextMut<'_, Host>, memory: Option<Memory>) {
    let Some(mut checkpoints) = store.data_mut().checkpoints.take() else { return };
    let number = checkpoints.passed;
    checkpoints.passed += 1;
    if checkpoints.window.point(checkpoints.marks.len()) == Some(checkpoints.passed) {
        checkpoints.marks.push(note(&mut store, memory));
    }
    if checkpoints.describe == Some(number) {
        checkpoints.described = Some(describe(&mut store, memory, checkpoints.fuel));
    }
    store.data_mut().checkpoints = Some(checkpoints);
}

fn note(store: &mut StoreContextMut<'_, Host>, memory: Option<Memory>) -> Mark {
    let mut hasher = blake3::Hasher::new();
    if let Some(memory) = memory {
        hasher.update(memory.data(&*store));
    }
    hasher.update(&store.data().fuel.left().to_le_bytes());
    hasher.update(&store.data_mut().world.calls.so_far().digest);
    mark(hasher.finalize().as_bytes())
}

fn describe(store: &mut StoreContextMut<'_, Host>, memory: Option<Memory>, fuel: u64) -> Checkpoint {
    let memory_bytes = memory.map_or(0, |memory| memory.data_size(&*store) as u64);
    let mut backtrace = backtrace::listed(WasmBacktrace::force_capture(&*store).frames()).unwrap_or_default();
    clip(&mut backtrace, MAX_BACKTRACE_BYTES);
    let fuel = fuel.saturating_sub(store.data().fuel.left());
    let calls = store.data_mut().world.calls.so_far().count;
    Checkpoint { fuel, calls, memory_bytes, backtrace }
}
