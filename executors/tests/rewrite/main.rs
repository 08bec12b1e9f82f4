//! The rewrite: each rule on small modules, and all of it on generated ones and on components around them, in engines
//! that must agree.

mod engines;

mod floats;

mod meter;

mod generated;

mod components;

use engines::{Host, Seen, cranelift, pulley, run, run_in_wasmi, unoptimised, winch};
use shoal_executors::wasm::rewrite::rewrite;

/// Fuel enough for every small module.
const FUEL: i64 = 1 << 40;

fn rewritten(text: &str) -> Vec<u8> {
    rewrite(&wat::parse_str(text).expect("a module")).expect("a module that can be rewritten")
}

/// Runs a rewritten module in every engine that takes it, and expects all to agree.
fn agreed(module: &[u8], host: &Host) -> Seen {
    let seen = run(&cranelift(), module, true, &mut host.clone()).expect("the profile's engine takes it");
    for (name, config) in [("unoptimised", unoptimised()), ("winch", winch()), ("pulley", pulley())] {
        if let Some(other) = run(&config, module, true, &mut host.clone()) {
            assert_eq!(other, seen, "{name}");
        }
    }
    if let Some(other) = run_in_wasmi(module, true, &mut host.clone()) {
        assert_eq!(other, seen, "wasmi");
    }
    seen
}

/// What the functions of a module give, in every engine, with slices of any size.
fn seen(text: &str) -> Seen {
    let module = rewritten(text);
    let seen = agreed(&module, &Host::new(FUEL, 1_000_000));
    let slowly = run(&cranelift(), &module, true, &mut Host::new(FUEL, 50));
    assert_eq!(slowly.as_ref(), Some(&seen), "slices change nothing");
    seen
}

#[test]
fn the_output_depends_on_the_input_alone() {
    let module = wat::parse_str(include_str!("everything.wat")).unwrap();
    assert_eq!(rewrite(&module).unwrap(), rewrite(&module).unwrap());
}

#[test]
fn everything_a_module_can_have_survives() {
    let seen = seen(include_str!("everything.wat"));
    let calls: Vec<_> = seen.calls.into_iter().map(|call| call.unwrap()).collect();
    let expected: [&[u128]; 8] = [&[42], &[7, 9], &[5], &[3], &[1], &[2, 1], &[11], &[1 << 32 | 5]];
    assert_eq!(calls, expected);
    assert_eq!(seen.state.iter().find(|(name, _)| name == "z-started").map(|(_, value)| *value), Some(1));
}

#[test]
fn names_of_functions_are_kept_and_counted_anew() {
    let module = rewritten(r#"(module (import "a" "b" (func $b)) (func $first) (func $second (call $b)))"#);
    let names = wasmparser::Parser::new(0).parse_all(&module).filter_map(|payload| match payload.unwrap() {
        wasmparser::Payload::CustomSection(section) => match section.as_known() {
            wasmparser::KnownCustom::Name(names) => Some(names),
            _ => None,
        },
        _ => None,
    });
    let mut functions = vec![];
    for name in names.flatten() {
        if let wasmparser::Name::Function(map) = name.unwrap() {
            functions.extend(map.into_iter().map(|naming| naming.unwrap()).map(|n| (n.index, n.name.to_owned())));
        }
    }
    assert_eq!(functions, [(0, "b".to_owned()), (4, "first".to_owned()), (5, "second".to_owned())]);
}

#[test]
fn what_the_profile_has_not_is_refused() {
    let many = "i32 ".repeat(257);
    for module in [
        "(module (memory i64 1))".to_owned(),
        "(module (memory 1) (memory 1))".to_owned(),
        "(module (type (struct)))".to_owned(),
        "(module (func (result v128) v128.const i64x2 0 0 v128.const i64x2 0 0 i8x16.relaxed_swizzle))".to_owned(),
        format!("(module (func (param {many})))"),
        format!("(module (func (local {})))", "i32 ".repeat(49_001)),
    ] {
        assert!(rewrite(&wat::parse_str(&module).unwrap()).is_err(), "{}", &module[..module.len().min(60)]);
    }
    assert!(rewrite(b"\0asm\x01\0\0\0\x01").is_err());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_rewrite_panic(at: proptest::sample::Index, value: u8) {
        let mut module = wat::parse_str(include_str!("everything.wat")).unwrap();
        let at = at.index(module.len());
        module[at] = value;
        let _ = rewrite(&module);
    }
}
