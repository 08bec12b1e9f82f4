//! What is to be done in one function: decided in one walk over its body, which also validates it.

use std::ops::Range;

use wasmparser::{FuncToValidate, FuncValidator, FunctionBody, Operator, ValType, ValidatorResources};

use super::cost::{Charge, Costs, Mark, weight};
use super::float::{Effect, effect};
use super::flow::{Flow, Known, Node, Rule};
use super::{Module, Refused, stack};

mod control;

/// What the emitter needs to know of a function.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) charges: Vec<Charge>,
    pub(super) sights: Vec<Sight>,
    /// Numbers of operators that are never reached.
    pub(super) dead: Vec<Range<usize>>,
    /// Stack that a call takes; none for a leaf with a small frame.
    pub(super) frame: u32,
    /// Whether it catches exceptions.
    pub(super) catches: bool,
    /// Whether anything but its end leads to its end.
    pub(super) returns: bool,
}

/// Before the operator with number `at` the last operands' bits are seen, from the first whose bits may differ on.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) at: usize,
    /// Type, and whether the bits may differ.
    pub(super) operands: Vec<(ValType, bool)>,
    /// Behind the operator, which is the function's end, and not before it.
    pub(super) behind: bool,
}

/// Validates a function and plans it.
pub(super) fn plan(
    module: &Module<'_>,
    function: &FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
) -> Result<Plan, Refused> {
    again(function).into_validator(Default::default()).validate(body)?;
    let mut walk = Walk::new(module, again(function));
    walk.body(body)?;
    walk.finish()
}

fn again(function: &FuncToValidate<ValidatorResources>) -> FuncToValidate<ValidatorResources> {
    let FuncToValidate { resources, index, ty, features } = function;
    FuncToValidate { resources: resources.clone(), index: *index, ty: *ty, features: *features }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block,
    Loop,
    If,
}

struct Frame {
    kind: Kind,
    /// Operands below it.
    height: usize,
    parameters: Vec<Node>,
    results: Vec<Node>,
    mark: Mark,
    branched: bool,
}

/// Operands whose bits are seen if where they go keeps bits, before it is known what can stand there.
struct Seen {
    at: usize,
    /// Type, value, and where it goes.
    operands: Vec<(ValType, Node, Node)>,
    behind: bool,
}

struct Walk<'a> {
    module: &'a Module<'a>,
    validator: FuncValidator<ValidatorResources>,
    ty: u32,
    locals: Vec<Node>,
    vectors: u32,
    stack: Vec<Node>,
    highest: usize,
    frames: Vec<Frame>,
    flow: Flow,
    costs: Costs,
    seen: Vec<Seen>,
    seen_operands: usize,
    dead: Vec<Range<usize>>,
    /// Where the dead code at hand began, and how many frames opened since.
    dying: Option<(usize, usize)>,
    catches: bool,
    at: usize,
    returns: bool,
}

impl<'a> Walk<'a> {
    fn new(module: &'a Module<'a>, function: FuncToValidate<ValidatorResources>) -> Self {
        let ty = module.types.get(function.ty);
        let mut flow = Flow::new();
        let costs = Costs::new();
        let results = ty.results().iter().map(|ty| float_node(&mut flow, *ty)).collect();
        let frame =
            Frame { kind: Kind::Block, height: 0, parameters: vec![], results, mark: costs.mark(), branched: false };
        let mut walk = Self {
            module,
            ty: function.ty,
            validator: function.into_validator(Default::default()),
            locals: vec![],
            vectors: 0,
            stack: vec![],
            highest: 0,
            frames: vec![frame],
            flow,
            costs,
            seen: vec![],
            seen_operands: 0,
            dead: vec![],
            dying: None,
            catches: false,
            at: 0,
            returns: false,
        };
        for ty in ty.params() {
            walk.local(*ty, Node::SAME);
        }
        walk
    }

    fn local(&mut self, ty: ValType, initial: Node) {
        let node = float_node(&mut self.flow, ty);
        self.flow.edge(initial, node);
        self.locals.push(node);
        self.vectors += u32::from(ty == ValType::V128);
    }

