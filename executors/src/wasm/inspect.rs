//! What can be said of a module without compiling it: its kind, its size, what it imports and exports.
//!
//! The limits come first, because compiling is where a hostile module costs most.

pub(super) mod interfaces;

use std::collections::BTreeMap;

use shoal_protocol::id::BlobHash;
use wasmparser::{
    CompositeInnerType, Encoding, ExternalKind, FuncType, GlobalType, MemoryType, Parser, Payload, TableType, TypeRef,
    ValType, Validator, WasmFeatures,
};

use super::externs::{Extern, shown};
use super::profile::{MAX_BODY_BYTES, MAX_FUNCTIONS, MAX_ITEMS, MAX_MODULE_BYTES};
use super::rewrite::{FEATURES, Refused};
use crate::task::CheckError;
use crate::wasi::abi::{FUNCTIONS, MODULE, PROC_EXIT};
use interfaces::Interfaces;

/// How many names an error lists.
const MAX_NAMED: usize = 8;

/// What is limited for each function by itself.
const ONE_FUNCTION: &str = "bytes in one function";

/// A module's or component's face.
#[derive(Debug, Default)]
pub(super) struct Inspected {
    types: Vec<Option<FuncType>>,
    /// Type of each function, imported ones first; likewise below.
    functions: Vec<u32>,
    tables: Vec<TableType>,
    memories: Vec<MemoryType>,
    globals: Vec<GlobalType>,
    tags: Vec<u32>,
    imports: Vec<Import>,
    exports: BTreeMap<String, (ExternalKind, u32)>,
    /// Of a component; none if it is a core module.
    component: Option<Interfaces>,
    /// How much there is of what is limited, in all modules of a component.
    totals: BTreeMap<&'static str, u64>,
    /// It was read to its end.
    whole: bool,
}

/// Something that a module imports; without a type if that is not valid.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) module: String,
    pub(super) name: String,
    pub(super) kind: Option<Extern>,
}

/// Why an import cannot be satisfied.
#[derive(Debug)]
pub(super) enum Misfit {
    /// Nobody provides it.
    Unknown,
    /// It is provided, as something else.
    Is(Extern),
}

/// Reads and validates a module within the profile's static limits.
pub(super) fn inspect(engine: &wasmtime::Engine, hash: BlobHash, bytes: &[u8]) -> Result<Inspected, CheckError> {
    let (inspected, problems) = read(hash, bytes);
    if let Some(problem) = problems.into_iter().next() {
        return Err(problem);
    }
    inspected.validate(engine, hash, bytes)?;
    Ok(inspected)
}

/// Reads a module as far as it goes, and says everything that is wrong with its kind and size.
pub(super) fn read(hash: BlobHash, bytes: &[u8]) -> (Inspected, Vec<CheckError>) {
    let (mut inspected, mut problems) = (Inspected::default(), Vec::new());
    if bytes.len() as u64 > MAX_MODULE_BYTES {
        problems.push(too_much(hash, "bytes", bytes.len() as u64, MAX_MODULE_BYTES));
        return (inspected, problems);
    }
    if !bytes.starts_with(b"\0asm") {
        problems.push(not_binary(hash, bytes));
        return (inspected, problems);
    }
    for payload in Parser::new(0).parse_all(bytes) {
        if let Err(problem) = inspected.read(hash, payload, &mut problems) {
            problems.push(problem);
            break;
        }
    }
    (inspected, problems)
}

fn invalid(hash: BlobHash, error: &dyn std::fmt::Display) -> CheckError {
    CheckError::NotWasm(hash, first_line(&error.to_string()))
}

fn not_binary(hash: BlobHash, bytes: &[u8]) -> CheckError {
    if bytes.trim_ascii_start().starts_with(b"(module") {
        return CheckError::WrongKind(hash, "WebAssembly text", "assemble it with wat2wasm");
    }
    CheckError::NotWasm(hash, "it does not begin with \\0asm".into())
}

