//! What can be said of a module without compiling it: its kind, its size, what it imports and exports.
//!
//! The limits come first, because compiling is where a hostile module costs most.

use std::collections::BTreeMap;

use shoal_protocol::id::BlobHash;
use wasmparser::{CompositeInnerType, Encoding, ExternalKind, FuncType, Parser, Payload, TypeRef, ValType, Validator};

use super::components::RUN;
use super::profile::{MAX_BODY_BYTES, MAX_FUNCTIONS, MAX_ITEMS};
use super::rewrite::Refused;
use crate::task::CheckError;
use crate::wasi::abi::{FUNCTIONS, MODULE, PROC_EXIT};
use crate::wasi::component::INTERFACES;

/// How many names an error lists.
const MAX_NAMED: usize = 8;

/// A module's or component's face.
#[derive(Debug, Default)]
pub(super) struct Inspected {
    types: Vec<Option<FuncType>>,
    /// Type of each function, imported ones first.
    functions: Vec<u32>,
    imports: Vec<Import>,
    exports: BTreeMap<String, (ExternalKind, u32)>,
    /// Of a component; none if it is a core module.
    component: Option<Interfaces>,
}

/// What a component imports and exports, by name.
#[derive(Debug, Default)]
struct Interfaces {
    imports: Vec<String>,
    exports: Vec<String>,
    /// Functions of all modules in it.
    functions: u64,
    /// How many modules and components, one in the other, are being read.
    depth: usize,
}

#[derive(Debug)]
struct Import {
    module: String,
    name: String,
    /// Its type, if it is a function.
    function: Option<u32>,
}

/// Reads and validates a module within the profile's static limits.
pub(super) fn inspect(engine: &wasmtime::Engine, hash: BlobHash, bytes: &[u8]) -> Result<Inspected, CheckError> {
    if bytes.len() as u64 > super::profile::MAX_MODULE_BYTES {
        return Err(too_much(hash, "bytes", bytes.len() as u64, super::profile::MAX_MODULE_BYTES));
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(not_binary(hash, bytes));
    }
    let invalid = |error: &dyn std::fmt::Display| CheckError::NotWasm(hash, first_line(&error.to_string()));
    let mut inspected = Inspected::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| invalid(&error))?;
        if let (Payload::Version { encoding: Encoding::Component, .. }, None) = (&payload, &inspected.component) {
            inspected.component = Some(Interfaces { depth: 1, ..Interfaces::default() });
        }
        within_limits(hash, &payload)?;
        if shares_memory(&payload) {
            return Err(CheckError::WrongKind(hash, "a module with shared memory", "build it without threads"));
        }
        match &mut inspected.component {
            None => inspected.take(payload).map_err(|error| invalid(&error))?,
            Some(component) => component.take(hash, payload)?,
        }
    }
    match &inspected.component {
        None => wasmtime::Module::validate(engine, bytes).map_err(|error| invalid(&format!("{error:#}")))?,
        Some(_) => Validator::new().validate_all(bytes).map(drop).map_err(|error| invalid(&error))?,
    }
    Ok(inspected)
}

fn not_binary(hash: BlobHash, bytes: &[u8]) -> CheckError {
    if bytes.trim_ascii_start().starts_with(b"(module") {
        return CheckError::WrongKind(hash, "WebAssembly text", "assemble it with wat2wasm");
    }
    CheckError::NotWasm(hash, "it does not begin with \\0asm".into())
}

fn within_limits(hash: BlobHash, payload: &Payload<'_>) -> Result<(), CheckError> {
    let (what, have, limit) = match payload {
        Payload::TypeSection(section) => ("types", section.count().into(), MAX_ITEMS),
        Payload::ImportSection(section) => ("imports", section.count().into(), MAX_ITEMS),
        Payload::FunctionSection(section) => ("functions", section.count().into(), MAX_FUNCTIONS),
        Payload::TableSection(section) => ("tables", section.count().into(), MAX_ITEMS),
        Payload::GlobalSection(section) => ("globals", section.count().into(), MAX_ITEMS),
        Payload::ExportSection(section) => ("exports", section.count().into(), MAX_ITEMS),
        Payload::ElementSection(section) => ("element segments", section.count().into(), MAX_ITEMS),
        Payload::DataSection(section) => ("data segments", section.count().into(), MAX_ITEMS),
        Payload::TagSection(section) => ("tags", section.count().into(), MAX_ITEMS),
        Payload::CodeSectionEntry(body) => ("bytes in one function", body.range().len() as u64, MAX_BODY_BYTES),
        _ => return Ok(()),
    };
    if have <= limit { Ok(()) } else { Err(too_much(hash, what, have, limit)) }
}

