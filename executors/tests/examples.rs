//! Every example's module, with its input, gives what stands beside it.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use shoal_protocol::task::Outcome;
use support::{Ended, Job, job};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn module(name: &str) -> Job {
    job(std::fs::read(example(name).join(name).with_extension("wasm")).expect("a built module"))
}

/// What stands in an example's `expected` folder, laid out as `job get` does; one file as result.
fn expected(name: &str, result: &str) -> Ended {
    let read = |file: &str| std::fs::read_to_string(example(name).join("expected").join(file)).expect("an expectation");
    let results = BTreeMap::from([("outputs/".to_owned(), vec![]), (result.to_owned(), read(result).into_bytes())]);
    let code = read("exitCode").trim().parse().expect("an exit code");
    Ended { outcome: Outcome::Exited(code), stdout: read("stdout"), stderr: read("stderr"), results }
}

#[tokio::test]
async fn wordcount_counts_its_input() {
    let inputs = example("wordcount/inputs");
    let ended = module("wordcount").input("/inputs", inputs).result("outputs", "/outputs").vote().await;
    assert_eq!(ended, expected("wordcount", "outputs/counts.tsv"));
}

#[tokio::test]
async fn wordcount_has_a_mebibyte_of_input() {
    let files = std::fs::read_dir(example("wordcount/inputs")).expect("inputs");
    let bytes: u64 = files.map(|file| file.expect("an entry").metadata().expect("its size").len()).sum();
    assert!(bytes >= 1 << 20, "{bytes} bytes");
}

#[tokio::test]
async fn fails_fails_as_it_says() {
    let ended = module("fails").result("outputs", "/outputs").vote().await;
    assert_eq!(ended, expected("fails", "outputs/partial.txt"));
}