/// How much of what there is in a section, and how much there may be; in all sections of a component together, but for
/// the size of a function.
fn limited(payload: &Payload<'_>) -> Option<(&'static str, u64, u64)> {
    Some(match payload {
        Payload::TypeSection(section) => ("types", section.count().into(), MAX_ITEMS),
        Payload::ImportSection(section) => ("imports", section.count().into(), MAX_ITEMS),
        Payload::FunctionSection(section) => ("functions", section.count().into(), MAX_FUNCTIONS),
        Payload::TableSection(section) => ("tables", section.count().into(), MAX_ITEMS),
        Payload::GlobalSection(section) => ("globals", section.count().into(), MAX_ITEMS),
        Payload::ExportSection(section) => ("exports", section.count().into(), MAX_ITEMS),
        Payload::ElementSection(section) => ("element segments", section.count().into(), MAX_ITEMS),
        Payload::DataSection(section) => ("data segments", section.count().into(), MAX_ITEMS),
        Payload::TagSection(section) => ("tags", section.count().into(), MAX_ITEMS),
        Payload::CodeSectionEntry(body) => (ONE_FUNCTION, body.range().len() as u64, MAX_BODY_BYTES),
        _ => return None,
    })
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
    /// Takes one part of a module. What is too large is noted and left out; an error means that there is no going on.
    fn read(
        &mut self,
        hash: BlobHash,
        payload: wasmparser::Result<Payload<'_>>,
        problems: &mut Vec<CheckError>,
    ) -> Result<(), CheckError> {
        let payload = payload.map_err(|error| invalid(hash, &error))?;
        if let (Payload::Version { encoding: Encoding::Component, .. }, None) = (&payload, &self.component) {
            self.component = Some(Interfaces::new());
        }
        if shares_memory(&payload) {
            let remedy = "build it without threads";
            problems.push(CheckError::WrongKind(hash, "a module with shared memory", remedy));
        }
        if let Some((what, have, limit)) = limited(&payload) {
            let total = self.totals.entry(what).or_default();
            *total = if what == ONE_FUNCTION { have } else { total.saturating_add(have) };
            if *total > limit {
                problems.push(too_much(hash, what, *total, limit));
                return Ok(());
            }
        }
        match &mut self.component {
            None => self.take(payload).map_err(|error| invalid(hash, &error)),
            Some(component) => component.take(hash, payload),
        }
    }

    /// Whether the engine takes it, as far as that is known before it is compiled.
    pub(super) fn validate(&self, engine: &wasmtime::Engine, hash: BlobHash, bytes: &[u8]) -> Result<(), CheckError> {
        if self.is_component() {
            let mut validator = Validator::new_with_features(FEATURES.union(WasmFeatures::COMPONENT_MODEL));
            return validator.validate_all(bytes).map(drop).map_err(|error| invalid(hash, &error));
        }
        wasmtime::Module::validate(engine, bytes).map_err(|error| invalid(hash, &format!("{error:#}")))
    }

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
                section.into_imports().try_for_each(|import| import.map(|import| self.take_import(&import)))?;
            }
            Payload::FunctionSection(section) => extend(&mut self.functions, section)?,
            Payload::TableSection(section) => {
                section.into_iter().try_for_each(|table| table.map(|table| self.tables.push(table.ty)))?;
            }
            Payload::MemorySection(section) => extend(&mut self.memories, section)?,
            Payload::GlobalSection(section) => {
                section.into_iter().try_for_each(|global| global.map(|global| self.globals.push(global.ty)))?;
            }
            Payload::TagSection(section) => {
                section.into_iter().try_for_each(|tag| tag.map(|tag| self.tags.push(tag.func_type_idx)))?;
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    self.exports.insert(export.name.to_owned(), (export.kind, export.index));
                }
            }
            Payload::End(_) => self.whole = true,
            _ => {}
        }
        Ok(())
    }

    fn take_import(&mut self, import: &wasmparser::Import<'_>) {
        match import.ty {
            TypeRef::Func(index) | TypeRef::FuncExact(index) => self.functions.push(index),
            TypeRef::Table(kind) => self.tables.push(kind),
            TypeRef::Memory(kind) => self.memories.push(kind),
            TypeRef::Global(kind) => self.globals.push(kind),
            TypeRef::Tag(kind) => self.tags.push(kind.func_type_idx),
        }
        let kind = match import.ty {
            TypeRef::Func(index) | TypeRef::FuncExact(index) => self.signature(index).map(Extern::Function),
            TypeRef::Table(kind) => Some(Extern::Table(kind)),
            TypeRef::Memory(kind) => Some(Extern::Memory(kind)),
            TypeRef::Global(kind) => Some(Extern::Global(kind)),
            TypeRef::Tag(kind) => self.signature(kind.func_type_idx).map(Extern::Tag),
        };
        self.imports.push(Import { module: import.module.into(), name: import.name.into(), kind });
    }

    fn signature(&self, index: u32) -> Option<FuncType> {
        self.types.get(index as usize)?.clone()
    }

    /// What is exported under a name.
    pub(super) fn export(&self, name: &str) -> Option<Extern> {
        let (kind, index) = self.exports.get(name)?;
        let index = *index as usize;
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => {
                self.signature(*self.functions.get(index)?).map(Extern::Function)
            }
            ExternalKind::Table => self.tables.get(index).copied().map(Extern::Table),
            ExternalKind::Memory => self.memories.get(index).copied().map(Extern::Memory),
            ExternalKind::Global => self.globals.get(index).copied().map(Extern::Global),
            ExternalKind::Tag => self.signature(*self.tags.get(index)?).map(Extern::Tag),
        }
    }

    /// Everything that is exported, by name.
    pub(super) fn exports(&self) -> impl Iterator<Item = (&str, Option<Extern>)> {
        self.exports.keys().map(|name| (name.as_str(), self.export(name)))
    }

    /// Everything that is imported, in the module's order.
    pub(super) fn imports(&self) -> &[Import] {
        &self.imports
    }

    /// What it imports and exports if it is a component.
    pub(super) fn component(&self) -> Option<&Interfaces> {
        self.component.as_ref()
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

    /// Whether it could be read to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.component.as_ref().map_or(self.whole, Interfaces::is_whole)
    }

    /// Its memories, imported ones first.
    pub(super) fn memories(&self) -> &[MemoryType] {
        &self.memories
    }

    /// How many tables and globals it has, imported ones too.
    pub(super) fn tables_and_globals(&self) -> (u64, u64) {
        (self.tables.len() as u64, self.globals.len() as u64)
    }

    /// How many functions it imports: the index of the first of its own.
    pub(super) fn imported_functions(&self) -> u32 {
        let functions = self.imports.iter().filter(|import| matches!(import.kind, Some(Extern::Function(_))));
        u32::try_from(functions.count()).unwrap_or(u32::MAX)
    }

    /// Finds the imports that neither WASI nor an import module provides as they are wanted.
    pub(super) fn misfits(&self, libraries: &BTreeMap<String, Inspected>) -> impl Iterator<Item = (&Import, Misfit)> {
        self.imports.iter().filter_map(|import| Some((import, import.misfit(libraries)?)))
    }

    /// Refuses imports that nobody provides, or that are provided as something else.
    pub(super) fn check_imports(
        &self,
        hash: BlobHash,
        libraries: &BTreeMap<String, Inspected>,
    ) -> Result<(), CheckError> {
        if let Some(component) = &self.component {
            return component.check_imports(hash);
        }
        let misfits: Vec<_> = self.misfits(libraries).collect();
        let unknown = misfits.iter().filter(|(_, misfit)| matches!(misfit, Misfit::Unknown));
        let unknown: Vec<&Import> = unknown.map(|(import, _)| *import).collect();
        if let Some(first) = unknown.first() {
            let names: Vec<_> = unknown.iter().map(ToString::to_string).collect();
            return Err(CheckError::UnknownImports(hash, listed(&names), remedy(&first.module)));
        }
        match misfits.first() {
            Some((import, Misfit::Is(given))) => Err(wrong_type(hash, import, given)),
            _ => Ok(()),
        }
    }

    /// Looks for an exported function that takes and returns nothing.
    pub(super) fn check_entry_point(&self, module: BlobHash, name: &str) -> Result<(), CheckError> {
        if let Some(component) = &self.component {
            return component.check_entry_point(module, name);
        }
        match self.export(name) {
            Some(kind) if kind.is_entry_point() => Ok(()),
            Some(kind) => Err(CheckError::EntryPointType { module, name: shown(name), is: kind.to_string() }),
            None => {
                let exports: Vec<_> = self.entry_points().map(shown).collect();
                let exports = if exports.is_empty() { "none such".into() } else { listed(&exports) };
                Err(CheckError::EntryPoint { module, name: shown(name), exports })
            }
        }
    }

    /// Exports that could be a program's entry point.
    pub(super) fn entry_points(&self) -> impl Iterator<Item = &str> {
        let functions = self.exports().filter(|(_, kind)| kind.as_ref().is_some_and(Extern::is_entry_point));
        let command = self.component.as_ref().and_then(Interfaces::entry_point);
        functions.map(|(name, _)| name).chain(command)
    }
}

