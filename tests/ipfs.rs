//! Inputs from IPFS. What others wrote (Helia) builds the trees, encodes them and serves them; gateways that misbehave
//! and a Kubo node's RPC are our own, after their documentation.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::examples::runs_as_expected;
use crate::support::{Daemon, Mesh, example, first_line_of, refused, root, run, skipped, text};

/// A block and its name, as Helia computes it.
const BLOCK: (&str, &str) = ("bafkreifjc7p7jwfxzhc5qwqmdpsnuvgvsglbic6hf5vvx7asvxs23pcgl4", "a block of its own\n");

/// A trustless gateway of Helia's parts, with a tree of its own.
struct Helia {
    child: Child,
    /// Its address.
    pub gateway: String,
    /// Its tree's name.
    pub cid: String,
}

impl Helia {
    /// Serves a file or folder.
    pub fn serve(tools: &Path, path: &Path, options: &[&str]) -> Self {
        let mut command = Command::new("node");
        command.arg(tools.join("serve.mjs")).arg(path).args(options).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node starts");
        let line = first_line_of(&mut child).expect("a gateway says where it is");
        let said: Value = serde_json::from_str(&line).expect("it says so in JSON");
        let gateway = format!("http://127.0.0.1:{}", said["port"]);
        Self { child, gateway, cid: said["cid"].as_str().expect("a CID").to_owned() }
    }
}

impl Drop for Helia {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where Helia and the scripts that use it are installed; none, after saying so, if they are not.
fn tools() -> Option<PathBuf> {
    let installed = std::env::var_os("SHOAL_IPFS_TOOLS").map_or_else(|| root().join("tests/ipfs"), PathBuf::from);
    if installed.join("node_modules").is_dir() {
        return Some(installed);
    }
    skipped("Helia is not installed: `npm ci` in tests/ipfs, or a copy of it that SHOAL_IPFS_TOOLS names");
    None
}

/// Answers every connection with what `answer` makes of the first line of its request. Returns its address.
fn serve(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = head(&mut stream);
            answer(request.lines().next().unwrap_or_default(), &mut stream);
        }
    });
    address
}

/// The lines of a request before its body, which is left to be read.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn respond(stream: &mut TcpStream, status: &str, kind: &str, body: &[u8]) {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// A gateway that gives other bytes than it was asked for.
fn liar() -> String {
    serve(|_, stream| respond(stream, "200 OK", "application/vnd.ipld.raw", b"something else"))
}

/// A gateway that has nothing.
fn empty() -> String {
    serve(|_, stream| respond(stream, "404 Not Found", "text/plain", b"nothing"))
}

/// Nobody listens there.
const UNREACHABLE: &str = "http://127.0.0.1:9";

/// A folder with a small file and one of several blocks.
fn tree(dir: &Path) -> PathBuf {
    let tree = dir.join("tree");
    std::fs::create_dir_all(tree.join("sub/deep")).unwrap();
    std::fs::write(tree.join("poem.txt"), "how doth the little\n").unwrap();
    std::fs::write(tree.join("sub/deep/large"), large()).unwrap();
    tree
}

/// Three megabytes of lines, no two alike.
fn large() -> Vec<u8> {
    (0..300_000).flat_map(|line| format!("{line:09}\n").into_bytes()).collect()
}

/// Nodes of which the first reads from these gateways.
fn mesh(nodes: usize, gateways: &[&str]) -> Mesh {
    let gateways: &'static str = gateways.join(",").leak();
    Mesh::start_with(nodes, |node| if node == 0 { vec![("SHOAL_IPFS_GATEWAYS", gateways)] } else { Vec::new() })
}

/// What the program `cat` prints of an input.
fn printed(mesh: &Mesh, input: &str, path: &str) -> Vec<u8> {
    let got = mesh.dir.path().join("got");
    let arguments = ["wasm", "run", &example("cat/cat.wasm"), path, "-i", input, "--executions", "1", "--download"];
    let run = mesh.nodes[0].run(&[&arguments[..], &[got.to_str().unwrap()]].concat());
    assert!(run.status.success(), "{}", text(&run));
    let stdout = std::fs::read(got.join("stdout")).unwrap();
    std::fs::remove_dir_all(got).unwrap();
    stdout
}

/// Runs a job that must be refused for its input.
fn refuses(node: &Daemon, input: &str, words: &[&str]) {
    refused(&node.run(&["wasm", "run", &example("cat/cat.wasm"), "/x", "-i", &format!("{input}:/x")]), words);
}

