//! Every example, and the guests of the other tests, on other hosts and made into machine code in other ways: each
//! gives the same result, makes the same calls and uses the same fuel.
//!
//! A host is a process of this binary in another state. Winch, Pulley and the like take the place of the engine in
//! debug builds if `SHOAL_TEST_CODE` says so.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use shoal_executors::{WasmConfig, WasmExecutor};
use shoal_protocol::limits::{DEFAULT_FUEL, DEFAULT_OUTPUT_BYTES};
use shoal_protocol::task::{Limits, Outcome};
use support::{Job, ended, has_program, job};

/// The folder of compiled modules, in a process that is a host.
const CACHE: &str = "SHOAL_HOSTS_CACHE";
/// Such a process gets inputs of another order, other times and modes.
const SHUFFLED: &str = "SHOAL_HOSTS_SHUFFLED";
/// Such a process runs all programs side by side, so often each.
const LOAD: &str = "SHOAL_HOSTS_LOAD";
/// Names how machine code is made, in a debug build.
const CODE: &str = "SHOAL_TEST_CODE";
/// How a line begins that tells what came of a program.
const CAME: &str = "CAME ";

/// Where programs find what they read.
struct Inputs {
    folder: tempfile::TempDir,
}

impl Inputs {
    fn new(shuffled: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let inputs = Self { folder };
        for name in ["wordcount", "seam-carving", "component"] {
            copy(&example(name).join("inputs"), &inputs.of(name), shuffled);
        }
        std::fs::create_dir_all(inputs.of("files").join("below")).expect("a folder");
        std::fs::write(inputs.of("files").join("file"), "content of file\n").expect("an input");
        std::fs::write(inputs.of("files").join("below/deep"), "deep").expect("an input");
        for (result, areas) in [("a", "circle 3.14\nsquare 1\n"), ("b", "square 1\ncircle 3.13\n")] {
            std::fs::create_dir_all(inputs.of(result).join("out")).expect("a folder");
            std::fs::write(inputs.of(result).join("out/areas.txt"), areas).expect("an input");
        }
        inputs
    }

    fn of(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Copies the files of a folder; shuffled ones in another order, with other times and modes.
fn copy(from: &Path, to: &Path, shuffled: bool) {
    std::fs::create_dir_all(to).expect("a folder");
    let entries = std::fs::read_dir(from).expect("inputs");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    if shuffled {
        names.reverse();
    }
    for (age, name) in (1..).zip(names) {
        let to = to.join(&name);
        std::fs::copy(from.join(name), &to).expect("a copy");
        if shuffled {
            let file = std::fs::File::options().append(true).open(&to).expect("a copy");
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(age)).expect("its time");
            file.set_permissions(PermissionsExt::from_mode(0o400)).expect("its mode");
        }
    }
}

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path)
}

/// Every program by name, with work enough to show something and little enough for an interpreter.
fn programs(inputs: &Inputs) -> BTreeMap<&'static str, Job> {
    let module = |path: &str| job(std::fs::read(example(path)).expect("a built module"));
    let easter = std::fs::read(example("import-module/easter.wasm")).expect("a built module");
    let carving = ["/inputs/rocket.jpg", "/outputs/carved.jpg", "/outputs/seams.jpg", "1"];
    let csv = ["generate", "/outputs/orders.csv", "3000"];
    let questions = ["arguments", "environment", "clock", "sleep", "random", "list=/in", "edit", "escape"];
    let chapters = ["writing", "names", "links", "inputs", "folders", "streams"];
    let guest =
        |bytes: &[u8]| job(bytes).environment("KEY", "a=b").input("/in", inputs.of("files")).result("out", "/out");
    let programs = [
        ("assemblyscript", module("assemblyscript/mandelbrot.wasm").arguments(&["40", "-0.75", "0", "3.2"])),
        ("cat", module("cat/cat.wasm").input("/poem", example("cat/expected/stdout")).arguments(&["/poem"])),
        (
            "component",
            module("component/distances.wasm")
                .input("/inputs", inputs.of("component"))
                .arguments(&["/inputs/zones.tab", "/outputs/nearest.tsv"]),
        ),
        ("csv", module("csv/csv.wasm").arguments(&csv)),
        (
            "docker-validator",
            module("docker-validator/close.wasm").input("/a", inputs.of("a")).input("/b", inputs.of("b")),
        ),
        ("fails", module("fails/fails.wasm")),
        ("import-module", module("import-module/holidays.wasm").import("easter", easter).arguments(&["2026", "2027"])),
        (
            "seam-carving",
            module("seam-carving/seam-carving.wasm").input("/inputs", inputs.of("seam-carving")).arguments(&carving),
        ),
        ("wordcount", module("wordcount/wordcount.wasm").input("/inputs", inputs.of("wordcount"))),
        ("files guest", guest(include_bytes!("guests/files.wasm")).arguments(&chapters)),
        ("files component", guest(include_bytes!("guests/files-component.wasm")).arguments(&chapters)),
        ("probe guest", guest(include_bytes!("guests/probe.wasm")).arguments(&questions)),
        ("probe component", guest(include_bytes!("guests/probe-component.wasm")).arguments(&questions)),
        ("report guest", guest(include_bytes!("guests/report.wasm"))),
        ("report component", guest(include_bytes!("guests/report-component.wasm"))),
        ("report in C", guest(include_bytes!("guests/probe-c.wasm"))),
    ];
    let roomy = Limits { memory_bytes: 256_000_000, fuel: DEFAULT_FUEL, output_bytes: DEFAULT_OUTPUT_BYTES };
    programs
        .into_iter()
        .map(|(name, job)| (name, job.result("outputs", "/outputs").limits(|limits| *limits = roomy)))
        .collect()
}

