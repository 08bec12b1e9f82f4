//! Sources that workers read themselves, with `--resolve worker`.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::Value;

use crate::examples::runs_as_expected_with;
use crate::support::{Mesh, example, module, run, text};

/// A web server that answers everything with a text, for as long as the test runs; returns a URL of it.
fn web_server(body: &'static str) -> String {
    serve(move |_| body.to_owned())
}

/// The same, with another text for each request.
fn serve(body: impl Fn(usize) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/data.txt", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (request, connection) in listener.incoming().enumerate() {
            let (body, mut connection) = (body(request), connection.unwrap());
            // A request without a body ends with an empty line; a client may close without asking.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                match connection.read(&mut byte) {
                    Ok(1) => request.extend(byte),
                    _ => break,
                }
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let body = if request.starts_with(b"HEAD") { "" } else { &body };
            let _ = connection.write_all(format!("{head}{body}").as_bytes());
        }
    });
    url
}

#[test]
fn workers_read_for_others_only_what_their_operators_opened() {
    let mesh = Mesh::start(4);
    let cat = example("cat/cat.wasm");
    let job = ["wasm", "run", "--resolve", "worker", "-i", "https://example.org/data.txt:/in.txt", &cat, "/in.txt"];
    let id = mesh.nodes[0].submit(&job);
    let job = mesh.nodes[0].finished(&id);
    let reason = job["StateReason"].as_str().unwrap();
    assert!(reason.contains("3 peers: reads no url sources for others"), "{reason}");
}

#[test]
fn a_worker_reads_no_address_of_its_own_network_for_others() {
    let mesh = Mesh::start_with(4, |_| vec![("SHOAL_SOURCES", "url")]);
    let url = format!("{}:/in.txt", web_server("secret\n"));
    let cat = example("cat/cat.wasm");
    let id = mesh.nodes[0].submit(&["wasm", "run", "--resolve", "worker", "-i", &url, &cat, "/in.txt"]);
    let job = mesh.nodes[0].finished(&id);
    assert_eq!(job["State"], "Failed", "{job:#}");
    let reason = job["StateReason"].as_str().unwrap();
    assert!(reason.contains(" executions failed: input missing: ") && reason.contains("127.0.0.1"), "{reason}");
}

#[test]
fn a_job_says_when_its_workers_read_different_things() {
    let open = [("SHOAL_SOURCES", "url"), ("SHOAL_ALLOW_PRIVATE_ADDRESSES", "true")];
    let mesh = Mesh::start_with(4, |_| open.to_vec());
    let node = &mesh.nodes[0];
    let blind = module(mesh.dir.path(), "blind.wasm", r#"(module (func (export "_start")))"#);
    let url = format!("{}:/in.txt", serve(|request| format!("for the {request}. reader\n")));
    let job = node.json(&["wasm", "run", "--resolve", "worker", "-i", &url, &blind]);
    assert_eq!(job["Verification"]["Verified"], true, "{job:#}");
    assert_eq!(job["Verification"]["InputsDiffer"], true, "{job:#}");
    let described = node.run(&["job", "describe", job["JobID"].as_str().unwrap()]);
    assert!(text(&described).contains("not all read the same"), "{}", text(&described));
}

#[test]
fn the_example_is_read_by_each_worker() {
    let open = [("SHOAL_SOURCES", "url"), ("SHOAL_ALLOW_PRIVATE_ADDRESSES", "true")];
    let mesh = Mesh::start_with(4, |_| open.to_vec());
    let url = web_server(include_str!("../examples/url-input/served/poem.txt")).replace("data.txt", "poem.txt");
    let job = example("resolve-worker/job.yaml");
    runs_as_expected_with(&mesh, "resolve-worker", &[&job, "-V", &format!("url={url}")]);
}

#[test]
fn what_a_worker_read_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("{}:/in", web_server("as it is now\n"));
    let cat = example("cat/cat.wasm");
    let got = dir.path().join("got");
    let arguments = ["--format", "json", "wasm", "run", "--resolve", "worker", "--download", got.to_str().unwrap()];
    let ran = run(&dir.path().join("none"), &[&arguments[..], &["-i", &url, &cat, "/in/data.txt"]].concat());
    assert!(ran.status.success(), "{}", text(&ran));
    assert_eq!(std::fs::read(got.join("stdout")).unwrap(), b"as it is now\n");
    let job: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let input = &job["Inputs"][0];
    assert_eq!((&input["Type"], &input["ReadBy"]), (&"urlDownload".into(), &"worker".into()), "{job:#}");
    assert_eq!(job["Verification"]["ReadByWorkers"], true, "{job:#}");
    assert_eq!(job["Executions"][0]["InputsRead"].as_array().unwrap().len(), 1, "{job:#}");
}

#[test]
fn workers_read_their_own_paths_where_their_operators_allow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.txt");
    std::fs::write(&path, "of the worker\n").unwrap();
    let allowed: &'static str = format!("{}/**:ro", dir.path().display()).leak();
    let mesh = Mesh::start_with(4, |_| vec![("SHOAL_SOURCES", "local"), ("SHOAL_ALLOW_LOCAL_PATHS", allowed)]);
    let (node, cat) = (&mesh.nodes[0], example("cat/cat.wasm"));
    let source = format!("{}:/in.txt", path.display());
    let job = node.json(&["wasm", "run", "--resolve", "worker", "-i", &source, &cat, "/in.txt"]);
    assert_eq!(job["Verification"]["Verified"], true, "{job:#}");
    assert_eq!(job["Verification"]["InputsDiffer"], false, "{job:#}");
    let id = job["JobID"].as_str().unwrap();
    let described = node.run(&["job", "describe", id]);
    assert!(text(&described).contains("each worker read inputs itself"), "{}", text(&described));
    let printed = node.run(&["job", "cat", &format!("{id}/stdout")]);
    assert_eq!(printed.stdout, b"of the worker\n", "{}", text(&printed));
}
