//! Puts a rewritten component together.
//!
//! What is new stands before everything else, so what the component defines itself has moved on by a fixed number,
//! except core functions and instances: in between stand those around functions of the host.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, component_utils};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection,
    ComponentImportSection, ComponentSectionId, ComponentTypeRef, ComponentTypeSection, ExportKind, InstanceSection,
    ModuleArg, ModuleSection, PrimitiveValType, RawSection,
};
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentType, CustomSectionReader, FuncType, Instance, Parser, Payload,
};

use super::super::{IMPORT, REFILL, Refused};
use super::host::{self, SETTLE};
use super::read::Parts;
use super::{READ, REFILL_COMPONENT, SETTLE_COMPONENT};

/// Types that stand before the component's own.
const TYPES: u32 = 2;
/// Functions likewise: two imports, and what reads the meter.
const FUNCTIONS: u32 = 3;
/// The core instance that all modules import from.
const METER_INSTANCE: u32 = 1;

/// Encodes the component again, with its modules replaced and its links metered.
pub(super) fn encode(bytes: &[u8], parts: Parts) -> Result<Vec<u8>, Refused> {
    let mut encoder = Encoder { parts, ..Encoder::default() };
    let mut out = Component::new();
    encoder.open(&mut out);
    encoder.parse_component(&mut out, Parser::new(0), bytes)?;
    let mut exports = ComponentExportSection::new();
    exports.export(READ, ComponentExportKind::Func, FUNCTIONS - 1, None);
    out.section(&exports);
    Ok(out.finish())
}

#[derive(Default)]
struct Encoder {
    parts: Parts,
    /// How many components and types, one in the other, are around what is encoded.
    depth: u32,
    /// Where each core function, module and core instance of the component has moved.
    functions: Vec<u32>,
    modules: Vec<u32>,
    instances: Vec<u32>,
    /// How many of them the new component has so far.
    next: Next,
    /// Functions of the host that modules do not use yet: which of the component's functions, and their types.
    unsettled: Vec<(usize, FuncType)>,
}

#[derive(Default)]
struct Next {
    function: u32,
    module: u32,
    instance: u32,
}

impl Next {
    fn take(next: &mut u32) -> u32 {
        *next += 1;
        *next - 1
    }
}

impl Encoder {
    /// What stands before everything else: the functions that the host provides, and the module with the meter.
    fn open(&mut self, out: &mut Component) {
        let mut types = ComponentTypeSection::new();
        types.function().params([("meter", PrimitiveValType::S64)]).result(Some(PrimitiveValType::S64.into()));
        types.function().params([("", PrimitiveValType::S64); 0]).result(Some(PrimitiveValType::S64.into()));
        let mut imports = ComponentImportSection::new();
        imports.import(REFILL_COMPONENT, ComponentTypeRef::Func(0));
        imports.import(SETTLE_COMPONENT, ComponentTypeRef::Func(0));
        let mut lowered = CanonicalFunctionSection::new();
        lowered.lower(0, []).lower(1, []);
        let mut instances = InstanceSection::new();
        instances.export_items([(REFILL, ExportKind::Func, 0), (SETTLE, ExportKind::Func, 1)]);
        instances.instantiate(0, [("", ModuleArg::Instance(0))]);
        let mut aliases = ComponentAliasSection::new();
        aliases.alias(Alias::CoreInstanceExport { instance: METER_INSTANCE, kind: ExportKind::Func, name: host::READ });
        let mut lifted = CanonicalFunctionSection::new();
        lifted.lift(2, 1, []);
        out.section(&types).section(&imports).section(&lowered).section(&ModuleSection(&host::meter()));
        out.section(&instances).section(&aliases).section(&lifted);
        self.next = Next { function: 3, module: 1, instance: METER_INSTANCE + 1 };
    }

    /// Puts functions around those of the host that modules are about to use.
    fn settle(&mut self, out: &mut Component) {
        let unsettled = std::mem::take(&mut self.unsettled);
        if unsettled.is_empty() {
            return;
        }
        let (indices, types): (Vec<_>, Vec<_>) = unsettled.into_iter().unzip();
        let names: Vec<_> = (0..indices.len()).map(|number| number.to_string()).collect();
        out.section(&ModuleSection(&host::around(&types)));
        let module = Next::take(&mut self.next.module);
        let (raw, settled) = (Next::take(&mut self.next.instance), Next::take(&mut self.next.instance));
        let mut instances = InstanceSection::new();
        let lowered = names.iter().zip(&indices).map(|(name, index)| (name, ExportKind::Func, self.functions[*index]));
        instances.export_items(lowered.collect::<Vec<_>>());
        let arguments = [("", ModuleArg::Instance(raw)), (IMPORT, ModuleArg::Instance(METER_INSTANCE))];
        instances.instantiate(module, arguments);
        let mut aliases = ComponentAliasSection::new();
        for (name, index) in names.iter().zip(indices) {
            aliases.alias(Alias::CoreInstanceExport { instance: settled, kind: ExportKind::Func, name });
            self.functions[index] = Next::take(&mut self.next.function);
        }
        out.section(&instances).section(&aliases);
    }

