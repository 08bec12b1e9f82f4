//! Runs a module, rewritten or not, in several engines, and says what could be seen of it.

use std::fmt;

use shoal_executors::wasm::profile;
use shoal_executors::wasm::rewrite::{ENTER, IMPORT, LEAVE, Meter, REFILL};
use wasmtime::{Caller, Config, Engine, Extern, Linker, Module, OptLevel, Store, Strategy, Val, ValType};

/// What could be seen of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What each exported function gave, in name order, as bits; the last may say why it ended instead.
    pub(crate) calls: Vec<Result<Vec<u128>, String>>,
    /// Memories and globals, unless something trapped: a trap may come before or after a store.
    pub(crate) state: Vec<(String, u128)>,
    /// Fuel used, if nothing trapped.
    pub(crate) fuel: Option<i64>,
}

/// A host that hands out fuel.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) reserve: i64,
    pub(crate) slice: i32,
    pub(crate) refills: u32,
    kept: i32,
}

/// How a host ends a run.
#[derive(Debug)]
pub(crate) struct Stopped(&'static str);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Stopped {}
impl wasmi::errors::HostError for Stopped {}

impl Host {
    pub(crate) fn new(reserve: i64, slice: i32) -> Self {
        Self { reserve, slice, refills: 0, kept: 0 }
    }

    pub(crate) fn refill(&mut self, meter: i64) -> Result<i64, Stopped> {
        let meter = Meter::from_bits(meter);
        self.refills += 1;
        self.reserve += i64::from(meter.fuel);
        if meter.stack < 0 {
            return Err(Stopped("stack"));
        }
        if self.reserve < 0 {
            return Err(Stopped("fuel"));
        }
        let fuel = self.slice.min(i32::try_from(self.reserve).unwrap_or(i32::MAX));
        self.reserve -= i64::from(fuel);
        Ok(Meter { fuel, ..meter }.to_bits())
    }

    /// Takes all fuel back and lends some.
    pub(crate) fn settle(&mut self, meter: i64) -> Result<i64, Stopped> {
        let meter = Meter::from_bits(meter);
        self.reserve += i64::from(meter.fuel);
        if self.reserve < 0 {
            return Err(Stopped("fuel"));
        }
        Ok(Meter { fuel: 1 << 26, ..meter }.to_bits())
    }

    fn full(&mut self) -> i64 {
        Meter::full(std::mem::take(&mut self.kept)).to_bits()
    }

    pub(crate) fn keep(&mut self, meter: i64) {
        self.kept = Meter::from_bits(meter).fuel;
    }

    pub(crate) fn left(&self) -> i64 {
        self.reserve + i64::from(self.kept)
    }
}

/// The profile's own engine.
pub(crate) fn cranelift() -> Config {
    profile::config()
}

/// Code as it comes, without optimisation.
pub(crate) fn unoptimised() -> Config {
    let mut config = profile::config();
    config.cranelift_opt_level(OptLevel::None);
    config
}

/// Another compiler; it takes neither exceptions, tail calls nor atomics.
pub(crate) fn winch() -> Config {
    let mut config = profile::config();
    config.strategy(Strategy::Winch).wasm_exceptions(false).wasm_tail_call(false).wasm_threads(false);
    config
}

/// Portable bytecode, interpreted.
pub(crate) fn pulley() -> Config {
    let mut config = profile::config();
    config.target("pulley64").expect("pulley is built in").wasm_threads(false);
    config
}

/// Every NaN made canonical where it arises: what the rewrite must be equal to.
pub(crate) fn blanket() -> Config {
    let mut config = profile::config();
    config.cranelift_nan_canonicalization(true);
    config
}

/// Runs all exported functions; none if the engine does not take the module.
pub(crate) fn run(config: &Config, module: &[u8], metered: bool, host: &mut Host) -> Option<Seen> {
    let engine = Engine::new(config).expect("a configuration");
    let module = Module::new(&engine, module).ok()?;
    let mut store = Store::new(&engine, host.clone());
    let start = host.reserve;
    let mut linker = Linker::new(&engine);
    define(&mut linker).expect("a linker");
    let mut seen = Seen { calls: vec![], state: vec![], fuel: None };
    match linker.instantiate(&mut store, &module) {
        Ok(instance) => see(&mut store, &instance, metered, &mut seen),
        Err(error) => seen.calls.push(Err(why(&error))),
    }
    if seen.calls.last().is_none_or(Result::is_ok) {
        seen.fuel = metered.then(|| start - store.data().left());
    }
    *host = store.data().clone();
    Some(seen)
}

fn define(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(IMPORT, REFILL, |mut caller: Caller<'_, Host>, meter: i64| -> wasmtime::Result<i64> {
        Ok(caller.data_mut().refill(meter)?)
    })?;
    linker.func_wrap(IMPORT, LEAVE, |mut caller: Caller<'_, Host>, meter: i64| caller.data_mut().keep(meter))?;
    linker.func_wrap(IMPORT, ENTER, |mut caller: Caller<'_, Host>| {
        i64::from(std::mem::take(&mut caller.data_mut().kept))
    })?;
    Ok(())
}

