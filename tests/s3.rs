//! Inputs from S3 and results published there. The service is one that others wrote (s3s-fs); its buckets are folders,
//! so that the tests write and see objects as files.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::examples::runs_as_expected_with;
use crate::support::{Daemon, Mesh, example, module, refused, skipped, text, until};

/// What the service knows, and nobody else needs to.
const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "known-key"), ("AWS_SECRET_ACCESS_KEY", "hidden-secret")];
/// Nobody looks for credentials in this machine's own files, or in the cloud that it may be in.
const ALONE: [(&str, &str); 4] = [
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"),
    ("AWS_CONFIG_FILE", "/nowhere"),
    ("AWS_REGION", "us-east-1"),
];

/// A running service with a bucket named `bucket`.
struct Service {
    child: Child,
    endpoint: String,
    dir: TempDir,
}

impl Service {
    /// Starts it; none, after saying so, if it is not installed. With `keys` it refuses requests without signature.
    fn start(keys: bool) -> Option<Self> {
        let program = std::env::var_os("SHOAL_S3S_FS").map_or_else(|| PathBuf::from("s3s-fs"), PathBuf::from);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bucket")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", &address.port().to_string()]).arg(dir.path());
        if keys {
            command.args(["--access-key", KEYS[0].1, "--secret-key", KEYS[1].1]);
        }
        let Ok(child) = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            skipped("s3s-fs is not installed: `cargo install s3s-fs --features binary`, or name it in SHOAL_S3S_FS");
            return None;
        };
        let service = Self { child, endpoint: format!("http://{address}"), dir };
        until("the service listens", || TcpStream::connect(address).ok());
        Some(service)
    }

    /// Where an object of the bucket is on disk.
    fn path(&self, key: &str) -> PathBuf {
        self.dir.path().join("bucket").join(key)
    }

    fn put(&self, key: &str, content: &str) {
        std::fs::create_dir_all(self.path(key).parent().unwrap()).unwrap();
        std::fs::write(self.path(key), content).unwrap();
    }

    /// Every object, without what the service keeps for itself.
    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        fn walk(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let (path, name) = {
                    let entry = entry.unwrap();
                    (entry.path(), format!("{prefix}{}", entry.file_name().to_str().unwrap()))
                };
                if path.is_dir() {
                    walk(&path, &format!("{name}/"), found);
                } else {
                    found.insert(name, std::fs::read(path).unwrap());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(&self.path(""), "", &mut found);
        found
    }

    /// Nodes of which the first has the credentials.
    fn mesh(&self, count: usize) -> Mesh {
        Mesh::start_with(count, |node| if node == 0 { [&ALONE[..], &KEYS].concat() } else { ALONE.into() })
    }

    /// `-i` or `-p` for a key of the bucket.
    fn option(&self, key: &str) -> String {
        format!("s3://bucket/{key},opt=endpoint={}", self.endpoint)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a job to its verified end and describes it; its result is in `got`.
fn completed(mesh: &Mesh, arguments: &[&str]) -> Value {
    let got = mesh.dir.path().join("got");
    let _ = std::fs::remove_dir_all(&got);
    let download = ["--download", got.to_str().unwrap()];
    let run = mesh.nodes[0].run(&[&["--format", "json"], arguments, &download].concat());
    let job: Value = serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&run)));
    assert_eq!((&job["State"], &job["Verification"]["Verified"]), (&"Completed".into(), &true.into()), "{job:#}");
    job
}

/// What a finished job printed.
fn stdout(mesh: &Mesh) -> Vec<u8> {
    std::fs::read(mesh.dir.path().join("got/stdout")).unwrap()
}

/// What the job published, for each partition.
fn published(job: &Value) -> Vec<Value> {
    job["Result"]["Published"].as_array().cloned().unwrap_or_default()
}

#[test]
fn objects_below_a_prefix_are_read_by_the_requester_for_workers_without_credentials() {
    let Some(service) = Service::start(true) else { return };
    service.put("texts/a.txt", "one fish");
    service.put("texts/deep/b.txt", "two fish");
    service.put("texts/c.bin", "no fish");
    let mesh = service.mesh(4);
    let input = format!("src={},dst=/inputs,opt=filter=txt$", service.option("texts/"));
    completed(&mesh, &["wasm", "run", &example("wordcount/wordcount.wasm"), "-i", &input, "-o", "outputs:/outputs"]);
    let printed = String::from_utf8(stdout(&mesh)).unwrap();
    assert!(printed.starts_with("4 words, 3 of them different, in 2 file(s)"), "{printed}");
    let input = format!("src={},dst=/in", service.option("texts/deep/b.txt"));
    completed(&mesh, &["wasm", "run", &example("cat/cat.wasm"), "/in/b.txt", "-i", &input]);
    assert_eq!(stdout(&mesh), b"two fish");
}

