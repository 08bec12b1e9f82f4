//! Components: modules that meet in a shared meter, and a host that may call back for memory.

use shoal_executors::wasm::rewrite::{READ, REFILL_COMPONENT, SETTLE_COMPONENT, rewrite};
use wasm_encoder::{ComponentBuilder, ComponentExportKind, ComponentValType, ExportKind, PrimitiveValType};
use wasmparser::{ExternalKind, Parser, Payload, TypeRef, ValType};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Func, Instance, Linker, Val};
use wasmtime::{Config, Engine, Store, StoreContextMut};

use super::FUEL;
use super::engines::{Host, Seen, blanket, cranelift, pulley, unoptimised, why};

/// What the host's `host-double` charges for a byte.
const BYTE: i64 = 3;

/// Runs all exported functions of a component, rewritten or not; none if the engine does not take it.
pub(crate) fn run(config: &Config, component: &[u8], metered: bool, host: &mut Host) -> Option<Seen> {
    let engine = Engine::new(config).expect("a configuration");
    let component = Component::new(&engine, component).ok()?;
    let mut store = Store::new(&engine, host.clone());
    let mut linker = Linker::new(&engine);
    define(&mut linker).expect("a linker");
    let mut seen = Seen { calls: vec![], state: vec![], fuel: None };
    match linker.instantiate(&mut store, &component) {
        Ok(instance) => see(&mut store, &component, &instance, &mut seen),
        Err(error) => seen.calls.push(Err(why(&error))),
    }
    *host = store.data().clone();
    if metered && seen.calls.last().is_none_or(Result::is_ok) {
        let Some(Ok(meter)) = seen.calls.pop().map(|meter| meter.map(|meter| meter[0])) else { return Some(seen) };
        host.keep(u64::try_from(meter).expect("a meter").cast_signed());
        seen.fuel = Some(FUEL - host.left());
    }
    Some(seen)
}

fn define(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut root = linker.root();
    root.func_wrap(REFILL_COMPONENT, |mut store: StoreContextMut<'_, Host>, (meter,): (i64,)| {
        Ok((store.data_mut().refill(meter)?,))
    })?;
    root.func_wrap(SETTLE_COMPONENT, |mut store: StoreContextMut<'_, Host>, (meter,): (i64,)| {
        Ok((store.data_mut().settle(meter)?,))
    })?;
    root.func_wrap("host-double", |mut store: StoreContextMut<'_, Host>, (bytes,): (Vec<u8>,)| {
        store.data_mut().reserve -= BYTE * i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        Ok((bytes.repeat(2),))
    })
}

