//! Writes one function as planned.
//!
//! The meter is a parameter after the declared ones: fuel in its lower half, stack in its upper half, both signed. It
//! is taken from on entry and along the way, handed to every callee and taken back from it, and handed back at the
//! end, where every way out of the function meets, with the frame's stack returned.

use wasm_encoder::{BranchHint, Encode, InstructionSink};
use wasmparser::{FunctionBody, Operator, OperatorsReader, ValType};

use super::cost::Charge;
use super::float::{Lanes, vector};
use super::plan::{Plan, Sight};
use super::types::encoded;
use super::{MAX_BODY_BYTES, Module, Refused};

mod control;

mod bulk;

/// Canonical NaN.
const NAN32: u32 = 0x7fc0_0000;
const NAN64: u64 = 0x7ff8_0000_0000_0000;
/// The sign bits of fuel and stack.
pub(super) const SIGNS: i64 = i64::from_ne_bytes(0x8000_0000_8000_0000_u64.to_ne_bytes());
/// Where the stack begins in the meter.
pub(super) const STACK_SHIFT: u32 = 32;

/// A written function.
pub(super) struct Emitted {
    /// Locals and code, without the length.
    pub(super) bytes: Vec<u8>,
    pub(super) hints: Vec<BranchHint>,
}

/// Writes function `index`, counted among all that the module declared.
pub(super) fn emit(module: &mut Module<'_>, ty: u32, body: &FunctionBody<'_>, plan: &Plan) -> Result<Emitted, Refused> {
    let parameters = u32::try_from(module.types.get(ty).params().len()).expect("parameters are limited");
    let mut emit = Emit::new(module, parameters, body, plan)?;
    emit.enter(ty)?;
    emit.body(body.get_operators_reader()?)?;
    emit.finish()
}

struct Emit<'a, 'm> {
    module: &'a mut Module<'m>,
    plan: &'a Plan,
    /// The meter's local; declared locals follow it.
    meter: u32,
    declared: Vec<(u32, ValType)>,
    temporaries: Temporaries,
    /// Where the function's own stack stands in the meter's upper half, for catching.
    depth: Option<u32>,
    out: Vec<u8>,
    /// Offsets of branches that are rarely taken.
    hints: Vec<usize>,
    frames: Vec<control::Label>,
    /// Blocks that are open in the output.
    level: u32,
    charges: &'a [Charge],
    sights: &'a [Sight],
}

/// Locals of the rewrite's own, used again and again.
struct Temporaries {
    first: u32,
    types: Vec<ValType>,
    free: Vec<bool>,
}

impl Temporaries {
    fn take(&mut self, ty: ValType) -> u32 {
        let free = (0..self.types.len()).find(|index| self.free[*index] && self.types[*index] == ty);
        let index = free.unwrap_or_else(|| {
            self.types.push(ty);
            self.free.push(true);
            self.types.len() - 1
        });
        self.free[index] = false;
        self.first + u32::try_from(index).expect("locals are limited")
    }

    fn give(&mut self, local: u32) {
        self.free[(local - self.first) as usize] = true;
    }
}

impl<'a, 'm> Emit<'a, 'm> {
    fn new(module: &'a mut Module<'m>, meter: u32, body: &FunctionBody<'_>, plan: &'a Plan) -> Result<Self, Refused> {
        let declared = body.get_locals_reader()?.into_iter().collect::<Result<Vec<_>, _>>()?;
        let first = meter + 1 + declared.iter().map(|(count, _)| count).sum::<u32>();
        let temporaries = Temporaries { first, types: vec![], free: vec![] };
        Ok(Self {
            module,
            plan,
            meter,
            declared,
            temporaries,
            depth: None,
            out: Vec::new(),
            hints: Vec::new(),
            frames: Vec::new(),
            level: 0,
            charges: &plan.charges,
            sights: &plan.sights,
        })
    }

    fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.out)
    }

    /// The entry's charge, and the block that all ways out lead to the end of.
    fn enter(&mut self, ty: u32) -> Result<(), Refused> {
        if let [entry, rest @ ..] = self.charges
            && entry.at == 0
        {
            self.charges = rest;
            self.charge(entry, self.plan.frame);
        }
        if self.plan.catches {
            let depth = self.temporaries.take(ValType::I64);
            self.depth = Some(depth);
            let meter = self.meter;
            self.sink().local_get(meter).i64_const(-1 << STACK_SHIFT).i64_and().local_set(depth);
        }
        self.enter_block(ty);
        Ok(())
    }

    fn charge(&mut self, charge: &Charge, frame: u32) {
        let meter = self.meter;
        let cost = (i64::from(frame) << STACK_SHIFT) + i64::from(charge.fuel);
        self.sink().local_get(meter).i64_const(cost).i64_sub();
        match (charge.check, frame) {
            (false, _) => _ = self.sink().local_set(meter),
            (true, 0) => self.check_fuel(),
            (true, _) => {
                self.sink().local_tee(meter).i64_const(SIGNS).i64_and().i64_const(0).i64_ne();
                self.refill_if();
            }
        }
    }

    /// Takes the meter from the operands; asks for more if its fuel is used up.
    fn check_fuel(&mut self) {
        let meter = self.meter;
        self.sink().local_tee(meter).i32_wrap_i64().i32_const(0).i32_lt_s();
        self.refill_if();
    }

    fn refill_if(&mut self) {
        self.hints.push(self.out.len());
        let (meter, refill) = (self.meter, self.module.indices.refill());
        self.sink().if_(wasm_encoder::BlockType::Empty).local_get(meter).call(refill).local_set(meter).end();
    }

    fn body(&mut self, mut reader: OperatorsReader<'_>) -> Result<(), Refused> {
        let mut dead = self.plan.dead.iter().peekable();
        let mut at = 0;
        while !reader.eof() {
            let from = reader.original_position();
            let operator = reader.read()?;
            let bytes = self.module.bytes(from..reader.original_position());
            while dead.next_if(|range| range.end <= at).is_some() {}
            if dead.peek().is_none_or(|range| at < range.start) {
                self.operator(at, &operator, bytes)?;
            }
            at += 1;
        }
        Ok(())
    }

    fn operator(&mut self, at: usize, operator: &Operator<'_>, bytes: &[u8]) -> Result<(), Refused> {
        while let [charge, rest @ ..] = self.charges
            && charge.at <= at
        {
            self.charges = rest;
            // What lies in dead code is never reached.
            if charge.at == at {
                self.charge(charge, 0);
            }
        }
        self.see(at, false);
        if !self.control(at, operator)? && !self.bulk(operator) {
            self.plain(operator, bytes);
        }
        Ok(())
    }

    fn plain(&mut self, operator: &Operator<'_>, bytes: &[u8]) {
        match operator {
            Operator::LocalGet { local_index } => {
                let local = self.local(*local_index);
                self.sink().local_get(local);
            }
            Operator::LocalSet { local_index } => {
                let local = self.local(*local_index);
                self.sink().local_set(local);
            }
            Operator::LocalTee { local_index } => {
                let local = self.local(*local_index);
                self.sink().local_tee(local);
            }
            Operator::RefFunc { function_index } => {
                let function = self.module.indices.function(*function_index);
                self.sink().ref_func(function);
            }
            Operator::GlobalGet { global_index } => {
                let global = self.module.indices.global(*global_index);
                self.sink().global_get(global);
            }
            Operator::GlobalSet { global_index } => {
                let global = self.module.indices.global(*global_index);
                self.sink().global_set(global);
            }
            _ => self.out.extend_from_slice(bytes),
        }
        if let Some(lanes) = vector(operator) {
            self.canonical_vector(lanes);
        }
    }

    fn local(&self, local: u32) -> u32 {
        if local < self.meter { local } else { local + 1 }
    }

    /// Makes operands canonical that the operator with number `at` shows, before it or behind it.
    fn see(&mut self, at: usize, behind: bool) {
        while let [sight, rest @ ..] = self.sights
            && (sight.at < at || (sight.at == at && sight.behind == behind))
        {
            self.sights = rest;
            if sight.at == at {
                self.canonical_operands(&sight.operands);
            }
        }
    }

    fn canonical_operands(&mut self, operands: &[(ValType, bool)]) {
        let [(first, _), above @ ..] = operands else { return };
        let mut laid_aside = Vec::with_capacity(above.len());
        for (ty, differs) in above.iter().rev() {
            if *differs {
                self.canonical(*ty);
            }
            let temporary = self.temporaries.take(*ty);
            self.sink().local_set(temporary);
            laid_aside.push(temporary);
        }
        self.canonical(*first);
        for temporary in laid_aside.into_iter().rev() {
            self.sink().local_get(temporary);
            self.temporaries.give(temporary);
        }
    }

    /// A number is at least itself, NaN is not. (Equality would be two conditions on x86-64.)
    fn canonical(&mut self, ty: ValType) {
        let value = self.temporaries.take(ty);
        let mut sink = self.sink();
        sink.local_tee(value);
        if ty == ValType::F32 {
            sink.f32_const(f32::from_bits(NAN32).into()).local_get(value).local_get(value).f32_ge();
        } else {
            sink.f64_const(f64::from_bits(NAN64).into()).local_get(value).local_get(value).f64_ge();
        }
        sink.select();
        self.temporaries.give(value);
    }

    fn canonical_vector(&mut self, lanes: Lanes) {
        let value = self.temporaries.take(ValType::V128);
        let nan = match lanes {
            Lanes::F32x4 => [NAN32.to_le_bytes(); 4].concat(),
            Lanes::F64x2 => [NAN64.to_le_bytes(); 2].concat(),
        };
        let nan = i128::from_le_bytes(nan.try_into().expect("sixteen bytes"));
        let mut sink = self.sink();
        sink.local_tee(value).v128_const(nan).local_get(value).local_get(value);
        match lanes {
            Lanes::F32x4 => sink.f32x4_eq(),
            Lanes::F64x2 => sink.f64x2_eq(),
        };
        sink.v128_bitselect();
        self.temporaries.give(value);
    }

    fn finish(self) -> Result<Emitted, Refused> {
        let mut locals: Vec<_> = self.declared.iter().map(|(count, ty)| (*count, encoded(*ty))).collect();
        locals.extend(self.temporaries.types.iter().map(|ty| (1, encoded(*ty))));
        let mut bytes = Vec::with_capacity(self.out.len() + 16);
        locals.len().encode(&mut bytes);
        for (count, ty) in locals {
            count.encode(&mut bytes);
            ty.encode(&mut bytes);
        }
        let code = bytes.len();
        bytes.extend_from_slice(&self.out);
        if bytes.len() > MAX_BODY_BYTES {
            return Err(Refused::TooMuch {
                what: "bytes in one metered function",
                have: bytes.len(),
                limit: MAX_BODY_BYTES,
            });
        }
        let hint = |at: &usize| BranchHint {
            branch_func_offset: u32::try_from(code + at).expect("a body is limited"),
            branch_hint_value: 0,
        };
        let hints = self.hints.iter().map(hint).collect();
        Ok(Emitted { bytes, hints })
    }
}
