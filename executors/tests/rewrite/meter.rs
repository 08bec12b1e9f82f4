//! Stack and fuel: the same place on every engine, given back on every way, and enough charged.

use super::engines::{Host, cranelift, run};
use super::{FUEL, agreed, rewritten, seen};

/// Counts in `z-depth` how often it was entered.
fn recursion(body: &str) -> String {
    format!(
        r#"(module (global $depth (export "z-depth") (mut i32) (i32.const 0)) (memory 1)
        (tag $tag) (table 1 funcref) (elem (i32.const 0) $f) (type $f (func (param i32) (result i32)))
        (func $deeper (global.set $depth (i32.add (global.get $depth) (i32.const 1))))
        (func $f (type $f) (call $deeper) {body})
        (func (export "f") (result i32) (call $f (i32.const 1))))"#
    )
}

/// How deep a recursion came before it was stopped, in every engine: fuel tells, since globals are not looked at.
fn depth(body: &str) -> i64 {
    let module = rewritten(&recursion(body));
    let stopped = agreed(&module, &Host::new(FUEL, 1_000_000));
    assert_eq!(stopped.calls, [Err("stack".to_owned())], "{body}");
    // Each entry charges the same: the least fuel with which it is the stack that ends, found by halving.
    let (mut least, mut enough) = (0, 1 << 24);
    while enough - least > 1 {
        let middle = (least + enough) / 2;
        let ended = agreed(&module, &Host::new(middle, 1));
        *(if ended.calls == [Err("stack".to_owned())] { &mut enough } else { &mut least }) = middle;
    }
    enough
}

#[test]
fn endless_recursion_ends_at_the_same_call_in_every_engine() {
    for body in [
        "(i32.add (call $f (local.get 0)) (i32.const 1))",
        "(i32.add (call_indirect (type $f) (local.get 0) (i32.const 0)) (i32.const 1))",
    ] {
        assert!(depth(body) > 10_000, "{body}");
    }
}

#[test]
fn frames_cost_what_they_hold() {
    let plain = depth("(i32.add (call $f (local.get 0)) (i32.const 1))");
    let recursion = "(i32.add (call $f (local.get 0)) (i32.const 1))";
    let text = recursion_with_locals(&"v128 ".repeat(500), recursion);
    let module = rewritten(&text);
    let mut host = Host::new(FUEL, 1);
    assert_eq!(run(&cranelift(), &module, true, &mut host).unwrap().calls, [Err("stack".to_owned())]);
    // 65,536 units hold some 4,000 small frames, and 65 with 1,000 units of vectors.
    assert!(FUEL - host.reserve < plain / 20, "{}", FUEL - host.reserve);
}

