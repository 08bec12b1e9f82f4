//! Where the functions of a module meet those outside.
//!
//! The modules of a job that is no component are metered, and so is the host for them: they meet as they are. Inside a
//! component the canonical ABI fixes the types of functions that modules import and export. So there imported and
//! exported functions keep their types, and the meter crosses in a global that all modules of the component share: an
//! *entrance* before each exported function takes it from there and puts it back, an *exit* before each imported one
//! puts it there and takes it back. Within a module, and through tables that modules share, functions are metered.

use wasm_encoder::{BlockType, BranchHint, Function};
use wasmparser::{FuncType, ValType};

use super::emit::{SIGNS, STACK_SHIFT};
use super::indices::Indices;
use super::stack::UNITS;
use super::{Code, Module, cost, count, stack};

/// Which functions outside take the meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Boundary {
    /// All of them.
    #[default]
    Metered,
    /// None: the module is inside a component.
    Plain,
}

/// The name of the functions between metered and other ones, for traces, which leave them out.
pub(in crate::wasm) const CROSSING: &str = "shoal crossing";

/// Adds the functions between metered and other ones.
pub(super) fn wrap(module: &mut Module<'_>, code: &mut Code) {
    let indices = module.indices;
    if indices.boundary == Boundary::Metered {
        return;
    }
    let mut exported: Vec<_> = module.exported.iter().map(|(index, number)| (*number, *index)).collect();
    exported.sort_unstable();
    for (_, index) in exported {
        let ty = module.defined[(index - indices.imported) as usize];
        code.section.function(&entrance(indices, index, module.types.get(ty)));
        code.added.push(ty);
    }
    for (index, ty) in (0..).zip(&module.imported) {
        let (function, hint) = exit(indices, index, module.types.get(*ty));
        code.section.function(&function);
        code.hints.function_hints(indices.exit(index), [hint]);
        code.added.push(module.types.metered(*ty));
    }
    code.section.function(&leave(indices)).function(&enter(indices));
    code.added.push(module.types.intern(&[ValType::I64], &[]));
    code.added.push(module.types.intern(&[], &[ValType::I64]));
}

/// Before an exported function: takes the meter from the global, and puts it back.
fn entrance(indices: Indices, function: u32, ty: &FuncType) -> Function {
    let mut entrance = Function::new([]);
    let mut sink = entrance.instructions();
    (0..count(ty.params().len())).for_each(|parameter| _ = sink.local_get(parameter));
    sink.global_get(indices.meter()).call(indices.function(function)).global_set(indices.meter()).end();
    entrance
}

/// Before an imported function: pays for itself and an entrance behind it, puts the meter into the global, and takes it
/// back. Says where it does what is rarely done.
fn exit(indices: Indices, function: u32, ty: &FuncType) -> (Function, BranchHint) {
    let (parameters, moved) = (count(ty.params().len()), ty.params().len() + ty.results().len());
    let vectors = ty.params().iter().chain(ty.results()).filter(|ty| **ty == ValType::V128).count();
    let frame = 2 * i64::from(stack::frame(moved, count(vectors), moved));
    let mut exit = Function::new([]);
    exit.instructions()
        .local_get(parameters)
        .i64_const((frame << STACK_SHIFT) + i64::from(cost::crossing(moved)))
        .i64_sub()
        .local_tee(parameters)
        .i64_const(SIGNS)
        .i64_and()
        .i64_const(0)
        .i64_ne();
    let hint = BranchHint { branch_func_offset: count(exit.byte_len()), branch_hint_value: 0 };
    let mut sink = exit.instructions();
    sink.if_(BlockType::Empty).local_get(parameters).call(indices.refill()).local_set(parameters).end();
    sink.local_get(parameters).global_set(indices.meter());
    (0..parameters).for_each(|parameter| _ = sink.local_get(parameter));
    sink.call(function).global_get(indices.meter()).i64_const(frame << STACK_SHIFT).i64_add().end();
    (exit, hint)
}

/// Keeps the fuel while an exception flies.
fn leave(indices: Indices) -> Function {
    let mut leave = Function::new([]);
    leave.instructions().local_get(0).global_set(indices.meter()).end();
    leave
}

/// Gives the fuel that was kept, alone: who catches has a stack of its own.
fn enter(indices: Indices) -> Function {
    let mut enter = Function::new([]);
    enter.instructions().global_get(indices.meter()).i32_wrap_i64().i64_extend_i32_s().end();
    enter
}

/// The start function: fetches the meter, and gives it back.
pub(super) fn start(indices: Indices, start: u32) -> Function {
    if indices.boundary == Boundary::Plain {
        return entrance(indices, start, &FuncType::new([], []));
    }
    let mut function = Function::new([]);
    let mut sink = function.instructions();
    sink.call(indices.enter()).i64_const(UNITS << STACK_SHIFT).i64_add();
    sink.call(indices.function(start)).call(indices.leave()).end();
    function
}
