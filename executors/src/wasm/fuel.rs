//! A run's fuel: handed to the program in slices, taken back when it calls.
//!
//! A slice ends at the same place of the program on every machine. That is where the host looks whether the run was
//! stopped, and where a run that is looked into has its checkpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::{Caller, Linker, StoreContextMut, component};

use super::checkpoints;
use super::host::Host;
use super::rewrite::{ENTER, IMPORT, LEAVE, Meter, REFILL, REFILL_COMPONENT, SETTLE_COMPONENT};
use crate::wasi::abi::Stop;

/// Fuel that a program has in hand at most. It takes well under a millisecond, some ten when every unit is a page
/// that the machine must find first.
const SLICE: i32 = 100_000;
/// Fuel that a component's allocator may use up while the host hands over a result, when it can neither ask for more nor
/// be stopped. A loop of nothing uses it up in 6 ms, code that waits for memory in some ten times that.
const LOAN: i32 = 1 << 26;

/// Fuel that a run has left.
#[derive(Debug)]
pub(crate) struct Fuel {
    /// Not handed out.
    reserve: u64,
    /// Handed back while no function of the program has the meter: between calls, and while an exception flies.
    kept: i32,
    killed: Arc<AtomicBool>,
}

impl Fuel {
    pub(crate) fn new(limit: u64, killed: Arc<AtomicBool>) -> Self {
        Self { reserve: limit, kept: 0, killed }
    }

    /// What is left, as far as the program has told.
    pub(crate) fn left(&self) -> u64 {
        self.reserve.saturating_add_signed(self.kept.into())
    }

    /// Leaves what a component's call to the host has not used.
    pub(crate) fn leave(&mut self, left: u64) {
        self.reserve = left;
    }

    /// Takes a component's fuel back before it calls the host, and lends it some. The loan is not handed out: what of
    /// it was used is missing when the component's fuel is taken the next time.
    fn settle(&mut self, meter: Meter) -> Result<Meter, Stop> {
        self.reserve = self.take(meter)?;
        Ok(Meter { fuel: i32::try_from(self.reserve).unwrap_or(i32::MAX).min(LOAN), ..meter })
    }

    /// Takes all the fuel back, the program's too, for a call to be charged.
    pub(crate) fn take(&self, meter: Meter) -> Result<u64, Stop> {
        if self.killed.load(Ordering::Relaxed) {
            return Err(Stop::Killed);
        }
        if meter.stack < 0 {
            return Err(Stop::StackExhausted);
        }
        self.reserve.checked_add_signed(meter.fuel.into()).ok_or(Stop::OutOfFuel)
    }

    /// Hands out at most `slice` of what is left.
    pub(crate) fn give(&mut self, left: u64, meter: Meter, slice: i32) -> Meter {
        let fuel = i32::try_from(left).unwrap_or(i32::MAX).min(slice.max(0));
        self.reserve = left.saturating_sub(u64::from(fuel.unsigned_abs()));
        Meter { fuel, ..meter }
    }

    fn refill(&mut self, meter: Meter) -> Result<Meter, Stop> {
        let left = self.take(meter)?;
        Ok(self.give(left, meter, SLICE))
    }

    /// The meter for a call into the program.
    pub(crate) fn full(&mut self) -> i64 {
        Meter::full(std::mem::take(&mut self.kept)).to_bits()
    }

    /// Keeps the fuel of a call that returned.
    pub(crate) fn keep(&mut self, meter: i64) {
        self.kept = Meter::from_bits(meter).fuel;
    }
}

/// Defines what rewritten modules ask of the host.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(IMPORT, REFILL, |mut caller: Caller<'_, Host>, meter: i64| -> wasmtime::Result<i64> {
        let meter = caller.data_mut().fuel.refill(Meter::from_bits(meter))?;
        checkpoints::pass(&mut caller);
        Ok(meter.to_bits())
    })?;
    linker.func_wrap(IMPORT, LEAVE, |mut caller: Caller<'_, Host>, meter: i64| caller.data_mut().fuel.keep(meter))?;
    linker.func_wrap(IMPORT, ENTER, |mut caller: Caller<'_, Host>| -> i64 {
        i64::from(std::mem::take(&mut caller.data_mut().fuel.kept))
    })?;
    Ok(())
}

/// Defines what rewritten components ask of the host.
pub(super) fn add_to_component_linker(linker: &mut component::Linker<Host>) -> wasmtime::Result<()> {
    let mut root = linker.root();
    root.func_wrap(REFILL_COMPONENT, |mut store: StoreContextMut<'_, Host>, (meter,): (i64,)| {
        let meter = store.data_mut().fuel.refill(Meter::from_bits(meter))?;
        checkpoints::pass_in_component(store);
        Ok((meter.to_bits(),))
    })?;
    root.func_wrap(SETTLE_COMPONENT, |mut store: StoreContextMut<'_, Host>, (meter,): (i64,)| {
        Ok((store.data_mut().fuel.settle(Meter::from_bits(meter))?.to_bits(),))
    })
}
