//! Validators as their authors get them wrong, and as strangers would want them.

use std::net::SocketAddr;

use shoal_protocol::id::ExecutionId;
use shoal_protocol::machine::Unfit;
use shoal_protocol::task::Claim;
use shoal_store::blobs::{ResultFiles, ResultPart};

use super::*;
use crate::comparing::Comparing;
use crate::config::{Loaded, Settings};
use crate::node::Node;

const JOB: JobId = JobId([1; 16]);

/// A node, and what it asks validators with.
struct Home {
    node: Node,
    validators: Validators,
    dir: tempfile::TempDir,
}

impl Home {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Settings { listen: Some(loopback), join: Some(Vec::new()), ..Settings::default() };
        let mut loaded = Loaded::new(&dir.path().join("node"), settings).unwrap();
        loaded.config.loopback_only = true;
        let node = Box::pin(Node::start(loaded.config)).await.unwrap();
        let (blobs, network, executor) = (
            node.blobs().clone(),
            node.network().clone(),
            Arc::<shoal_executors::WasmExecutor>::clone(&node.0.executor),
        );
        let mut validators = Validators::new(blobs, network, executor, dir.path().join("work"));
        validators.limits.fuel = 10_000_000;
        Self { node, validators, dir }
    }

    async fn result(&self, stdout: &'static str) -> BlobHash {
        let (stdout, stderr) = (ResultPart::Bytes(stdout.into()), ResultPart::Bytes("".into()));
        let made = self.node.blobs().collect(ResultFiles::new(0, stdout, stderr)).await.unwrap();
        made.content.hash
    }

    /// What a validator says of results that printed this.
    async fn asked(&self, validator: &str, printed: [&'static str; 2]) -> Result<Comparison, Unvalidated> {
        let module = self.node.blobs().add_bytes(wat::parse_str(validator).unwrap()).await.unwrap();
        let mut pair = Vec::new();
        for (number, printed) in (0..).zip(printed) {
            let (execution, worker) = (ExecutionId([number; 16]), self.node.peer_id());
            pair.push(Ballot { execution, worker, result: self.result(printed).await });
        }
        let pair = pair.try_into().unwrap();
        let question = Question { validator: module.content.hash, compare: Compare::All, max_bytes: 1 << 20, pair };
        let said = self.validators.ask((JOB, 0), question, self.validators.begin(JOB)).await;
        assert_eq!(std::fs::read_dir(self.dir.path().join("work")).map_or(0, Iterator::count), 0, "no folder stays");
        said
    }
}

/// A validator that exits with `code`, an expression of the first bytes that two results printed, `$a` and `$b`.
fn compares(code: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "path_open"
                (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\01\00\00\00")
            (data (i32.const 32) "a/stdoutb/stdout")
            (func $first (param $name i32) (result i32)
                (i32.store8 (i32.const 16) (i32.const 0))
                (drop (call $open (i32.const 3) (i32.const 0) (local.get $name) (i32.const 8) (i32.const 0)
                    (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
                (drop (call $read (i32.load (i32.const 64)) (i32.const 0) (i32.const 1) (i32.const 68)))
                (i32.load8_u (i32.const 16)))
            (func (export "_start") (local $a i32) (local $b i32)
                (local.set $a (call $first (i32.const 32)))
                (local.set $b (call $first (i32.const 40)))
                (call $exit {code})))"#
    )
}

#[tokio::test]
async fn two_results_agree_if_the_validator_says_so_whichever_comes_first() {
    let home = Home::new().await;
    let near = compares(
        "(i32.gt_u (i32.mul (i32.sub (local.get $a) (local.get $b)) (i32.sub (local.get $a) (local.get $b))) (i32.const 1))",
    );
    let agree = async |validator: &str, printed| home.asked(validator, printed).await.map(|said| said.agree);
    assert_eq!(agree(&near, ["5", "6"]).await, Ok(true));
    assert_eq!(agree(&near, ["6", "5"]).await, Ok(true));
    assert_eq!(agree(&near, ["5", "7"]).await, Ok(false));
    let one_way = compares("(i32.gt_u (local.get $a) (local.get $b))");
    assert_eq!(agree(&one_way, ["5", "6"]).await, Ok(false), "it does not agree with itself");
    assert_eq!(agree(&one_way, ["6", "5"]).await, Ok(false));
    assert_eq!(agree(&one_way, ["5", "5"]).await, Ok(true));
    home.node.shutdown().await;
}

#[tokio::test]
async fn a_validator_that_says_nothing_is_told_from_one_that_says_no() {
    let home = Home::new().await;
    let table = [
        (compares("(i32.const 2)"), "exited with code 2, and neither 0"),
        (compares("(unreachable)"), "trapped: unreachable"),
        (compares("(loop $again (br $again)) (i32.const 0)"), "fuel limit reached"),
        (r#"(module (memory 65536) (func (export "_start")))"#.into(), "could not be instantiated"),
        (r#"(module (func (export "other")))"#.into(), "could not be instantiated"),
    ];
    for (validator, words) in table {
        match home.asked(&validator, ["5", "6"]).await {
            Err(Unvalidated::Validator(why)) => assert!(why.contains(words), "{words}: {why}"),
            other => panic!("{words}: {other:?}"),
        }
    }
    home.node.shutdown().await;
}

#[tokio::test]
async fn a_result_that_is_not_what_it_was_said_to_be_is_a_lie_and_one_that_is_away_is_not() {
    let home = Home::new().await;
    let comparing = Comparing { blobs: home.node.blobs().clone(), network: home.node.network().clone() };
    let examine = async |result, code| {
        let claim = Claim { outcome: Outcome::Exited(code), result };
        comparing.examine(home.node.peer_id(), claim, &Compare::Part("stdout".into())).await
    };
    let (five, six) = (home.result("5").await, home.result("6").await);
    assert!(examine(five, 0).await.is_ok_and(|part| part != five));
    assert_ne!(examine(five, 0).await, examine(six, 0).await);
    assert!(matches!(examine(five, 1).await, Err(Unfit::False(why)) if why.contains("exitCode")));
    let no_folder = home.node.blobs().add_bytes("no list of hashes").await.unwrap();
    assert!(matches!(examine(no_folder.content.hash, 0).await, Err(Unfit::False(_))));
    assert!(matches!(examine(BlobHash([9; 32]), 0).await, Err(Unfit::Missing(_))));
    home.node.shutdown().await;
}
