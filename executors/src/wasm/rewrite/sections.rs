//! Puts the rewritten module together, section by section.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{
    ElementSection, EntityType, ExportSection, FunctionSection, GlobalSection, GlobalType, ImportSection,
    MemorySection, NameMap, NameSection, RawSection, SectionId, StartSection, TableSection, TagSection,
};
use wasmparser::{ExternalKind, KnownCustom, Name, Payload, TypeRef, ValType};

use super::boundary::{Boundary, CROSSING};
use super::indices::Indices;
use super::{Code, ENTER, IMPORT, LEAVE, METER, Module, REFILL, Refused};

/// Encodes sections again with functions and globals counted anew.
struct Renumber(Indices);

impl Reencode for Renumber {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(self.0.function(index))
    }

    fn global_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(self.0.global(index))
    }
}

/// The type of the global in which the meter crosses from module to module in a component.
pub(super) const METER_TYPE: GlobalType =
    GlobalType { val_type: wasm_encoder::ValType::I64, mutable: true, shared: false };

/// The rewritten module. Of its custom sections only the names of functions are kept, for traces: others speak of
/// places that have moved.
pub(super) fn assemble(module: &mut Module<'_>, payloads: &[Payload<'_>], code: Code) -> Result<Vec<u8>, Refused> {
    let mut out = wasm_encoder::Module::new();
    let mut renumber = Renumber(module.indices);
    let imports = imports(module, payloads, &mut renumber)?;
    out.section(&module.types.section());
    out.section(&imports);
    if !module.defined.is_empty() || !code.added.is_empty() {
        out.section(&functions(module, &code));
    }
    for payload in payloads {
        before_code(module, &mut out, payload, &mut renumber)?;
    }
    // The start and element sections come in this order, each at most once.
    if let Some(function_index) = code.start {
        out.section(&StartSection { function_index });
    }
    for payload in payloads {
        after_start(module, &mut out, payload, &mut renumber)?;
    }
    if !code.section.is_empty() {
        out.section(&code.hints);
        out.section(&code.section);
    }
    for payload in payloads {
        if let Payload::DataSection(section) = payload {
            out.section(&RawSection { id: SectionId::Data.into(), data: module.bytes(section.range()) });
        }
    }
    out.section(&names(module, payloads, &mut renumber));
    Ok(out.finish())
}

/// The module's own imports, functions metered where all outside are, and the host's.
fn imports(
    module: &mut Module<'_>,
    payloads: &[Payload<'_>],
    renumber: &mut Renumber,
) -> Result<ImportSection, Refused> {
    let mut imports = ImportSection::new();
    for payload in payloads {
        let Payload::ImportSection(section) = payload else { continue };
        for import in section.clone().into_imports() {
            let import = import?;
            let entity = match import.ty {
                TypeRef::Func(ty) => EntityType::Function(match module.indices.boundary {
                    Boundary::Metered => module.types.metered(ty),
                    Boundary::Plain => ty,
                }),
                other => renumber.entity_type(other)?,
            };
            imports.import(import.module, import.name, entity);
        }
    }
    let meter = [ValType::I64];
    let mut function = |name, parameters: &[ValType], results: &[ValType]| {
        imports.import(IMPORT, name, EntityType::Function(module.types.intern(parameters, results)));
    };
    function(REFILL, &meter, &meter);
    match module.indices.boundary {
        Boundary::Metered => {
            function(LEAVE, &meter, &[]);
            function(ENTER, &[], &meter);
        }
        Boundary::Plain => _ = imports.import(IMPORT, METER, METER_TYPE),
    }
    Ok(imports)
}

fn functions(module: &Module<'_>, code: &Code) -> FunctionSection {
    let mut functions = FunctionSection::new();
    for ty in &module.defined {
        functions.function(module.types.metered(*ty));
    }
    for ty in &code.added {
        functions.function(*ty);
    }
    functions
}

fn exports(module: &Module<'_>, section: wasmparser::ExportSectionReader<'_>) -> Result<ExportSection, Refused> {
    let mut exports = ExportSection::new();
    for export in section {
        let export = export?;
        let index = match export.kind {
            ExternalKind::Func => module.indices.export(export.index, module.exported.get(&export.index).copied()),
            ExternalKind::Global => module.indices.global(export.index),
            _ => export.index,
        };
        exports.export(export.name, export.kind.into(), index);
    }
    Ok(exports)
}

fn before_code(
    module: &Module<'_>,
    out: &mut wasm_encoder::Module,
    payload: &Payload<'_>,
    renumber: &mut Renumber,
) -> Result<(), Refused> {
    match payload {
        Payload::TableSection(section) => {
            let mut tables = TableSection::new();
            renumber.parse_table_section(&mut tables, section.clone())?;
            out.section(&tables);
        }
        Payload::MemorySection(section) => {
            let mut memories = MemorySection::new();
            renumber.parse_memory_section(&mut memories, section.clone())?;
            out.section(&memories);
        }
        Payload::TagSection(section) => {
            let mut tags = TagSection::new();
            renumber.parse_tag_section(&mut tags, section.clone())?;
            out.section(&tags);
        }
        Payload::GlobalSection(section) => {
            let mut globals = GlobalSection::new();
            renumber.parse_global_section(&mut globals, section.clone())?;
            out.section(&globals);
        }
        Payload::ExportSection(section) => {
            out.section(&exports(module, section.clone())?);
        }
        _ => {}
    }
    Ok(())
}

fn after_start(
    module: &Module<'_>,
    out: &mut wasm_encoder::Module,
    payload: &Payload<'_>,
    renumber: &mut Renumber,
) -> Result<(), Refused> {
    match payload {
        Payload::ElementSection(section) => {
            let mut elements = ElementSection::new();
            renumber.parse_element_section(&mut elements, section.clone())?;
            out.section(&elements);
        }
        Payload::DataCountSection { range, .. } => {
            out.section(&RawSection { id: SectionId::DataCount.into(), data: module.bytes(range.clone()) });
        }
        _ => {}
    }
    Ok(())
}

/// The names of the module and its functions, as far as they parse: names that do not are no error in WebAssembly.
/// What is added to cross a boundary has a name too, so that traces can leave it out.
fn names(module: &Module<'_>, payloads: &[Payload<'_>], renumber: &mut Renumber) -> NameSection {
    let mut names = NameSection::new();
    let mut functions = NameMap::new();
    for payload in payloads {
        let Payload::CustomSection(section) = payload else { continue };
        let KnownCustom::Name(section) = section.as_known() else { continue };
        for name in section.into_iter().map_while(Result::ok) {
            match name {
                Name::Module { name, .. } => names.module(name),
                Name::Function(map) => append(&mut functions, map, renumber),
                _ => {}
            }
        }
    }
    for crossing in module.indices.crossings() {
        functions.append(crossing, CROSSING);
    }
    names.functions(&functions);
    names
}

fn append(functions: &mut NameMap, map: wasmparser::NameMap<'_>, renumber: &Renumber) {
    for naming in map.into_iter().map_while(Result::ok) {
        // An import inside a component has no metered function but the one before it, which is a crossing.
        if renumber.0.boundary == Boundary::Metered || naming.index >= renumber.0.imported {
            functions.append(renumber.0.function(naming.index), naming.name);
        }
    }
}