#[test]
fn each_partition_reads_its_part() {
    let Some(service) = Service::start(true) else { return };
    let days = ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "no-date"];
    for day in days {
        service.put(&format!("logs/{day}-x.txt"), "word");
    }
    let mesh = service.mesh(4);
    // FNV-1a of the part, modulo 4, counted with another implementation.
    let table = [
        ("{Type: none}", [6, 6, 6, 6]),
        ("{Type: object}", [3, 1, 1, 1]),
        (r"{Type: regex, Pattern: '(\d+)-x'}", [2, 1, 2, 1]),
        ("{Type: substring, StartIndex: 8, EndIndex: 10}", [1, 1, 2, 2]),
        ("{Type: date, DateFormat: 2006-01-02}", [2, 2, 1, 1]),
    ];
    for (partition, expected) in table {
        let job = mesh.dir.path().join("job.yaml");
        std::fs::write(&job, partitioned(&service, partition)).unwrap();
        completed(&mesh, &["job", "run", job.to_str().unwrap()]);
        let counted = (0..4).map(|part| {
            let printed = std::fs::read_to_string(mesh.dir.path().join(format!("got/{part}/stdout"))).unwrap();
            printed.split_whitespace().next().unwrap().parse().unwrap()
        });
        assert_eq!(counted.collect::<Vec<usize>>(), expected, "{partition}");
    }
}

fn partitioned(service: &Service, partition: &str) -> String {
    format!(
        "Name: parts\nType: batch\nCount: 4\nTasks:\n  - Name: main\n    \
         Engine: {{Type: wasm, Params: {{EntryModule: /main.wasm}}}}\n    InputSources:\n      \
         - Target: /main.wasm\n        Source: {{Type: localDirectory, Params: {{SourcePath: {}}}}}\n      \
         - Target: /inputs\n        Source:\n          Type: s3\n          Params: {{Bucket: bucket, Key: logs/*, \
         Endpoint: '{}', Partition: {partition}}}\n    \
         ResultPaths: [{{Name: outputs, Path: /outputs}}]\n",
        example("wordcount/wordcount.wasm"),
        service.endpoint
    )
}

#[test]
fn an_archive_is_published_and_its_address_is_an_input() {
    let Some(service) = Service::start(true) else { return };
    let mesh = service.mesh(4);
    let cat = example("cat/cat.wasm");
    service.put("poem", "how doth the little");
    let input = format!("src={},dst=/in", service.option("poem"));
    let publisher = service.option("run/{date}/{jobID}/{executionID}");
    let job = completed(&mesh, &["wasm", "run", &cat, "/in/poem", "-i", &input, "-p", &publisher]);
    let [published] = &published(&job)[..] else { panic!("{job:#}") };
    let (id, execution) = (job["JobID"].as_str().unwrap(), published["ExecutionID"].as_str().unwrap());
    let objects = service.objects();
    let key = objects.keys().find(|key| key.starts_with("run/")).expect("an object");
    assert!(key.ends_with(&format!("/{id}/{execution}.tar.gz")), "{key}");
    assert!(key.split('/').nth(1).is_some_and(|date| date.len() == 8), "{key}");
    let archive = &objects[key];
    assert_eq!(published["Details"]["Bytes"], archive.len().to_string());

    // The address, as it is; and the checksum that was reported.
    let (uri, checksum) =
        (published["URI"].as_str().unwrap(), published["Details"]["ChecksumSHA256"].as_str().unwrap());
    let path = format!("/inputs/{execution}.tar.gz");
    completed(&mesh, &["wasm", "run", &cat, &path, "-i", uri]);
    assert!(stdout(&mesh) == *archive);
    let checked = format!("{uri},opt=checksum-256={checksum}");
    completed(&mesh, &["wasm", "run", &cat, &path, "-i", &checked]);
}

#[test]
fn plain_results_are_objects_and_large_ones_go_in_parts() {
    let Some(service) = Service::start(true) else { return };
    let mesh = service.mesh(4);
    let large = module(mesh.dir.path(), "large.wasm", LARGE);
    let publisher = format!("{},opt=encoding=plain", service.option("plain/{executionID}"));
    let job = completed(&mesh, &["wasm", "run", &large, "-p", &publisher]);
    let [published] = &published(&job)[..] else { panic!("{job:#}") };
    let objects = service.objects();
    let names: Vec<&str> = objects.keys().filter_map(|key| key.rsplit('/').next()).collect();
    assert_eq!(names, ["exitCode", "stderr", "stdout"], "{:?}", objects.keys());
    let stdout_object = objects.iter().find(|(key, _)| key.ends_with("/stdout")).unwrap().1;
    assert!(*stdout_object == vec![b'x'; 20 << 20], "{} bytes", stdout_object.len());

    let uri = published["URI"].as_str().unwrap();
    completed(&mesh, &["wasm", "run", &example("cat/cat.wasm"), "/inputs/exitCode", "-i", uri]);
    assert_eq!(stdout(&mesh), b"0");
}

