//! What operators do not want, and how its requester hears of it.

use std::path::Path;

use serde_json::Value;

use crate::docker::engine::image;
use crate::support::{Daemon, command, executions, module, refused, run, text, until};
const DOCKER: [&str; 2] = ["--executors", "wasm,docker"];

/// One node that asks, and others that choose.
struct Market {
    asker: Daemon,
    workers: Vec<Daemon>,
    module: String,
    dir: tempfile::TempDir,
}

impl Market {
    /// Starts the asker with `options`, and workers with what `choose` makes of its id.
    fn start(options: &[&str], choose: impl FnOnce(&str) -> Vec<Vec<String>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let asker = Daemon::start(&dir.path().join("asker"), options);
        let join = ["--join".to_owned(), asker.ticket.clone()];
        let start = |(index, options): (usize, Vec<String>)| {
            let options: Vec<&str> = join.iter().chain(&options).map(String::as_str).collect();
            Daemon::start(&dir.path().join(index.to_string()), &options)
        };
        let workers: Vec<Daemon> = choose(&asker.id).into_iter().enumerate().map(start).collect();
        asker.connected(workers.len());
        let module = module(dir.path(), "m.wasm", "(module (func (export \"_start\")))");
        Self { asker, workers, module, dir }
    }

    /// Runs a command of the asker, and returns the job as it ended.
    fn job(&self, arguments: &[&str]) -> Value {
        let ran = self.asker.run(&[&["--format", "json"], arguments].concat());
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&ran)))
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }
}

fn words(options: &[&str]) -> Vec<String> {
    options.iter().map(|&option| option.to_owned()).collect()
}

fn reason(job: &Value) -> &str {
    job["StateReason"].as_str().unwrap_or_default()
}

fn contains(reason: &str, expected: &[&str]) {
    expected.iter().for_each(|words| assert!(reason.contains(words), "{words:?} is missing in: {reason}"));
}

#[test]
fn each_refusal_reaches_the_requester_and_is_counted() {
    let market = Market::start(&["--executors", "none"], |asker| {
        vec![
            words(&["--block-requester", asker]),
            words(&["--allow-requester", &"ab".repeat(32)]),
            words(&["--reject-stateless"]),
            words(&["--probe-exec", "echo 'not on' >/dev/stdout; echo sundays; exit 1"]),
            words(&["--probe-exec", "sleep 1000"]),
            // Nobody listens on port 1.
            words(&["--probe-http", "http://127.0.0.1:1/"]),
        ]
    });
    let job = market.job(&["wasm", "run", "--executions", "1", &market.module]);
    assert_eq!(job["State"], "Failed", "{job:#}");
    let expected = [
        "2 peers: its operator does not allow jobs of this requester",
        "1 peer: its operator allows no jobs without inputs",
        "1 peer: its operator refuses: \"not on sundays\"",
        "2 peers: its operator refuses: \"its operator's probe does not answer\"",
    ];
    contains(reason(&job), &expected);
    // Asked once each, and none of them is thought worse of.
    let mut asked: Vec<Value> = executions(&job).iter().map(|execution| execution["PeerID"].clone()).collect();
    asked.sort_by_key(Value::to_string);
    asked.dedup();
    assert_eq!((asked.len(), executions(&job).len()), (3, 3), "{job:#}");
    let id = job["JobID"].as_str().unwrap();
    for command in [["job", "describe", id], ["job", "history", id]] {
        contains(&text(&market.asker.run(&command)), &["not on sundays", "does not allow jobs of this requester"]);
    }
    let hangs = market.workers[4].log();
    assert_eq!(hangs.matches("the probe does not answer").count(), 1, "{hangs}");
    assert!(hangs.contains("has not answered within"), "{hangs}");
}

#[test]
fn a_node_whose_inputs_must_be_there_runs_a_job_once_they_are() {
    let market = Market::start(&["--executors", "none"], |_| vec![words(&["--locality", "local"])]);
    let input = format!("{}:/in", market.file("data", "some data"));
    let command = ["wasm", "run", "--executions", "1", "-i", &input, &market.module];
    let far = market.job(&command);
    assert_eq!(far["State"], "Failed", "{far:#}");
    contains(reason(&far), &["1 peer: its operator allows only jobs whose inputs it already has"]);
    market.workers[0].json(&["blob", "add", &market.file("data", "some data")]);
    let near = market.job(&command);
    assert_eq!(near["State"], "Completed", "a module is no data: {near:#}");
    let stateless = market.job(&["wasm", "run", "--executions", "1", &market.module]);
    assert_eq!(stateless["State"], "Completed", "{stateless:#}");
}