#[test]
fn trees_of_others_are_inputs() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path());
    let variants: [&[&str]; 3] = [&[], &["--shard"], &["--profile", "unixfs-v0-2015", "--no-archives"]];
    for options in variants {
        let helia = Helia::serve(&tools, &tree, options);
        let cid = &helia.cid;
        let mesh = mesh(2, &[UNREACHABLE, &liar(), &empty(), &helia.gateway]);
        assert_eq!(printed(&mesh, &format!("ipfs://{cid}:/data"), "/data/poem.txt"), b"how doth the little\n");
        assert!(printed(&mesh, &format!("ipfs://{cid}:/data"), "/data/sub/deep/large") == large(), "{options:?}");
        let below = format!("ipfs://{cid}/sub/deep/large:/large");
        assert!(printed(&mesh, &below, "/large") == large(), "{options:?}");
        let wrong = format!("ipfs://{cid}/sub/shallow");
        refuses(&mesh.nodes[0], &wrong, &[&wrong, r#"there is no "shallow""#, "check the path"]);
    }
}

#[test]
fn the_example_reads_a_file_in_a_folder_on_ipfs() {
    let Some(tools) = tools() else { return };
    let helia = Helia::serve(&tools, Path::new(&example("ipfs-input/tree")), &[]);
    runs_as_expected(&mesh(4, &[&helia.gateway]), "ipfs-input", &example("ipfs-input/job.yaml"));
}

#[test]
fn what_was_read_once_needs_no_gateway() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::tempdir().unwrap();
    let helia = Helia::serve(&tools, &tree(dir.path()), &[]);
    let input = format!("ipfs://{}/poem.txt:/poem.txt", helia.cid);
    let mesh = mesh(2, &[&helia.gateway]);
    let first = printed(&mesh, &input, "/poem.txt");
    drop(helia);
    assert_eq!(printed(&mesh, &input, "/poem.txt"), first);
}

#[test]
fn bad_input_names_the_thing_the_reason_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let plain = Daemon::start(&dir.path().join("plain"), &[]);
    let uri = format!("ipfs://{}", BLOCK.0);
    refuses(&plain, &uri, &[&uri, "knows no Kubo node and no gateway", "--ipfs-gateway", "ipfs_api"]);
    refuses(&plain, "ipfs://bafynonsense", &["bafynonsense", "is no CID", "write a CID"]);
    refuses(&plain, "ipns://docs.example", &["ipns://docs.example", "only a Kubo node", "--ipfs-api"]);

    let (liar, empty) = (liar(), empty());
    let options = [UNREACHABLE, &liar, &empty].map(|url| ["--ipfs-gateway", url]);
    let configured = Daemon::start(&dir.path().join("configured"), &options.concat());
    let lies = format!("gateway {liar}: block {}: other bytes came", BLOCK.0);
    let lacks = format!("gateway {empty}: it does not have block {}", BLOCK.0);
    let dead = format!("gateway {UNREACHABLE}: it cannot be reached");
    refuses(&configured, &uri, &[&uri, &lies, &lacks, &dead, "--ipfs-gateway"]);

    let wrong = run(&dir.path().join("wrong"), &["node", "--ipfs-api", "localhost:5001"]);
    refused(&wrong, &["the Kubo node's address", "is no URL of http", "ipfs_api like http://127.0.0.1:5001"]);
}

/// What the example publishes, as Helia names it.
const PUBLISHED: &str = "bafybeibdhx6zui6nshse3cdju4rw7k6v66wi5ovossfzmaevc64apt7k6e";

#[test]
fn a_published_result_has_the_name_that_others_give_it_and_is_an_input() {
    let mesh = Mesh::start(4);
    runs_as_expected(&mesh, "ipfs-publisher", &example("ipfs-publisher/job.yaml"));
    let published = published(&mesh.nodes[0]);
    assert_eq!(published["URI"], format!("ipfs://{PUBLISHED}"), "{published:#}");
    assert_eq!(published["Details"]["Profile"], "unixfs-v1-2025", "{published:#}");
    let poem = std::fs::read(example("ipfs-publisher/expected/stdout")).unwrap();
    assert_eq!(printed(&mesh, &format!("ipfs://{PUBLISHED}:/in"), "/in/stdout"), poem);
    if let Some(tools) = tools() {
        let helia = Helia::serve(&tools, Path::new(&example("ipfs-publisher/expected")), &[]);
        assert_eq!(helia.cid, PUBLISHED);
    }
}

/// Where the newest job of a node published.
fn published(node: &Daemon) -> Value {
    let jobs = node.json(&["job", "list"]);
    let described = node.describe(jobs[0]["JobID"].as_str().unwrap());
    described["Result"]["Published"][0].clone()
}