fn recursion_with_locals(locals: &str, body: &str) -> String {
    format!(r#"(module (func $f (export "f") (param i32) (result i32) (local {locals}) {body}))"#)
}

/// Vectors that must be kept over a call: large native frames, and the metered stack ends first.
#[test]
fn frames_full_of_live_vectors_do_not_overflow_the_native_stack() {
    for live in [1, 30, 500, 2_000] {
        let all = |each: &dyn Fn(usize) -> String| (0..live).map(each).collect::<String>();
        let set = all(&|n| format!("(local.set {} (i32x4.splat (i32.add (local.get 0) (i32.const {n}))))", n + 1));
        let sum = all(&|n| format!("(local.get {}) (i32x4.add)", n + 1));
        let body =
            format!("{set} (drop (call $f (local.get 0))) (i32x4.splat (local.get 0)) {sum} (i32x4.extract_lane 0)");
        let module = rewritten(&recursion_with_locals(&"v128 ".repeat(live), &body));
        assert_eq!(agreed(&module, &Host::new(FUEL, 1_000_000)).calls, [Err("stack".to_owned())], "{live}");
    }
}

/// Does something a hundred thousand times, and then recurses as deep as 4,000 calls.
fn again_and_again(functions: &str, once: &str) -> String {
    format!(
        r#"(module (tag $tag) {functions}
        (func $deep (param i32) (result i32)
            (if (result i32) (local.get 0)
                (then (i32.add (call $deep (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
                (else (i32.const 0))))
        (func $once {once})
        (func (export "f") (result i32) (local i32)
            (loop (call $once) (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 100000))))
            (call $deep (i32.const 3000))))"#
    )
}

#[test]
fn every_way_out_gives_the_stack_back() {
    let throws = "(func $throws (param i32) (if (local.get 0) (then (throw $tag))) (call $throws (i32.const 1)))";
    for (functions, once) in [
        ("(func $g (call $h)) (func $h)", "(call $g)"),
        ("(func $g (call $h) (return)) (func $h)", "(call $g) (br 0)"),
        ("(func $g (param i32) (call $h) (br_if 0 (local.get 0)) (unreachable)) (func $h)", "(call $g (i32.const 1))"),
        ("(func $g (param i32) (call $h) (br_table 0 0 (local.get 0))) (func $h)", "(call $g (i32.const 1))"),
        ("(func $g (call $h) (return_call $h)) (func $h)", "(return_call $g)"),
        (throws, "(block $c (try_table (catch $tag $c) (call $throws (i32.const 0))))"),
        (throws, "(block $c (try_table (catch_all $c) (call $throws (i32.const 0))))"),
        (
            throws,
            "(block $c (result exnref) (try_table (catch_ref $tag $c) (call $throws (i32.const 0))) (return)) (drop)",
        ),
    ] {
        assert_eq!(seen(&again_and_again(functions, once)).calls, [Ok(vec![3000])], "{once}");
    }
}

#[test]
fn tail_calls_need_no_stack() {
    let text = r#"(module (func $f (export "f") (param i32) (result i32)
        (if (i32.eqz (local.get 0)) (then (return (i32.const 8)))) (call $leaf)
        (return_call $g (i32.sub (local.get 0) (i32.const 1))))
        (func $g (param i32) (result i32) (return_call $f (local.get 0)))
        (func $leaf)
        (func (export "long") (result i32) (call $f (i32.const 1000000))))"#;
    assert_eq!(seen(text).calls, [Ok(vec![8]), Ok(vec![8])]);
}

#[test]
fn fuel_that_flew_with_an_exception_is_not_given_back() {
    let text = r#"(module (tag $tag)
        (func $burn (local i32)
            (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000)))) (throw $tag))
        (func (export "f") (loop $again (block $c (try_table (catch $tag $c) (call $burn))) (br $again))))"#;
    let module = rewritten(text);
    let mut host = Host::new(10_000_000, 1_000_000);
    assert_eq!(run(&cranelift(), &module, true, &mut host).unwrap().calls, [Err("fuel".to_owned())]);
}

/// Fuel that a function uses.
fn fuel(text: &str) -> i64 {
    let seen = seen(text);
    assert!(seen.calls.iter().all(Result::is_ok), "{:?}", seen.calls);
    seen.fuel.unwrap()
}

fn turns(turns: u32, body: &str) -> i64 {
    fuel(&format!(
        r#"(module (memory 1 64) (table 10 100 funcref) (func $callee) (func (export "f") (local $i i32) (local $x i32)
        (loop $l {body}
            (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {turns}))))))"#
    ))
}

#[test]
fn every_turn_is_charged_what_it_does() {
    let empty = turns(1000, "") / 1000;
    assert!((3..8).contains(&empty), "{empty}");
    let adds = "(local.set $x (i32.add (local.get $x) (i32.const 1)))".repeat(100);
    let straight = turns(1000, &adds) / 1000 - empty;
    assert!((200..=250).contains(&straight), "{straight}");
    assert!(turns(1000, "(call $callee)") / 1000 - empty >= 4);
    assert!(turns(1000, "(local.set $x (i32.div_u (local.get $x) (i32.const 3)))") / 1000 - empty >= 8);
}

#[test]
fn an_arm_that_is_not_taken_costs_little_and_one_that_is_costs_all() {
    let adds = "(local.set $x (i32.add (local.get $x) (i32.const 1)))".repeat(500);
    let arm = |taken: u32| turns(1000, &format!("(if (i32.const {taken}) (then {adds}))")) / 1000;
    assert!(arm(0) < 60, "{}", arm(0));
    assert!((1000..1100).contains(&arm(1)), "{}", arm(1));
}

