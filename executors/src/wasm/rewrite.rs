//! Rewrites a module before it is compiled, so that any correct engine gives the same results.
//!
//! Three things that WebAssembly leaves to the engine are pinned in the module itself: the bits of NaN, how deep calls
//! may nest, and how long a program may run. `docs/DETERMINISM.md` argues that this is enough. The output depends on
//! the input alone. In it every function, imported ones too, takes the [meter](Meter) as its last parameter and
//! returns it as its last result, and the module [`IMPORT`] provides what it asks of the host.
//!
//! `plan` decides what is to be done in a function and `emit` does it. `flow` finds which floats may hold NaN whose
//! bits differ (`float` knows the operators), `cost` where fuel is charged, `stack` what calls cost; `types` and `bulk`
//! are what a module gains.

mod plan;

mod emit;

mod flow;

mod float;

mod cost;

mod stack;

mod bulk;

mod types;

mod meter;

mod sections;

use std::collections::BTreeMap;
use std::ops::Range;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BranchHints, CodeSection};
use wasmparser::{
    BlockType, FuncToValidate, FuncType, FunctionBody, Parser, Payload, TypeRef, ValType, ValidPayload, Validator,
    ValidatorResources, WasmFeatures,
};

use bulk::Bulk;
pub use meter::Meter;
use types::Types;

/// The module that rewritten modules import from. No name in it can be imported by a program, whose functions all
/// take the meter last: types differ.
pub const IMPORT: &str = "shoal";
/// `(meter) -> meter`: settles what was used and hands out more, or ends the run.
pub const REFILL: &str = "refill";
/// `(meter)`: the host keeps the fuel while no function has it.
pub const LEAVE: &str = "leave";
/// `() -> fuel`: the fuel that the host keeps.
pub const ENTER: &str = "enter";

/// Functions that a rewritten module imports from [`IMPORT`], after its own.
const HOST_FUNCTIONS: u32 = 3;
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

/// Rewrites a module.
pub fn rewrite(bytes: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut validator = Validator::new_with_features(FEATURES);
    let mut module = Module { bytes, ..Module::default() };
    let mut payloads = Vec::new();
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        match validator.payload(&payload)? {
            ValidPayload::Func(function, body) => bodies.push((function, body)),
            ValidPayload::Parser(_) => return Err(Refused::Unsupported("a module inside")),
            _ => {}
        }
        module.take(&payload)?;
        payloads.push(payload);
    }
    let code = module.code(&bodies)?;
    sections::assemble(&mut module, &payloads, code)
}

/// A module on its way: what its functions need to know of it, and what they add to it.
#[derive(Default)]
struct Module<'a> {
    bytes: &'a [u8],
    types: Types,
    /// Functions imported by the module itself.
    imported: u32,
    /// Functions of its own.
    defined: u32,
    /// Type of each tag.
    tags: Vec<u32>,
    /// The start function, as the module counts.
    start: Option<u32>,
    /// Functions for bulk work, by their number among these.
    bulk: BTreeMap<Bulk, u32>,
}

/// All functions, written.
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
                    match import?.ty {
                        TypeRef::Func(_) => self.imported += 1,
                        TypeRef::Tag(tag) => self.tags.push(tag.func_type_idx),
                        _ => {}
                    }
                }
            }
            Payload::FunctionSection(section) => self.defined = section.count(),
            Payload::TagSection(section) => {
                for tag in section.clone() {
                    self.tags.push(tag?.func_type_idx);
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(*func),
            _ => {}
        }
        Ok(())
    }

    fn code(&mut self, bodies: &[(FuncToValidate<ValidatorResources>, FunctionBody<'_>)]) -> Result<Code, Refused> {
        let (mut section, mut hints, mut added) = (CodeSection::new(), BranchHints::new(), vec![]);
        for (function, body) in bodies {
            check_locals(body)?;
            let plan = plan::plan(self, function, body)?;
            let emitted = emit::emit(self, function.ty, body, &plan)?;
            section.raw(&emitted.bytes);
            if !emitted.hints.is_empty() {
                hints.function_hints(self.function(function.index), emitted.hints);
            }
        }
        let mut bulk: Vec<_> = self.bulk.iter().map(|(bulk, number)| (*number, *bulk)).collect();
        bulk.sort_unstable();
        for (_, bulk) in bulk {
            section.function(&bulk.body(self.refill()));
            added.push(self.types.intern(&Bulk::PARAMETERS, &[ValType::I64]));
        }
        let start = self.start.map(|start| {
            section.function(&bulk::start(self.enter(), self.function(start), self.leave()));
            added.push(self.types.intern(&[], &[]));
            self.refill() + HOST_FUNCTIONS + self.defined + self.bulk_count()
        });
        Ok(Code { section, hints, added, start })
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

    /// A function's index in the rewritten module.
    fn function(&self, index: u32) -> u32 {
        if index < self.imported { index } else { index + HOST_FUNCTIONS }
    }

    fn refill(&self) -> u32 {
        self.imported
    }

    fn leave(&self) -> u32 {
        self.imported + 1
    }

    fn enter(&self) -> u32 {
        self.imported + 2
    }

    /// The function that does this bulk work.
    fn bulk(&mut self, bulk: Bulk) -> u32 {
        let next = self.bulk_count();
        self.imported + HOST_FUNCTIONS + self.defined + *self.bulk.entry(bulk).or_insert(next)
    }

    fn bulk_count(&self) -> u32 {
        u32::try_from(self.bulk.len()).expect("segments are limited")
    }
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
