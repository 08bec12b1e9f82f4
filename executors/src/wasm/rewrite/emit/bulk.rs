//! Operators that work as long as their operands say: charged by size.

use wasm_encoder::{BlockType, InstructionSink};
use wasmparser::{Operator, ValType};

use super::super::bulk::Bulk;
use super::Emit;

/// Binary logarithm of the table elements that one unit of fuel moves.
const ELEMENTS_SHIFT: i64 = 2;
/// Elements of a table that are moved before fuel is looked at: well under a millisecond's work.
const PIECE: i32 = 1 << 14;
/// Binary logarithm of a new page's fuel, for zeroing it.
const PAGE_SHIFT: i64 = 10;
/// Binary logarithm of a new table element's fuel.
const ELEMENT_SHIFT: i64 = 0;

/// Locals that hold a bulk operator's operands, and how much of it is done at once.
#[derive(Clone, Copy)]
struct Operands {
    to: u32,
    from: u32,
    count: u32,
    part: u32,
}

impl Emit<'_, '_> {
    /// Writes a bulk operator; false if it is none.
    pub(super) fn bulk(&mut self, operator: &Operator<'_>) -> bool {
        match *operator {
            Operator::MemoryFill { .. } => self.in_pieces(Bulk::Fill),
            Operator::MemoryCopy { .. } => self.in_pieces(Bulk::Copy),
            Operator::MemoryInit { data_index, .. } => self.in_pieces(Bulk::Init(data_index)),
            Operator::MemoryGrow { mem } => self.grow(PAGE_SHIFT, |emit| _ = emit.sink().memory_grow(mem)),
            Operator::TableGrow { table } => self.grow(ELEMENT_SHIFT, |emit| _ = emit.sink().table_grow(table)),
            Operator::TableFill { table } => {
                let value = self.module.tables[table as usize];
                self.elements(value, |sink| _ = sink.table_fill(table));
            }
            Operator::TableCopy { dst_table, src_table } => {
                self.copied_elements(|sink| _ = sink.table_copy(dst_table, src_table));
            }
            Operator::TableInit { elem_index, table } => {
                self.elements(ValType::I32, |sink| _ = sink.table_init(table, elem_index));
            }
            _ => return false,
        }
        true
    }

    fn in_pieces(&mut self, bulk: Bulk) {
        let (meter, helper) = (self.meter, self.module.bulk(bulk));
        self.sink().local_get(meter).call(helper).local_set(meter);
    }

    /// Fills a table or takes elements from a segment, in pieces and from the front. What does not fit traps before
    /// any place is counted up too far.
    fn elements(&mut self, second: ValType, work: impl Fn(&mut InstructionSink<'_>)) {
        let operands = self.operands(second);
        self.each_piece(operands, |sink| forward(sink, operands, second == ValType::I32, &work));
        self.give(operands);
    }

    /// Copies elements, from the end that is not overwritten before it is read.
    fn copied_elements(&mut self, work: impl Fn(&mut InstructionSink<'_>)) {
        let operands = self.operands(ValType::I32);
        let Operands { to, from, count, part } = operands;
        // No table is so large: the operator traps, and places can be counted in 32 bits below.
        self.sink().local_get(to).local_get(from).i32_or().local_get(count).i32_or().i32_const(0).i32_lt_s();
        self.hints.push(self.out.len());
        let mut sink = self.sink();
        sink.if_(BlockType::Empty).local_get(to).local_get(from).local_get(count);
        work(&mut sink);
        sink.unreachable().end();
        self.each_piece(operands, |sink| {
            sink.local_get(to).local_get(from).i32_gt_u().if_(BlockType::Empty);
            for place in [to, from] {
                sink.local_get(place).local_get(count).i32_add().local_get(part).i32_sub();
            }
            sink.local_get(part);
            work(sink);
            sink.else_();
            forward(sink, operands, true, &work);
            sink.end();
        });
        self.give(operands);
    }

    fn operands(&mut self, second: ValType) -> Operands {
        let [to, count, part] = [(); 3].map(|()| self.temporaries.take(ValType::I32));
        let from = self.temporaries.take(second);
        self.sink().local_set(count).local_set(from).local_set(to);
        Operands { to, from, count, part }
    }

    fn give(&mut self, Operands { to, from, count, part }: Operands) {
        [to, from, count, part].into_iter().for_each(|local| self.temporaries.give(local));
    }

    /// Works on piece after piece, the first of them also if there is nothing to do, and charges for each before.
    fn each_piece(&mut self, operands: Operands, work: impl FnOnce(&mut InstructionSink<'_>)) {
        let (meter, Operands { count, part, .. }) = (self.meter, operands);
        let mut sink = self.sink();
        sink.loop_(BlockType::Empty);
        sink.local_get(count).i32_const(PIECE).local_get(count).i32_const(PIECE).i32_lt_u().select().local_set(part);
        sink.local_get(meter).local_get(part).i64_extend_i32_u().i64_const(ELEMENTS_SHIFT).i64_shr_u().i64_sub();
        sink.i64_const(1).i64_sub();
        self.check_fuel();
        let mut sink = self.sink();
        work(&mut sink);
        sink.local_get(count).local_get(part).i32_sub().local_tee(count).br_if(0).end();
    }

    /// Growth that is refused costs nothing.
    fn grow(&mut self, shift: i64, work: impl FnOnce(&mut Self)) {
        let meter = self.meter;
        let (count, before) = (self.temporaries.take(ValType::I32), self.temporaries.take(ValType::I32));
        self.sink().local_tee(count);
        work(self);
        self.sink().local_tee(before).local_get(meter);
        self.sink().local_get(count).i64_extend_i32_u().i64_const(shift).i64_shl().i64_const(0);
        self.sink().local_get(before).i32_const(-1).i32_ne().select().i64_sub();
        self.check_fuel();
        self.temporaries.give(count);
        self.temporaries.give(before);
    }
}

/// One piece from the front; `moves` if the second operand is a place as well.
fn forward(sink: &mut InstructionSink<'_>, operands: Operands, moves: bool, work: impl Fn(&mut InstructionSink<'_>)) {
    let Operands { to, from, part, .. } = operands;
    sink.local_get(to).local_get(from).local_get(part);
    work(sink);
    sink.local_get(to).local_get(part).i32_add().local_set(to);
    if moves {
        sink.local_get(from).local_get(part).i32_add().local_set(from);
    }
}
