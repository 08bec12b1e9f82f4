//! Every example's module, with its input, gives what stands beside it.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use shoal_executors::{WasmConfig, WasmExecutor};
use shoal_protocol::limits::{DEFAULT_FUEL, DEFAULT_OUTPUT_BYTES};
use shoal_protocol::task::{Limits, Outcome};
use support::{Ended, Job, has_program, job, read_tree};

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path)
}

fn module(path: &str) -> Job {
    job(std::fs::read(example(path)).expect("a built module"))
}

/// What stands in an example's `expected` folder, laid out as `job get` does.
fn expected(name: &str) -> Ended {
    let folder = example(name).join("expected");
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).expect("an expectation");
    let code = read("exitCode").trim().parse().expect("an exit code");
    let mut results = BTreeMap::new();
    if folder.join("outputs").exists() {
        read_tree("outputs", &folder.join("outputs"), &mut results);
    }
    Ended { outcome: Outcome::Exited(code), stdout: read("stdout"), stderr: read("stderr"), results }
}

#[tokio::test]
async fn wordcount_counts_its_input() {
    let inputs = example("wordcount/inputs");
    let job = module("wordcount/wordcount.wasm").input("/inputs", inputs).result("outputs", "/outputs");
    assert_eq!(job.vote().await, expected("wordcount"));
}

#[tokio::test]
async fn wordcount_has_a_mebibyte_of_input() {
    let files = std::fs::read_dir(example("wordcount/inputs")).expect("inputs");
    let bytes: u64 = files.map(|file| file.expect("an entry").metadata().expect("its size").len()).sum();
    assert!(bytes >= 1 << 20, "{bytes} bytes");
}

#[tokio::test]
async fn fails_fails_as_it_says() {
    let ended = module("fails/fails.wasm").result("outputs", "/outputs").vote().await;
    assert_eq!(ended, expected("fails"));
}

#[tokio::test]
async fn cat_prints_a_mounted_file() {
    let poem = example("cat/expected/stdout");
    let job = module("cat/cat.wasm").input("/inputs/poem.txt", poem).arguments(&["/inputs/poem.txt"]);
    assert_eq!(job.vote().await, expected("cat"));
}

#[tokio::test]
async fn cat_says_which_file_is_not_there() {
    let ended = module("cat/cat.wasm").arguments(&["/inputs/none"]).vote().await;
    let stderr = "/inputs/none: No such file or directory\n";
    assert_eq!((ended.outcome, ended.stderr.as_str()), (Outcome::Exited(1), stderr));
}

#[tokio::test]
async fn import_module_asks_the_other_module() {
    let easter = std::fs::read(example("import-module/easter.wasm")).expect("a built module");
    let job = module("import-module/holidays.wasm").import("easter", easter).arguments(&["2026", "2027"]);
    assert_eq!(job.vote().await, expected("import-module"));
}

#[tokio::test]
async fn import_module_is_refused_without_the_other_module() {
    let error = module("import-module/holidays.wasm").check().await.expect_err("a refusal");
    assert!(error.contains("easter.easter"), "{error}");
}

#[tokio::test]
async fn component_measures_the_globe_as_native_code_does() {
    let job = module("component/distances.wasm").input("/inputs", example("component/inputs"));
    let job = job.result("outputs", "/outputs").arguments(&["/inputs/zones.tab", "/outputs/nearest.tsv"]);
    assert_eq!(job.check().await, Ok(()));
    assert_eq!(job.vote().await, expected("component"));
}

#[tokio::test]
async fn seam_carving_writes_the_picture_that_was_looked_at() {
    let job = module("seam-carving/seam-carving.wasm").input("/inputs", example("seam-carving/inputs"));
    let arguments = ["/inputs/rocket.jpg", "/outputs/carved.jpg", "/outputs/seams.jpg", "220"];
    let ended = job.result("outputs", "/outputs").arguments(&arguments).vote().await;
    assert_eq!(ended, expected("seam-carving"));
}

#[tokio::test]
async fn assemblyscript_draws_the_same_set_everywhere() {
    let job = module("assemblyscript/mandelbrot.wasm").arguments(&["96", "-0.75", "0", "3.2"]);
    assert_eq!(job.vote().await, expected("assemblyscript"));
}

#[tokio::test]
async fn csv_adds_up_what_it_has_generated() {
    let executor = WasmExecutor::new(WasmConfig::default()).expect("an executor");
    let data = tempfile::tempdir().expect("a folder");
    let generate = module("csv/csv.wasm").arguments(&["generate", "/data/orders.csv", "1300000"]);
    let generate = generate.result("data", "/data").limits(roomy);
    let generated = generate.run_in(&executor, data.path()).await.expect("a vote");
    assert_eq!(generated.outcome, Outcome::Exited(0));
    let (_, folder) = &generated.outputs.results[0];
    let bytes = std::fs::metadata(folder.join("orders.csv")).expect("a table").len();
    assert!(bytes >= 50 << 20, "{bytes} bytes");
    let aggregate = module("csv/csv.wasm").arguments(&["aggregate", "/inputs", "/outputs/totals.csv"]);
    let aggregate = aggregate.input("/inputs", folder.clone()).result("outputs", "/outputs");
    assert_eq!(aggregate.limits(roomy).run_on(&executor).await.expect("a vote"), expected("csv"));
}

/// What a job gets that asks for 256 MB.
fn roomy(limits: &mut Limits) {
    *limits = Limits { memory_bytes: 256_000_000, fuel: DEFAULT_FUEL, output_bytes: DEFAULT_OUTPUT_BYTES };
}

#[test]
fn every_example_has_its_parts() {
    for entry in std::fs::read_dir(example("")).expect("the examples") {
        let folder = entry.expect("an entry").path();
        let job = std::fs::read_to_string(folder.join("job.yaml")).unwrap_or_default();
        // What has a validator is never the same.
        let expected = if job.contains("Validator:") {
            Default::default()
        } else {
            ["expected/stdout", "expected/stderr", "expected/exitCode"].to_vec()
        };
        let parts = ["job.yaml", "README.md"].into_iter().chain(expected);
        for part in parts.chain(has_program(&folder).then_some("build.sh")) {
            assert!(folder.join(part).is_file(), "{} has no {part}", folder.display());
        }
    }
}
