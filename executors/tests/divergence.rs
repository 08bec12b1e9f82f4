//! Where two runs part: the first host call that differs, and the first checkpoint whose memory does.

mod support;

use std::path::Path;

use shoal_executors::{WasmConfig, WasmExecutor};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::{Account, Claim};
use shoal_protocol::trace::{Finding, Rerun, Search, TraceRequest};
use support::*;

/// A program that counts, and keeps its count in memory: the same fuel whatever `wrong` is. At the count of `wrong` it
/// keeps something else beside it, as an engine with a mistake might.
fn counting(wrong: u32) -> Vec<u8> {
    let text = format!(
        r#"(module (memory (export "memory") 1)
            (func $count (param $i i32)
                (i32.store (i32.const 8) (local.get $i))
                (i32.store (i32.const 16)
                    (i32.or (i32.load (i32.const 16)) (i32.eq (local.get $i) (i32.const {wrong})))))
            (func (export "_start") (local $i i32)
                (loop
                    (call $count (local.get $i))
                    (local.set $i (i32.add (local.get $i) (i32.const 1)))
                    (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000000))))))"#
    );
    text.into_bytes()
}

async fn rerun(executor: &WasmExecutor, job: &Job, request: TraceRequest) -> Rerun {
    let work = tempfile::tempdir().unwrap();
    let job = Job { trace: Some(request), ..job.clone() };
    let finished = job.run_in(executor, work.path()).await.unwrap();
    let account = Account {
        fuel: finished.fuel_used,
        memory_bytes: finished.peak_memory_bytes,
        calls: finished.calls.count,
        inputs: Vec::new(),
        calls_digest: finished.calls.digest,
        backtrace: String::new(),
    };
    let claim = Claim { outcome: finished.outcome, result: BlobHash([0; 32]) };
    Rerun { claim, account, trace: finished.trace.expect("it was asked for") }
}

/// What was found, and both runs that describe it.
async fn parting(ours: &Job, theirs: &Job) -> (Search, Rerun, Rerun) {
    let executor = WasmExecutor::new(WasmConfig::default()).unwrap();
    let first = rerun(&executor, ours, TraceRequest::NOTHING).await;
    let mut search = Search::new(first.account.calls, first.trace.checkpoints_passed, first.account.memory_bytes);
    loop {
        let (request, described) = (search.request(), search.is_over());
        let (our, their) = (rerun(&executor, ours, request).await, rerun(&executor, theirs, request).await);
        if described {
            return (search, our, their);
        }
        search.compare(&our, &their);
    }
}

fn reading(folder: &Path, word: &str) -> Job {
    std::fs::write(folder.join("file"), word).unwrap();
    job(include_bytes!("guests/probe.wasm")).input("/in", folder).arguments(&["clock", "list=/in", "read=/in/file"])
}

#[tokio::test]
async fn the_first_call_that_differs_is_found_and_described() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (reading(folder.path(), "one"), reading(other.path(), "two"));
    let (search, ours, theirs) = parting(&one, &two).await;
    assert!(matches!(search.calls, Finding::First(_)), "{search:?}");
    let (our, their) = (ours.trace.call.unwrap(), theirs.trace.call.unwrap());
    assert!(our.starts_with("fd_read(fd: 4,") && our.contains(r#""one""#) && our.ends_with("= 0"), "{our}");
    assert!(their.contains(r#""two""#), "{their}");
}

#[tokio::test]
async fn the_first_checkpoint_whose_memory_differs_is_found_and_described() {
    let wrong = 700_000;
    let (search, ours, theirs) = parting(&job(counting(u32::MAX)), &job(counting(wrong))).await;
    assert_eq!(search.calls, Finding::Same);
    assert!(matches!(search.checkpoints, Finding::First(_)), "{search:?}");
    let (our, their) = (ours.trace.checkpoint.unwrap(), theirs.trace.checkpoint.unwrap());
    assert_eq!(our, their, "they are at the same place");
    let expected = f64::from(wrong) / 1e6 * ours.account.fuel as f64;
    let after = our.fuel as f64 - expected;
    // At the end of the slice in which it happens; slices are a little longer than their 100,000 units.
    assert!((0.0..110_000.0).contains(&after), "{expected} fuel, found at {}", our.fuel);
    assert_eq!((our.calls, our.memory_bytes), (0, 1 << 16));
    assert!(our.backtrace.contains("function 1"), "{}", our.backtrace);
}

#[tokio::test]
async fn equal_runs_have_no_difference_and_a_trace_changes_nothing() {
    let job = job(counting(5));
    let (search, ours, theirs) = parting(&job, &job).await;
    assert_eq!((search.calls, search.checkpoints), (Finding::Same, Finding::Same));
    assert_eq!(ours, theirs);
    assert!(ours.trace.checkpoints_passed > 50, "{:?}", ours.trace);
    let (executor, work) = (WasmExecutor::new(WasmConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let plain = job.run_in(&executor, work.path()).await.unwrap();
    assert_eq!((plain.fuel_used, plain.calls.digest), (ours.account.fuel, ours.account.calls_digest));
}
