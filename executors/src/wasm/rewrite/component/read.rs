//! Reads a component: validates it, refuses what the profile has not, and rewrites the modules in it.

use std::collections::{BTreeSet, VecDeque};

use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Encoding, FuncType, Instance, Parser, Payload, ValidPayload, Validator, WasmFeatures,
};

use super::super::boundary::Boundary;
use super::super::{FEATURES, IMPORT, Reading, Refused};
use super::{READ, REFILL_COMPONENT, SETTLE_COMPONENT};

/// What is known of a component when it has been read, in its order.
#[derive(Default)]
pub(super) struct Parts {
    /// Its modules, rewritten.
    pub(super) modules: VecDeque<Vec<u8>>,
    /// The types of all core functions that canonical definitions make.
    pub(super) canonical: VecDeque<FuncType>,
}

/// Validates a component and rewrites its modules.
pub(super) fn read(bytes: &[u8]) -> Result<Parts, Refused> {
    let mut validator = Validator::new_with_features(FEATURES.union(WasmFeatures::COMPONENT_MODEL));
    let mut reader = Reader { bytes, ..Reader::default() };
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        let before = canonical(&payload).then(|| functions(&validator));
        let valid = validator.payload(&payload)?;
        reader.take(payload, valid)?;
        if let Some(before) = before {
            reader.take_canonical(&validator, before);
        }
    }
    Ok(reader.parts)
}

fn canonical(payload: &Payload<'_>) -> bool {
    matches!(payload, Payload::ComponentCanonicalSection(_))
}

/// How many core functions the component at hand has.
fn functions(validator: &Validator) -> u32 {
    validator.types(0).map_or(0, |types| types.function_count())
}

#[derive(Default)]
struct Reader<'a> {
    bytes: &'a [u8],
    parts: Parts,
    /// The module at hand.
    module: Option<Reading<'a>>,
    /// How many components are being read, one in the other.
    depth: usize,
    instantiated: BTreeSet<u32>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, payload: Payload<'a>, valid: ValidPayload<'a>) -> Result<(), Refused> {
        match payload {
            Payload::ModuleSection { .. } => self.module = Some(Reading::new(self.bytes, Boundary::Plain)),
            Payload::End(_) => self.end()?,
            Payload::Version { encoding: Encoding::Component, .. } => self.depth += 1,
            payload => match &mut self.module {
                Some(module) => return module.take(payload, valid),
                None => return self.section(&payload),
            },
        }
        match self.depth {
            0 | 1 => Ok(()),
            2 if self.module.is_none() => Ok(()),
            2 => Err(Refused::Unsupported("components inside that have modules of their own")),
            _ => Err(Refused::Unsupported("components inside that have components of their own")),
        }
    }

    fn end(&mut self) -> Result<(), Refused> {
        match self.module.take() {
            Some(module) => self.parts.modules.push_back(module.finish()?),
            None => self.depth -= 1,
        }
        Ok(())
    }

    fn section(&mut self, payload: &Payload<'_>) -> Result<(), Refused> {
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    let import = import?;
                    reserved(import.name.name)?;
                    if matches!(import.ty, ComponentTypeRef::Module(_) | ComponentTypeRef::Component(_)) {
                        return Err(Refused::Unsupported("an imported module or component"));
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    reserved(export.name.name)?;
                    if export.kind == ComponentExternalKind::Module || export.kind == ComponentExternalKind::Component {
                        return Err(Refused::Unsupported("an exported module or component"));
                    }
                }
            }
            Payload::ComponentAliasSection(section) => section.clone().into_iter().try_for_each(|one| alias(&one?))?,
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    self.instance(&instance?)?;
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section.clone() {
                    self.canonical(&function?)?;
                }
            }
            Payload::ComponentInstanceSection(section) if self.depth > 1 => {
                for instance in section.clone() {
                    if matches!(instance?, ComponentInstance::Instantiate { .. }) {
                        return Err(Refused::Unsupported("instances of components in components inside"));
                    }
                }
            }
            Payload::ComponentStartSection { .. } => return Err(Refused::Unsupported("a component's start function")),
            _ => {}
        }
        Ok(())
    }

    /// A module is instantiated once, so that what instances cost is bounded by the component's size.
    fn instance(&mut self, instance: &Instance<'_>) -> Result<(), Refused> {
        if let Instance::Instantiate { module_index, args } = instance {
            if !self.instantiated.insert(*module_index) {
                return Err(Refused::Unsupported("a module that it instantiates twice"));
            }
            if args.iter().any(|argument| argument.name == IMPORT) {
                return Err(Refused::Unsupported("an import from a module named \"shoal\""));
            }
        }
        Ok(())
    }

    fn canonical(&self, function: &CanonicalFunction) -> Result<(), Refused> {
        use CanonicalFunction as F;
        match function {
            _ if self.depth > 1 => Err(Refused::Unsupported("components inside that have functions of their own")),
            F::Lift { .. } | F::Lower { .. } => Ok(()),
            F::ResourceNew { .. } | F::ResourceDrop { .. } | F::ResourceRep { .. } => Ok(()),
            _ => Err(Refused::Unsupported("asynchronous functions or threads")),
        }
    }

    /// Notes the types of the core functions that a section has added.
    fn take_canonical(&mut self, validator: &Validator, before: u32) {
        let Some(types) = validator.types(0) else { return };
        for index in before..types.function_count() {
            self.parts.canonical.push_back(types[types.core_function_at(index)].unwrap_func().clone());
        }
    }
}

fn reserved(name: &str) -> Result<(), Refused> {
    match [REFILL_COMPONENT, SETTLE_COMPONENT, READ].contains(&name) {
        true => Err(Refused::Unsupported("an import or export under a name of the profile's own")),
        false => Ok(()),
    }
}

/// Modules and components are where they were defined and nowhere else.
fn alias(alias: &ComponentAlias<'_>) -> Result<(), Refused> {
    use ComponentExternalKind as K;
    use ComponentOuterAliasKind as O;
    match alias {
        ComponentAlias::InstanceExport { kind: K::Module | K::Component, .. }
        | ComponentAlias::Outer { kind: O::CoreModule | O::Component, .. } => {
            Err(Refused::Unsupported("an alias of a module or component"))
        }
        _ => Ok(()),
    }
}
