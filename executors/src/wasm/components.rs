//! Components: WASI preview 2 commands.

use shoal_protocol::task::{Outcome, Trap};
use wasmtime::component::{Instance, InstancePre, TypedFunc};
use wasmtime::{Engine, Store};

use super::host::{Host, HostIsFull};
use super::profile::MAX_HANDED_BYTES;
use super::rewrite::READ;
use super::run::{End, Runnable, end_of_instantiation, stopped};
use crate::wasi::abi::Stop;

/// The interface that a command exports, whatever its version 0.2 is.
pub(super) const RUN: &str = "wasi:cli/run@0.2.";

/// A compiled component, linked.
#[derive(Clone)]
pub(super) struct Command {
    pub(super) linked: InstancePre<Host>,
    pub(super) code_bytes: usize,
}

impl Runnable for Command {
    fn engine(&self) -> &Engine {
        self.linked.engine()
    }

    fn run(&self, store: &mut Store<Host>) -> End {
        store.set_hostcall_fuel(MAX_HANDED_BYTES);
        let instance = match self.linked.instantiate(&mut *store) {
            Ok(instance) => instance,
            Err(error) => return end_of_instantiation(store, &error),
        };
        let Some(run) = self.entry(store, &instance) else {
            return End::Vote(Outcome::Trapped(Trap::Instantiation));
        };
        match run.call(&mut *store, ()) {
            Ok((result,)) => {
                keep_fuel(store, &instance);
                End::Vote(Outcome::Exited(result.is_err().into()))
            }
            Err(error) => end_of_call(store, &error),
        }
    }
}

impl Command {
    fn entry(&self, store: &mut Store<Host>, instance: &Instance) -> Option<TypedFunc<(), (Result<(), ()>,)>> {
        let kind = self.linked.component().component_type();
        let name = kind.exports(self.linked.engine()).map(|(name, _)| name).find(|name| name.starts_with(RUN))?;
        let interface = instance.get_export_index(&mut *store, None, name)?;
        let run = instance.get_export_index(&mut *store, Some(&interface), "run")?;
        instance.get_typed_func(&mut *store, run).ok()
    }
}

/// The fuel in hand of a program that has returned.
fn keep_fuel(store: &mut Store<Host>, instance: &Instance) {
    let read = instance.get_typed_func::<(), (i64,)>(&mut *store, READ);
    let meter = read.and_then(|read| read.call(&mut *store, ()));
    let (meter,) = meter.expect("every rewritten component tells its meter");
    store.data_mut().fuel.keep(meter);
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
