//! What the engine costs on this machine: `cargo bench -p shoal-executors --bench trivial`.
//!
//! The same figures as `shoal bench wasm`, without a node.

use shoal_executors::bench::{Effort, measure};
use shoal_executors::wasm::compiler::{CompileLimits, Compiler};

fn main() {
    let program = env!("CARGO_BIN_EXE_shoal-compile").into();
    let compiler = Compiler { program, arguments: vec![], limits: CompileLimits::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let effort = Effort { trivial_runs: 2_000, large_mib: 30 };
    for figure in runtime.block_on(measure(Some(compiler), effort)).expect("figures") {
        println!("{:<40} {:>12.2} {}", figure.name, figure.value, figure.unit);
    }
}