/// Calls all functions, in name order, and last of all what reads the meter.
fn see(store: &mut Store<Host>, component: &Component, instance: &Instance, seen: &mut Seen) {
    let engine = store.engine().clone();
    let kind = component.component_type();
    let exports = kind.exports(&engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
    let mut names: Vec<_> = exports.map(|(name, _)| name.to_owned()).collect();
    names.sort_by_key(|name| (name == READ, name.clone()));
    for name in names {
        let function = instance.get_func(&mut *store, &name).expect("an export");
        let result = call(store, function);
        let ended = result.is_err();
        seen.calls.push(result);
        if ended {
            return;
        }
    }
}

fn call(store: &mut Store<Host>, function: Func) -> Result<Vec<u128>, String> {
    let ty = function.ty(&*store);
    let arguments: Vec<_> = ty.params().map(|(_, ty)| argument(&ty)).collect();
    let mut results = vec![Val::Bool(false); ty.results().len()];
    function.call(&mut *store, &arguments, &mut results).map_err(|error| why(&error))?;
    Ok(results.iter().map(bits).collect())
}

fn argument(ty: &wasmtime::component::Type) -> Val {
    use wasmtime::component::Type;
    match ty {
        Type::U32 => Val::U32(3),
        Type::S64 => Val::S64(-5),
        Type::Float32 => Val::Float32(1.5),
        Type::Float64 => Val::Float64(-0.25),
        other => panic!("no argument of type {other:?}"),
    }
}

fn bits(value: &Val) -> u128 {
    match value {
        Val::U32(value) => (*value).into(),
        Val::S64(value) => value.cast_unsigned().into(),
        Val::Float32(value) => value.to_bits().into(),
        Val::Float64(value) => value.to_bits().into(),
        other => panic!("no result like {other:?}"),
    }
}

/// What a component does, rewritten, in every engine, with slices of any size; and as it is.
fn agreed(component: &[u8], seed: &str) -> Seen {
    let rewritten = rewrite(component).unwrap_or_else(|error| panic!("{seed}: {error}"));
    let metered = |config, slice| run(&config, &rewritten, true, &mut Host::new(FUEL, slice));
    let seen = metered(cranelift(), 1_000_000).unwrap_or_else(|| panic!("{seed}: it is not taken"));
    assert_eq!(metered(unoptimised(), 1_000), Some(seen.clone()), "{seed}: unoptimised");
    assert_eq!(metered(cranelift(), 50), Some(seen.clone()), "{seed}: slices change nothing");
    if let Some(other) = metered(pulley(), 1_000_000) {
        assert_eq!(other, seen, "{seed}: pulley");
    }
    // Without a meter the stack is as deep as the machine lets it be.
    if seen.calls.last() != Some(&Err("stack".into())) {
        let plain = run(&blanket(), component, false, &mut Host::new(FUEL, 1)).expect("a valid component");
        assert_eq!(Seen { fuel: seen.fuel, ..plain }, seen, "{seed}: as it is");
    }
    seen
}

fn calls(text: &str) -> Vec<Result<Vec<u128>, String>> {
    agreed(&wat::parse_str(text).expect("a component"), "text").calls
}

/// A component around a module: every exported function whose types components have too is exported.
pub(crate) fn around(module: &[u8]) -> Vec<u8> {
    let mut component = ComponentBuilder::default();
    let inner = component.core_module_raw(None, module);
    let instance = component.core_instantiate(None, inner, []);
    for (number, (name, parameters, result)) in liftable(module).into_iter().enumerate() {
        let (ty, mut encoder) = component.type_function(None);
        let names: Vec<_> = (0..parameters.len()).map(|parameter| format!("p{parameter}")).collect();
        encoder.params(names.iter().map(String::as_str).zip(parameters)).result(result);
        let function = component.core_alias_export(None, instance, &name, ExportKind::Func);
        let lifted = component.lift_func(None, function, ty, []);
        component.export(format!("f{number}").as_str(), ComponentExportKind::Func, lifted, None);
    }
    component.finish()
}

type Lifted = (String, Vec<ComponentValType>, Option<ComponentValType>);

fn liftable(module: &[u8]) -> Vec<Lifted> {
    let (mut types, mut functions, mut lifted) = (vec![], vec![], vec![]);
    for payload in Parser::new(0).parse_all(module).map(|payload| payload.expect("a valid module")) {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    types.extend(group.expect("a type").into_types().map(|ty| ty.unwrap_func().clone()));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if let TypeRef::Func(ty) = import.expect("an import").ty {
                        functions.push(ty);
                    }
                }
            }
            Payload::FunctionSection(section) => functions.extend(section.into_iter().map(|ty| ty.expect("a type"))),
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.expect("an export");
                    if export.kind != ExternalKind::Func {
                        continue;
                    }
                    let ty = &types[functions[export.index as usize] as usize];
                    let parameters = ty.params().iter().map(|ty| value(*ty)).collect::<Option<Vec<_>>>();
                    let results = ty.results().iter().map(|ty| value(*ty)).collect::<Option<Vec<_>>>();
                    if let (Some(parameters), Some(results)) = (parameters, results)
                        && parameters.len() <= 16
                        && results.len() <= 1
                    {
                        lifted.push((export.name.to_owned(), parameters, results.first().copied()));
                    }
                }
            }
            _ => {}
        }
    }
    lifted
}

fn value(ty: ValType) -> Option<ComponentValType> {
    let primitive = match ty {
        ValType::I32 => PrimitiveValType::U32,
        ValType::I64 => PrimitiveValType::S64,
        ValType::F32 => PrimitiveValType::F32,
        ValType::F64 => PrimitiveValType::F64,
        _ => return None,
    };
    Some(ComponentValType::Primitive(primitive))
}

/// A generated module does in a component what it does in the engine as it is.
pub(crate) fn compare(seed: u64, module: &[u8]) {
    agreed(&around(module), &format!("component, seed {seed}"));
}

#[test]
fn everything_a_module_can_have_survives_in_a_component() {
    let seen = agreed(&around(&wat::parse_str(include_str!("everything.wat")).unwrap()), "everything");
    assert!(!seen.calls.is_empty() && seen.calls.iter().all(Result::is_ok), "{seen:?}");
}

