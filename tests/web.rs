//! Inputs from the web and results on it. The web server that others wrote is Python's; one of our own answers
//! differently each time.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::examples::runs_as_expected_with;
use crate::support::{Daemon, Mesh, example, refused, skipped, text};

/// Python's web server for a folder.
pub struct Python {
    child: Child,
    pub url: String,
}

impl Python {
    pub fn serve(folder: &str) -> Option<Self> {
        let mut command = Command::new("python3");
        command.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, "0"]);
        let Ok(mut child) = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn() else {
            skipped("python3 is not installed");
            return None;
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        Some(Self { child, url: format!("http://127.0.0.1:{port}") })
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server whose every answer is another: how often it was asked. It has nothing to tell versions by.
fn fickle() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/count.txt", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let body = format!("asked {} times\n", count.fetch_add(1, Ordering::SeqCst) + 1);
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        }
    });
    (url, asked)
}

/// A server whose certificate nobody has signed but itself; returns a URL of it and the certificate's file.
fn secure(folder: &Path, body: &'static str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = folder.join("certificate.pem");
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.key_pair.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    let (config, listener) = (Arc::new(config.unwrap()), TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("https://{}/kept.txt", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut lines = BufReader::new(&mut stream).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            drop(lines);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (url, certificate.to_str().unwrap().to_owned())
}

/// Runs a job to its verified end, and returns its description.
fn verified(node: &Daemon, arguments: &[&str]) -> Value {
    let run = node.run(&[&["--format", "json"], arguments].concat());
    let described: Value =
        serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&run)));
    assert_eq!(described["State"], "Completed", "{described:#}");
    assert_eq!(described["Verification"]["Verified"], true, "{described:#}");
    described
}

fn published(described: &Value) -> &Value {
    &described["Result"]["Published"][0]
}

/// A node that serves what it publishes, beside a mesh of workers.
fn publisher(mesh: &Mesh, options: &[&str]) -> Daemon {
    let options = [&["--join", &mesh.nodes[0].ticket, "--executors", "none"], options].concat();
    let node = Daemon::start(&mesh.dir.path().join("publisher"), &options);
    node.connected(3);
    node
}