    fn body(&mut self, body: &FunctionBody<'_>) -> Result<(), Refused> {
        let mut reader = body.get_binary_reader();
        self.validator.read_locals(&mut reader)?;
        for group in body.get_locals_reader()? {
            let (count, ty) = group?;
            (0..count).for_each(|_| self.local(ty, Node::FINITE));
        }
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            let offset = reader.original_position();
            let operator = reader.read()?;
            match self.dying {
                None => self.step(&operator)?,
                Some((from, depth)) => self.skip(&operator, from, depth),
            }
            self.validator.op(offset, &operator)?;
            self.highest = self.highest.max(self.stack.len());
            self.at += 1;
        }
        reader.finish()?;
        Ok(())
    }

    fn finish(self) -> Result<Plan, Refused> {
        self.flow.check(self.seen_operands)?;
        let leaf = self.costs.is_leaf();
        let frame = stack::frame(self.locals.len(), self.vectors, self.highest);
        let frame = if leaf && frame <= stack::LEAF { 0 } else { frame };
        let known = self.flow.solve();
        Ok(Plan {
            charges: self.costs.finish(self.at, frame),
            sights: self.seen.into_iter().filter_map(|seen| seen.sight(&known)).collect(),
            dead: self.dead,
            frame,
            catches: self.catches,
            returns: self.returns,
        })
    }

    fn step(&mut self, operator: &Operator<'_>) -> Result<(), Refused> {
        self.costs.add(weight(operator));
        match operator {
            Operator::LocalGet { local_index } => self.stack.push(self.locals[*local_index as usize]),
            Operator::LocalTee { local_index } => self.assign(*local_index, 0),
            Operator::LocalSet { local_index } => self.assign(*local_index, 1),
            Operator::Call { .. } | Operator::CallIndirect { .. } => self.call(operator),
            Operator::MemoryFill { .. } | Operator::MemoryCopy { .. } | Operator::MemoryInit { .. } => {
                self.call(operator);
            }
            _ if self.control(operator)? => {}
            _ => self.plain(operator),
        }
        Ok(())
    }

    fn assign(&mut self, local: u32, taken: usize) {
        let value = self.stack[self.stack.len() - 1];
        let local = self.locals[local as usize];
        self.show(&[(value, local)]);
        self.flow.edge(value, local);
        self.pop(taken);
    }

    fn pop(&mut self, count: usize) {
        self.stack.truncate(self.stack.len() - count);
    }

    /// How many operands the operator takes and gives.
    fn arity(&self, operator: &Operator<'_>) -> (usize, usize) {
        let (taken, given) = operator.operator_arity(&self.validator).expect("validated before");
        (taken as usize, given as usize)
    }

    /// Takes the operands, and gives results whose bits are the same everywhere.
    fn replace(&mut self, (taken, given): (usize, usize)) {
        self.pop(taken);
        self.stack.resize(self.stack.len() + given, Node::SAME);
    }

    fn call(&mut self, operator: &Operator<'_>) {
        let (taken, given) = self.arity(operator);
        self.costs.call(taken + given);
        self.see(taken);
        self.replace((taken, given));
    }

    fn plain(&mut self, operator: &Operator<'_>) {
        match effect(operator) {
            Effect::Constant(node) => self.stack.push(node),
            Effect::Convert(node) => {
                self.pop(1);
                self.stack.push(node);
            }
            Effect::Make(count, rule) => self.make(count, rule),
            Effect::See(count, rule) => {
                self.see(count);
                self.make(count, rule);
            }
            Effect::Show => {
                self.see(1);
                self.replace(self.arity(operator));
            }
            Effect::Select => self.select(),
            Effect::Other => self.replace(self.arity(operator)),
        }
    }

    fn select(&mut self) {
        let [.., first, second, _] = self.stack[..] else { unreachable!("validated before") };
        self.pop(1);
        self.make(2, Rule::Join);
        let result = self.stack[self.stack.len() - 1];
        self.show(&[(first, result), (second, result), (Node::SAME, Node::SAME)]);
    }

    /// Takes some floats and gives one. Copysign's result has the level of both, which is no less than it could be.
    fn make(&mut self, count: usize, rule: Rule) {
        let inputs = self.stack.split_off(self.stack.len() - count);
        let moves = matches!(rule, Rule::Join | Rule::Canonical) && inputs.iter().all(|node| *node == Node::SAME);
        let node = if moves { Node::SAME } else { self.flow.node(rule, &inputs) };
        self.stack.push(node);
    }

    /// The bits of the last `count` operands are seen by the operator at hand.
    fn see(&mut self, count: usize) {
        let operands = &self.stack[self.stack.len() - count..];
        let operands: Vec<_> = operands.iter().map(|node| (*node, Node::SAME)).collect();
        self.show(&operands);
    }

    /// The operator at hand moves its last operands, each with where it goes: bits are seen of those that go where bits
    /// are kept.
    fn show(&mut self, moves: &[(Node, Node)]) {
        let Some(first) = moves.iter().position(|(node, _)| *node != Node::SAME) else { return };
        let ty = |depth| self.validator.get_operand_type(depth).flatten().unwrap_or(ValType::I32);
        let operands = moves.iter().enumerate().skip(first);
        let operands: Vec<_> = operands.map(|(at, (node, into))| (ty(moves.len() - 1 - at), *node, *into)).collect();
        self.seen_operands += operands.len();
        self.seen.push(Seen { at: self.at, operands, behind: false });
    }
}

impl Seen {
    fn sight(self, known: &Known) -> Option<Sight> {
        let operands = self.operands.iter();
        let operands: Vec<_> =
            operands.map(|(ty, node, into)| (*ty, known.is_open(*node) && known.is_kept(*into))).collect();
        let first = operands.iter().position(|(_, differs)| *differs)?;
        Some(Sight { at: self.at, operands: operands[first..].to_vec(), behind: self.behind })
    }
}

fn float_node(flow: &mut Flow, ty: ValType) -> Node {
    match ty {
        ValType::F32 | ValType::F64 => flow.node(Rule::Join, &[]),
        _ => Node::SAME,
    }
}
