//! What a running program's store holds: its world, and the limits on its memory.

use wasmtime::{ResourceLimiter, Result};

use super::checkpoints::Checkpoints;
use super::fuel::Fuel;
use super::profile::MAX_TABLE_ELEMENTS;
use crate::wasi::world::World;

/// How wasmtime says that a memory would outgrow its type, before it asks the limiter.
const BEYOND_TYPE: &str = "exceeds memory type's limits";

/// The data of a program's store.
pub(super) struct Host {
    pub(super) world: World,
    pub(super) fuel: Fuel,
    pub(super) limiter: Limiter,
    /// Where the program trapped, for people.
    pub(super) backtrace: Option<String>,
    /// What is noted at the ends of slices; none in an ordinary run.
    pub(super) checkpoints: Option<Box<Checkpoints>>,
}

impl AsMut<World> for Host {
    fn as_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

impl AsMut<Fuel> for Host {
    fn as_mut(&mut self) -> &mut Fuel {
        &mut self.fuel
    }
}

/// Counts all memories and tables of a run against its limits.
///
/// Over a limit the program sees -1, on every machine. When the host itself has no memory left the run ends without
/// a vote: that must never look like -1.
#[derive(Debug)]
pub(super) struct Limiter {
    memory_limit: usize,
    memory_left: usize,
    elements_left: usize,
    /// Something was refused: a module that cannot be instantiated for that reason is a vote.
    pub(super) refused: bool,
}

impl Limiter {
    pub(super) fn new(memory_bytes: u64) -> Self {
        let memory_limit = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
        Self { memory_limit, memory_left: memory_limit, elements_left: MAX_TABLE_ELEMENTS, refused: false }
    }

    /// The most memory that the run had so far, in bytes: memories never shrink.
    pub(super) fn peak_bytes(&self) -> u64 {
        (self.memory_limit - self.memory_left) as u64
    }
}

/// The machine has no memory left: never the program's fault.
#[derive(Debug, thiserror::Error)]
#[error("the host could not grow a {0}")]
pub(super) struct HostIsFull(&'static str);

fn grow(left: &mut usize, current: usize, desired: usize) -> bool {
    match left.checked_sub(desired.saturating_sub(current)) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        // Growth beyond the memory's own maximum fails without us and takes nothing.
        let granted = maximum.is_none_or(|maximum| desired <= maximum) && grow(&mut self.memory_left, current, desired);
        self.refused |= !granted;
        Ok(granted)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        // Also told when a memory would outgrow its type, which is the same everywhere.
        if error.to_string().contains(BEYOND_TYPE) {
            return Ok(());
        }
        Err(error.context(HostIsFull("memory")))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let granted =
            maximum.is_none_or(|maximum| desired <= maximum) && grow(&mut self.elements_left, current, desired);
        self.refused |= !granted;
        Ok(granted)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        Err(error.context(HostIsFull("table")))
    }
}
