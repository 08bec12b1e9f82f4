//! Rewrites a module before it is compiled, so that any correct engine gives the same results.
//!
//! Three things that WebAssembly leaves to the engine are pinned in the module itself: the bits of NaN, how deep calls
//! may nest, and how long a program may run. `docs/DETERMINISM.md` argues that this is enough. The output depends on
//! the input alone. In it every function, imported ones too, takes the [meter](Meter) as its last parameter and
//! returns it as its last result, and the module [`IMPORT`] provides what it asks of the host.
//!
//! `plan` decides what is to be done in a function and `emit` does it. `flow` finds which floats may hold NaN whose
//! bits differ (`float` knows the operators), `cost` where fuel is charged, `stack` what calls cost; `types`, `bulk` and
//! `boundary` are what a module gains, `indices` where everything stands then. `component` rewrites the modules inside
//! a component and what links them.

mod plan;

mod emit;

mod flow;

mod float;

mod cost;

mod stack;

mod bulk;

mod types;

mod meter;

mod boundary;

mod indices;

mod sections;

mod component;

use std::collections::BTreeMap;
use std::ops::Range;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BranchHints, CodeSection};
use wasmparser::{
    BlockType, ExternalKind, FuncToValidate, FuncType, FunctionBody, Parser, Payload, TypeRef, ValType, ValidPayload,
    Validator, ValidatorResources, WasmFeatures,
};

use boundary::Boundary;
pub(super) use boundary::CROSSING;
use bulk::Bulk;
pub use component::{READ, REFILL_COMPONENT, SETTLE_COMPONENT};
use indices::Indices;
pub use meter::Meter;
use types::Types;

/// The module that rewritten modules import from; no program may import from one of that name.
pub const IMPORT: &str = "shoal";
/// `(meter) -> meter`: settles what was used and hands out more, or ends the run.
pub const REFILL: &str = "refill";
/// `(meter)`: the host keeps the fuel while no function has it.
pub const LEAVE: &str = "leave";
/// `() -> fuel`: the fuel that the host keeps.
pub const ENTER: &str = "enter";

/// The global in which the meter crosses from module to module in a component.
const METER: &str = "meter";

/// Largest rewritten function, in bytes: what engines accept.
const MAX_BODY_BYTES: usize = 7_654_321;
/// Locals of a function, before the rewrite adds its own; engines accept 50,000.
const MAX_LOCALS: u32 = 49_000;

/// What a module may use, under the determinism profile.
pub const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::THREADS);

/// Why a module cannot be rewritten. All machines refuse alike.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is no valid module under the profile.
    #[error("it is not valid: {0}")]
    Invalid(#[from] wasmparser::Error),
    /// It uses what the profile has not.
    #[error("it has {0}, which the profile does not run")]
    Unsupported(&'static str),
    /// It has more of something than the rewrite takes on.
    #[error("it has {have} {what}, more than the {limit} that the profile allows")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        have: usize,
        /// How much there may be.
        limit: usize,
    },
}

impl From<wasm_encoder::reencode::Error> for Refused {
    fn from(error: wasm_encoder::reencode::Error) -> Self {
        match error {
            wasm_encoder::reencode::Error::ParseError(error) => Refused::Invalid(error),
            _ => Refused::Unsupported("a section that cannot be encoded again"),
        }
    }
}

/// Rewrites a module, or a component with all modules in it.
pub fn rewrite(bytes: &[u8]) -> Result<Vec<u8>, Refused> {
    if Parser::is_component(bytes) {
        return component::rewrite(bytes);
    }
    let mut validator = Validator::new_with_features(FEATURES);
    let mut reading = Reading::new(bytes, Boundary::Metered);
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        let valid = validator.payload(&payload)?;
        reading.take(payload, valid)?;
    }
    reading.finish()
}

/// A module that is being read.
struct Reading<'a> {
    module: Module<'a>,
    payloads: Vec<Payload<'a>>,
    bodies: Vec<(FuncToValidate<ValidatorResources>, FunctionBody<'a>)>,
}

impl<'a> Reading<'a> {
    /// Begins a module whose sections lie in `bytes`.
    fn new(bytes: &'a [u8], boundary: Boundary) -> Self {
        let indices = Indices::new(boundary);
        let module = Module { bytes, indices, ..Module::default() };
        Self { module, payloads: vec![], bodies: vec![] }
    }

    /// Takes its next part, which was found valid.
    fn take(&mut self, payload: Payload<'a>, valid: ValidPayload<'a>) -> Result<(), Refused> {
        if let ValidPayload::Func(function, body) = valid {
            self.bodies.push((function, body));
        }
        self.module.take(&payload)?;
        self.payloads.push(payload);
        Ok(())
    }

    /// The module, rewritten.
    fn finish(mut self) -> Result<Vec<u8>, Refused> {
        let code = self.module.code(&self.bodies)?;
        sections::assemble(&mut self.module, &self.payloads, code)
    }
}