/// Threads are no part of the profile. What does not parse is found by others.
fn shares_memory(payload: &Payload<'_>) -> bool {
    match payload {
        Payload::MemorySection(section) => section.clone().into_iter().flatten().any(|memory| memory.shared),
        Payload::ImportSection(section) => {
            let shared = |import: wasmparser::Import<'_>| matches!(import.ty, TypeRef::Memory(memory) if memory.shared);
            section.clone().into_imports().flatten().any(shared)
        }
        _ => false,
    }
}

/// What the rewrite refuses, as it is said at submit.
pub(super) fn refused(module: BlobHash, refused: &Refused) -> CheckError {
    match refused {
        Refused::TooMuch { what, have, limit } => too_much(module, what, *have as u64, *limit as u64),
        _ => CheckError::NotWasm(module, first_line(&refused.to_string())),
    }
}

fn too_much(module: BlobHash, what: &'static str, have: u64, limit: u64) -> CheckError {
    CheckError::TooMuch { module, what, have, limit }
}

impl Inspected {
    fn take(&mut self, payload: Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    self.types.extend(group?.into_types().map(|sub| match sub.composite_type.inner {
                        CompositeInnerType::Func(function) => Some(function),
                        _ => None,
                    }));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    self.take_import(import?);
                }
            }
            Payload::FunctionSection(section) => {
                for function in section {
                    self.functions.push(function?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    self.exports.insert(export.name.to_owned(), (export.kind, export.index));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_import(&mut self, import: wasmparser::Import<'_>) {
        let function = match import.ty {
            TypeRef::Func(index) | TypeRef::FuncExact(index) => Some(index),
            _ => None,
        };
        self.functions.extend(function);
        self.imports.push(Import { module: import.module.into(), name: import.name.into(), function });
    }

    pub(super) fn is_component(&self) -> bool {
        self.component.is_some()
    }

    /// Only core modules can be imported.
    pub(super) fn check_library(&self, hash: BlobHash) -> Result<(), CheckError> {
        let remedy = "import modules are core modules: compose components before they are submitted";
        if self.is_component() { Err(CheckError::WrongKind(hash, "a component", remedy)) } else { Ok(()) }
    }

    /// The modules that this one imports from.
    pub(super) fn import_modules(&self) -> Vec<String> {
        self.imports.iter().map(|import| import.module.clone()).collect()
    }

    /// Finds imports that neither WASI nor an import module provides.
    pub(super) fn check_imports(
        &self,
        hash: BlobHash,
        libraries: &BTreeMap<String, Inspected>,
    ) -> Result<(), CheckError> {
        if let Some(component) = &self.component {
            return component.check_imports(hash);
        }
        let provided = |import: &&Import| match libraries.get(&import.module) {
            Some(library) => !library.exports.contains_key(&import.name),
            None => !self.is_wasi(import),
        };
        let unknown: Vec<_> =
            self.imports.iter().filter(provided).map(|import| format!("{}.{}", import.module, import.name)).collect();
        if unknown.is_empty() { Ok(()) } else { Err(CheckError::UnknownImports(hash, listed(&unknown))) }
    }

    fn is_wasi(&self, import: &Import) -> bool {
        let Some(function) = import.function.and_then(|index| self.signature(index)) else { return false };
        if import.module != MODULE {
            return false;
        }
        if import.name == PROC_EXIT {
            return function.params() == [ValType::I32] && function.results().is_empty();
        }
        FUNCTIONS.iter().any(|(name, parameters)| {
            let parameters = parameters.iter().map(|kind| if *kind == "u64" { ValType::I64 } else { ValType::I32 });
            *name == import.name
                && function.results() == [ValType::I32]
                && parameters.eq(function.params().iter().copied())
        })
    }

    fn signature(&self, index: u32) -> Option<&FuncType> {
        self.types.get(index as usize)?.as_ref()
    }

    /// Looks for an exported function that takes and returns nothing.
    pub(super) fn check_entry_point(&self, module: BlobHash, name: &str) -> Result<(), CheckError> {
        if let Some(component) = &self.component {
            return component.check_entry_point(module, name);
        }
        if self.is_entry_point(name) {
            return Ok(());
        }
        let exports: Vec<_> = self.exports.keys().filter(|name| self.is_entry_point(name)).cloned().collect();
        let exports = if exports.is_empty() { "none such".into() } else { listed(&exports) };
        Err(CheckError::EntryPoint { module, name: name.into(), exports })
    }

    fn is_entry_point(&self, name: &str) -> bool {
        let Some((ExternalKind::Func, index)) = self.exports.get(name) else { return false };
        let kind = self.functions.get(*index as usize).and_then(|index| self.signature(*index));
        kind.is_some_and(|kind| kind.params().is_empty() && kind.results().is_empty())
    }
}

impl Interfaces {
    fn take(&mut self, hash: BlobHash, payload: Payload<'_>) -> Result<(), CheckError> {
        let invalid = |error: wasmparser::BinaryReaderError| CheckError::NotWasm(hash, first_line(&error.to_string()));
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => self.depth += 1,
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::FunctionSection(section) => {
                self.functions += u64::from(section.count());
                if self.functions > MAX_FUNCTIONS {
                    return Err(too_much(hash, "functions", self.functions, MAX_FUNCTIONS));
                }
            }
            Payload::ComponentImportSection(section) if self.depth == 1 => {
                for import in section {
                    self.imports.push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if self.depth == 1 => {
                for export in section {
                    self.exports.push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Finds interfaces that are not provided: sockets, http, and whatever else the component would need.
    fn check_imports(&self, hash: BlobHash) -> Result<(), CheckError> {
        let provided = |name: &str| match name.split_once('@') {
            Some((interface, version)) => INTERFACES.contains(&interface) && version.starts_with("0.2."),
            None => false,
        };
        let unknown: Vec<_> = self.imports.iter().filter(|name| !provided(name)).cloned().collect();
        if unknown.is_empty() { Ok(()) } else { Err(CheckError::UnknownInterfaces(hash, listed(&unknown))) }
    }

    /// A component is run by its one interface for it.
    fn check_entry_point(&self, module: BlobHash, name: &str) -> Result<(), CheckError> {
        if name == "_start" && self.exports.iter().any(|export| export.starts_with(RUN)) {
            return Ok(());
        }
        let exports = if self.exports.is_empty() { "nothing".into() } else { listed(&self.exports) };
        Err(CheckError::NoCommand { module, name: name.into(), exports })
    }
}

fn listed(names: &[String]) -> String {
    let mut text = names[..names.len().min(MAX_NAMED)].join(", ");
    if names.len() > MAX_NAMED {
        text.push_str(&format!(" and {} more", names.len() - MAX_NAMED));
    }
    text
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::profile;

    /// A module that imports every WASI function.
    fn all_of_wasi() -> String {
        let functions = FUNCTIONS.iter().map(|(name, parameters)| {
            let parameters = parameters.iter().map(|kind| kind.replace('u', "i")).collect::<Vec<_>>().join(" ");
            format!(r#"(import "{MODULE}" "{name}" (func (param {parameters}) (result i32)))"#)
        });
        let imports = functions.collect::<String>();
        format!(r#"(module (import "{MODULE}" "{PROC_EXIT}" (func (param i32))) {imports} (func (export "_start")))"#)
    }

    #[test]
    fn all_46_functions_of_preview_1_are_there_and_link_as_checked() {
        assert_eq!(FUNCTIONS.len() + 1, 46);
        let engine = wasmtime::Engine::new(&profile::config()).unwrap();
        let bytes = wat::parse_str(all_of_wasi()).unwrap();
        let hash = BlobHash::of(&bytes);
        inspect(&engine, hash, &bytes).unwrap().check_imports(hash, &BTreeMap::new()).unwrap();
        let mut linker = wasmtime::Linker::<crate::wasm::host::Host>::new(&engine);
        crate::wasi::abi::add_to_linker(&mut linker).unwrap();
        crate::wasm::fuel::add_to_linker(&mut linker).unwrap();
        let rewritten = crate::wasm::rewrite::rewrite(&bytes).unwrap();
        linker.instantiate_pre(&wasmtime::Module::new(&engine, rewritten).unwrap()).unwrap();
    }

    #[test]
    fn a_long_list_of_names_is_cut() {
        let names: Vec<_> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(listed(&names), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_inspection_panic(mut bytes: Vec<u8>, header: bool) {
            if header {
                bytes.splice(0..0, *b"\0asm\x01\0\0\0");
            }
            let engine = wasmtime::Engine::new(&profile::config()).unwrap();
            let _ = inspect(&engine, BlobHash([0; 32]), &bytes);
        }
    }
}