#[test]
fn a_url_is_read_once_and_all_executions_agree_on_it() {
    let mesh = Mesh::start(4);
    let (url, asked) = fickle();
    let got = mesh.dir.path().join("got");
    let input = format!("{url}:/inputs");
    let run = ["wasm", "run", "-i", &input, "--executions", "3", "--download", got.to_str().unwrap()];
    let described = verified(&mesh.nodes[0], &[&run[..], &[&example("cat/cat.wasm"), "/inputs/count.txt"]].concat());
    assert_eq!(described["Verification"]["Agreed"], 3, "{described:#}");
    assert_eq!(std::fs::read_to_string(got.join("stdout")).unwrap(), "asked 1 times\n");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn https_is_read_from_those_whom_the_machine_trusts() {
    let dir = tempfile::tempdir().unwrap();
    let (url, certificate) = secure(dir.path(), "kept from others\n");
    let certificate: &'static str = certificate.leak();
    // The first node takes the job and reads the source: it trusts the certificate, the second does not.
    let trust = |index| if index == 0 { vec![("SSL_CERT_FILE", certificate)] } else { vec![] };
    let mesh = Mesh::start_with(4, trust);
    let (input, got) = (format!("{url}:/inputs"), dir.path().join("got"));
    let cat = example("cat/cat.wasm");
    let run = ["wasm", "run", "-i", &input, &cat, "/inputs/kept.txt"];
    verified(&mesh.nodes[0], &[&run[..], &["--download", got.to_str().unwrap()]].concat());
    assert_eq!(std::fs::read_to_string(got.join("stdout")).unwrap(), "kept from others\n");
    refused(&mesh.nodes[1].run(&run), &[&url, "cannot be trusted", "check the server's certificate"]);
}

#[test]
fn a_program_and_its_input_come_from_the_web() {
    let Some(python) = Python::serve(&example("")) else { return };
    let mesh = Mesh::start(4);
    let url = format!("url={}/url-input/served/poem.txt", python.url);
    runs_as_expected_with(&mesh, "url-input", &[&example("url-input/job.yaml"), "-V", &url]);
    let module = format!("{}/cat/cat.wasm", python.url);
    let poem = format!("{}/url-input/served/poem.txt:/inputs", python.url);
    verified(&mesh.nodes[0], &["wasm", "run", "-i", &poem, &module, "/inputs/poem.txt"]);
}

#[test]
fn a_published_archive_is_served_and_is_an_input_as_it_is() {
    let mesh = Mesh::start(3);
    let node = publisher(&mesh, &["--publish-listen", "127.0.0.1:0"]);
    let described = verified(&node, &["job", "run", &example("local-publisher/job.yaml")]);
    let published = published(&described);
    let uri = published["URI"].as_str().unwrap_or_else(|| panic!("{described:#}"));
    assert!(uri.starts_with("http://127.0.0.1:") && uri.ends_with(".tar.gz"), "{uri}");
    assert!(published["Details"]["Note"].as_str().unwrap().contains("publish_url"), "{published:#}");

    let (got, name) = (mesh.dir.path().join("got"), uri.rsplit('/').next().unwrap());
    let (input, path) = (format!("{uri}:/inputs"), format!("/inputs/{name}"));
    let run = ["wasm", "run", "-i", &input, "--download", got.to_str().unwrap(), &example("cat/cat.wasm"), &path];
    verified(&node, &run);
    assert_eq!(unpacked(&got.join("stdout"), "stdout"), std::fs::read(example("cat/expected/stdout")).unwrap());
}

#[test]
fn a_published_folder_is_plain_files() {
    let mesh = Mesh::start(3);
    let folder = mesh.dir.path().join("plain");
    let node = publisher(&mesh, &["--publish-dir", folder.to_str().unwrap()]);
    let described = verified(&node, &["job", "run", &example("local-publisher/job.yaml")]);
    let uri = published(&described)["URI"].as_str().unwrap_or_else(|| panic!("{described:#}"));
    let path = Path::new(uri.strip_prefix("file://").unwrap());
    assert!(path.starts_with(&folder), "{uri}");
    assert_eq!(std::fs::read(path.join("stdout")).unwrap(), std::fs::read(example("cat/expected/stdout")).unwrap());
    let input = format!("{uri}:/inputs");
    verified(&node, &["wasm", "run", "-i", &input, &example("cat/cat.wasm"), "/inputs/stdout"]);
}

#[test]
fn urls_that_give_no_file_are_named_with_reason_and_remedy() {
    let Some(python) = Python::serve(&example("cat")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::start(&dir.path().join("node"), &[]);
    let (cat, free) = (example("cat/cat.wasm"), TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let secure = python.url.replace("http:", "https:");
    for (url, words) in [
        (format!("{}/missing.txt", python.url), ["answers 404", "check the address"]),
        (format!("http://user:hunter2@{free}/a.txt"), ["refused", "check the address"]),
        ("http://nowhere.invalid/a.txt".into(), ["http://nowhere.invalid/a.txt", "cannot be reached"]),
        (format!("{secure}/cat.c"), ["cannot be trusted", "certificate"]),
        ("gopher://host/a.txt".into(), ["unknown scheme", "https://"]),
    ] {
        let output = node.run(&["wasm", "run", "-i", &url, &cat, "/inputs/a.txt"]);
        refused(&output, &words);
        assert!(!text(&output).contains("hunter2"), "{}", text(&output));
    }
    let wrong = format!("src={}/cat.c,dst=/inputs,opt=checksum-256={}", python.url, "0".repeat(64));
    refused(&node.run(&["wasm", "run", "-i", &wrong, &cat, "/inputs/cat.c"]), &["has the SHA-256", "ChecksumSHA256"]);
    refused(&node.run(&["node", "--allow-local-path", "data"]), &["allow_local_paths", "must begin with /"]);
}

/// One file of a `.tar.gz`.
fn unpacked(archive: &Path, name: &str) -> Vec<u8> {
    let output = Command::new("tar").arg("-xOzf").arg(archive).arg(name).output().expect("tar is installed");
    assert!(output.status.success(), "{}", text(&output));
    output.stdout
}
