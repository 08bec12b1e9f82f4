//! NaN: where its bits are made canonical, and that nothing else can be seen of it.

use wasmparser::{Operator, Parser, Payload};

use super::engines::{Host, blanket, run};
use super::{FUEL, rewritten, seen};

/// How often a rewritten module makes something canonical: what the module does not do itself is compared.
fn canonicalisations(module: &[u8]) -> usize {
    let mut count = 0;
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::CodeSectionEntry(body) = payload.unwrap() {
            for operator in body.get_operators_reader().unwrap() {
                let operator = operator.unwrap();
                count += usize::from(matches!(operator, Operator::F32Ge | Operator::F64Ge));
                count += usize::from(matches!(operator, Operator::F32x4Eq | Operator::F64x2Eq));
            }
        }
    }
    count
}

/// A function with four float parameters and as many locals, `$a` to `$h`.
fn function(body: &str) -> String {
    format!(
        r#"(module (memory 1) (tag $tag (param f64)) (global $global (mut f64) (f64.const 0)) (table 1 funcref)
        (type $f (func (param f64))) (func $f (type $f))
        (func (param $a f64) (param $b f64) (param $c f64) (param $i i32) (local $d f64) (local $e f64) (local $v v128)
        {body}))"#
    )
}

#[test]
fn canonical_exactly_where_bits_are_seen() {
    let sum = "(f64.add (local.get $a) (local.get $b))";
    for (body, count) in [
        // Seen.
        (format!("(f64.store (i32.const 0) {sum})"), 1),
        (format!("(drop (i64.reinterpret_f64 {sum}))"), 1),
        (format!("(global.set $global {sum})"), 1),
        (format!("(call $f {sum})"), 1),
        (format!("(call_indirect (type $f) {sum} (i32.const 0))"), 1),
        (format!("(return_call $f {sum})"), 1),
        (format!("(throw $tag {sum})"), 1),
        (format!("(drop (f64x2.splat {sum}))"), 1),
        (format!("(drop (f64x2.replace_lane 0 (local.get $v) {sum}))"), 1),
        (format!("(drop (f64.neg {sum}))"), 1),
        (format!("(drop (f64.copysign {sum} (local.get $a)))"), 1),
        (format!("(drop (f64.copysign (local.get $a) {sum}))"), 1),
        (format!("(drop (f64.copysign {sum} {sum}))"), 2),
        // Not seen.
        (format!("(drop {sum})"), 0),
        (format!("(drop (f64.lt {sum} {sum}))"), 0),
        (format!("(drop (i32.trunc_sat_f64_s {sum}))"), 0),
        (format!("(f64.store (i32.const 0) (f64.sqrt (f64.mul {sum} {sum})))"), 1),
        (format!("(drop (f32.demote_f64 {sum}))"), 0),
        // Moved.
        (format!("(local.set $d {sum}) (f64.store (i32.const 0) (local.get $d))"), 1),
        (format!("(f64.store (i32.const 0) (f64.abs {sum}))"), 1),
        (format!("(f64.store (i32.const 0) (f64.neg {sum}))"), 1),
        (format!("(f64.store (i32.const 0) (select {sum} (local.get $a) (local.get $i)))"), 1),
        (format!("(f64.store (i32.const 0) (block (result f64) (br_if 0 {sum} (local.get $i))))"), 1),
        (format!("(f64.store (i32.const 0) (if (result f64) (local.get $i) (then {sum}) (else (local.get $a))))"), 1),
        // A later turn of the loop stores what an earlier one computed.
        (format!("(loop (f64.store (i32.const 0) (local.get $d)) (local.set $d {sum}) (br_if 0 (local.get $i)))"), 1),
        // Into a loop as a parameter.
        (format!("{sum} (loop (param f64) (drop) {sum} (br_if 0 (local.get $i)) (drop))"), 2),
        // Cannot differ.
        ("(f64.store (i32.const 0) (local.get $a))".into(), 0),
        ("(f64.store (i32.const 0) (f64.load (i32.const 8)))".into(), 0),
        ("(f64.store (i32.const 0) (f64.neg (local.get $a)))".into(), 0),
        ("(f64.store (i32.const 0) (f64.const nan:0x1234))".into(), 0),
        ("(f64.store (i32.const 0) (f64.reinterpret_i64 (i64.const -1)))".into(), 0),
        ("(f64.store (i32.const 0) (f64x2.extract_lane 0 (local.get $v)))".into(), 0),
        ("(f64.store (i32.const 0) (f64.mul (f64.convert_i32_s (local.get $i)) (f64.const 0.5)))".into(), 0),
        ("(f64.store (i32.const 0) (f64.min (f64.const inf) (f64.convert_i32_s (local.get $i))))".into(), 0),
        // Could: infinite less infinite, nought by nought, roots of what is below nought.
        ("(f64.store (i32.const 0) (f64.sub (f64.const inf) (f64.convert_i32_s (local.get $i))))".into(), 1),
        ("(f64.store (i32.const 0) (f64.div (f64.const 0) (f64.convert_i32_s (local.get $i))))".into(), 1),
        ("(f64.store (i32.const 0) (f64.sqrt (f64.convert_i32_s (local.get $i))))".into(), 1),
        ("(f64.store (i32.const 0) (f64.max (local.get $a) (f64.const 0)))".into(), 1),
        // Vectors: arithmetic at once, choices and signs never.
        ("(local.set $v (f32x4.add (local.get $v) (local.get $v)))".into(), 1),
        ("(local.set $v (f64x2.sqrt (f64x2.promote_low_f32x4 (local.get $v))))".into(), 2),
        ("(local.set $v (f32x4.pmin (f32x4.neg (local.get $v)) (f32x4.abs (local.get $v))))".into(), 0),
    ] {
        assert_eq!(canonicalisations(&rewritten(&function(&body))), count, "{body}");
    }
}

