//! What people are told of a module: before a run what it needs and why it cannot run, after a trap where it was.

mod support;

use shoal_executors::wasm::report::{Report, report};
use shoal_executors::{WasmConfig, WasmExecutor};
use shoal_protocol::task::{Outcome, Trap};
use support::{binary, job};

const EVERYTHING: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
    (import "maths" "half" (func $half (param f64) (result f64)))
    (memory (export "memory") 2 16)
    (table 3 funcref)
    (global (export "counter") (mut i32) (i32.const 0))
    (data (i32.const 0) "twelve bytes")
    (func $mean (param f64 f64) (result f64)
        (call $half (f64.add (local.get 0) (local.get 1))))
    (func $sum (param v128 v128) (result v128)
        (f32x4.add (i32x4.add (local.get 0) (local.get 1)) (local.get 1)))
    (func (export "_start"))
    (func (export "again")))"#;

const MATHS: &str =
    r#"(module (func (export "half") (param f64) (result f64) (f64.mul (local.get 0) (f64.const 0.5))))"#;

fn reported(module: &str, imports: &[(&str, &str)]) -> Report {
    let imports: Vec<_> = imports.iter().map(|(name, text)| ((*name).to_owned(), binary(text.as_bytes()))).collect();
    report(&binary(module.as_bytes()), "_start", &imports)
}

#[test]
fn a_report_says_what_a_module_needs_and_has() {
    let report = reported(EVERYTHING, &[("maths", MATHS)]);
    assert!(report.runs && report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(report.entry_points, ["_start", "again"]);
    let imports: Vec<_> =
        report.imports.iter().map(|import| (&*import.name, &*import.kind, &import.provider)).collect();
    let (wasi, maths) = (Some("WASI preview 1".to_owned()), Some("import module maths".to_owned()));
    let expected = [("fd_close", "function (i32) -> (i32)", &wasi), ("half", "function (f64) -> (f64)", &maths)];
    assert_eq!(imports, expected);
    let exports: Vec<_> = report.exports.iter().map(|export| (&*export.name, &*export.kind)).collect();
    let start = "function () -> ()";
    let expected =
        [("_start", start), ("again", start), ("counter", "global mut i32"), ("memory", "memory, 2 to 16 pages")];
    assert_eq!(exports, expected);
    let memory = report.memories[0];
    assert_eq!((memory.initial_bytes, memory.maximum_bytes), (2 << 16, Some(16 << 16)));
    let counts = report.counts;
    assert_eq!((counts.functions, counts.data_bytes, counts.tables, counts.globals), (4, 12, 1, 1));
    assert!(counts.has_names);
}

#[test]
fn a_report_counts_floats_and_vectors_and_names_where_they_are() {
    let report = reported(EVERYTHING, &[("maths", MATHS)]);
    let named = |share: &shoal_executors::wasm::report::Share| {
        share
            .most
            .iter()
            .map(|function| (function.index, function.name.clone().unwrap(), function.instructions))
            .collect()
    };
    let float: Vec<_> = named(&report.float);
    assert_eq!((report.float.instructions, report.float.functions), (2, 2));
    assert_eq!(float, [(2, "mean".to_owned(), 1), (3, "sum".to_owned(), 1)]);
    let simd: Vec<_> = named(&report.simd);
    assert_eq!(simd, [(3, "sum".to_owned(), 2)]);
}

#[test]
fn a_report_gives_every_reason_and_not_only_the_first() {
    let report = reported(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_close" (func (param i64) (result i32)))
            (import "wasi_unstable" "fd_close" (func (param i32) (result i32)))
            (import "maths" "half" (func (param f32) (result f32)))
            (import "maths" "third" (func))
            (memory 1 1 shared)
            (func (export "_start") (param i32)))"#,
        &[("maths", MATHS)],
    );
    let said = report.problems.join("\n");
    assert_eq!((report.runs, report.problems.len()), (false, 6), "{said}");
    for reason in [
        "shared memory",
        "wasi_snapshot_preview1.fd_close as function (i64) -> (i32), but it is function (i32) -> (i32)",
        "nobody provides wasi_unstable.fd_close; that is an older WASI",
        "maths.half as function (f32) -> (f32), but it is function (f64) -> (f64)",
        "nobody provides maths.third",
        "\"_start\" as function (i32) -> ()",
    ] {
        assert!(said.contains(reason), "{reason} is missing in:\n{said}");
    }
    let providers: Vec<_> = report.imports.iter().map(|import| import.provider.is_some()).collect();
    assert_eq!(providers, [false; 4]);
}

