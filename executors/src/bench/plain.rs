//! Guests in wasmtime as it comes, to compare with.

use std::io;
use std::time::{Duration, Instant};

use wasmtime::{Engine, Error, Linker, Module, Store};

/// A guest that imports no more than `proc_exit`.
#[derive(Clone)]
pub(super) struct Plain {
    module: Module,
    linker: Linker<()>,
}

impl Plain {
    pub(super) fn new(guest: &[u8]) -> wasmtime::Result<Self> {
        let engine = Engine::default();
        let module = Module::new(&engine, guest)?;
        let mut linker = Linker::new(&engine);
        let exit = |code: i32| Err::<(), _>(Error::msg(format!("a guest of the benchmark exited with {code}")));
        linker.func_wrap(crate::wasi::abi::MODULE, crate::wasi::abi::PROC_EXIT, exit)?;
        linker.define_unknown_imports_as_traps(&module)?;
        Ok(Self { module, linker })
    }

    /// How long it runs, without compiling.
    pub(super) fn run(&self) -> io::Result<Duration> {
        let start = Instant::now();
        let mut store = Store::new(self.module.engine(), ());
        let instance = self.linker.instantiate(&mut store, &self.module).map_err(io::Error::other)?;
        let entry = instance.get_typed_func::<(), ()>(&mut store, "_start").map_err(io::Error::other)?;
        entry.call(&mut store, ()).map_err(io::Error::other)?;
        Ok(start.elapsed())
    }
}
