//! WASI preview 2 for components, over the same world as preview 1.
//!
//! Each function is a step in the world, wrapped alike: it is recorded, charged for, and its errors are told in the
//! way of its interface. Nothing here waits: streams are always ready, and polling clocks moves virtual time.

pub(crate) mod types;

mod record;

mod process;

mod streams;

mod files;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentNamedList, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType};

use super::abi::Stop;
use super::types::{Answer, Errno, Fault};
use super::world::World;
use crate::wasm::fuel::Fuel;
use record::Recorded;
use types::{ErrorCode, StreamError, StreamFault};

/// The version of every interface; components of other versions 0.2 link against it too.
const VERSION: &str = "0.2.12";
/// What a call costs, in fuel, before what it moves (a unit a byte).
const CALL_FUEL: u64 = 100;
/// What a step in the file system costs, in fuel.
const STEP_FUEL: u64 = 20;
/// Handles that a component has at once, streams and pollables included.
pub(crate) const MAX_HANDLES: usize = 65_536;
/// What is recorded as the result of a call that ended the run; error numbers are smaller.
const ENDED: u64 = 1 << 32;

/// Every interface that is provided, without its version.
pub(crate) const INTERFACES: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Defines every interface.
pub(crate) fn add_to_linker<T: Data>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    process::define(linker)?;
    streams::define(linker)?;
    files::define(linker)
}

/// What the store of a component's run gives: its world, and the fuel that calls are charged from.
pub(crate) trait Data: AsMut<World> + AsMut<Fuel> + 'static {}

impl<T: AsMut<World> + AsMut<Fuel> + 'static> Data for T {}

/// One call in progress.
struct Call<'a> {
    world: &'a mut World,
    fuel: u64,
}

/// An interface in the making.
struct Interface<'a, T: 'static> {
    linker: LinkerInstance<'a, T>,
    name: &'static str,
}

impl<'a, T: Data> Interface<'a, T> {
    fn new(linker: &'a mut Linker<T>, name: &'static str) -> wasmtime::Result<Self> {
        let linker = linker.instance(&format!("{name}@{VERSION}"))?;
        Ok(Self { linker, name })
    }

