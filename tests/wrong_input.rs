//! Wrong input: an error that names the thing, the reason and what to do; exit status 2; nothing left behind.

use std::path::Path;

use serde_json::Value;
use shoal::network::ticket::Ticket;
use shoal_protocol::time::Time;

use crate::support::{Daemon, Mesh, example, module, refused, run, run_with_input};

const NOBODY_HAS: &str = "00000000000000000000000000000000000000000000000000000000000000aa";

/// A valid job around a module, to be broken.
fn spec(module: &str) -> String {
    format!(
        "Name: x\nType: batch\nCount: 1\nTasks:\n  - Name: main\n    Engine:\n      Type: wasm\n      Params: \
         {{EntryModule: main.wasm}}\n    InputSources:\n      - Target: /main.wasm\n        Source: {{Type: \
         localDirectory, Params: {{SourcePath: {module}}}}}\n"
    )
}

struct Alone {
    node: Daemon,
    dir: tempfile::TempDir,
}

impl Alone {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { node: Daemon::start(&dir.path().join("node"), &[]), dir }
    }

    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        refused(&self.node.run(arguments), words);
        self.has_nothing();
    }

    fn refuses_spec(&self, spec: &str, words: &[&str]) {
        for command in ["run", "validate"] {
            refused(&run_with_input(&self.dir.path().join("node"), &["job", command, "-"], spec), words);
        }
        self.has_nothing();
    }

    fn has_nothing(&self) {
        assert_eq!(self.node.json(&["job", "list"]), Value::Array(vec![]), "a refused job leaves nothing behind");
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

#[test]
fn modules_that_cannot_run() {
    let alone = Alone::start();
    let text = alone.path().join("text.wasm");
    std::fs::write(&text, "this is no module").unwrap();
    let foreign = r#"(module (import "env" "launch" (func)) (func (export "_start")))"#;
    let foreign = module(alone.path(), "foreign.wasm", foreign);
    let nothing = module(alone.path(), "nothing.wasm", "(module (func (export \"other\")))");
    alone.refuses(&["wasm", "run", "missing.wasm"], &["missing.wasm"]);
    alone.refuses(&["wasm", "run", text.to_str().unwrap()], &["not a WebAssembly module"]);
    alone.refuses(&["wasm", "run", &foreign], &["env.launch"]);
    alone.refuses(&["wasm", "run", &nothing], &["_start", "other"]);
    alone.refuses(&["wasm", "run", &nothing, "--entry-point", "elsewhere"], &["elsewhere"]);
}

#[test]
fn specifications_that_cannot_run() {
    let alone = Alone::start();
    let good = module(alone.path(), "good.wasm", "(module (func (export \"_start\")))");
    let spec = spec(&good);
    let with = |extra: &str| format!("{spec}{extra}\n");
    alone.refuses_spec(&with("Taks: []"), &["Taks", "Tasks"]);
    alone.refuses_spec(&with("    Resources: {Memory: lots}"), &["Memory", "lots"]);
    alone.refuses_spec(&with("Verification: {Type: quorum, Agreement: 4, Executions: 3}"), &["Agreement", "4", "3"]);
    alone.refuses_spec(&spec.replace(&good, "./nowhere.txt"), &["nowhere.txt"]);
    let container = spec.replace("Type: wasm", "Type: docker").replace("EntryModule", "Image");
    alone.refuses_spec(&container.replace("main.wasm}", "main image}"), &["main image", "busybox:1.37"]);
    alone.refuses_spec(&container.replace("/main.wasm", "/proc/main"), &["/proc/main"]);
    alone.refuses_spec(&with("    Network: {Type: Full}"), &["network"]);
    alone.refuses_spec(&spec.replace("Type: batch", "Type: service"), &["service"]);
    alone.refuses_spec("Name: [", &["line 1"]);
    alone.refuses_spec("", &["Type", "Tasks"]);
    let blob =
        spec.replace("localDirectory", "blob").replace(&format!("SourcePath: {good}"), &format!("Hash: {NOBODY_HAS}"));
    refused(&run_with_input(&alone.path().join("node"), &["job", "run", "-"], &blob), &[NOBODY_HAS]);
    alone.has_nothing();
}

#[test]
fn options_that_make_no_sense() {
    let alone = Alone::start();
    let good = module(alone.path(), "good.wasm", "(module (func (export \"_start\")))");
    alone.refuses(&["wasm", "run", &good, "--agreement", "4", "--executions", "3"], &["4", "3"]);
    alone.refuses(&["wasm", "run", &good, "--memory", "lots"], &["lots"]);
    alone.refuses(&["wasm", "run", &good, "-i", "missing.txt:/in"], &["missing.txt"]);
    alone.refuses(&["wasm", "run", &good, "--nonsense"], &["--nonsense"]);
    alone.refuses(&["docker", "run", "127.0.0.1:1/busybox"], &["image 127.0.0.1:1/busybox", "cannot be reached"]);
    alone.refuses(&["wasm", "run", &good, "--gpu", "1"], &["GPU", "container"]);
}

#[test]
fn ids_and_hashes_that_name_nothing() {
    let mesh = Mesh::start(4);
    let node = &mesh.nodes[0];
    refused(&node.run(&["job", "describe", "j-ffffffffffffffffffffffffffffffff"]), &["j-ffff"]);
    refused(&node.run(&["job", "describe", "nonsense"]), &["nonsense"]);
    refused(&node.run(&["job", "get", "j-0000"]), &["j-0000"]);
    refused(&node.run(&["blob", "get", NOBODY_HAS]), &[NOBODY_HAS]);
    refused(&node.run(&["blob", "get", "not-a-hash"]), &["not-a-hash"]);
    // Seventeen jobs cannot all differ in their first digit.
    for _ in 0..17 {
        node.submit(&["job", "run", &example("fails/job.yaml")]);
    }
    let jobs = node.json(&["job", "list", "--limit", "100"]);
    let first = |job: &Value| job["JobID"].as_str().unwrap()[..3].to_owned();
    let mut digits: Vec<String> = jobs.as_array().unwrap().iter().map(first).collect();
    digits.sort();
    let shared = digits.windows(2).find(|pair| pair[0] == pair[1]).expect("two ids begin alike")[0].clone();
    refused(&node.run(&["job", "describe", &shared]), &[&shared, "several"]);
}

#[test]
fn a_ticket_that_has_expired_does_not_matter_beside_a_good_one() {
    let mesh = Mesh::start(1);
    let good: Ticket = mesh.nodes[0].ticket.parse().unwrap();
    let expired = Ticket { expires: Some(Time(1)), ..good.clone() }.to_string();
    let dir = mesh.dir.path().join("other");
    refused(&run(&dir, &["node", "--join", &expired]), &["expired at 1970-01-01", "ask for another"]);
    let node = Daemon::start(&dir, &["--join", &expired, "--join", &good.to_string()]);
    node.connected(1);
    assert!(node.log().contains("a ticket has expired, and is not used"), "{}", node.log());
}

#[test]
fn tickets_and_apis_that_lead_nowhere() {
    let mesh = Mesh::start(1);
    let dir = mesh.dir.path().join("other");
    refused(&run(&dir, &["node", "--join", "gibberish"]), &["gibberish"]);
    let twice = [&mesh.nodes[0].ticket[..]; 2].join(" ");
    refused(&run(&dir, &["node", "--join", &twice]), &["' '", "the one word"]);
    let empty = mesh.dir.path().join("invitation.txt");
    std::fs::write(&empty, "").unwrap();
    refused(&run(&dir, &["node", "--join", empty.to_str().unwrap()]), &["invitation.txt", "holds no ticket"]);
    refused(&run(&dir, &["relay", "--listen", "3340"]), &["\"3340\"", "IP:PORT"]);
    let other = ["node", "--mesh", "elsewhere", "--join", &mesh.nodes[0].ticket];
    refused(&run(&dir, &other), &["elsewhere", "public"]);
    refused(&run(&dir, &["--api", "http://127.0.0.1:9", "job", "list"]), &["http://127.0.0.1:9"]);
    refused(&run(&dir, &["job", "list"]), &["shoal node"]);
}
