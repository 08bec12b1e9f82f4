//! What is known of a component before it is compiled: the interfaces that it imports and exports.

use shoal_protocol::id::BlobHash;
use wasmparser::Payload;

use super::{invalid, listed};
use crate::task::CheckError;
use crate::wasi::component::INTERFACES;
use crate::wasm::components::RUN;

/// The entry point that stands for a command's.
const START: &str = "_start";

/// What a component imports and exports, by name.
#[derive(Debug)]
pub(in crate::wasm) struct Interfaces {
    pub(in crate::wasm) imports: Vec<String>,
    pub(in crate::wasm) exports: Vec<String>,
    /// How many modules and components, one in the other, are being read.
    depth: usize,
}

impl Interfaces {
    pub(super) fn new() -> Self {
        Self { imports: Vec::new(), exports: Vec::new(), depth: 1 }
    }

    /// Takes one part of the component, or of one in it.
    pub(super) fn take(&mut self, hash: BlobHash, payload: Payload<'_>) -> Result<(), CheckError> {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => self.depth += 1,
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if self.depth == 1 => {
                for import in section {
                    self.imports.push(import.map_err(|error| invalid(hash, &error))?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if self.depth == 1 => {
                for export in section {
                    self.exports.push(export.map_err(|error| invalid(hash, &error))?.name.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether all of it was read.
    pub(super) fn is_whole(&self) -> bool {
        self.depth == 0
    }

    /// Finds interfaces that are not provided: sockets, http, and whatever else the component would need.
    pub(super) fn check_imports(&self, hash: BlobHash) -> Result<(), CheckError> {
        let unknown: Vec<_> = self.imports.iter().filter(|name| !is_provided(name)).cloned().collect();
        if unknown.is_empty() { Ok(()) } else { Err(CheckError::UnknownInterfaces(hash, listed(&unknown))) }
    }

    /// A component is run by its one interface for it.
    pub(super) fn check_entry_point(&self, module: BlobHash, name: &str) -> Result<(), CheckError> {
        if name == START && self.is_command() {
            return Ok(());
        }
        let exports = if self.exports.is_empty() { "nothing".into() } else { listed(&self.exports) };
        Err(CheckError::NoCommand { module, name: name.into(), exports })
    }

    /// Where it can be started.
    pub(super) fn entry_point(&self) -> Option<&'static str> {
        self.is_command().then_some(START)
    }

    fn is_command(&self) -> bool {
        self.exports.iter().any(|export| export.starts_with(RUN))
    }
}

/// Whether there is an interface of that name and version.
pub(in crate::wasm) fn is_provided(name: &str) -> bool {
    match name.split_once('@') {
        Some((interface, version)) => INTERFACES.contains(&interface) && version.starts_with("0.2."),
        None => false,
    }
}
