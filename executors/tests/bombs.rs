//! Each bomb of the trade ends in bounded time and memory, with a clear outcome, while another job runs beside it.

mod support;

use shoal_executors::{RunError, WasmConfig, WasmExecutor};
use shoal_protocol::task::{Outcome, Trap};
use support::{Ended, Job, binary, compiler, exits, functions, job, leb, section};

/// Enough for any bomb to go off, and little enough to be waited for.
const FUEL: u64 = 5_000_000;
/// What a bomb may write, in bytes.
const OUTPUT_BYTES: u64 = 1 << 20;
/// WASI's number for a full disk.
const NO_SPACE: i32 = 51;
/// WASI's number for too many files.
const TOO_MANY_FILES: i32 = 41;

/// Runs a bomb as a node does, and a normal job beside it.
async fn explode(bomb: Job) -> Result<Ended, RunError> {
    let config = WasmConfig { compiler: Some(compiler()), ..WasmConfig::default() };
    let executor = WasmExecutor::new(config).unwrap();
    let bomb = bomb.limits(|limits| {
        limits.fuel = FUEL;
        limits.output_bytes = OUTPUT_BYTES;
    });
    let (ended, beside) = tokio::join!(bomb.run_on(&executor), job(exits(7)).run_on(&executor));
    assert_eq!(beside.unwrap().outcome, Outcome::Exited(7), "the job beside");
    ended
}

/// The outcome of a bomb that is a vote.
async fn outcome(bomb: impl AsRef<[u8]>) -> Outcome {
    explode(job(bomb)).await.expect("a vote").outcome
}

/// The vote on what must not even be compiled: it is refused at submit, and where it arrives nevertheless.
async fn refused(bomb: Vec<u8>, words: &str) {
    let bomb = job(bomb);
    let why = bomb.check().await.expect_err("refused at submit");
    assert!(why.contains(words), "{why}");
    assert_eq!(explode(bomb).await.unwrap().outcome, Outcome::Trapped(Trap::Instantiation));
}

/// A program in text that calls WASI, with a memory of one page.
fn program(body: &str) -> String {
    let import =
        |name: &str, kind: &str| format!(r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} {kind}))"#);
    let imports = [
        import("proc_exit", "(param i32)"),
        import("fd_write", "(param i32 i32 i32 i32) (result i32)"),
        import("fd_pwrite", "(param i32 i32 i32 i64 i32) (result i32)"),
        import("fd_close", "(param i32) (result i32)"),
        import("fd_filestat_set_size", "(param i32 i64) (result i32)"),
        import("path_open", "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)"),
    ];
    format!(
        r#"(module {} (memory (export "memory") 1) (table $table 1 funcref) (data (i32.const 0) "tmp/00000000")
            (func $open (result i32)
                (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 12)
                    (i32.const 1) (i64.const -1) (i64.const 0) (i32.const 0) (i32.const 32)))
            (func $deeper (param i64 i64) (result i64)
                (i64.add (i64.const 1) (call $deeper (local.get 0) (local.get 1))))
            (func (export "_start") (local $error i32) (local $count i32) {body}))"#,
        imports.concat()
    )
}

/// A module whose only function, `_start`, has this body, in bytes (without its length).
fn body(body: &[u8]) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, &[1, 0x60, 0, 0]);
    section(&mut module, 3, &[1, 0]);
    section(&mut module, 7, b"\x01\x06_start\0\0");
    let length = leb(body.len().try_into().unwrap());
    section(&mut module, 10, &[&[1], &length[..], body].concat());
    module
}

#[tokio::test]
async fn loops_without_end_use_up_their_fuel() {
    assert_eq!(outcome(program("(loop (br 0))")).await, Outcome::Trapped(Trap::OutOfFuel));
    let start = r#"(module (func $f (loop (br 0))) (start $f) (func (export "_start")))"#;
    assert_eq!(outcome(start).await, Outcome::Trapped(Trap::OutOfFuel));
}

#[tokio::test]
async fn a_memory_beyond_the_limit_is_not_given() {
    let at_once = r#"(module (memory 65536) (func (export "_start")))"#;
    assert_eq!(outcome(at_once).await, Outcome::Trapped(Trap::Instantiation));
    // The limit of the tests' jobs is 64 MiB.
    let by_growing =
        program("(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (call $proc_exit (memory.size))");
    assert_eq!(outcome(by_growing).await, Outcome::Exited(1024));
}

#[tokio::test]
async fn a_table_beyond_the_limit_is_not_given() {
    let at_once = r#"(module (table 4000000000 funcref) (func (export "_start")))"#;
    assert_eq!(outcome(at_once).await, Outcome::Trapped(Trap::Instantiation));
    let by_growing = program(
        "(loop (br_if 0 (i32.ne (table.grow $table (ref.null func) (i32.const 100000)) (i32.const -1))))
         (call $proc_exit (table.size $table))",
    );
    assert_eq!(outcome(by_growing).await, Outcome::Exited(3_900_001));
}

#[tokio::test]
async fn many_tables_are_within_the_limit_together() {
    // More than the pool of instances takes: what runs elsewhere ends the same way.
    let tables =
        |elements| format!("(module {} (func (export \"_start\")))", format!("(table {elements} funcref)").repeat(20));
    assert_eq!(outcome(tables(100_000)).await, Outcome::Exited(0));
    assert_eq!(outcome(tables(200_001)).await, Outcome::Trapped(Trap::Instantiation));
}