#[test]
fn modules_share_tables_functions_and_exceptions() {
    let seen = calls(
        r#"(component
            (core module $library
                (type $unary (func (param i32) (result i32)))
                (tag (export "tag") (param i32))
                (table (export "table") 4 funcref)
                (func $twice (export "twice") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
                (func (export "call") (param i32 i32) (result i32)
                    (return_call_indirect (type $unary) (local.get 1) (local.get 0)))
                (func (export "throw") (param i32) (throw 0 (local.get 0)))
                (elem (i32.const 0) func $twice))
            (core instance $library (instantiate $library))
            (core module $main
                (type $unary (func (param i32) (result i32)))
                (import "library" "table" (table 4 funcref))
                (import "library" "tag" (tag $tag (param i32)))
                (import "library" "twice" (func $twice (type $unary)))
                (import "library" "call" (func $call (param i32 i32) (result i32)))
                (import "library" "throw" (func $throw (param i32)))
                (global $started (mut i32) (i32.const 0))
                (func $thrice (param i32) (result i32) (i32.mul (local.get 0) (i32.const 3)))
                (func $start (global.set $started (call $twice (i32.const 50))))
                (start $start)
                (elem (i32.const 1) func $thrice $twice)
                (func (export "a-start") (result i32) (global.get $started))
                (func (export "b-table") (result i32) (call_indirect (type $unary) (i32.const 7) (i32.const 0)))
                (func (export "c-own-function") (result i32) (call $call (i32.const 1) (i32.const 7)))
                (func (export "d-import-in-table") (result i32) (call $call (i32.const 2) (i32.const 7)))
                (func (export "e-tail-call") (result i32) (return_call $twice (i32.const 9)))
                (func (export "f-caught") (result i32)
                    (block $caught (result i32)
                        (try_table (catch $tag $caught) (call $throw (i32.const 77)))
                        (i32.const 0)))
                (func (export "g-import") (param i32) (result i32) (call $twice (local.get 0)))
                (export "h-import-itself" (func $twice)))
            (core instance $i (instantiate $main (with "library" (instance $library))))
            (func (export "a-start") (result u32) (canon lift (core func $i "a-start")))
            (func (export "b-table") (result u32) (canon lift (core func $i "b-table")))
            (func (export "c-own-function") (result u32) (canon lift (core func $i "c-own-function")))
            (func (export "d-import-in-table") (result u32) (canon lift (core func $i "d-import-in-table")))
            (func (export "e-tail-call") (result u32) (canon lift (core func $i "e-tail-call")))
            (func (export "f-caught") (result u32) (canon lift (core func $i "f-caught")))
            (func (export "g-import") (param "x" u32) (result u32) (canon lift (core func $i "g-import")))
            (func (export "h-import-itself") (param "x" u32) (result u32) (canon lift (core func $i "h-import-itself"))))"#,
    );
    let values: Vec<_> = seen.into_iter().map(|call| call.unwrap()[0]).collect();
    assert_eq!(values, [100, 14, 21, 14, 18, 77, 6, 6]);
}

/// A component that has the host double 100 bytes, again and again; its allocator turns a loop `turns` times.
fn allocates(turns: u32) -> String {
    format!(
        r#"(component
            (import "host-double" (func $double (param "bytes" (list u8)) (result (list u8))))
            (core module $libc
                (memory (export "memory") 4)
                (global $next (mut i32) (i32.const 1024))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $turn i32)
                    (loop (local.set $turn (i32.add (local.get $turn) (i32.const 1)))
                        (br_if 0 (i32.lt_u (local.get $turn) (i32.const {turns}))))
                    (global.get $next)
                    (global.set $next (i32.add (global.get $next) (local.get 3)))))
            (core instance $libc (instantiate $libc))
            (core func $double (canon lower (func $double)
                (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
            (core module $main
                (import "host" "double" (func $double (param i32 i32 i32)))
                (import "libc" "memory" (memory 1))
                (func (export "run") (result i32) (local $turn i32)
                    (memory.fill (i32.const 0) (i32.const 5) (i32.const 100))
                    (loop
                        (call $double (i32.const 0) (i32.const 100) (i32.const 512))
                        (br_if 0 (i32.lt_u (local.tee $turn (i32.add (local.get $turn) (i32.const 1))) (i32.const 10))))
                    (i32.add (i32.load (i32.const 516)) (i32.load8_u (i32.load (i32.const 512))))))
            (core instance $main (instantiate $main
                (with "host" (instance (export "double" (func $double)))) (with "libc" (instance $libc))))
            (func (export "run") (result u32) (canon lift (core func $main "run"))))"#
    )
}

