//! Where control splits and joins.

use std::collections::BTreeSet;

use wasmparser::{BlockType, BrTable, Catch, Operator, TryTable, ValType};

use super::super::Refused;
use super::super::cost::values;
use super::super::flow::{Node, Rule};
use super::{Frame, Kind, Walk, float_node};

impl Walk<'_> {
    /// Takes an operator of control; false if it is none.
    pub(super) fn control(&mut self, operator: &Operator<'_>) -> Result<bool, Refused> {
        match operator {
            Operator::Block { blockty } => self.open(Kind::Block, *blockty),
            Operator::Loop { blockty } => self.open_loop(*blockty),
            Operator::If { blockty } => self.open_if(*blockty),
            Operator::TryTable { try_table } => self.open_try(try_table),
            Operator::Else => self.other_arm(true),
            Operator::End => self.end(true),
            Operator::Br { relative_depth } => self.jump(*relative_depth),
            Operator::BrIf { relative_depth } => self.jump_if(*relative_depth),
            Operator::BrTable { targets } => self.jump_table(targets)?,
            Operator::Return => self.jump(u32::try_from(self.frames.len() - 1).unwrap_or(u32::MAX)),
            Operator::Unreachable => self.die(),
            Operator::Throw { .. } | Operator::ThrowRef => self.leave(operator),
            Operator::ReturnCall { .. } | Operator::ReturnCallIndirect { .. } => self.leave(operator),
            _ => return Ok(false),
        }
        self.flow.check(self.seen_operands)?;
        Ok(true)
    }

    fn open(&mut self, kind: Kind, ty: BlockType) {
        let (parameters, results) = self.module.types.signature(ty);
        let height = self.stack.len() - parameters.len();
        let parameters = self.stack[height..].to_vec();
        let results = results.iter().map(|ty| float_node(&mut self.flow, *ty)).collect();
        let mark = self.costs.mark();
        self.frames.push(Frame { kind, height, parameters, results, mark, branched: false });
    }

    /// A turn's parameters are made canonical wherever they come from, so that no turn need be known to judge another.
    fn open_loop(&mut self, ty: BlockType) {
        let parameters = self.module.types.signature(ty).0.len();
        self.see(parameters);
        self.replace((parameters, parameters));
        self.open(Kind::Loop, ty);
        self.costs.turn(self.at + 1);
    }

    /// Parameters are made canonical: without another arm they may be results without an operator that moves them.
    fn open_if(&mut self, ty: BlockType) {
        let parameters = self.module.types.signature(ty).0.len();
        self.see(parameters + 1);
        self.pop(1);
        self.replace((parameters, parameters));
        self.costs.cut(self.at + 1);
        self.open(Kind::If, ty);
    }

    fn open_try(&mut self, table: &TryTable) {
        for catch in &table.catches {
            let (Catch::One { label, .. }
            | Catch::OneRef { label, .. }
            | Catch::All { label }
            | Catch::AllRef { label }) = catch;
            let index = self.target(*label);
            self.frames[index].branched = true;
            self.returns |= index == 0;
            for result in self.frames[index].results.clone() {
                self.flow.edge(Node::SAME, result);
            }
        }
        self.catches |= !table.catches.is_empty();
        self.open(Kind::Block, table.ty);
    }

    fn target(&self, depth: u32) -> usize {
        self.frames.len() - 1 - depth as usize
    }

    /// Values flow to a label, and stay; `above` operands lie over them.
    fn flow_to(&mut self, index: usize, above: usize) {
        let frame = &mut self.frames[index];
        frame.branched = true;
        self.returns |= index == 0;
        if frame.kind != Kind::Loop {
            self.flow_into_results(index, above);
        }
    }

    fn flow_into_results(&mut self, index: usize, above: usize) {
        let results = &self.frames[index].results;
        let end = self.stack.len() - above;
        let values = self.stack[end - results.len()..end].iter().copied();
        let mut moves: Vec<(Node, Node)> = values.zip(results.iter().copied()).collect();
        for (value, result) in &moves {
            self.flow.edge(*value, *result);
        }
        moves.resize(moves.len() + above, (Node::SAME, Node::SAME));
        self.show(&moves);
    }

    /// How many values a branch moves.
    fn moved(&self, index: usize) -> usize {
        let frame = &self.frames[index];
        if frame.kind == Kind::Loop { frame.parameters.len() } else { frame.results.len() }
    }

    /// Values that go to a loop are seen; `above` operands lie over them.
    fn see_turn(&mut self, index: usize, above: usize) {
        if self.frames[index].kind != Kind::Loop || self.moved(index) == 0 {
            return;
        }
        self.see(self.moved(index) + above);
        // They stay, canonical.
        let end = self.stack.len() - above;
        for at in end - self.moved(index)..end {
            if self.stack[at] != Node::SAME {
                self.stack[at] = self.flow.node(Rule::Canonical, &[self.stack[at]]);
            }
        }
    }

    fn jump(&mut self, depth: u32) {
        let index = self.target(depth);
        self.see_turn(index, 0);
        self.flow_to(index, 0);
        self.costs.add(values(self.moved(index)));
        self.die();
    }

    fn jump_if(&mut self, depth: u32) {
        let index = self.target(depth);
        self.see_turn(index, 1);
        self.flow_to(index, 1);
        self.pop(1);
        self.costs.add(values(self.moved(index)));
        self.costs.cut(self.at + 1);
    }

    fn jump_table(&mut self, table: &BrTable<'_>) -> Result<(), Refused> {
        let targets: Result<BTreeSet<u32>, _> = table.targets().collect();
        let mut targets: BTreeSet<_> = targets?.into_iter().map(|depth| self.target(depth)).collect();
        targets.insert(self.target(table.default()));
        // All targets take the same number of values.
        if let Some(turn) = targets.iter().copied().find(|index| self.frames[*index].kind == Kind::Loop) {
            self.see_turn(turn, 1);
        }
        let moved = targets.first().map_or(0, |index| self.moved(*index));
        for index in targets {
            self.flow_to(index, 1);
        }
        self.pop(1);
        self.costs.add(values(moved));
        self.die();
        Ok(())
    }

    /// Leaves the function with arguments, which are seen.
    fn leave(&mut self, operator: &Operator<'_>) {
        let (taken, _) = self.arity(operator);
        self.costs.call(taken);
        self.see(taken);
        self.die();
    }

    /// What follows is never reached, until its frame's end.
    fn die(&mut self) {
        self.costs.cut(self.at + 1);
        self.dying = Some((self.at + 1, 0));
    }

    /// Passes over dead code.
    pub(super) fn skip(&mut self, operator: &Operator<'_>, from: usize, depth: usize) {
        self.dying = match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                Some((from, depth + 1))
            }
            Operator::End if depth > 0 => Some((from, depth - 1)),
            Operator::Else | Operator::End if depth == 0 => {
                self.dead.push(from..self.at);
                self.dying = None;
                return if matches!(operator, Operator::End) { self.end(false) } else { self.other_arm(false) };
            }
            _ => return,
        };
    }

    fn other_arm(&mut self, reached: bool) {
        let index = self.frames.len() - 1;
        if reached {
            self.flow_to(index, 0);
        }
        let frame = &self.frames[index];
        self.stack.truncate(frame.height);
        self.stack.extend(&frame.parameters);
        self.costs.join(self.at + 1, frame.mark);
    }

    fn end(&mut self, reached: bool) {
        let index = self.frames.len() - 1;
        let branched = self.frames[index].branched;
        if reached {
            self.flow_through(index);
        }
        let Some(frame) = self.frames.pop() else { return };
        self.stack.truncate(frame.height);
        self.stack.extend(&frame.results);
        // An absent arm hands its parameters on.
        if frame.kind == Kind::If {
            for (parameter, result) in frame.parameters.iter().zip(&frame.results) {
                self.flow.edge(*parameter, *result);
            }
        }
        if branched || frame.kind != Kind::Block {
            self.costs.join(self.at + 1, frame.mark);
        }
        if self.frames.is_empty() {
            self.see_results();
        }
    }

    /// Control falls through a frame's end.
    fn flow_through(&mut self, index: usize) {
        self.costs.add(values(self.frames[index].results.len()));
        self.flow_into_results(index, 0);
    }

    /// The caller sees what a function gives.
    fn see_results(&mut self) {
        let types: Vec<ValType> = self.module.types.get(self.ty).results().to_vec();
        let operands = types.into_iter().zip(self.stack.iter().copied());
        let operands: Vec<_> = operands.map(|(ty, node)| (ty, node, Node::SAME)).collect();
        if operands.iter().any(|(_, node, _)| *node != Node::SAME) {
            self.seen.push(super::Seen { at: self.at, operands, behind: true });
        }
    }
}
