//! Functions that the rewrite adds: bulk work on memory, in pieces.
//!
//! A single `memory.fill` may take seconds. Each is done in pieces of [`PIECE`] bytes, and each piece is charged for,
//! so that a run can be stopped between two. Nobody can tell: nothing else runs meanwhile, and memory is never looked
//! at after a trap, so it does not matter what a piece that is out of bounds finds done before it.

use wasm_encoder::{BlockType, Function, InstructionSink};
use wasmparser::ValType;

/// Binary logarithm of the bytes that one unit of fuel moves.
const BYTES_SHIFT: i64 = 3;
/// Bytes that are moved before fuel is looked at.
const PIECE: i32 = 1 << 20;

/// Bulk work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bulk {
    Fill,
    Copy,
    /// From a data segment.
    Init(u32),
}

/// Locals: the three operands, the meter, then what is moved at once.
const TO: u32 = 0;
const FROM: u32 = 1;
const COUNT: u32 = 2;
const METER: u32 = 3;
const PART: u32 = 4;

impl Bulk {
    /// Parameters: the operator's operands and the meter; result: the meter.
    pub(super) const PARAMETERS: [ValType; 4] = [ValType::I32, ValType::I32, ValType::I32, ValType::I64];

    /// The function's body.
    pub(super) fn body(self, refill: u32) -> Function {
        let mut function = Function::new([(1, wasm_encoder::ValType::I32)]);
        let mut sink = function.instructions();
        self.all_if_out_of_bounds(&mut sink);
        sink.loop_(BlockType::Empty);
        sink.local_get(COUNT).i32_const(PIECE).local_get(COUNT).i32_const(PIECE).i32_lt_u().select().local_set(PART);
        sink.local_get(METER).local_get(PART).i64_extend_i32_u().i64_const(BYTES_SHIFT).i64_shr_u().i64_sub();
        sink.i64_const(1).i64_sub().local_tee(METER).i32_wrap_i64().i32_const(0).i32_lt_s();
        sink.if_(BlockType::Empty).local_get(METER).call(refill).local_set(METER).end();
        self.part(&mut sink);
        sink.local_get(COUNT).local_get(PART).i32_sub().local_tee(COUNT).br_if(0).end();
        sink.local_get(METER).end();
        function
    }

    /// Places whose end is beyond 4 GiB cannot be counted up to in 32 bits; the whole operator traps there.
    fn all_if_out_of_bounds(self, sink: &mut InstructionSink<'_>) {
        let places: &[u32] = if self == Bulk::Fill { &[TO] } else { &[TO, FROM] };
        for place in places {
            sink.local_get(*place).i64_extend_i32_u().local_get(COUNT).i64_extend_i32_u().i64_add();
            sink.i64_const(1 << 32).i64_gt_u().if_(BlockType::Empty);
            sink.local_get(TO).local_get(FROM).local_get(COUNT);
            self.operator(sink);
            sink.unreachable().end();
        }
    }

    fn part(self, sink: &mut InstructionSink<'_>) {
        if self == Bulk::Copy {
            // What overlaps is copied from the end that is not overwritten before it is read.
            sink.local_get(TO).local_get(FROM).i32_gt_u().if_(BlockType::Empty);
            for place in [TO, FROM] {
                sink.local_get(place).local_get(COUNT).i32_add().local_get(PART).i32_sub();
            }
            sink.local_get(PART).memory_copy(0, 0).else_();
            self.forward(sink);
            sink.end();
        } else {
            self.forward(sink);
        }
    }

    fn forward(self, sink: &mut InstructionSink<'_>) {
        sink.local_get(TO).local_get(FROM).local_get(PART);
        self.operator(sink);
        sink.local_get(TO).local_get(PART).i32_add().local_set(TO);
        if self != Bulk::Fill {
            sink.local_get(FROM).local_get(PART).i32_add().local_set(FROM);
        }
    }

    fn operator(self, sink: &mut InstructionSink<'_>) {
        match self {
            Bulk::Fill => sink.memory_fill(0),
            Bulk::Copy => sink.memory_copy(0, 0),
            Bulk::Init(segment) => sink.memory_init(0, segment),
        };
    }
}
