//! Starts real nodes and runs real commands. Everything waits for an event, with a generous deadline.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub const SHOAL: &str = env!("CARGO_BIN_EXE_shoal");
/// How long anything may take on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(180);
/// Pause between two looks at something that cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A file of the examples.
pub fn example(path: &str) -> String {
    root().join("examples").join(path).display().to_string()
}

/// A running `shoal node`, killed when dropped.
pub struct Daemon {
    child: Child,
    dir: PathBuf,
    arguments: Vec<String>,
    /// The network namespace that it and its commands run in.
    namespace: Option<String>,
    /// Its id.
    pub id: String,
    /// Its ticket.
    pub ticket: String,
}

impl Daemon {
    /// Starts a node on loopback and waits until it is ready.
    pub fn start(dir: &Path, options: &[&str]) -> Self {
        Self::start_with(dir, options, &[])
    }

    /// The same, with environment variables.
    pub fn start_with(dir: &Path, options: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::spawn(None, dir, &[&["node", "--listen", "127.0.0.1:0"], options].concat(), environment)
    }

    /// Starts `shoal` with these arguments in a network namespace, and waits until it is ready.
    pub fn start_in(namespace: &str, dir: &Path, arguments: &[&str]) -> Self {
        Self::spawn(Some(namespace), dir, arguments, &[])
    }

    fn spawn(namespace: Option<&str>, dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = command_in(namespace, dir)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file(dir))
            .spawn()
            .expect("the binary starts");
        let line = first_line(&mut child, dir);
        let word = |is: fn(&str) -> bool| line.split_whitespace().map(str::to_owned).find(|word| is(word));
        let id = word(|word| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()));
        let ticket = word(|word| word.starts_with("shoal1"));
        let (id, ticket) = id.zip(ticket).unwrap_or_else(|| panic!("{line:?} has no id and ticket"));
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { child, dir: dir.to_owned(), arguments, namespace: namespace.map(str::to_owned), id, ticket }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed, or is gone already");
        self.child.wait().expect("it is gone");
    }

    /// Has it do nothing, as a machine that sleeps, until it may go on.
    pub fn halt(&self, is_halted: bool) {
        let signal = if is_halted { "-STOP" } else { "-CONT" };
        let told = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(told.expect("kill can be run").success());
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(asked.expect("kill can be run").success());
        until("the node has stopped", || self.child.try_wait().expect("it can be waited for"));
    }

    /// Starts it again on the same data directory, without whatever was special about it.
    pub fn restart(mut self) -> Self {
        self.kill();
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Self::spawn(self.namespace.as_deref(), &self.dir, &arguments, &[])
    }

    /// Starts it again with these options instead.
    pub fn restart_with(mut self, options: &[&str]) -> Self {
        self.kill();
        Self::start(&self.dir.clone(), options)
    }

    /// Waits until it has ended by itself.
    pub fn wait_for_death(&mut self) {
        until("the node dies", || self.child.try_wait().expect("it can be waited for"));
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Runs a command against this node.
    pub fn run(&self, arguments: &[&str]) -> Output {
        finish(self.begin(arguments), arguments)
    }

    /// Starts a command against this node, to be [finished](finish).
    pub fn begin(&self, arguments: &[&str]) -> Child {
        begin(command_in(self.namespace.as_deref(), &self.dir), arguments)
    }

    /// Runs a command that must succeed, and returns its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[&["--format", "json"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
    }

    /// Starts a job and returns its id.
    pub fn submit(&self, arguments: &[&str]) -> String {
        let output = self.run(&[arguments, &["--detach", "--id-only"]].concat());
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).expect("ids are text").trim().to_owned()
    }

    /// What `job describe` says.
    pub fn describe(&self, job: &str) -> Value {
        self.json(&["job", "describe", job])
    }

    /// Waits until a job is over, and describes it.
    pub fn finished(&self, job: &str) -> Value {
        until("the job ends", || {
            let described = self.describe(job);
            let over = ["Completed", "Failed", "Stopped"].iter().any(|state| described["State"] == *state);
            over.then_some(described)
        })
    }

    /// Waits until one of a job's executions is in `state`, and returns it.
    pub fn execution_in(&self, job: &str, state: &str) -> Value {
        until(&format!("an execution is {state}"), || {
            executions(&self.describe(job)).into_iter().find(|execution| execution["State"] == state)
        })
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_path(&self.dir)).unwrap_or_default()
    }

    /// Waits until it is connected to so many peers.
    pub fn connected(&self, peers: usize) -> &Self {
        until(&format!("{peers} peers are connected"), || {
            let known = self.json(&["peer", "list"]);
            (known.as_array().map_or(0, Vec::len) >= peers).then_some(())
        });
        self
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            eprintln!("--- log of {}\n{}", self.dir.display(), tail.join("\n"));
        }
    }
}