#[test]
fn a_result_is_canonical_by_every_way_out() {
    for body in [
        "(f64.div (local.get 0) (local.get 0))",
        "(return (f64.div (local.get 0) (local.get 0)))",
        "(br_if 0 (f64.div (local.get 0) (local.get 0)) (i32.const 1))",
        "(block (br_table 0 1 (f64.div (local.get 0) (local.get 0)) (i32.const 1)) (unreachable)) (unreachable)",
    ] {
        let body = body.replace("(block (br_table 0 1", "(block (result f64) (br_table 0 1");
        let text = format!(r#"(module (func (export "f") (result f64) (local f64) {body}))"#);
        assert_eq!(seen(&text).calls, [Ok(vec![0x7ff8 << 48])], "{body}");
    }
}

/// Bits of what is made of 0/0 and of NaN with a payload, in every way: equal to canonicalising every result.
#[test]
fn bits_are_those_of_blanket_canonicalisation() {
    let mut functions = String::new();
    let nans =
        ["(T.div (T.const 0) (T.const 0))", "(T.add (T.const -nan:0x201) (T.const nan:0x302))", "(T.const -nan:0x123)"];
    let uses = [
        "X",
        "(T.neg X)",
        "(T.abs X)",
        "(T.copysign X (T.const -1))",
        "(T.copysign (T.const 2) X)",
        "(T.min X (T.const 1))",
        "(T.max (T.const 1) X)",
        "(T.floor X)",
        "(T.nearest X)",
        "(T.sqrt X)",
        "(T.mul X (T.const 2))",
        "(T.neg (T.abs (T.neg X)))",
        "(select X (T.const 1) (i32.const 1))",
    ];
    for (number, (nan, using)) in nans.iter().flat_map(|nan| uses.iter().map(move |using| (nan, using))).enumerate() {
        for ty in ["f32", "f64"] {
            let value = using.replace('X', nan).replace('T', ty);
            functions += &format!(r#"(func (export "{ty}-{number:02}") (result {ty}) {value})"#);
        }
    }
    let text = format!("(module {functions})");
    let expected = run(&blanket(), &wat::parse_str(&text).unwrap(), false, &mut Host::new(FUEL, 1)).unwrap();
    assert_eq!(seen(&text).calls, expected.calls);
}

/// Where a NaN whose bits mean something and one that arithmetic made come to stand in the same place, the first keeps
/// its bits and the second does not, whichever of them it is in the end. Programs keep other values in the bits of NaN.
#[test]
fn nan_of_two_kinds_in_one_place_keep_apart() {
    let open = "(f64.mul (local.get $nan) (f64.const 1))";
    let kept = "(local.get $nan)";
    let bodies = [
        ("select", "(select A B (local.get $i))"),
        ("local", "(if (local.get $i) (then (local.set $d A)) (else (local.set $d B))) (local.get $d)"),
        (
            "tee",
            "(drop (if (result f64) (local.get $i) (then (local.tee $d A)) (else (local.tee $d B)))) (local.get $d)",
        ),
        ("arms", "(if (result f64) (local.get $i) (then A) (else B))"),
        ("branch", "(block (result f64) (br_if 0 A (local.get $i)) (drop) B)"),
        ("table", "(block (result f64) (block (result f64) (br_table 0 1 A (local.get $i))) (drop) B)"),
        ("return", "(if (local.get $i) (then (return A))) B"),
        ("end", "(block (br_if 0 (local.get $i)) (return A)) B"),
        (
            "turn",
            "A (loop $turn (param f64) (result f64) (drop) B (br_if $turn (local.tee $i (i32.shr_u (local.get $i) (i32.const 1)))))",
        ),
        ("no-arm", "A (local.get $i) (if (param f64) (result f64) (then (drop) B))"),
        (
            "later",
            "(local.set $d A) (local.set $e (f64.abs (local.get $d))) (if (local.get $i) (then (local.set $d B))) (f64.neg (local.get $d))",
        ),
    ];
    let mut functions = String::new();
    for (name, body) in bodies {
        for (number, (a, b)) in [(open, kept), (kept, open), (open, open), (kept, kept)].iter().enumerate() {
            for i in 0..3 {
                let body = body.replace('A', a).replace('B', b);
                functions += &format!(
                    r#"(func (export "{name}-{number}-{i}") (result f64) (call ${name}{number}{i} (i32.const {i}) (f64.const -nan:0x123)))
                    (func ${name}{number}{i} (param $i i32) (param $nan f64) (result f64) (local $d f64) (local $e f64) {body})"#
                );
            }
        }
    }
    let text = format!("(module {functions})");
    let expected = run(&blanket(), &wat::parse_str(&text).unwrap(), false, &mut Host::new(FUEL, 1)).unwrap();
    assert!(expected.calls.contains(&Ok(vec![0xfff0_0000_0000_0123])), "one that keeps its bits");
    assert!(expected.calls.contains(&Ok(vec![0x7ff8_0000_0000_0000])), "and one that has none of its own");
    assert_eq!(seen(&text).calls, expected.calls);
}

/// The same of vectors, some of whose lanes are NaN with a payload, read afterwards as lanes of either shape.
#[test]
fn bits_of_lanes_are_those_of_blanket_canonicalisation() {
    let (x, y) = (
        "(v128.const i64x2 0xfff4000000000123 0x7fa00001ff800000)",
        "(v128.const i64x2 0xffc00007 0x8000000000000000)",
    );
    let both = ["add", "sub", "mul", "div", "min", "max", "pmin", "pmax"];
    let one = ["sqrt", "ceil", "floor", "trunc", "nearest", "neg", "abs"];
    let mut values = vec![];
    for shape in ["f32x4", "f64x2"] {
        for (a, b) in [(x, y), (y, x), (y, y)] {
            values.extend(both.iter().map(|name| format!("({shape}.{name} {a} {b})")));
            values.extend(one.iter().map(|name| format!("({shape}.{name} {a})")));
        }
        let other = if shape == "f32x4" { "f64x2" } else { "f32x4" };
        values.push(format!("({other}.add ({shape}.div {y} {y}) ({shape}.sub {x} {y}))"));
    }
    values.push(format!("(f32x4.demote_f64x2_zero {x})"));
    values.push(format!("(f64x2.promote_low_f32x4 {y})"));
    let function = |(number, value)| format!(r#"(func (export "{number:03}") (result v128) {value})"#);
    let text = format!("(module {})", values.iter().enumerate().map(function).collect::<String>());
    let expected = run(&blanket(), &wat::parse_str(&text).unwrap(), false, &mut Host::new(FUEL, 1)).unwrap();
    assert_eq!(seen(&text).calls, expected.calls);
}
