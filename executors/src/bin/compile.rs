//! Compiles the module on its standard input, within limits: see `shoal_executors::wasm::compiler`.

use std::process::ExitCode;

fn main() -> ExitCode {
    shoal_executors::wasm::compiler::serve()
}