#[test]
fn a_switch_of_many_arms_costs_about_one_of_them() {
    let arm = "(local.set $x (i32.add (local.get $x) (i32.const 1)))".repeat(5);
    let labels: String = (0..200).map(|n| format!("{n} ")).collect();
    let mut body = format!("(block (br_table {labels} (i32.rem_u (local.get $i) (i32.const 200))))");
    for _ in 0..199 {
        body = format!("(block {body} {arm} (br $out))");
    }
    let turn = turns(10_000, &format!("(block $out {body})")) / 10_000;
    assert!((20..120).contains(&turn), "{turn}");
}

#[test]
fn bulk_work_is_charged_by_size_and_looked_at_in_pieces() {
    let text = |work: &str| {
        format!(
            r#"(module (memory (export "m") 200) (data $d "0123456789")
            (func (export "f") (i32.store (i32.const 1000) (i32.const 77)) {work}))"#
        )
    };
    let nothing = fuel(&text(""));
    for (work, least) in [
        ("(memory.fill (i32.const 0) (i32.const 1) (i32.const 8000000))", 1_000_000),
        ("(memory.copy (i32.const 1) (i32.const 0) (i32.const 8000000))", 1_000_000),
        ("(memory.copy (i32.const 0) (i32.const 1) (i32.const 8000000))", 1_000_000),
        ("(memory.init $d (i32.const 0) (i32.const 0) (i32.const 10))", 1),
        ("(drop (memory.grow (i32.const 100)))", 102_400),
    ] {
        let used = fuel(&text(work)) - nothing;
        assert!((least..least + 200).contains(&used), "{work}: {used}");
        let mut host = Host::new(FUEL, 100);
        run(&cranelift(), &rewritten(&text(work)), true, &mut host).unwrap();
        assert!(host.refills >= u32::try_from(least / 131_073).unwrap().min(7), "{work}: {}", host.refills);
    }
    assert!(fuel(&text("(drop (memory.grow (i32.const 70000)))")) - nothing < 100, "what is refused is free");
}

/// A table of 40,000 elements, of which every 3,500th is not null to begin with; `f` does `work` and gives a bit for
/// each of some places: whether it is null.
fn table(work: &str, places: &[u32]) -> String {
    let begun = (0..40_000).step_by(3_500).map(|at| format!("(table.set $t (i32.const {at}) (ref.func $f))"));
    let seen = places.iter().map(|at| {
        let null = format!("(ref.is_null (table.get $t (i32.const {at})))");
        format!("(local.set $seen (i32.add (i32.shl (local.get $seen) (i32.const 1)) {null}))")
    });
    let (begun, seen, elements) = (begun.collect::<String>(), seen.collect::<String>(), "$f ".repeat(18_000));
    format!(
        r#"(module (table $t 40000 funcref) (elem $e func {elements}) (func (export "f") (result i32) (local $seen i32)
            {begun} {work} {seen} (local.get $seen)) (func $f))"#
    )
}

#[test]
fn work_on_tables_in_pieces_is_what_it_is_in_one() {
    for (work, places, nulls) in [
        ("", &[0, 1, 3499, 3500, 38500][..], 0b01100),
        (
            "(table.fill $t (i32.const 5) (ref.func $f) (i32.const 39990))",
            &[1, 4, 5, 20000, 39994, 39995][..],
            0b110001,
        ),
        ("(table.fill $t (i32.const 0) (ref.null func) (i32.const 35001))", &[0, 35000, 38500][..], 0b110),
        // Up by one, and down by one: what overlaps is neither repeated nor lost.
        (
            "(table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 39999))",
            &[0, 1, 2, 21000, 21001, 38501][..],
            0b001100,
        ),
        (
            "(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 39999))",
            &[0, 3499, 3500, 38499, 38500][..],
            0b10101,
        ),
        (
            "(table.copy $t $t (i32.const 20000) (i32.const 0) (i32.const 20000))",
            &[20000, 23500, 23000, 37500][..],
            0b0010,
        ),
        (
            "(table.init $t $e (i32.const 10001) (i32.const 1) (i32.const 17999))",
            &[10000, 10001, 27999, 28001][..],
            0b1001,
        ),
        ("(table.init $t $e (i32.const 40000) (i32.const 18000) (i32.const 0))", &[1][..], 0b1),
    ] {
        assert_eq!(seen(&table(work, places)).calls, [Ok(vec![nulls])], "{work}");
    }
}