#[tokio::test]
async fn a_flood_of_output_ends_at_the_limit() {
    let flood = program(
        "(i32.store (i32.const 20) (i32.const 65536))
         (loop (br_if 0 (i32.eqz (local.tee $error
            (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))))
         (call $proc_exit (local.get $error))",
    );
    let ended = explode(job(flood)).await.unwrap();
    assert_eq!((ended.outcome, ended.stdout.len() as u64), (Outcome::Exited(NO_SPACE), OUTPUT_BYTES));
}

#[tokio::test]
async fn a_huge_sparse_file_is_not_made() {
    for huge in [
        "(call $fd_filestat_set_size (i32.load (i32.const 32)) (i64.const 0x1000000000000))",
        "(call $fd_pwrite (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i64.const 0x1000000000000) (i32.const 24))",
    ] {
        let sparse =
            program(&format!("(i32.store (i32.const 20) (i32.const 1)) (drop (call $open)) (call $proc_exit {huge})"));
        assert_eq!(outcome(sparse).await, Outcome::Exited(NO_SPACE), "{huge}");
    }
}

#[tokio::test]
async fn many_files_end_with_the_fuel_or_at_the_limit() {
    // Counts in the file's name, in letters of sixteen.
    let files = program(
        "(loop
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (i32.store (i32.const 4) (i32.add (i32.const 0x41414141)
                (i32.or (i32.and (local.get $count) (i32.const 15))
                (i32.or (i32.shl (i32.and (local.get $count) (i32.const 0xf0)) (i32.const 4))
                        (i32.shl (i32.and (local.get $count) (i32.const 0xf00)) (i32.const 8))))))
            (i32.store (i32.const 8) (i32.add (i32.const 0x41414141) (i32.shr_u (local.get $count) (i32.const 12))))
            (br_if 0 (i32.eqz (local.tee $error (call $open)))))
         (call $proc_exit (local.get $error))",
    );
    let ended = outcome(files).await;
    assert!(matches!(ended, Outcome::Trapped(Trap::OutOfFuel) | Outcome::Exited(TOO_MANY_FILES | 33)), "{ended:?}");
}

#[tokio::test]
async fn recursion_without_end_is_no_success() {
    match explode(job(program("(drop (call $deeper (i64.const 1) (i64.const 2)))"))).await {
        Ok(ended) => assert!(matches!(ended.outcome, Outcome::Trapped(_)), "{ended:?}"),
        Err(error) => assert!(matches!(&error, RunError::HostFailed(why) if why.contains("stack")), "{error}"),
    }
}

#[tokio::test]
async fn data_segments_are_counted_and_stay_in_bounds() {
    let segments = |count: u32| {
        // Active, at 0, one byte.
        let segment = [0, 0x41, 0, 0x0b, 1, 0x2a];
        let all = leb(count).into_iter().chain(std::iter::repeat_n(segment, count as usize).flatten());
        let mut module = binary(br#"(module (memory 1) (func (export "_start")))"#);
        section(&mut module, 11, &all.collect::<Vec<_>>());
        module
    };
    refused(segments(200_001), "data segments").await;
    assert_eq!(outcome(segments(50_000)).await, Outcome::Exited(0));
    let outside = r#"(module (memory 1) (data (i32.const 65536) "x") (func (export "_start")))"#;
    assert_eq!(outcome(outside).await, Outcome::Trapped(Trap::Instantiation));
}

#[tokio::test]
async fn a_function_has_no_more_than_50_000_locals() {
    let locals = |count: u32| body(&[&[1], &leb(count)[..], &[0x7e, 0x0b]].concat());
    refused(locals(50_001), "locals").await;
    let most = explode(job(locals(50_000))).await;
    assert!(most.is_ok_and(|ended| matches!(ended.outcome, Outcome::Exited(0) | Outcome::Trapped(_))));
}

#[tokio::test]
async fn a_branch_table_beyond_what_the_engine_implements_is_a_vote() {
    let table = |targets: u32| {
        let zeros = vec![0; targets as usize + 1];
        body(&[&[0, 0x02, 0x40, 0x41, 0, 0x0e], &leb(targets)[..], &zeros, &[0x0b, 0x0b]].concat())
    };
    assert_eq!(outcome(table(65_000)).await, Outcome::Exited(0));
    assert_eq!(outcome(table(1_000_000)).await, Outcome::Trapped(Trap::Instantiation));
}

#[tokio::test]
async fn deep_nesting_compiles_or_fails_in_its_own_process() {
    let depth = 20_000;
    let blocks = [&[0][..], &[0x02, 0x40].repeat(depth), &[0x0b].repeat(depth + 1)].concat();
    match explode(job(body(&blocks))).await {
        Ok(ended) => assert_eq!(ended.outcome, Outcome::Exited(0)),
        Err(error) => assert!(matches!(error, RunError::Declined(_) | RunError::HostFailed(_)), "{error}"),
    }
}

#[tokio::test]
async fn a_million_functions_and_one_of_7_mb_are_not_compiled() {
    refused(functions(1_000_000), "functions").await;
    let nops = [&[0][..], &[0x01].repeat(7 << 20), &[0x0b]].concat();
    refused(body(&nops), "bytes in one function").await;
}

#[test]
fn the_bombs_are_modules() {
    assert!(binary(program("").as_bytes()).starts_with(b"\0asm"));
    assert!(body(&[0, 0x0b]).starts_with(b"\0asm"));
}