#[test]
fn others_read_what_is_published_from_the_gateway_of_the_node() {
    let served = Mesh::start_with(4, |node| match node {
        0 => vec![("SHOAL_PUBLISH_LISTEN", "127.0.0.1:0")],
        _ => Vec::new(),
    });
    runs_as_expected(&served, "ipfs-publisher", &example("ipfs-publisher/job.yaml"));
    let published = published(&served.nodes[0]);
    let gateway = published["Details"]["Gateway"].as_str().unwrap_or_else(|| panic!("{published:#}"));
    let poem = std::fs::read(example("ipfs-publisher/expected/stdout")).unwrap();
    let other = mesh(2, &[gateway]);
    let uri = published["URI"].as_str().unwrap();
    assert_eq!(printed(&other, &format!("{uri}:/in"), "/in/stdout"), poem);
    assert_eq!(printed(&other, &format!("{uri}/stdout:/poem"), "/poem"), poem);

    let Some(tools) = tools() else { return };
    let fetch = Command::new("node").arg(tools.join("fetch.mjs")).args([gateway, PUBLISHED]).output().unwrap();
    let files: Value =
        serde_json::from_slice(&fetch.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&fetch)));
    let expected = serde_json::json!({ "exitCode": "0", "stderr": "", "stdout": String::from_utf8(poem).unwrap() });
    assert_eq!(files, expected);
}

#[test]
fn a_kubo_node_takes_and_pins_what_is_published() {
    let api: &'static str = kubo().leak();
    let mesh = Mesh::start_with(4, |node| if node == 0 { vec![("SHOAL_IPFS_API", api)] } else { Vec::new() });
    runs_as_expected(&mesh, "ipfs-publisher", &example("ipfs-publisher/job.yaml"));
    assert_eq!(published(&mesh.nodes[0])["Details"]["PinnedBy"], format!("Kubo node {api}"));
}

/// The rest of a request's body in pieces, to its end.
fn body(stream: &mut TcpStream) -> Vec<u8> {
    let mut body = Vec::new();
    let mut piece = [0; 4096];
    while !body.ends_with(b"\r\n0\r\n\r\n") {
        let length = stream.read(&mut piece).unwrap();
        assert_ne!(length, 0, "a body ends before its end");
        body.extend_from_slice(&piece[..length]);
    }
    body
}

/// What a Kubo node answers, after its RPC documentation.
fn kubo() -> String {
    serve(|request, stream| {
        let json = "application/json";
        match request.split(' ').collect::<Vec<_>>()[..] {
            ["POST", url, _] if url.starts_with("/api/v0/name/resolve?arg=%2Fipns%2Fdocs.example") => {
                respond(stream, "200 OK", json, format!(r#"{{"Path":"/ipfs/{}"}}"#, BLOCK.0).as_bytes());
            }
            ["POST", url, _] if url == format!("/api/v0/block/get?arg={}", BLOCK.0) => {
                respond(stream, "200 OK", "application/vnd.ipld.raw", BLOCK.1.as_bytes());
            }
            ["POST", "/api/v0/dag/import?pin-roots=true", _] => {
                let form = body(stream);
                let holds = |text: &[u8]| form.windows(text.len()).any(|window| window == text);
                assert!(holds(b"form-data; name=\"file\"") && holds(b"How doth the little"), "{form:?}");
                let pinned = format!(r#"{{"Root":{{"Cid":{{"/":"{PUBLISHED}"}},"PinErrorMsg":""}}}}"#);
                respond(stream, "200 OK", json, pinned.as_bytes());
            }
            ["POST", _, _] => {
                let error = r#"{"Message":"could not resolve name","Code":0,"Type":"error"}"#;
                respond(stream, "500 Internal Server Error", json, error.as_bytes());
            }
            _ => respond(stream, "405 Method Not Allowed", "text/plain", b"405 - Method Not Allowed"),
        }
    })
}

#[test]
fn a_kubo_node_gives_blocks_and_looks_names_up() {
    let api: &'static str = kubo().leak();
    let mesh = Mesh::start_with(2, |node| if node == 0 { vec![("SHOAL_IPFS_API", api)] } else { Vec::new() });
    for input in [format!("ipfs://{}:/block", BLOCK.0), "ipns://docs.example:/block".to_owned()] {
        assert_eq!(printed(&mesh, &input, "/block"), BLOCK.1.as_bytes());
    }
    refuses(&mesh.nodes[0], "ipns://other.example", &["ipns://other.example", "could not resolve name"]);
}