    /// One section for each definition: one may use what another before it has made.
    fn canonical(&mut self, out: &mut Component, function: CanonicalFunction) -> Result<(), Error> {
        let function = match function {
            CanonicalFunction::Lift { core_func_index, type_index, options } => {
                self.settle(out);
                CanonicalFunction::Lift { core_func_index, type_index, options: before_return(&options) }
            }
            CanonicalFunction::Lower { ref options, .. } if self.allocates_unsettled(options) => {
                self.settle(out);
                function
            }
            other => other,
        };
        let (lifts, lowers) =
            (matches!(function, CanonicalFunction::Lift { .. }), matches!(function, CanonicalFunction::Lower { .. }));
        let mut section = CanonicalFunctionSection::new();
        self.parse_component_canonical(&mut section, function)?;
        out.section(&section);
        if lifts {
            return Ok(());
        }
        let ty = self.parts.canonical.pop_front().expect("each was read");
        if lowers {
            self.unsettled.push((self.functions.len(), ty));
        }
        self.functions.push(Next::take(&mut self.next.function));
        Ok(())
    }

    /// Whether a function of the host is given another one as its allocator.
    fn allocates_unsettled(&self, options: &[CanonicalOption]) -> bool {
        let unsettled = |index: u32| self.unsettled.iter().any(|(unsettled, _)| *unsettled == index as usize);
        options.iter().any(|option| matches!(option, CanonicalOption::Realloc(index) if unsettled(*index)))
    }

    fn at_top(&self) -> bool {
        self.depth == 0
    }
}

/// Nothing is called after a function has returned: the run is over then, and could not be metered to its end.
fn before_return(options: &[CanonicalOption]) -> Box<[CanonicalOption]> {
    options.iter().filter(|option| !matches!(option, CanonicalOption::PostReturn(_))).copied().collect()
}

impl Reencode for Encoder {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(self.functions[index as usize])
    }
}

impl ReencodeComponent for Encoder {
    fn push_depth(&mut self) {
        self.depth += 1;
    }

    fn pop_depth(&mut self) {
        self.depth -= 1;
    }

    fn component_type_index(&mut self, index: u32) -> u32 {
        if self.at_top() { index + TYPES } else { index }
    }

    fn outer_component_type_index(&mut self, count: u32, index: u32) -> u32 {
        if count == self.depth { index + TYPES } else { index }
    }

    fn component_func_index(&mut self, index: u32) -> u32 {
        if self.at_top() { index + FUNCTIONS } else { index }
    }

    fn module_index(&mut self, index: u32) -> u32 {
        self.modules[index as usize]
    }

    fn instance_index(&mut self, index: u32) -> u32 {
        self.instances[index as usize]
    }

    fn parse_component_payload(
        &mut self,
        out: &mut Component,
        payload: Payload<'_>,
        whole: &[u8],
    ) -> Result<(), Error> {
        match payload {
            Payload::ComponentCanonicalSection(section) => {
                return section.into_iter().try_for_each(|function| self.canonical(out, function?));
            }
            Payload::InstanceSection(_) => self.settle(out),
            Payload::ComponentTypeSection(ref section) => {
                let destructor = |ty| matches!(ty, Ok(ComponentType::Resource { dtor: Some(_), .. }));
                if section.clone().into_iter().any(destructor) {
                    self.settle(out);
                }
            }
            _ => {}
        }
        component_utils::parse_component_payload(self, out, payload, whole)
    }

    fn parse_component_submodule(&mut self, out: &mut Component, _: Parser, _: &[u8]) -> Result<(), Error> {
        let module = self.parts.modules.pop_front().expect("each was read");
        out.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: &module });
        self.modules.push(Next::take(&mut self.next.module));
        Ok(())
    }

    /// They speak of places that have moved.
    fn parse_component_custom_section(&mut self, _: &mut Component, _: CustomSectionReader<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn component_alias<'a>(&mut self, alias: wasmparser::ComponentAlias<'a>) -> Result<Alias<'a>, Error> {
        let alias = component_utils::component_alias(self, alias)?;
        if self.at_top() && matches!(alias, Alias::CoreInstanceExport { kind: ExportKind::Func, .. }) {
            self.functions.push(Next::take(&mut self.next.function));
        }
        Ok(alias)
    }

    fn parse_instance(&mut self, instances: &mut InstanceSection, instance: Instance<'_>) -> Result<(), Error> {
        match instance {
            Instance::Instantiate { module_index, args } => {
                let given = args.iter().map(|argument| (argument.name, self.instances[argument.index as usize]));
                let arguments = given.chain([(IMPORT, METER_INSTANCE)]);
                let arguments: Vec<_> = arguments.map(|(name, index)| (name, ModuleArg::Instance(index))).collect();
                instances.instantiate(self.module_index(module_index), arguments);
            }
            Instance::FromExports(_) => component_utils::parse_instance(self, instances, instance)?,
        }
        self.instances.push(Next::take(&mut self.next.instance));
        Ok(())
    }
}