/// Nodes that know each other, each with a directory of its own.
pub struct Mesh {
    /// Dropped before the directories.
    pub nodes: Vec<Daemon>,
    /// Their directories, and room for more.
    pub dir: TempDir,
}

impl Mesh {
    /// Starts `count` nodes and waits until each is connected to all others.
    pub fn start(count: usize) -> Self {
        Self::start_with(count, |_| Vec::new())
    }

    /// The same; `environment` says what is special about a node.
    pub fn start_with(count: usize, environment: impl Fn(usize) -> Vec<(&'static str, &'static str)>) -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let mut nodes: Vec<Daemon> = Vec::new();
        for index in 0..count {
            let join = nodes.first().map(|first| first.ticket.clone());
            let options: Vec<&str> = join.iter().flat_map(|ticket| ["--join", ticket]).collect();
            nodes.push(Daemon::start_with(&dir.path().join(index.to_string()), &options, &environment(index)));
        }
        for node in &nodes {
            node.connected(count - 1);
        }
        Self { nodes, dir }
    }

    /// The node of that id.
    pub fn index_of(&self, id: &Value) -> usize {
        self.nodes.iter().position(|node| *id == node.id).unwrap_or_else(|| panic!("{id} is not of this mesh"))
    }
}

/// A command with a data directory and without the environment of whoever runs the tests.
pub fn command(dir: &Path) -> Command {
    command_in(None, dir)
}

fn command_in(namespace: Option<&str>, dir: &Path) -> Command {
    let mut command = match namespace {
        Some(namespace) => {
            // It becomes the program, so that a signal reaches that.
            let mut inside = Command::new("ip");
            inside.args(["netns", "exec", namespace, SHOAL]);
            inside
        }
        None => Command::new(SHOAL),
    };
    for name in ["SHOAL_API", "SHOAL_DATA_DIR", "SHOAL_JOIN", "SHOAL_MESH", "SHOAL_TEST_MISBEHAVE", "SHOAL_LOG"] {
        command.env_remove(name);
    }
    // Results that commands leave in the current folder go with the test's directory.
    let folder = dir.parent().expect("data directories lie in a test's directory");
    command.current_dir(folder).arg("--data-dir").arg(dir);
    command
}

/// Runs a command to its end.
pub fn run(dir: &Path, arguments: &[&str]) -> Output {
    finish(begin(command(dir), arguments), arguments)
}

fn begin(mut command: Command, arguments: &[&str]) -> Child {
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary starts")
}

/// Runs a command to its end, with `input` on its standard input.
pub fn run_with_input(dir: &Path, arguments: &[&str], input: &str) -> Output {
    let child =
        command(dir).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the binary starts");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it is read");
    finish(child, arguments)
}