/// Prints twenty times a mebibyte of `x`.
const LARGE: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 17)
    (func (export "_start") (local $times i32) (local $left i32) (local $at i32)
        (memory.fill (i32.const 65536) (i32.const 120) (i32.const 1048576))
        (local.set $times (i32.const 20))
        (loop $again
            (local.set $at (i32.const 65536))
            (local.set $left (i32.const 1048576))
            (loop $more
                (i32.store (i32.const 0) (local.get $at))
                (i32.store (i32.const 4) (local.get $left))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
                (local.set $left (i32.sub (local.get $left) (i32.load (i32.const 8))))
                (br_if $more (local.get $left)))
            (local.set $times (i32.sub (local.get $times) (i32.const 1)))
            (br_if $again (local.get $times)))))"#;

#[test]
fn bad_input_names_the_thing_the_reason_and_the_remedy() {
    let Some(service) = Service::start(true) else { return };
    service.put("object", "text");
    let dir = tempfile::tempdir().unwrap();
    let node = |name: &str, keys: &[(&str, &str)]| {
        Daemon::start_with(&dir.path().join(name), &[], &[&ALONE[..], keys].concat())
    };
    let refuses = |node: &Daemon, input: &str, words: &[&str]| {
        let run = node.run(&["wasm", "run", &example("cat/cat.wasm"), "/x", "-i", input]);
        refused(&run, words);
        assert!(!text(&run).contains("-secret"), "{}", text(&run));
    };
    let object = format!("src={},dst=/x", service.option("object"));

    let right = node("right", &KEYS);
    let missing = |key: &str| format!("src={},dst=/x", service.option(key));
    refuses(&right, &missing("nothing"), &["s3://bucket/nothing", "is not there", "check the key"]);
    refuses(&right, &missing("nothing/"), &["s3://bucket/nothing/", "no object is there", "check the prefix"]);
    let elsewhere = missing("x/").replace("s3://bucket", "s3://bukket");
    refuses(&right, &elsewhere, &["bukket", "is not on http://127.0.0.1", "check the bucket's name"]);
    let wrong = format!("{object},opt=checksum-256={}", "00".repeat(32));
    refuses(&right, &wrong, &["s3://bucket/object", "has the SHA-256", "ChecksumSHA256"]);

    let unknown = node("unknown", &[("AWS_ACCESS_KEY_ID", "other"), ("AWS_SECRET_ACCESS_KEY", "wrong-secret")]);
    refuses(&unknown, &object, &["s3://bucket/object", "access", "credentials"]);
    let secret = node("secret", &[KEYS[0], ("AWS_SECRET_ACCESS_KEY", "wrong-secret")]);
    refuses(&secret, &object, &["s3://bucket/object", "signature wrong", "correct the credentials"]);
    let nobody = node("nobody", &[]);
    refuses(&nobody, &object, &["s3://bucket/object", "the node has no credentials", "AWS_ACCESS_KEY_ID"]);
}

/// A cloud's metadata service as it is on machines that have no role: it refuses. Returns its address.
fn metadata_that_refuses() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = BufReader::new(&stream).read_line(&mut String::new());
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    format!("http://{address}")
}

#[test]
fn public_buckets_need_no_credentials_on_whatever_machine() {
    let Some(service) = Service::start(false) else { return };
    service.put("poem", "how doth the little");
    let metadata: &str = metadata_that_refuses().leak();
    let mesh = Mesh::start_with(4, |_| [&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata)], &ALONE[1..]].concat());
    let input = format!("src={},dst=/in", service.option("poem"));
    completed(&mesh, &["wasm", "run", &example("cat/cat.wasm"), "/in/poem", "-i", &input]);
    assert_eq!(stdout(&mesh), b"how doth the little");
    let log = mesh.nodes[0].log();
    assert!(!log.contains("aws_config"), "nobody missed them: {log}");
}

#[test]
fn the_examples_read_and_publish() {
    let Some(service) = Service::start(true) else { return };
    let objects = PathBuf::from(example("s3-input/objects/texts"));
    for name in ["a.txt", "deep/b.txt", "readme.md"] {
        service.put(&format!("texts/{name}"), &std::fs::read_to_string(objects.join(name)).unwrap());
    }
    let mesh = service.mesh(4);
    let variables = ["-V", &format!("endpoint={}", service.endpoint), "-V", "bucket=bucket"];
    for name in ["s3-input", "s3-publisher"] {
        let job = example(&format!("{name}/job.yaml"));
        runs_as_expected_with(&mesh, name, &[&[job.as_str()], &variables[..]].concat());
    }
    assert!(service.objects().keys().any(|key| key.starts_with("poems/") && key.ends_with(".tar.gz")));
}