    /// A function that has no errors: one that cannot be answered ends the run.
    fn sure<P, R>(&mut self, name: &str, act: fn(&mut Call<'_>, P) -> Answer<R>) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Recorded + 'static,
        R: Lower + Recorded + 'static,
        (R,): ComponentNamedList + Lower,
    {
        let full = format!("{}.{name}", self.name);
        self.linker.func_wrap(name, move |mut store, arguments: P| {
            let answer = call(&mut store, &full, arguments, act)?;
            answer.map(|result| (result,)).map_err(|errno| wasmtime::Error::new(Stop::Refused(errno)))
        })
    }

    /// A function that has neither errors nor a result.
    fn done<P>(&mut self, name: &str, act: fn(&mut Call<'_>, P) -> Answer<()>) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Recorded + 'static,
    {
        let full = format!("{}.{name}", self.name);
        self.linker.func_wrap(name, move |mut store, arguments: P| {
            let answer = call(&mut store, &full, arguments, act)?;
            answer.map_err(|errno| wasmtime::Error::new(Stop::Refused(errno)))
        })
    }

    /// A function of the file system: errors are error codes.
    fn code<P, R>(&mut self, name: &str, act: fn(&mut Call<'_>, P) -> Answer<R>) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Recorded + 'static,
        R: Lower + Recorded + 'static,
        (Result<R, ErrorCode>,): ComponentNamedList + Lower,
    {
        let full = format!("{}.{name}", self.name);
        self.linker.func_wrap(name, move |mut store, arguments: P| {
            let answer = call(&mut store, &full, arguments, act)?;
            Ok((answer.map_err(ErrorCode::from),))
        })
    }

    /// A function of a stream: nothing means that the stream is at its end, errors are kept as resources.
    fn stream<P, R>(&mut self, name: &str, act: fn(&mut Call<'_>, P) -> Answer<Option<R>>) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Recorded + 'static,
        R: Lower + Recorded + 'static,
        (Result<R, StreamError>,): ComponentNamedList + Lower,
    {
        let full = format!("{}.{name}", self.name);
        self.linker.func_wrap(name, move |mut store: StoreContextMut<'_, T>, arguments: P| {
            let answer = call(&mut store, &full, arguments, act)?;
            Ok((match answer {
                Ok(Some(result)) => Ok(result),
                Ok(None) => Err(StreamError::Closed),
                Err(errno) => {
                    let fault = AsMut::<World>::as_mut(store.data_mut()).resources.push(StreamFault(errno));
                    Err(StreamError::LastOperationFailed(fault?))
                }
            },))
        })
    }

    /// A resource, and what is to be done when its last handle is dropped.
    fn resource<R: Send + 'static>(
        &mut self,
        name: &str,
        act: fn(&mut World, R) -> Answer<()>,
    ) -> wasmtime::Result<()> {
        let full = format!("{}.[drop]{name}", self.name);
        self.linker.resource(name, ResourceType::host::<R>(), move |mut store, handle| {
            let world: &mut World = store.data_mut().as_mut();
            world.calls.begin(&full, &[("handle", u64::from(handle))]);
            let dropped = world.resources.delete(Resource::<R>::new_own(handle))?;
            let answer = act(world, dropped);
            world.calls.end(0);
            match answer {
                Err(Fault::Host(error)) => Err(wasmtime::Error::new(Stop::Host(error))),
                _ => Ok(()),
            }
        })
    }
}

/// Performs one call: records it, charges for it, and ends the run where that is the answer. The program has given all
/// its fuel back before.
fn call<T: Data, P: Recorded, R: Recorded>(
    store: &mut StoreContextMut<'_, T>,
    name: &str,
    arguments: P,
    act: impl FnOnce(&mut Call<'_>, P) -> Answer<R>,
) -> wasmtime::Result<Result<R, Errno>> {
    let fuel = AsMut::<Fuel>::as_mut(store.data_mut()).left();
    let mut call = Call { world: store.data_mut().as_mut(), fuel };
    call.world.calls.begin(name, &[]);
    arguments.record(&mut call.world.calls);
    let answer = call.charge(CALL_FUEL).and_then(|()| act(&mut call, arguments));
    let work = call.world.tree.take_work();
    let answer = call.charge(work * STEP_FUEL).and(answer);
    let calls = &mut call.world.calls;
    let result = match &answer {
        Ok(result) => {
            result.record(calls);
            0
        }
        Err(Fault::Errno(errno)) => *errno as u64,
        Err(Fault::Host(_) | Fault::OutOfFuel) => ENDED,
    };
    calls.end(result);
    let fuel = call.fuel;
    AsMut::<Fuel>::as_mut(store.data_mut()).leave(fuel);
    match answer {
        Ok(result) => Ok(Ok(result)),
        Err(Fault::Errno(errno)) => Ok(Err(errno)),
        Err(Fault::Host(error)) => Err(wasmtime::Error::new(Stop::Host(error))),
        Err(Fault::OutOfFuel) => Err(wasmtime::Error::new(Stop::OutOfFuel)),
    }
}

impl Call<'_> {
    /// Takes fuel; what is not there ends the run.
    fn charge(&mut self, fuel: u64) -> Answer<()> {
        let left = self.fuel.checked_sub(fuel);
        self.fuel = left.unwrap_or(0);
        left.map(drop).ok_or(Fault::OutOfFuel)
    }

    fn push<R: Send + 'static>(&mut self, resource: R) -> Answer<Resource<R>> {
        Ok(self.world.resources.push(resource).map_err(|_| Errno::NFile)?)
    }

    fn get<R: 'static>(&mut self, handle: &Resource<R>) -> Answer<&mut R> {
        Ok(self.world.resources.get_mut(handle).map_err(|_| Errno::BadF)?)
    }
}
