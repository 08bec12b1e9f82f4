//! Arguments, environment, exit, clocks and chance.

use wasmtime::component::Linker;

use super::types::{Datetime, Pollable, Terminal};
use super::{Call, Data, ENDED, Interface};
use crate::wasi::abi::Stop;
use crate::wasi::clock::{TICK_NS, Which};
use crate::wasi::types::{Answer, Errno};
use crate::wasi::world::World;

/// Most random bytes of one call.
const MAX_RANDOM_BYTES: u64 = 64 << 20;

pub(super) fn define<T: Data>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut environment = Interface::new(linker, "wasi:cli/environment")?;
    environment.sure("get-environment", |call, ()| {
        Ok(call.world.environment.iter().map(|pair| pair_of(pair)).collect::<Vec<_>>())
    })?;
    environment.sure("get-arguments", |call, ()| {
        Ok(call.world.arguments.iter().map(|text| text_of(text)).collect::<Vec<_>>())
    })?;
    environment.sure("initial-cwd", |_, ()| Ok(None::<String>))?;
    exit(linker)?;
    terminals(linker)?;
    clocks(linker)?;
    random(linker)
}

/// Both ways of leaving end the run at once.
fn exit<T: Data>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut exit = Interface::new(linker, "wasi:cli/exit")?;
    exit.linker.func_wrap("exit", |mut store, (status,): (Result<(), ()>,)| -> wasmtime::Result<()> {
        leave(AsMut::as_mut(store.data_mut()), status.is_err().into())
    })?;
    exit.linker.func_wrap("exit-with-code", |mut store, (code,): (u8,)| -> wasmtime::Result<()> {
        leave(AsMut::as_mut(store.data_mut()), code)
    })
}

fn leave(world: &mut World, code: u8) -> wasmtime::Result<()> {
    world.calls.begin("wasi:cli/exit.exit", &[("code", code.into())]);
    world.calls.end(ENDED);
    Err(wasmtime::Error::new(Stop::Exit(code.into())))
}

fn terminals<T: Data>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    Interface::new(linker, "wasi:cli/terminal-input")?
        .resource("terminal-input", |_, never: Terminal<false>| match never {})?;
    Interface::new(linker, "wasi:cli/terminal-output")?
        .resource("terminal-output", |_, never: Terminal<true>| match never {})?;
    Interface::new(linker, "wasi:cli/terminal-stdin")?.sure("get-terminal-stdin", |_, ()| none::<false>())?;
    Interface::new(linker, "wasi:cli/terminal-stdout")?.sure("get-terminal-stdout", |_, ()| none::<true>())?;
    Interface::new(linker, "wasi:cli/terminal-stderr")?.sure("get-terminal-stderr", |_, ()| none::<true>())
}

fn none<const OUTPUT: bool>() -> Answer<Option<wasmtime::component::Resource<Terminal<OUTPUT>>>> {
    Ok(None)
}

fn clocks<T: Data>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut monotonic = Interface::new(linker, "wasi:clocks/monotonic-clock")?;
    monotonic.sure("now", |call, ()| Ok(call.world.clock.read(Which::Monotonic)))?;
    monotonic.sure("resolution", |_, ()| Ok(TICK_NS))?;
    monotonic.sure("subscribe-instant", |call, (when,): (u64,)| call.push(Pollable::Until(when)))?;
    monotonic.sure("subscribe-duration", |call, (span,): (u64,)| {
        let until = call.world.clock.now(Which::Monotonic).saturating_add(span);
        call.push(Pollable::Until(until))
    })?;
    let mut wall = Interface::new(linker, "wasi:clocks/wall-clock")?;
    wall.sure("now", |call, ()| Ok(Datetime::of(call.world.clock.read(Which::RealTime))))?;
    wall.sure("resolution", |_, ()| Ok(Datetime::of(TICK_NS)))
}

fn random<T: Data>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut random = Interface::new(linker, "wasi:random/random")?;
    random.sure("get-random-bytes", |call, (length,): (u64,)| call.random(length))?;
    random.sure("get-random-u64", |call, ()| Ok(call.random_number()))?;
    let mut insecure = Interface::new(linker, "wasi:random/insecure")?;
    insecure.sure("get-insecure-random-bytes", |call, (length,): (u64,)| call.random(length))?;
    insecure.sure("get-insecure-random-u64", |call, ()| Ok(call.random_number()))?;
    let mut seed = Interface::new(linker, "wasi:random/insecure-seed")?;
    seed.sure("insecure-seed", |call, ()| Ok((call.random_number(), call.random_number())))
}

impl Call<'_> {
    fn random(&mut self, length: u64) -> Answer<Vec<u8>> {
        if length > MAX_RANDOM_BYTES {
            return Err(Errno::Inval.into());
        }
        self.charge(length)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| Errno::Inval)?];
        self.world.random.fill(&mut bytes);
        Ok(bytes)
    }

    fn random_number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.world.random.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The world keeps strings as preview 1 tells them: with a final NUL.
fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(b"\0").unwrap_or(bytes)).into_owned()
}

fn pair_of(bytes: &[u8]) -> (String, String) {
    let text = text_of(bytes);
    text.split_once('=').map_or_else(|| (text.clone(), String::new()), |(key, value)| (key.into(), value.into()))
}