fn see(store: &mut Store<Host>, instance: &wasmtime::Instance, metered: bool, seen: &mut Seen) {
    let mut exports: Vec<_> = instance.exports(&mut *store).map(|e| (e.name().to_owned(), e.into_extern())).collect();
    exports.sort_by(|a, b| a.0.cmp(&b.0));
    for (_, export) in &exports {
        let Extern::Func(function) = export else { continue };
        let result = call(store, function, metered);
        let ended = result.is_err();
        seen.calls.push(result);
        if ended {
            return;
        }
    }
    for (name, export) in exports {
        match export {
            Extern::Memory(memory) => seen.state.push((name, digest(memory.data(&*store)))),
            Extern::Global(global) => {
                let value = global.get(&mut *store);
                seen.state.push((name, bits(&value)));
            }
            _ => {}
        }
    }
}

fn call(store: &mut Store<Host>, function: &wasmtime::Func, metered: bool) -> Result<Vec<u128>, String> {
    let ty = function.ty(&*store);
    let mut arguments: Vec<_> = ty.params().map(|ty| argument(&ty)).collect();
    if metered {
        arguments.pop();
        arguments.push(Val::I64(store.data_mut().full()));
    }
    let mut results = vec![Val::I32(0); ty.results().len()];
    function.call(&mut *store, &arguments, &mut results).map_err(|error| why(&error))?;
    if metered && let Some(Val::I64(meter)) = results.pop() {
        store.data_mut().keep(meter);
    }
    Ok(results.iter().map(bits).collect())
}

fn argument(ty: &ValType) -> Val {
    match ty {
        ValType::I32 => Val::I32(3),
        ValType::I64 => Val::I64(-5),
        ValType::F32 => Val::F32(1.5_f32.to_bits()),
        ValType::F64 => Val::F64((-0.25_f64).to_bits()),
        ValType::V128 => Val::V128(0x7fc0_0001_ff80_0000_3f80_0000_0000_0001.into()),
        ValType::Ref(ty) => Val::null_ref(ty.heap_type()),
    }
}

fn bits(value: &Val) -> u128 {
    match value {
        Val::I32(value) => u128::from(value.cast_unsigned()),
        Val::I64(value) => u128::from(value.cast_unsigned()),
        Val::F32(value) => u128::from(*value),
        Val::F64(value) => u128::from(*value),
        Val::V128(value) => value.as_u128(),
        Val::FuncRef(function) => u128::from(function.is_some()),
        Val::ExternRef(value) => u128::from(value.is_some()),
        _ => 0,
    }
}

pub(crate) fn digest(memory: &[u8]) -> u128 {
    let hash = blake3::hash(memory);
    u128::from_le_bytes(std::array::from_fn(|i| hash.as_bytes()[i]))
}

pub(crate) fn why(error: &wasmtime::Error) -> String {
    use wasmtime::Trap as T;
    if let Some(stopped) = error.downcast_ref::<Stopped>() {
        return stopped.to_string();
    }
    if error.is::<wasmtime::ThrownException>() {
        return "exception".into();
    }
    match error.downcast_ref::<T>() {
        Some(T::UnreachableCodeReached) => "unreachable".into(),
        Some(T::MemoryOutOfBounds | T::HeapMisaligned) => "memory".into(),
        Some(T::TableOutOfBounds | T::IndirectCallToNull) => "table".into(),
        Some(T::BadSignature) => "signature".into(),
        Some(T::IntegerOverflow | T::IntegerDivisionByZero | T::BadConversionToInteger) => "arithmetic".into(),
        Some(T::NullReference) => "null".into(),
        _ => format!("{error:#}"),
    }
}

/// As [`run`], of a rewritten module in an engine that shares no code with wasmtime.
pub(crate) fn run_in_wasmi(module: &[u8], metered: bool, host: &mut Host) -> Option<Seen> {
    let mut config = wasmi::Config::default();
    config.wasm_tail_call(true).wasm_simd(true).wasm_multi_memory(false);
    config.set_max_recursion_depth(100_000).set_max_stack_height(64 << 20);
    let engine = wasmi::Engine::new(&config);
    let module = wasmi::Module::new(&engine, module).ok()?;
    let mut store = wasmi::Store::new(&engine, host.clone());
    let start = host.reserve;
    let mut linker = wasmi::Linker::<Host>::new(&engine);
    define_in_wasmi(&mut linker).expect("a linker");
    let mut seen = Seen { calls: vec![], state: vec![], fuel: None };
    match linker.instantiate_and_start(&mut store, &module) {
        Ok(instance) => see_wasmi(&mut store, &instance, metered, &mut seen),
        Err(error) => seen.calls.push(Err(why_wasmi(&error))),
    }
    if seen.calls.last().is_none_or(Result::is_ok) {
        seen.fuel = metered.then(|| start - store.data().left());
    }
    *host = store.data().clone();
    Some(seen)
}

