//! Blobs between real processes: found by hash alone, and none the worse for what happens to those who send.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::{Daemon, SHOAL, module, noise, refused, text, until};

const MIB: u64 = 1 << 20;

/// Nodes that know each other, each with limits of its own.
struct Mesh {
    nodes: Vec<Daemon>,
    dir: TempDir,
}

impl Mesh {
    fn start(options: &[&[&str]]) -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let mut nodes: Vec<Daemon> = Vec::new();
        for (index, own) in options.iter().enumerate() {
            let ticket = nodes.first().map(|first| first.ticket.clone());
            let join = ticket.iter().flat_map(|ticket| ["--join", ticket]);
            let options: Vec<&str> = own.iter().copied().chain(join).collect();
            nodes.push(Daemon::start(&dir.path().join(index.to_string()), &options));
        }
        for node in &nodes {
            node.connected(options.len() - 1);
        }
        Self { nodes, dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A file of noise.
    fn file(&self, name: &str, bytes: u64) -> String {
        let path = self.path(name);
        std::fs::write(&path, noise(bytes)).expect("it can be written");
        path
    }

    /// Begins to fetch on a node, and does not wait.
    fn begin(&self, node: usize, what: &str, target: &str) -> Fetching {
        let dir = self.dir.path().join(node.to_string());
        let child = Command::new(SHOAL)
            .arg("--data-dir")
            .arg(dir)
            .args(["blob", "get", what, target])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Fetching(child.expect("the binary starts"))
    }
}

/// A command that is under way, killed when dropped.
struct Fetching(Child);

impl Drop for Fetching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn add(node: &Daemon, path: &str) -> String {
    node.json(&["blob", "add", path])["Hash"].as_str().expect("it has a hash").to_owned()
}

fn traffic(node: &Daemon, what: &str) -> u64 {
    node.json(&["node", "info"])["Traffic"][what].as_u64().expect("it is counted")
}

fn same(one: &str, other: &str) -> bool {
    std::fs::read(one).expect("it is there") == std::fs::read(other).expect("it is there")
}

#[test]
fn what_one_node_adds_another_finds_by_its_hash_alone() {
    let mesh = Mesh::start(&[&[], &[], &[], &[]]);
    let file = mesh.file("file", 3 * MIB);
    let hash = add(&mesh.nodes[1], &file);
    let got = mesh.nodes[3].run(&["blob", "get", &hash, &mesh.path("got")]);
    assert!(got.status.success(), "{}", text(&got));
    assert!(same(&file, &mesh.path(&format!("got/{hash}"))));

    std::fs::create_dir_all(mesh.path("folder/deep")).unwrap();
    std::fs::write(mesh.path("folder/deep/a"), "one").unwrap();
    std::fs::write(mesh.path("folder/b"), "two").unwrap();
    let folder = add(&mesh.nodes[2], &mesh.path("folder"));
    let got = mesh.nodes[0].run(&["blob", "get", &folder, &mesh.path("unfolded")]);
    assert!(got.status.success(), "{}", text(&got));
    assert!(same(&mesh.path("folder/deep/a"), &mesh.path("unfolded/deep/a")));
    assert!(traffic(&mesh.nodes[3], "FetchedBytes") <= 3 * MIB, "looking whether it is a folder costs nothing twice");
}

#[test]
fn a_provider_that_is_killed_is_replaced_in_the_middle() {
    let slow: &[&str] = &["--max-upload", "4MiB"];
    let mut mesh = Mesh::start(&[slow, slow, &[]]);
    let file = mesh.file("file", 16 * MIB);
    let hash = add(&mesh.nodes[0], &file);
    assert_eq!(add(&mesh.nodes[1], &file), hash);
    let mut fetching = mesh.begin(2, &hash, &mesh.path("got"));
    until("some of it is there", || (traffic(&mesh.nodes[2], "FetchedBytes") > 4 * MIB).then_some(()));
    mesh.nodes[0].kill();
    assert!(fetching.0.wait().expect("it ends").success());
    assert!(same(&file, &mesh.path(&format!("got/{hash}"))));
    assert!(traffic(&mesh.nodes[2], "FetchedBytes") <= 17 * MIB, "what had arrived was not fetched again");
}

#[test]
fn a_node_that_was_killed_fetches_only_what_it_has_not_got() {
    let mut mesh = Mesh::start(&[&["--max-upload", "6MiB"], &[]]);
    let file = mesh.file("file", 24 * MIB);
    let hash = add(&mesh.nodes[0], &file);
    let fetching = mesh.begin(1, &hash, &mesh.path("got"));
    let before = until("some of it is there", || {
        Some(traffic(&mesh.nodes[1], "FetchedBytes")).filter(|bytes| *bytes > 10 * MIB)
    });
    let killed = mesh.nodes.pop().expect("there are two");
    let restarted = killed.restart();
    drop(fetching);
    restarted.connected(1);
    let got = restarted.run(&["blob", "get", &hash, &mesh.path("got")]);
    assert!(got.status.success(), "{}", text(&got));
    assert!(same(&file, &mesh.path(&format!("got/{hash}"))));
    let after = traffic(&restarted, "FetchedBytes");
    // What had arrived in the last moment need not have been written.
    assert!(before + after <= 26 * MIB, "{before} bytes before, {after} after");
    until("the provider has counted", || (traffic(&mesh.nodes[0], "ServedBytes") >= 24 * MIB).then_some(()));
    let served = traffic(&mesh.nodes[0], "ServedBytes");
    assert!(served <= 32 * MIB, "{served} bytes were sent for 24 MiB");
}

/// Only debug builds can be told to send something else.
#[cfg(debug_assertions)]
#[test]
fn a_provider_that_sends_something_else_is_named_and_passed_over() {
    const CORRUPT: (&str, &str) = ("SHOAL_TEST_MISBEHAVE", "serve-corrupt");
    let mesh = crate::support::Mesh::start_with(4, |index| if index == 1 { vec![CORRUPT] } else { vec![] });
    let [honest, liar, curious, lonely] = &mesh.nodes[..] else { unreachable!("there are four") };
    let dir = |node: usize| mesh.dir.path().join(node.to_string());
    let (file, target) = (mesh.dir.path().join("file"), mesh.dir.path().join("got").display().to_string());
    std::fs::write(&file, noise(3 * MIB)).unwrap();
    let hash = add(liar, &file.display().to_string());

    let answer = fetch_from(&dir(3), &hash, &[liar]);
    let named = format!("{} sent something else", &liar.id[..10]);
    assert!(answer.contains("502") && answer.contains(&named), "{answer}");
    // The mesh's directory knows nobody else, once it knows of this one.
    let refusal = until("the directory leads to the liar", || {
        let answer = lonely.run(&["blob", "get", &hash, &target]);
        String::from_utf8_lossy(&answer.stderr).contains(&named).then_some(answer)
    });
    refused(&refusal, &["no honest peer has blob", &named]);
    assert!(!Path::new(&target).exists());
    let stored = lonely.json(&["blob", "list"]);
    // What it sent before the wrong byte was right, and stays for the next fetch.
    let has_it = |blob: &serde_json::Value| blob["Hash"] == hash.as_str() && blob["Complete"] == true;
    assert!(!stored.as_array().unwrap().iter().any(has_it), "{stored:#}");

    // An honest provider may be faster than the lie, so that nobody finds it out: here it comes later.
    let answer = fetch_from(&dir(2), &hash, &[liar]);
    assert!(answer.contains(&named), "{answer}");
    assert!(curious.log().contains("provider sent something else"), "{}", curious.log());
    assert_eq!(add(honest, &file.display().to_string()), hash);
    let answer = fetch_from(&dir(2), &hash, &[liar, honest]);
    assert!(answer.contains("200 OK"), "{answer}");
    for node in [curious, lonely] {
        let got = node.run(&["blob", "get", &hash, &target, "--force"]);
        assert!(got.status.success(), "{}", text(&got));
        assert_eq!(std::fs::read(format!("{target}/{hash}")).unwrap(), std::fs::read(&file).unwrap());
    }
}

#[test]
fn what_served_a_job_is_nobodys_business_once_the_job_is_over() {
    let mesh = Mesh::start(&[&["--executors", "none"], &[], &["--executors", "none"]]);
    let program = module(mesh.dir.path(), "private.wasm", r#"(module (func (export "_start")))"#);
    let [requester, worker, curious] = &mesh.nodes[..] else { unreachable!("there are three") };
    // By the time of a second job the worker has been told that the first is over.
    let second = module(mesh.dir.path(), "second.wasm", r#"(module (func (export "_start") nop))"#);
    for program in [&program, &second] {
        let ran = requester.run(&["wasm", "run", program, "--executions", "1"]);
        assert!(ran.status.success(), "{}", text(&ran));
    }
    let hash = requester.json(&["blob", "add", &program, "--no-pin"])["Hash"].as_str().unwrap().to_owned();
    assert!(worker.json(&["blob", "list"]).as_array().unwrap().iter().any(|blob| blob["Hash"] == hash.as_str()));
    let dir = mesh.dir.path().join("2");
    let answer = fetch_from(&dir, &hash, &[worker]);
    assert!(answer.contains("no peer has blob"), "{answer}");
    assert!(traffic(worker, "RefusedRequests") > 0);
    // Whoever added it gave out a ticket.
    let answer = fetch_from(&dir, &hash, &[requester]);
    assert!(answer.contains("\"Ticket\""), "{answer}");
    assert!(curious.run(&["blob", "get", &hash, &mesh.path("got")]).status.success(), "it is here now");
}

/// Asks the node of `dir` to fetch a blob from peers, in this order, over its API.
fn fetch_from(dir: &Path, hash: &str, peers: &[&Daemon]) -> String {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("the node wrote it").trim().to_owned();
    let address = read("api.addr").trim_start_matches("http://").to_owned();
    let peers: Vec<&str> = peers.iter().map(|peer| peer.id.as_str()).collect();
    let body = serde_json::json!({ "Hash": hash, "Providers": peers }).to_string();
    let head = format!(
        "POST /api/v1/blobs/fetch HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        read("api.token"),
        body.len()
    );
    let mut stream = std::net::TcpStream::connect(&address).expect("the API listens");
    stream.write_all(format!("{head}{body}").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}
