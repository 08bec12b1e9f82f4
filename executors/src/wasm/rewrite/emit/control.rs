//! Calls, branches, and the ways out of a function.

use wasm_encoder::Catch as Landing;
use wasmparser::{Catch, Operator, TryTable, ValType};

use super::super::Refused;
use super::{Emit, STACK_SHIFT};

/// A frame of the body, in the output.
pub(super) struct Label {
    /// How many blocks are open inside it.
    level: u32,
    /// Where the exceptions go that it catches: levels of labels.
    landings: Vec<u32>,
}

impl Emit<'_, '_> {
    /// Opens the block at whose end all ways out of the function meet.
    pub(super) fn enter_block(&mut self, ty: u32) {
        if self.plan.returns {
            let results = self.module.types.get(ty).results().to_vec();
            let block = self.module.types.block(&[], &results);
            self.sink().block(block);
            self.level += 1;
        }
        self.frames.push(Label { level: self.level, landings: vec![] });
    }

    /// Writes an operator of control or a call; false if it is none.
    pub(super) fn control(&mut self, at: usize, operator: &Operator<'_>) -> Result<bool, Refused> {
        match operator {
            Operator::Block { blockty } => {
                let block = self.module.block(*blockty);
                self.sink().block(block);
                self.open(vec![]);
            }
            Operator::Loop { blockty } => {
                let block = self.module.block(*blockty);
                self.sink().loop_(block);
                self.open(vec![]);
            }
            Operator::If { blockty } => {
                let block = self.module.block(*blockty);
                self.sink().if_(block);
                self.open(vec![]);
            }
            Operator::TryTable { try_table } => self.open_try(try_table),
            Operator::End => self.end(at),
            Operator::Br { relative_depth } => {
                let depth = self.depth_of(*relative_depth);
                self.sink().br(depth);
            }
            Operator::BrIf { relative_depth } => {
                let depth = self.depth_of(*relative_depth);
                self.sink().br_if(depth);
            }
            Operator::BrTable { targets } => {
                let depths = targets.targets().map(|depth| depth.map(|depth| self.depth_of(depth)));
                let (depths, default) = (depths.collect::<Result<Vec<_>, _>>()?, self.depth_of(targets.default()));
                self.sink().br_table(depths, default);
            }
            Operator::Return => {
                let depth = self.level - self.frames[0].level;
                self.sink().br(depth);
            }
            Operator::Throw { tag_index } => {
                self.leave();
                self.sink().throw(*tag_index);
            }
            Operator::ThrowRef => {
                self.leave();
                self.sink().throw_ref();
            }
            _ => return Ok(self.call(operator)),
        }
        Ok(true)
    }

    fn open(&mut self, landings: Vec<u32>) {
        self.level += 1;
        self.frames.push(Label { level: self.level, landings });
    }

    fn depth_of(&self, depth: u32) -> u32 {
        self.level - self.level_of(depth)
    }

    fn level_of(&self, depth: u32) -> u32 {
        self.frames[self.frames.len() - 1 - depth as usize].level
    }

    fn end(&mut self, at: usize) {
        let Some(label) = self.frames.pop() else { return };
        if self.frames.is_empty() {
            return self.end_function(at);
        }
        self.sink().end();
        self.level -= 1;
        if !label.landings.is_empty() {
            self.end_try(&label.landings);
        }
    }

    fn end_function(&mut self, at: usize) {
        if self.plan.returns {
            self.sink().end();
        }
        self.see(at, true);
        self.give_frame();
        self.sink().end();
    }

    /// Puts the meter on the operands, with the frame's stack given back.
    fn give_frame(&mut self) {
        let (meter, frame) = (self.meter, i64::from(self.plan.frame) << STACK_SHIFT);
        self.sink().local_get(meter);
        if frame > 0 {
            self.sink().i64_const(frame).i64_add();
        }
    }

    /// The host keeps the fuel while an exception flies.
    fn leave(&mut self) {
        let (meter, leave) = (self.meter, self.module.indices.leave());
        self.sink().local_get(meter).call(leave);
    }