#[test]
fn every_example_is_among_the_programs() {
    let inputs = Inputs::new(false);
    let programs = programs(&inputs);
    for entry in std::fs::read_dir(example("")).expect("the examples") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        if !has_program(&entry.path()) {
            continue;
        }
        assert!(programs.contains_key(name.to_str().expect("a name")), "{} is not run here", name.display());
    }
}

/// What came of a program, in a line: a hash of its result, its calls, and its fuel unless it trapped.
async fn came(executor: &WasmExecutor, name: &str, job: Job) -> String {
    let work = tempfile::tempdir().expect("a folder");
    let finished = job.run_in(executor, work.path()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    let result = ended(&finished);
    let fuel = if let Outcome::Exited(_) = result.outcome { finished.fuel_used } else { 0 };
    let hash = blake3::hash(format!("{result:?} {:?}", finished.calls).as_bytes());
    format!("{name}: {:?} {} {} calls {fuel} fuel", result.outcome, hash.to_hex(), finished.calls.count)
}

/// What a process does that is a host: a line for each program.
#[test]
fn host() {
    let Some(cache) = std::env::var_os(CACHE) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let inputs = Inputs::new(std::env::var_os(SHUFFLED).is_some());
    let times = std::env::var(LOAD).map_or(1, |times| times.parse().expect("a number"));
    let executor = Arc::new(
        WasmExecutor::new(WasmConfig { cache_dir: Some(cache.into()), ..WasmConfig::default() }).expect("an executor"),
    );
    let mut runs = Vec::new();
    for _ in 0..times {
        for (name, job) in programs(&inputs) {
            let executor = Arc::clone(&executor);
            let run = async move { came(&executor, name, job).await };
            match times {
                1 => println!("{CAME}{}", runtime.block_on(run)),
                _ => runs.push(runtime.spawn(run)),
            }
        }
    }
    for run in runs {
        println!("{CAME}{}", runtime.block_on(run).expect("a run"));
    }
}

/// What came of the programs on a host that a shell prepares.
fn on_host(cache: &Path, preparation: &str, variables: &[(&str, &str)]) -> BTreeSet<String> {
    let exe = std::env::current_exe().expect("this program");
    let script = format!("{preparation} \"$0\" --exact host --nocapture");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(exe).env(CACHE, cache).envs(variables.iter().copied()).stdin(Stdio::null());
    let output = command.output().expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    let came = text.lines().filter_map(|line| line.split_once(CAME)).map(|(_, came)| came.to_owned()).collect();
    let why = format!("{preparation} {variables:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{why}");
    came
}

#[test]
fn no_state_of_the_host_shows_in_any_result() {
    let cache = tempfile::tempdir().expect("a folder");
    // Compiled, then read from the cache folder.
    let expected = on_host(cache.path(), "exec", &[]);
    assert_eq!(on_host(cache.path(), "exec", &[]), expected, "a warm cache");
    let elsewhere = [("TZ", "Asia/Kathmandu"), ("LC_ALL", "tr_TR.UTF-8"), ("HOSTNAME", "other"), (SHUFFLED, "1")];
    for (preparation, variables) in [
        ("umask 077; cd /; exec", &elsewhere[..]),
        // Too few addresses for a pool of instances, and few descriptors.
        ("ulimit -v 40000000; ulimit -n 200; exec", &[]),
        ("exec", &[(LOAD, "3")]),
    ] {
        assert_eq!(on_host(cache.path(), preparation, variables), expected, "{preparation} {variables:?}");
    }
    on_another_day(cache.path(), &expected);
}

/// Another clock, where there is a library for that.
fn on_another_day(cache: &Path, expected: &BTreeSet<String>) {
    let faketime = Command::new("faketime").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !faketime.is_ok_and(|status| status.success()) {
        skipped("another clock: faketime is not installed");
        return;
    }
    // The clock that only runs forward stays: what waits by it would never wake.
    let date = on_host(cache, "exec faketime -f '+3333d x2'", &[("FAKETIME_DONT_FAKE_MONOTONIC", "1")]);
    assert_eq!(&date, expected, "another clock");
}

#[test]
fn no_way_of_making_machine_code_shows_in_any_result() {
    if !cfg!(debug_assertions) {
        skipped("the ways of making machine code: this is no debug build");
        return;
    }
    let cache = tempfile::tempdir().expect("a folder");
    let expected = on_host(cache.path(), "exec", &[]);
    for code in ["baseline", "unoptimised", "winch", "pulley"] {
        assert_eq!(on_host(cache.path(), "exec", &[(CODE, code)]), expected, "{code}");
    }
}

/// Says why something was not tested, past the test runner, which shows only what failing tests print.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
