//! The determinism profile against plain wasmtime: `cargo bench -p shoal-executors --bench profile`.
//!
//! Goals: geometric mean at most 1.25, a pure float loop at most 1.6. Printed for each guest: the time of plain
//! wasmtime, the ratio of wasmtime's own fuel, epochs and NaN flag, and that of the profile. Variants take turns, and
//! the fastest of several runs counts, in CPU time, for other work may run on the machine. A name after `--` picks one
//! guest.

use std::time::Duration;

use shoal_executors::wasm::profile;
use shoal_executors::wasm::rewrite::{ENTER, IMPORT, LEAVE, Meter, REFILL, rewrite};
use wasmtime::{Config, Engine, Error, Linker, Module, Store};

const RUNS: usize = 7;
const WASI: &str = "wasi_snapshot_preview1";

const GUESTS: [(&str, &[u8]); 5] = [
    ("sha256", include_bytes!("guests/sha256.wasm")),
    ("nbody", include_bytes!("guests/nbody.wasm")),
    ("matmul", include_bytes!("guests/matmul.wasm")),
    ("trees", include_bytes!("guests/trees.wasm")),
    ("dispatch", include_bytes!("guests/dispatch.wasm")),
];

/// How a guest is run.
#[derive(Clone, Copy)]
enum Variant {
    Plain,
    Stock,
    Profile,
}

struct Ready {
    variant: Variant,
    module: Module,
    linker: Linker<()>,
}

fn config(variant: Variant) -> Config {
    let mut config = if let Variant::Plain = variant { Config::new() } else { profile::config() };
    if let Variant::Stock = variant {
        config.consume_fuel(true).epoch_interruption(true).cranelift_nan_canonicalization(true);
    }
    config
}

fn exit(code: i32) -> Error {
    Error::msg(format!("exit {code}"))
}

fn linker(engine: &Engine, variant: Variant) -> wasmtime::Result<Linker<()>> {
    let mut linker = Linker::new(engine);
    if let Variant::Profile = variant {
        linker.func_wrap(WASI, "proc_exit", |code: i32, _meter: i64| Err::<i64, _>(exit(code)))?;
        linker.func_wrap(IMPORT, REFILL, |meter: i64| Meter { fuel: 100_000, ..Meter::from_bits(meter) }.to_bits())?;
        linker.func_wrap(IMPORT, LEAVE, |_: i64| ())?;
        linker.func_wrap(IMPORT, ENTER, || 0_i64)?;
    } else {
        linker.func_wrap(WASI, "proc_exit", |code: i32| Err::<(), _>(exit(code)))?;
    }
    Ok(linker)
}

fn ready(variant: Variant, guest: &[u8]) -> wasmtime::Result<Ready> {
    let engine = Engine::new(&config(variant))?;
    let guest = if let Variant::Profile = variant { rewrite(guest)? } else { guest.to_vec() };
    let module = Module::new(&engine, guest)?;
    let mut linker = linker(&engine, variant)?;
    linker.define_unknown_imports_as_traps(&module)?;
    Ok(Ready { variant, module, linker })
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = statistics.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

impl Ready {
    fn run(&self) -> wasmtime::Result<Duration> {
        let mut store = Store::new(self.module.engine(), ());
        if let Variant::Stock = self.variant {
            store.set_fuel(u64::MAX)?;
            store.set_epoch_deadline(1);
        }
        let instance = self.linker.instantiate(&mut store, &self.module)?;
        let begun = cpu_time();
        if let Variant::Profile = self.variant {
            let start = instance.get_typed_func::<i64, i64>(&mut store, "_start")?;
            start.call(&mut store, Meter::full(0).to_bits())?;
        } else {
            instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ())?;
        }
        Ok(cpu_time().saturating_sub(begun))
    }
}

fn measure(guest: &[u8]) -> wasmtime::Result<[Duration; 3]> {
    let variants = [Variant::Plain, Variant::Stock, Variant::Profile].map(|variant| ready(variant, guest));
    let mut best = [Duration::MAX; 3];
    for _ in 0..RUNS {
        for (variant, best) in variants.iter().zip(&mut best) {
            let variant = variant.as_ref().expect("a guest that compiles");
            *best = variant.run()?.min(*best);
        }
    }
    Ok(best)
}

fn main() -> wasmtime::Result<()> {
    let only: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!("{:<10} {:>10} {:>8} {:>8}", "guest", "plain", "stock", "profile");
    let mut logarithms = Vec::new();
    for (name, guest) in GUESTS {
        if !only.is_empty() && !only.iter().any(|only| only == name) {
            continue;
        }
        let [plain, stock, profile] = measure(guest)?;
        let ratio = |time: Duration| time.as_secs_f64() / plain.as_secs_f64();
        println!("{name:<10} {plain:>10.1?} {:>8.2} {:>8.2}", ratio(stock), ratio(profile));
        logarithms.push(ratio(profile).ln());
    }
    let mean = (logarithms.iter().sum::<f64>() / f64::from(u32::try_from(logarithms.len())?)).exp();
    println!("geometric mean of the profile: {mean:.2}");
    Ok(())
}