#[test]
fn what_is_no_module_is_reported_as_that() {
    for (bytes, reason) in [
        (&b"#!/bin/sh"[..], "not a WebAssembly module"),
        (b"(module)", "WebAssembly text"),
        (b"\0asm\x01\0\0\0\x0b\x7f", "not a WebAssembly module"),
    ] {
        let report = report(bytes, "_start", &[]);
        assert!(!report.runs && report.problems[0].contains(reason), "{:?}", report.problems);
    }
    assert!(reported("(component)", &[]).problems[0].contains("commands export wasi:cli/run@0.2"));
}

#[test]
fn a_report_of_a_library_names_what_could_be_called() {
    let report = reported(r#"(module (func (export "work")) (func (export "add") (param i32)))"#, &[]);
    assert!(report.problems[0].contains("it exports: work"), "{:?}", report.problems);
}

#[tokio::test]
async fn an_import_module_with_another_type_is_refused_with_both_types() {
    let entry = r#"(module (import "maths" "half" (func (param i32) (result i32))) (func (export "_start")))"#;
    let refused = job(entry).import("maths", MATHS).check().await.unwrap_err();
    assert!(refused.contains("maths.half as function (i32) -> (i32), but it is function (f64) -> (f64)"), "{refused}");
}

#[tokio::test]
async fn a_trap_says_which_functions_it_came_out_of() {
    let module = r#"(module
        (func $inner (drop (i32.div_u (i32.const 1) (i32.const 0))))
        (func $_ZN4deep4work17h0123456789abcdefE (call $inner))
        (func $main (export "_start") (call $_ZN4deep4work17h0123456789abcdefE)))"#;
    let executor = WasmExecutor::new(WasmConfig::default()).expect("an executor");
    let folder = tempfile::tempdir().expect("a folder");
    let finished = job(module).run_in(&executor, folder.path()).await.expect("a vote");
    assert_eq!(finished.outcome, Outcome::Trapped(Trap::Arithmetic));
    let expected = "   0: inner (function 0)\n   1: deep::work (function 1)\n   2: main (function 2)\n";
    assert_eq!(finished.backtrace.as_deref(), Some(expected));
}

#[tokio::test]
async fn endless_recursion_leaves_a_short_backtrace_and_a_normal_end_none() {
    let endless = r#"(module (func $again (export "_start") (call $again) (unreachable)))"#;
    let executor = WasmExecutor::new(WasmConfig::default()).expect("an executor");
    let folder = tempfile::tempdir().expect("a folder");
    let job_of = |module: &str| job(module).limits(|limits| limits.fuel = 1_000);
    let finished = job_of(endless).run_in(&executor, folder.path()).await.expect("a vote");
    assert_eq!(finished.outcome, Outcome::Trapped(Trap::OutOfFuel));
    assert!(finished.backtrace.is_some_and(|text| text.lines().count() <= 21));
    let folder = tempfile::tempdir().expect("a folder");
    let finished = job_of(r#"(module (func (export "_start")))"#).run_in(&executor, folder.path()).await;
    assert_eq!(finished.expect("a vote").backtrace, None);
}

#[test]
fn a_report_of_a_component_names_its_interfaces() {
    let report = report(include_bytes!("guests/files-component.wasm"), "_start", &[]);
    assert!(report.runs, "{:?}", report.problems);
    assert_eq!(report.entry_points, ["_start"]);
    let environment = report.imports.iter().find(|import| import.name.starts_with("wasi:cli/environment@")).unwrap();
    assert_eq!(environment.provider.as_deref(), Some("WASI preview 2"));
    assert!(report.exports.iter().any(|export| export.name.starts_with("wasi:cli/run@") && export.kind == "interface"));
}