#[test]
fn what_the_host_calls_for_memory_is_paid_for() {
    let fuel = |turns| {
        let seen = agreed(&wat::parse_str(allocates(turns)).unwrap(), "allocates");
        assert_eq!(seen.calls, [Ok(vec![205])]);
        seen.fuel.unwrap()
    };
    let (once, often) = (fuel(1), fuel(1_000_001));
    assert!(once >= 10 * 100 * BYTE, "{once}");
    let turn = (often - once) as f64 / 10_000_000.0;
    assert!((4.0..=8.0).contains(&turn), "four operators a turn cost {turn}");
}

/// A component in which a function that takes and gives as many values as said calls itself through another module.
fn recurses(count: usize, ty: &str, zero: &str) -> String {
    let (types, zeros) = (format!("{ty} ").repeat(count), format!("({zero}) ").repeat(count));
    let locals: String = (0..count).map(|local| format!("(local.get {local}) ")).collect();
    format!(
        r#"(component
            (core module $one
                (type $f (func (param {types}) (result {types})))
                (table (export "table") 1 funcref)
                (func (export "f") (type $f) {locals} (call_indirect (type $f) (i32.const 0))))
            (core instance $one (instantiate $one))
            (core module $other
                (type $f (func (param {types}) (result {types})))
                (import "one" "f" (func $f (type $f)))
                (import "one" "table" (table 1 funcref))
                (elem (i32.const 0) func $f)
                (func (export "run") {zeros} (call $f) {drops}))
            (core instance $other (instantiate $other (with "one" (instance $one))))
            (func (export "run") (canon lift (core func $other "run"))))"#,
        drops = "(drop) ".repeat(count)
    )
}

#[test]
fn recursion_through_two_modules_ends_where_the_metered_stack_does() {
    for (count, ty, zero) in
        [(0, "i32", "i32.const 0"), (250, "i64", "i64.const 0"), (250, "v128", "v128.const i64x2 0 0")]
    {
        assert_eq!(calls(&recurses(count, ty, zero)), [Err("stack".into())], "{count} {ty}");
    }
}

#[test]
fn fuel_ends_at_the_same_call() {
    let component = rewrite(&wat::parse_str(allocates(1)).unwrap()).unwrap();
    for slice in [50, 1_000, 1_000_000] {
        let ended = run(&cranelift(), &component, true, &mut Host::new(2_000, slice)).unwrap();
        assert_eq!(ended.calls, [Err("fuel".into())], "{slice}");
    }
}

#[test]
fn what_would_run_code_outside_the_rewrite_is_refused() {
    for (component, words) in [
        ("(component (component (core module)))", "modules of their own"),
        ("(component (component (component)))", "components of their own"),
        (
            r#"(component (component (import "f" (func $f)) (core func (canon lower (func $f)))))"#,
            "functions of their own",
        ),
        ("(component (core module $m) (core instance (instantiate $m)) (core instance (instantiate $m)))", "twice"),
        (r#"(component (core module $m) (export "m" (core module $m)))"#, "exported module"),
        (r#"(component (import "m" (core module)))"#, "imported module"),
        (r#"(component (import "shoal-refill" (func (param "meter" s64) (result s64))))"#, "the profile's own"),
        (
            r#"(component (core module $h (func (export "refill"))) (core instance $h (instantiate $h))
                (core module $m (import "shoal" "refill" (func))) (core instance (instantiate $m (with "shoal" (instance $h)))))"#,
            "named \"shoal\"",
        ),
        ("(component (core module (memory i64 1)))", "not valid"),
    ] {
        let refused = rewrite(&wat::parse_str(component).unwrap()).expect_err(component).to_string();
        assert!(refused.contains(words), "{component}: {refused}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_rewrite_of_a_component_panic(at: proptest::sample::Index, value: u8) {
        let mut component = wat::parse_str(allocates(1)).unwrap();
        let at = at.index(component.len());
        component[at] = value;
        let _ = rewrite(&component);
    }
}
