//! The types of a rewritten module: what it declared, the same with a meter, and what the rewrite itself needs.
//!
//! Declared types keep their indices, since blocks and tags use them as they are. The metered twin of type `i` of `n`
//! is `n + i`. All others follow, each once, in the order in which they were first asked for.

use std::collections::BTreeMap;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{BlockType as Encoded, TypeSection};
use wasmparser::{BlockType, CompositeInnerType, FuncType, RecGroup, ValType};

use super::Refused;

/// Parameters or results of one function type. The limit of WebAssembly engines is 1,000, the meter included; real
/// programs have a few dozen, and moving thousands of values with one branch is cheap to write and dear to compile.
const MAX_ARITY: usize = 256;

type Signature = (Vec<ValType>, Vec<ValType>);

/// All types of a module.
#[derive(Debug, Default)]
pub(super) struct Types {
    declared: Vec<FuncType>,
    added: Vec<Signature>,
    index: BTreeMap<Signature, u32>,
}

impl Types {
    pub(super) fn declare(&mut self, group: RecGroup) -> Result<(), Refused> {
        for sub in group.into_types() {
            let CompositeInnerType::Func(function) = sub.composite_type.inner else {
                return Err(Refused::Unsupported("a type that is not a function's"));
            };
            let arity = function.params().len().max(function.results().len());
            if arity > MAX_ARITY {
                return Err(Refused::TooMuch {
                    what: "parameters or results of one type",
                    have: arity,
                    limit: MAX_ARITY,
                });
            }
            self.declared.push(function);
        }
        Ok(())
    }

    pub(super) fn get(&self, index: u32) -> &FuncType {
        &self.declared[index as usize]
    }

    /// The type that functions of type `index` have in the rewritten module.
    pub(super) fn metered(&self, index: u32) -> u32 {
        self.count() + index
    }

    fn count(&self) -> u32 {
        u32::try_from(self.declared.len()).expect("types are limited")
    }

    /// The index of a type that the rewrite needs.
    pub(super) fn intern(&mut self, parameters: &[ValType], results: &[ValType]) -> u32 {
        let signature = (parameters.to_vec(), results.to_vec());
        if let Some(index) = self.index.get(&signature) {
            return *index;
        }
        let index = 2 * self.count() + u32::try_from(self.added.len()).expect("types are limited");
        self.added.push(signature.clone());
        self.index.insert(signature, index);
        index
    }

    /// The type of a block that the rewrite adds.
    pub(super) fn block(&mut self, parameters: &[ValType], results: &[ValType]) -> Encoded {
        match (parameters, results) {
            ([], []) => Encoded::Empty,
            ([], [one]) => Encoded::Result(encoded(*one)),
            _ => Encoded::FunctionType(self.intern(parameters, results)),
        }
    }

    /// Parameters and results of a block.
    pub(super) fn signature(&self, block: BlockType) -> Signature {
        match block {
            BlockType::Empty => (vec![], vec![]),
            BlockType::Type(one) => (vec![], vec![one]),
            BlockType::FuncType(index) => (self.get(index).params().to_vec(), self.get(index).results().to_vec()),
        }
    }

    pub(super) fn section(&self) -> TypeSection {
        let mut section = TypeSection::new();
        let mut write = |parameters: &[ValType], results: &[ValType], meter: &[ValType]| {
            let with_meter = |types: &[ValType]| types.iter().chain(meter).map(|ty| encoded(*ty)).collect::<Vec<_>>();
            section.ty().function(with_meter(parameters), with_meter(results));
        };
        for meter in [&[][..], &[ValType::I64]] {
            for declared in &self.declared {
                write(declared.params(), declared.results(), meter);
            }
        }
        for (parameters, results) in &self.added {
            write(parameters, results, &[]);
        }
        section
    }
}

/// A value's type, for the encoder. Types that name other types are no part of the profile.
pub(super) fn encoded(ty: ValType) -> wasm_encoder::ValType {
    RoundtripReencoder.val_type(ty).expect("an abstract type")
}
