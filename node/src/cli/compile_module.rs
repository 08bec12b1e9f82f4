//! `shoal compile-module`: what a node starts to compile a module within limits. Not for people.

use anyhow::{Context as _, Result};
use shoal_executors::wasm::compiler::Compiler;

/// The command's name.
pub(super) const NAME: &str = "compile-module";

/// This program as a compiler.
pub(super) fn compiler() -> Result<Compiler> {
    Compiler::this_program([NAME.into()]).context("cannot find this program's own file")
}
