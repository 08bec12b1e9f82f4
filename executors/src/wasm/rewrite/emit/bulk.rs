//! Operators that work as long as their operands say: charged by size.

use wasmparser::{Operator, ValType};

use super::super::bulk::Bulk;
use super::Emit;

/// Binary logarithm of the table elements that one unit of fuel moves.
const ELEMENTS_SHIFT: i64 = 2;
/// Binary logarithm of a new page's fuel, for zeroing it.
const PAGE_SHIFT: i64 = 10;
/// Binary logarithm of a new table element's fuel.
const ELEMENT_SHIFT: i64 = 0;

impl Emit<'_, '_> {
    /// Writes a bulk operator; false if it is none.
    pub(super) fn bulk(&mut self, operator: &Operator<'_>) -> bool {
        match *operator {
            Operator::MemoryFill { .. } => self.in_pieces(Bulk::Fill),
            Operator::MemoryCopy { .. } => self.in_pieces(Bulk::Copy),
            Operator::MemoryInit { data_index, .. } => self.in_pieces(Bulk::Init(data_index)),
            Operator::MemoryGrow { mem } => self.grow(PAGE_SHIFT, |emit| _ = emit.sink().memory_grow(mem)),
            Operator::TableGrow { table } => self.grow(ELEMENT_SHIFT, |emit| _ = emit.sink().table_grow(table)),
            Operator::TableFill { table } => self.elements(|emit| _ = emit.sink().table_fill(table)),
            Operator::TableCopy { dst_table, src_table } => {
                self.elements(|emit| _ = emit.sink().table_copy(dst_table, src_table));
            }
            Operator::TableInit { elem_index, table } => {
                self.elements(|emit| _ = emit.sink().table_init(table, elem_index));
            }
            _ => return false,
        }
        true
    }

    fn in_pieces(&mut self, bulk: Bulk) {
        let (meter, helper) = (self.meter, self.module.bulk(bulk));
        self.sink().local_get(meter).call(helper).local_set(meter);
    }

    /// Tables have few elements: they are charged before, and worked on in one go.
    fn elements(&mut self, work: impl FnOnce(&mut Self)) {
        let (meter, count) = (self.meter, self.temporaries.take(ValType::I32));
        self.sink().local_tee(count).local_get(meter).local_get(count);
        self.sink().i64_extend_i32_u().i64_const(ELEMENTS_SHIFT).i64_shr_u().i64_sub();
        self.check_fuel();
        self.temporaries.give(count);
        work(self);
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