#[test]
fn images_are_chosen_by_their_names_and_probes_see_the_job() {
    let (Some(good), Some(bad)) = (image("admission-good", &["ENV A=1"]), image("admission-bad", &["ENV A=2"])) else {
        return;
    };
    let (repository, _) = good.rsplit_once(':').unwrap_or((&good, ""));
    let allow = format!("{repository}:*");
    let seen = tempfile::NamedTempFile::new().unwrap();
    let probe = format!("cat >{}", seen.path().display());
    let market = Market::start(&DOCKER, |_| {
        // The asker has no such label, so it runs none of it itself.
        let options = ["--allow-image", &allow, "--deny-image", &bad, "--probe-exec", &probe, "--label", "role=worker"];
        vec![words(&[&DOCKER[..], &options].concat())]
    });
    let refused = market.job(&["docker", "run", "--constraints", "role=worker", &bad, "true"]);
    assert_eq!(refused["State"], "Failed", "{refused:#}");
    contains(reason(&refused), &["1 peer: its operator does not allow image", &bad]);
    assert_eq!(std::fs::read(seen.path()).unwrap(), b"", "no probe is asked about what is refused at once");

    let done = market.job(&["docker", "run", "-e", "KEY=value", &good, "sh", "-c", "exit 0"]);
    assert_eq!(done["State"], "Completed", "{done:#}");
    let told: Value = serde_json::from_slice(&std::fs::read(seen.path()).unwrap()).unwrap();
    let task = &told["Job"]["Tasks"][0];
    assert_eq!(
        (&told["RequesterID"], &told["NodeID"]),
        (&market.asker.id.as_str().into(), &market.workers[0].id.as_str().into())
    );
    assert_eq!((&told["Job"]["ID"], &task["Env"]["KEY"]), (&done["JobID"], &"value".into()));
    assert_eq!(task["Engine"]["Params"]["Parameters"], serde_json::json!(["sh", "-c", "exit 0"]));
    assert!(task["Engine"]["Params"]["Image"].as_str().unwrap().starts_with(repository), "{task:#}");
    let info = market.workers[0].json(&["node", "info"]);
    assert_eq!(info["Admission"]["AllowImages"][0], allow.as_str(), "{info:#}");
    assert_eq!(info["Admission"]["ProbeExec"], probe.as_str(), "{info:#}");
    assert_eq!(market.asker.json(&["node", "info"])["Admission"], Value::Null);
}

#[test]
fn a_nodes_own_jobs_run_whatever_it_allows_others() {
    let dir = tempfile::tempdir().unwrap();
    let module = module(dir.path(), "m.wasm", "(module (func (export \"_start\")))");
    let alone = command(&dir.path().join("none"))
        .envs([("SHOAL_PROBE_EXEC", "exit 1"), ("SHOAL_REJECT_STATELESS", "true"), ("SHOAL_LOCALITY", "local")])
        .args(["wasm", "run", "--executions", "1", &module])
        .output()
        .unwrap();
    assert!(alone.status.success(), "{}", text(&alone));
}

#[test]
fn a_url_is_asked_too_and_may_accept() {
    let url = probe();
    let market = Market::start(&["--executors", "none"], |_| vec![words(&["--probe-http", &url])]);
    let job = market.job(&["wasm", "run", "--executions", "1", &market.module, "yes"]);
    assert_eq!(job["State"], "Completed", "{job:#}");
    let job = market.job(&["wasm", "run", "--executions", "1", &market.module, "no"]);
    contains(reason(&job), &["1 peer: its operator refuses: \"no is no\""]);
}

/// The URL of a probe that accepts what does not say no.
fn probe() -> String {
    use std::io::{BufRead, BufReader, Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ask", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let line = line.trim().to_ascii_lowercase();
                length = line.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let told: Value = serde_json::from_slice(&body).unwrap();
            let says_no = told["Job"]["Tasks"][0]["Engine"]["Params"]["Parameters"][0] == "no";
            let answer = match says_no {
                true => "HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\nConnection: close\r\n\r\nno is no",
                false => "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
            };
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn wrong_choices_are_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let table: [(&[&str], &[&str]); 5] = [
        (&["--allow-image", "Busy Box"], &["allow_images", "\"Busy Box\"", "NAME[:TAG]"]),
        (&["--block-requester", "ann"], &["block_requesters", "\"ann\"", "64 hex digits"]),
        (&["--locality", "near"], &["locality", "anywhere or local"]),
        (&["--probe-http", "ftp://x/"], &["probe_http", "write http://"]),
        (&["--probe-http", "http://a:secret@x/"], &["probe_http", "password"]),
    ];
    for (options, expected) in table {
        let data: &Path = &dir.path().join("node");
        refused(&run(data, &[&["node", "--listen", "127.0.0.1:0"], options].concat()), expected);
    }
}

#[test]
fn the_settings_come_from_the_file_and_the_environment_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("node");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("config.toml"), "deny_images = ['ghcr.io/*']\nlocality = 'local'\n").unwrap();
    let environment = [("SHOAL_ALLOW_IMAGES", "busybox:*,alpine"), ("SHOAL_REJECT_STATELESS", "true")];
    let node = Daemon::start_with(&data, &["--locality", "anywhere"], &environment);
    let info = until("it says what it takes", || Some(node.json(&["node", "info"])["Admission"].clone()));
    let expected = serde_json::json!({
        "AllowImages": ["busybox:*", "alpine"],
        "DenyImages": ["ghcr.io/*"],
        "RejectStateless": true,
    });
    assert_eq!(info, expected);
}