#[test]
fn work_on_tables_is_charged_by_size_and_looked_at_in_pieces() {
    let nothing = fuel(&table("", &[]));
    for (work, least) in [
        ("(table.fill $t (i32.const 0) (ref.func $f) (i32.const 40000))", 10_000),
        ("(table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 39999))", 9_999),
        ("(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 39999))", 9_999),
        ("(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 18000))", 4_500),
    ] {
        let used = fuel(&table(work, &[])) - nothing;
        assert!((least..least + 50).contains(&used), "{work}: {used}");
        let mut host = Host::new(FUEL, 100);
        run(&cranelift(), &rewritten(&table(work, &[])), true, &mut host).unwrap();
        assert!(host.refills >= 2, "{work}: {}", host.refills);
    }
}

#[test]
fn work_on_tables_out_of_bounds_is_so_in_every_engine() {
    for work in [
        "(table.fill $t (i32.const 39999) (ref.null func) (i32.const 2))",
        "(table.fill $t (i32.const -1) (ref.null func) (i32.const 2))",
        "(table.fill $t (i32.const 1) (ref.null func) (i32.const -1))",
        "(table.fill $t (i32.const 40001) (ref.null func) (i32.const 0))",
        "(table.copy $t $t (i32.const 10) (i32.const 5) (i32.const -1))",
        "(table.copy $t $t (i32.const -16) (i32.const 0) (i32.const 20))",
        "(table.copy $t $t (i32.const 0) (i32.const -16) (i32.const 20))",
        "(table.copy $t $t (i32.const 0) (i32.const 40001) (i32.const 0))",
        "(table.copy $t $t (i32.const 2000000000) (i32.const 2) (i32.const 2147483647))",
        "(table.init $t $e (i32.const 0) (i32.const 1) (i32.const 18000))",
        "(table.init $t $e (i32.const 0) (i32.const -1) (i32.const 2))",
        "(elem.drop $e) (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))",
    ] {
        assert_eq!(seen(&table(work, &[])).calls, [Err("table".to_owned())], "{work}");
    }
}

#[test]
fn bulk_work_out_of_bounds_is_so_in_every_engine() {
    for work in [
        "(memory.fill (i32.const 65530) (i32.const 1) (i32.const 7))",
        "(memory.fill (i32.const -1) (i32.const 1) (i32.const -1))",
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const -1))",
        "(memory.fill (i32.const 65537) (i32.const 1) (i32.const 0))",
        "(memory.copy (i32.const -1) (i32.const 0) (i32.const 2))",
        "(memory.copy (i32.const 0) (i32.const -5) (i32.const 6))",
        "(memory.copy (i32.const 0) (i32.const 65537) (i32.const 0))",
        "(memory.init $d (i32.const 0) (i32.const 5) (i32.const 6))",
        "(memory.init $d (i32.const 0) (i32.const -1) (i32.const 2))",
        "(data.drop $d) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))",
    ] {
        let text = format!(r#"(module (memory 1) (data $d "0123456789") (func (export "f") {work}))"#);
        assert_eq!(seen(&text).calls, [Err("memory".to_owned())], "{work}");
    }
}

#[test]
fn endless_programs_run_out_of_fuel() {
    for body in [
        "(loop (br 0))",
        "(loop (br_if 0 (i32.const 1)))",
        "(loop (br_table 0 0 (i32.const 1)))",
        "(loop $l (block (br_table 0 $l (i32.const 1))) (br $l))",
        "(loop (block $c (try_table (catch_all $c) (throw $t))) (br 0))",
        "(return_call $f)",
        "(loop (memory.fill (i32.const 0) (i32.const 0) (i32.const 65536)) (br 0))",
        "(loop $l (try_table (catch_all $l) (throw $t)))",
    ] {
        let text = format!(r#"(module (memory 1) (tag $t) (func $f (export "f") {body}))"#);
        let ended = agreed(&rewritten(&text), &Host::new(1_000_000, 10_000));
        assert_eq!(ended.calls, [Err("fuel".to_owned())], "{body}");
    }
}

#[test]
fn an_endless_start_function_runs_out_of_fuel() {
    let module = rewritten("(module (func $f (loop (br 0))) (start $f))");
    assert_eq!(agreed(&module, &Host::new(1_000_000, 10_000)).calls, [Err("fuel".to_owned())]);
}