/// Asserts that a command fails as our own failure, naming what it should.
pub fn refused(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{}", text(output));
    assert!(output.stdout.is_empty(), "results go to stdout, errors to stderr: {}", text(output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    words.iter().for_each(|word| assert!(stderr.contains(word), "{word:?} is missing in:\n{stderr}"));
}

/// Both streams of a command, for messages.
pub fn text(output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", output.status)
}

/// Says that a test is skipped for want of something on this machine. Where everything must be there
/// (`SHOAL_REQUIRE_ALL` is set, as in CI), it fails instead.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("SHOAL_REQUIRE_ALL").is_none(), "required, but {why}");
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// The executions of a described job.
pub fn executions(described: &Value) -> Vec<Value> {
    described["Executions"].as_array().cloned().unwrap_or_default()
}

/// Asks until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The wordcount example, ready to wait for workers.
pub fn patient_wordcount(dir: &Path) -> String {
    let spec = std::fs::read_to_string(example("wordcount/job.yaml")).expect("the example is there");
    let spec = spec.replace("SourcePath: ./", &format!("SourcePath: {}/", example("wordcount")));
    let patient = spec.replace("ExecutionTimeout: 120", "ExecutionTimeout: 120, QueueTimeout: 600");
    assert_ne!(spec, patient, "the example has changed");
    let path = dir.join("patient.yaml");
    std::fs::write(&path, patient).expect("it can be written");
    path.display().to_string()
}

/// A module that counts for a while before it prints: `rounds` times a billion or so instructions.
pub fn slow_module(dir: &Path, rounds: u32) -> String {
    let source = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "begun\n")
            (data (i32.const 32) "done\n")
            (func $print (param $at i32) (param $length i32)
                (i32.store (i32.const 0) (local.get $at))
                (i32.store (i32.const 4) (local.get $length))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func (export "_start") (local $i i64)
                (call $print (i32.const 16) (i32.const 6))
                (local.set $i (i64.const {}))
                (loop $again
                    (local.set $i (i64.sub (local.get $i) (i64.const 1)))
                    (br_if $again (i64.ne (local.get $i) (i64.const 0))))
                (call $print (i32.const 32) (i32.const 5))))"#,
        u64::from(rounds) * 1_000_000_000
    );
    module(dir, "slow.wasm", &source)
}

/// Writes a module from its text form and returns its path.
pub fn module(dir: &Path, name: &str, source: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, wat::parse_str(source).expect("the module is valid")).expect("it can be written");
    path.display().to_string()
}

/// Bytes that nothing can compress, the same for the same number.
pub fn noise(bytes: u64) -> Vec<u8> {
    let mut state = bytes | 1;
    let words = (0..bytes / 8).flat_map(|_| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}

/// Waits for the end of a command.
pub fn finish(child: Child, arguments: &[&str]) -> Output {
    let id = child.id();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    match end.recv_timeout(DEADLINE) {
        Ok(output) => output.expect("its output can be read"),
        Err(_) => {
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
            panic!("{arguments:?} did not end in {DEADLINE:?}");
        }
    }
}

fn first_line(child: &mut Child, dir: &Path) -> String {
    let log = || std::fs::read_to_string(log_path(dir)).unwrap_or_default();
    first_line_of(child).unwrap_or_else(|| panic!("the node did not start: {}", log()))
}

/// The first line that a process prints, if it prints one.
pub fn first_line_of(child: &mut Child) -> Option<String> {
    let stdout = child.stdout.take().expect("it is piped");
    let (send, line) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines();
        let _ = send.send(lines.next());
        // Whatever follows is read, so that the process never waits for us.
        lines.for_each(drop);
    });
    line.recv_timeout(DEADLINE).ok()??.ok()
}

fn log_path(dir: &Path) -> PathBuf {
    dir.with_extension("log")
}

fn log_file(dir: &Path) -> Stdio {
    let mut options = std::fs::OpenOptions::new();
    let file = options.create(true).append(true).open(log_path(dir));
    file.map_or_else(|_| Stdio::null(), Stdio::from)
}