impl Import {
    /// Why it cannot be satisfied, if so.
    pub(super) fn misfit(&self, libraries: &BTreeMap<String, Inspected>) -> Option<Misfit> {
        let given = match libraries.get(&self.module) {
            Some(library) => library.export(&self.name),
            None => wasi(self),
        };
        let Some(given) = given else { return Some(Misfit::Unknown) };
        let fits = self.kind.as_ref().is_some_and(|wanted| given.fits(wanted));
        (!fits).then_some(Misfit::Is(given))
    }
}

impl std::fmt::Display for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", shown(&self.module), shown(&self.name))
    }
}

fn extend<'a, T: wasmparser::FromReader<'a>>(
    into: &mut Vec<T>,
    section: wasmparser::SectionLimited<'a, T>,
) -> wasmparser::Result<()> {
    section.into_iter().try_for_each(|item| item.map(|item| into.push(item)))
}

/// What WASI has under an import's name.
fn wasi(import: &Import) -> Option<Extern> {
    if import.module != MODULE {
        return None;
    }
    if import.name == PROC_EXIT {
        return Some(Extern::function([ValType::I32], []));
    }
    let (_, parameters) = FUNCTIONS.iter().find(|(name, _)| *name == import.name)?;
    let parameters = parameters.iter().map(|kind| if *kind == "u64" { ValType::I64 } else { ValType::I32 });
    Some(Extern::function(parameters.collect::<Vec<_>>(), [ValType::I32]))
}

/// The error for an import that is provided as something else.
pub(super) fn wrong_type(module: BlobHash, import: &Import, given: &Extern) -> CheckError {
    let wanted = import.kind.as_ref().map_or_else(|| "something unknown".to_owned(), ToString::to_string);
    CheckError::ImportType { module, import: import.to_string(), wanted, given: given.to_string() }
}

/// What to do about imports from a module that nobody provides.
pub(super) fn remedy(module: &str) -> &'static str {
    match module {
        MODULE => "no such function is in WASI preview 1",
        "wasi_unstable" => "that is an older WASI: build the program for wasm32-wasip1 with a newer toolchain",
        "env" | "a" => {
            "if that is a host that Emscripten expects, build for wasm32-wasip1 instead; \
             else give the module that has them as an import module"
        }
        "go" | "gojs" => "that is Go's host in browsers: build with GOOS=wasip1",
        "__wbindgen_placeholder__" | "wbg" => "that is wasm-bindgen's host in browsers: build for wasm32-wasip1",
        _ => "WASI preview 1 and the job's import modules are available",
    }
}

/// The first of some names, and how many there are beside.
pub(super) fn listed(names: &[String]) -> String {
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
