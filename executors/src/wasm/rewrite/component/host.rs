//! The core modules that a component gains.

use wasm_encoder::{
    CodeSection, ConstExpr, EntityType, ExportKind, ExportSection, Function, FunctionSection, GlobalSection,
    ImportSection, Module, NameMap, NameSection, TypeSection, ValType,
};
use wasmparser::FuncType;

use super::super::boundary::CROSSING;
use super::super::meter::Meter;
use super::super::sections::METER_TYPE;
use super::super::types::encoded;
use super::super::{IMPORT, METER, REFILL, count};

/// The function that gives the fuel back before a call to the host.
pub(super) const SETTLE: &str = "settle";
/// The function that reads the meter.
pub(super) const READ: &str = "read";

/// The module that all others import from: it has the meter's global, and hands on what the component imports.
///
/// At first the meter has all of the stack and no fuel, so the first function that looks gets a slice.
pub(super) fn meter() -> Module {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I64], [ValType::I64]);
    types.ty().function([], [ValType::I64]);
    let mut imports = ImportSection::new();
    imports.import("", REFILL, EntityType::Function(0)).import("", SETTLE, EntityType::Function(0));
    let mut globals = GlobalSection::new();
    globals.global(METER_TYPE, &ConstExpr::i64_const(Meter::full(0).to_bits()));
    let mut exports = ExportSection::new();
    exports.export(REFILL, ExportKind::Func, 0).export(SETTLE, ExportKind::Func, 1).export(READ, ExportKind::Func, 2);
    exports.export(METER, ExportKind::Global, 0);
    let (mut functions, mut code, mut read) = (FunctionSection::new(), CodeSection::new(), Function::new([]));
    read.instructions().global_get(0).end();
    functions.function(1);
    code.function(&read);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&globals).section(&exports).section(&code);
    module
}

/// A module around functions of the host. Each is imported and exported under its number; before it is called all fuel
/// is given to the host, which lends some for what it calls in turn (a component's allocator), because whoever is
/// called by the host may not call it. What is left of the loan is given back afterwards.
pub(super) fn around(functions: &[FuncType]) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I64], [ValType::I64]);
    let mut imports = ImportSection::new();
    imports.import(IMPORT, SETTLE, EntityType::Function(0)).import(IMPORT, METER, METER_TYPE);
    let (mut section, mut exports, mut code) = (FunctionSection::new(), ExportSection::new(), CodeSection::new());
    for (number, ty) in (0..).zip(functions) {
        types.ty().function(ty.params().iter().copied().map(encoded), ty.results().iter().copied().map(encoded));
        imports.import("", &number.to_string(), EntityType::Function(number + 1));
        section.function(number + 1);
        exports.export(&number.to_string(), ExportKind::Func, 1 + count(functions.len()) + number);
        code.function(&settled(number + 1, count(ty.params().len())));
    }
    let (mut names, mut crossings) = (NameSection::new(), NameMap::new());
    (0..count(functions.len())).for_each(|number| crossings.append(1 + count(functions.len()) + number, CROSSING));
    names.functions(&crossings);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&section).section(&exports).section(&code).section(&names);
    module
}

/// `settle` returns the meter with the loan as its fuel.
fn settled(function: u32, parameters: u32) -> Function {
    let loan = parameters;
    let mut settled = Function::new([(1, ValType::I64)]);
    let mut sink = settled.instructions();
    sink.global_get(0).call(0).local_tee(loan).global_set(0);
    (0..parameters).for_each(|parameter| _ = sink.local_get(parameter));
    sink.call(function);
    sink.global_get(0).local_get(loan).i32_wrap_i64().i64_extend_i32_s().i64_sub().global_set(0).end();
    settled
}