/// A module on its way: what its functions need to know of it, and what they add to it.
#[derive(Default)]
struct Module<'a> {
    bytes: &'a [u8],
    types: Types,
    indices: Indices,
    /// Types of the functions that it imports.
    imported: Vec<u32>,
    /// Types of its own functions.
    defined: Vec<u32>,
    /// Functions of its own that it exports, by their number among these.
    exported: BTreeMap<u32, u32>,
    /// Type of each tag.
    tags: Vec<u32>,
    /// Type of each table's elements.
    tables: Vec<ValType>,
    /// The start function, as the module counts.
    start: Option<u32>,
    /// Functions for bulk work, by their number among these.
    bulk: BTreeMap<Bulk, u32>,
}

/// All functions, written.
#[derive(Default)]
struct Code {
    section: CodeSection,
    hints: BranchHints,
    /// Types of the functions that were added.
    added: Vec<u32>,
    /// The start function.
    start: Option<u32>,
}

impl<'a> Module<'a> {
    /// Notes what other sections and the functions need.
    fn take(&mut self, payload: &Payload<'_>) -> Result<(), Refused> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    self.types.declare(group?)?;
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    self.take_import(&import?)?;
                }
            }
            Payload::FunctionSection(section) => {
                self.defined = section.clone().into_iter().collect::<Result<_, _>>()?;
                self.indices.defined = section.count();
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    self.tables.push(ValType::Ref(table?.ty.element_type));
                }
            }
            Payload::TagSection(section) => {
                for tag in section.clone() {
                    self.tags.push(tag?.func_type_idx);
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    self.take_export(&export?);
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(*func),
            _ => {}
        }
        Ok(())
    }

    fn take_import(&mut self, import: &wasmparser::Import<'_>) -> Result<(), Refused> {
        if import.module == IMPORT {
            return Err(Refused::Unsupported("an import from a module named \"shoal\""));
        }
        match import.ty {
            TypeRef::Func(ty) => {
                self.imported.push(ty);
                self.indices.imported += 1;
            }
            TypeRef::Global(_) => self.indices.globals += 1,
            TypeRef::Tag(tag) => self.tags.push(tag.func_type_idx),
            TypeRef::Table(table) => self.tables.push(ValType::Ref(table.element_type)),
            _ => {}
        }
        Ok(())
    }

    fn take_export(&mut self, export: &wasmparser::Export<'_>) {
        let functions = matches!(export.kind, ExternalKind::Func);
        if functions && export.index >= self.indices.imported {
            let next = count(self.exported.len());
            self.exported.entry(export.index).or_insert(next);
            self.indices.exported = count(self.exported.len());
        }
    }

    fn code(&mut self, bodies: &[(FuncToValidate<ValidatorResources>, FunctionBody<'_>)]) -> Result<Code, Refused> {
        let mut code = Code::default();
        for (function, body) in bodies {
            check_locals(body)?;
            let plan = plan::plan(self, function, body)?;
            let emitted = emit::emit(self, function.ty, body, &plan)?;
            code.section.raw(&emitted.bytes);
            if !emitted.hints.is_empty() {
                code.hints.function_hints(self.indices.function(function.index), emitted.hints);
            }
        }
        boundary::wrap(self, &mut code);
        let mut bulk: Vec<_> = self.bulk.iter().map(|(bulk, number)| (*number, *bulk)).collect();
        bulk.sort_unstable();
        for (_, bulk) in bulk {
            code.section.function(&bulk.body(self.indices.refill()));
            code.added.push(self.types.intern(&Bulk::PARAMETERS, &[ValType::I64]));
        }
        if let Some(start) = self.start {
            code.section.function(&boundary::start(self.indices, start));
            code.start = Some(self.indices.own() + self.indices.defined + count(code.added.len()));
            code.added.push(self.types.intern(&[], &[]));
        }
        Ok(code)
    }

    fn bytes(&self, range: Range<usize>) -> &'a [u8] {
        &self.bytes[range]
    }

    fn tag(&self, tag: u32) -> &FuncType {
        self.types.get(self.tags[tag as usize])
    }

    fn block(&self, block: BlockType) -> wasm_encoder::BlockType {
        RoundtripReencoder.block_type(block).expect("types keep their indices")
    }

    /// The function that does this bulk work.
    fn bulk(&mut self, bulk: Bulk) -> u32 {
        let next = count(self.bulk.len());
        self.indices.bulk() + *self.bulk.entry(bulk).or_insert(next)
    }
}

/// How many items of a module there are: engines allow a million of a kind.
fn count(items: usize) -> u32 {
    u32::try_from(items).expect("items are limited")
}

fn check_locals(body: &FunctionBody<'_>) -> Result<(), Refused> {
    let mut have = 0_u32;
    for group in body.get_locals_reader()? {
        have = have.saturating_add(group?.0);
    }
    if have > MAX_LOCALS {
        return Err(Refused::TooMuch {
            what: "locals in one function",
            have: have as usize,
            limit: MAX_LOCALS as usize,
        });
    }
    Ok(())
}
