//! Puts the rewritten module together, section by section.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    ElementSection, EntityType, ExportSection, FunctionSection, GlobalSection, ImportSection, MemorySection,
    NameSection, RawSection, SectionId, StartSection, TableSection, TagSection,
};
use wasmparser::{KnownCustom, Name, Payload, TypeRef, ValType};

use super::{Code, ENTER, HOST_FUNCTIONS, IMPORT, LEAVE, Module, REFILL, Refused};

/// Encodes sections again with functions counted anew.
struct Renumber {
    imported: u32,
}

impl Reencode for Renumber {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(if index < self.imported { index } else { index + HOST_FUNCTIONS })
    }
}

/// The rewritten module. Of its custom sections only the names of functions are kept, for traces: others speak of
/// places that have moved.
pub(super) fn assemble(module: &mut Module<'_>, payloads: &[Payload<'_>], code: Code) -> Result<Vec<u8>, Refused> {
    let mut out = wasm_encoder::Module::new();
    let mut renumber = Renumber { imported: module.imported };
    let imports = imports(module, payloads, &mut renumber)?;
    out.section(&module.types.section());
    out.section(&imports);
    if module.defined > 0 || !code.added.is_empty() {
        out.section(&functions(module, payloads, &code)?);
    }
    for payload in payloads {
        before_code(&mut out, payload, &mut renumber)?;
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
        after_code(module, &mut out, payload, &mut renumber)?;
    }
    Ok(out.finish())
}

/// The module's own imports, with metered functions, and the host's.
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
                TypeRef::Func(ty) => EntityType::Function(module.types.metered(ty)),
                other => renumber.entity_type(other)?,
            };
            imports.import(import.module, import.name, entity);
        }
    }
    let meter = [ValType::I64];
    for (name, parameters, results) in [(REFILL, &meter[..], &meter[..]), (LEAVE, &meter, &[]), (ENTER, &[], &meter)] {
        imports.import(IMPORT, name, EntityType::Function(module.types.intern(parameters, results)));
    }
    Ok(imports)
}

fn functions(module: &Module<'_>, payloads: &[Payload<'_>], code: &Code) -> Result<FunctionSection, Refused> {
    let mut functions = FunctionSection::new();
    for payload in payloads {
        let Payload::FunctionSection(section) = payload else { continue };
        for ty in section.clone() {
            functions.function(module.types.metered(ty?));
        }
    }
    for ty in &code.added {
        functions.function(*ty);
    }
    Ok(functions)
}

fn before_code(out: &mut wasm_encoder::Module, payload: &Payload<'_>, renumber: &mut Renumber) -> Result<(), Refused> {
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
            let mut exports = ExportSection::new();
            renumber.parse_export_section(&mut exports, section.clone())?;
            out.section(&exports);
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

fn after_code(
    module: &Module<'_>,
    out: &mut wasm_encoder::Module,
    payload: &Payload<'_>,
    renumber: &mut Renumber,
) -> Result<(), Refused> {
    match payload {
        Payload::DataSection(section) => {
            out.section(&RawSection { id: SectionId::Data.into(), data: module.bytes(section.range()) });
        }
        Payload::CustomSection(section) => {
            if let KnownCustom::Name(names) = section.as_known() {
                // A name section that does not parse is no error in WebAssembly, and none here.
                if let Ok(names) = function_names(names, renumber) {
                    out.section(&names);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn function_names(names: wasmparser::NameSectionReader<'_>, renumber: &mut Renumber) -> Result<NameSection, Error> {
    let mut section = NameSection::new();
    for name in names {
        let name = name?;
        if matches!(name, Name::Module { .. } | Name::Function(_)) {
            utils::parse_custom_name_subsection(renumber, &mut section, name)?;
        }
    }
    Ok(section)
}