    fn call(&mut self, operator: &Operator<'_>) -> bool {
        let meter = self.meter;
        match operator {
            Operator::Call { function_index } => {
                let function = self.module.indices.function(*function_index);
                self.sink().local_get(meter).call(function).local_set(meter);
            }
            Operator::ReturnCall { function_index } => {
                let function = self.module.indices.function(*function_index);
                self.give_frame();
                self.sink().return_call(function);
            }
            Operator::CallIndirect { type_index, table_index } => {
                let ty = self.module.types.metered(*type_index);
                self.under_index(|emit| _ = emit.sink().local_get(meter));
                self.sink().call_indirect(*table_index, ty).local_set(meter);
            }
            Operator::ReturnCallIndirect { type_index, table_index } => {
                let ty = self.module.types.metered(*type_index);
                self.under_index(Self::give_frame);
                self.sink().return_call_indirect(*table_index, ty);
            }
            _ => return false,
        }
        true
    }

    /// Puts an operand under the last one, an index.
    fn under_index(&mut self, put: impl FnOnce(&mut Self)) {
        let index = self.temporaries.take(ValType::I32);
        self.sink().local_set(index);
        put(self);
        self.sink().local_get(index);
        self.temporaries.give(index);
    }

    /// Each catch lands in a block of its own, which takes the meter back from the host before it branches on:
    ///
    /// ```text
    /// block                           results
    ///   block                         the second catch's values
    ///     block                       the first catch's values
    ///       try_table (catch 0) (catch 1) … end
    ///       br 2
    ///     end …meter… br first's label
    ///   end …meter… br second's label
    /// end
    /// ```
    fn open_try(&mut self, table: &TryTable) {
        let (parameters, results) = self.module.types.signature(table.ty);
        if !table.catches.is_empty() {
            let block = self.module.types.block(&parameters, &results);
            self.sink().block(block);
        }
        let (mut landings, mut catches) = (vec![], vec![]);
        for (depth, catch) in (0..).zip(&table.catches) {
            let (landing, label) = match *catch {
                Catch::One { tag, label } => (Landing::One { tag, label: depth }, label),
                Catch::OneRef { tag, label } => (Landing::OneRef { tag, label: depth }, label),
                Catch::All { label } => (Landing::All { label: depth }, label),
                Catch::AllRef { label } => (Landing::AllRef { label: depth }, label),
            };
            catches.push(landing);
            landings.push(self.level_of(label));
        }
        for catch in table.catches.iter().rev() {
            let values = self.caught(catch);
            let block = self.module.types.block(&parameters, &values);
            self.sink().block(block);
        }
        let block = self.module.types.block(&parameters, &results);
        self.sink().try_table(block, catches);
        if !landings.is_empty() {
            self.level += 1 + u32::try_from(landings.len()).expect("catches are limited");
        }
        self.open(landings);
    }

    fn caught(&self, catch: &Catch) -> Vec<ValType> {
        let (tag, with_reference) = match catch {
            Catch::One { tag, .. } => (Some(tag), false),
            Catch::OneRef { tag, .. } => (Some(tag), true),
            Catch::All { .. } => (None, false),
            Catch::AllRef { .. } => (None, true),
        };
        let mut values = tag.map(|tag| self.module.tag(*tag).params().to_vec()).unwrap_or_default();
        values.extend(with_reference.then_some(ValType::EXNREF));
        values
    }

    fn end_try(&mut self, landings: &[u32]) {
        let depth = u32::try_from(landings.len()).expect("catches are limited");
        let (meter, enter) = (self.meter, self.module.indices.enter());
        let own = self.depth.expect("the function catches");
        self.sink().br(depth);
        for label in landings {
            self.level -= 1;
            let depth = self.level - label;
            self.sink().end().call(enter).local_get(own).i64_add().local_set(meter).br(depth);
        }
        self.level -= 1;
        self.sink().end();
    }
}