fn define_in_wasmi(linker: &mut wasmi::Linker<Host>) -> Result<(), wasmi::errors::LinkerError> {
    linker.func_wrap(
        IMPORT,
        REFILL,
        |mut caller: wasmi::Caller<'_, Host>, meter: i64| -> Result<i64, wasmi::Error> {
            caller.data_mut().refill(meter).map_err(wasmi::Error::host)
        },
    )?;
    linker.func_wrap(IMPORT, LEAVE, |mut caller: wasmi::Caller<'_, Host>, meter: i64| caller.data_mut().keep(meter))?;
    linker.func_wrap(IMPORT, ENTER, |mut caller: wasmi::Caller<'_, Host>| -> i64 {
        i64::from(std::mem::take(&mut caller.data_mut().kept))
    })?;
    Ok(())
}

fn see_wasmi(store: &mut wasmi::Store<Host>, instance: &wasmi::Instance, metered: bool, seen: &mut Seen) {
    let mut exports: Vec<_> = instance.exports(&*store).map(|e| (e.name().to_owned(), e.into_extern())).collect();
    exports.sort_by(|a, b| a.0.cmp(&b.0));
    for (_, export) in &exports {
        let wasmi::Extern::Func(function) = export else { continue };
        let result = call_wasmi(store, *function, metered);
        let ended = result.is_err();
        seen.calls.push(result);
        if ended {
            return;
        }
    }
    for (name, export) in exports {
        match export {
            wasmi::Extern::Memory(memory) => seen.state.push((name, digest(memory.data(&*store)))),
            wasmi::Extern::Global(global) => seen.state.push((name, bits_wasmi(&global.get(&*store)))),
            _ => {}
        }
    }
}

fn call_wasmi(store: &mut wasmi::Store<Host>, function: wasmi::Func, metered: bool) -> Result<Vec<u128>, String> {
    let ty = function.ty(&*store);
    let mut arguments: Vec<_> = ty.params().iter().map(|ty| argument_wasmi(*ty)).collect();
    if metered {
        arguments.pop();
        arguments.push(wasmi::Val::I64(store.data_mut().full()));
    }
    let mut results: Vec<_> = ty.results().iter().map(|ty| wasmi::Val::default(*ty)).collect();
    function.call(&mut *store, &arguments, &mut results).map_err(|error| why_wasmi(&error))?;
    if metered && let Some(wasmi::Val::I64(meter)) = results.pop() {
        store.data_mut().keep(meter);
    }
    Ok(results.iter().map(bits_wasmi).collect())
}

fn argument_wasmi(ty: wasmi::ValType) -> wasmi::Val {
    match ty {
        wasmi::ValType::I32 => wasmi::Val::I32(3),
        wasmi::ValType::I64 => wasmi::Val::I64(-5),
        wasmi::ValType::F32 => wasmi::Val::F32(1.5_f32.into()),
        wasmi::ValType::F64 => wasmi::Val::F64((-0.25_f64).into()),
        wasmi::ValType::V128 => wasmi::Val::V128(0x7fc0_0001_ff80_0000_3f80_0000_0000_0001.into()),
        other => wasmi::Val::default(other),
    }
}

fn bits_wasmi(value: &wasmi::Val) -> u128 {
    match value {
        wasmi::Val::I32(value) => u128::from(value.cast_unsigned()),
        wasmi::Val::I64(value) => u128::from(value.cast_unsigned()),
        wasmi::Val::F32(value) => u128::from(value.to_bits()),
        wasmi::Val::F64(value) => u128::from(value.to_bits()),
        wasmi::Val::V128(value) => value.as_u128(),
        wasmi::Val::FuncRef(function) => u128::from(!function.is_null()),
        wasmi::Val::ExternRef(value) => u128::from(!value.is_null()),
    }
}

fn why_wasmi(error: &wasmi::Error) -> String {
    use wasmi::TrapCode as T;
    if let Some(stopped) = error.downcast_ref::<Stopped>() {
        return stopped.to_string();
    }
    match error.as_trap_code() {
        Some(T::UnreachableCodeReached) => "unreachable".into(),
        Some(T::MemoryOutOfBounds) => "memory".into(),
        Some(T::TableOutOfBounds | T::IndirectCallToNull) => "table".into(),
        Some(T::BadSignature) => "signature".into(),
        Some(T::IntegerOverflow | T::IntegerDivisionByZero | T::BadConversionToInteger) => "arithmetic".into(),
        // Bulk work on tables fails without a code.
        _ if error.to_string().starts_with("out of bounds table access") => "table".into(),
        _ => format!("wasmi: {error}"),
    }
}
