//! What holds after any script: nothing outside the run's folder was touched, nothing in it is more than was allowed,
//! and a run in another folder, among other files, with other times, saw and left the same.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use shoal_executors::{
    Blobs, Executor as _, Finished, HostCalls, PROFILE, RunError, StagedInput, Task, WasmConfig, WasmExecutor,
};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::{Engine, Invocation, Limits, Outcome, ResultPath, Wasm};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::guest::{Guest, component, module};
use super::script::script;

/// The program that calls preview 1.
pub(crate) static PREVIEW1: LazyLock<Guest> = LazyLock::new(module);
/// The program that calls preview 2.
pub(crate) static PREVIEW2: LazyLock<Guest> = LazyLock::new(component);

static HOST: LazyLock<(Runtime, WasmExecutor)> = LazyLock::new(|| {
    let executor = WasmExecutor::new(WasmConfig::default()).expect("an executor");
    (Runtime::new().expect("threads"), executor)
});

/// Small, so that a script can reach them.
const LIMITS: Limits = Limits { memory_bytes: 4 << 20, fuel: 5_000_000, output_bytes: 50_000 };
/// Ends nothing: fuel is used up long before.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Result paths: a folder, one within it, and one that becomes what the program makes of it.
const RESULTS: [(&str, &str); 3] = [("out", "/out"), ("deep", "/out/folder/deep"), ("single", "/file")];
/// Names that one run leaves at most: fewer fit into its fuel.
const MAX_LEFT: usize = 50_000;

/// What one run came to, as far as it must not depend on where it was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) outcome: Outcome,
    pub(crate) calls: HostCalls,
    /// Names and contents below the run's folder; none of folders.
    pub(crate) left: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

/// Performs the script that `bytes` make, in two places, and checks all that must hold. Gives what it came to.
pub(crate) fn check(guest: &Guest, bytes: &[u8]) -> Came {
    let script = script(guest, bytes);
    let came = [Place::new(0), Place::new(1)].map(|place| place.perform(guest, &script));
    let [one, other] = came;
    assert_eq!(one.calls, other.calls, "the calls of two runs");
    assert!(one == other, "what two runs came to:\n{one:?}\n{other:?}");
    one
}

/// A folder with everything a run needs, and a file that is none of its business.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// Two places differ in whatever a program must not learn.
    fn new(number: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("inputs/folder")).expect("a folder");
        std::fs::create_dir(at("work")).expect("a folder");
        let mut files = [("canary", format!("canary {number}")), ("inputs/file", "input".into())].to_vec();
        files.extend([("inputs/folder/deep", "deep".into()), ("inputs/a", "a".repeat(5_000))]);
        if number > 0 {
            files.reverse();
        }
        for (path, text) in files {
            std::fs::write(at(path), text).expect("a file");
            let mode = if number > 0 { 0o600 } else { 0o644 };
            std::fs::set_permissions(at(path), PermissionsExt::from_mode(mode)).expect("its mode");
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 * (1 + number));
            std::fs::File::options()
                .append(true)
                .open(at(path))
                .and_then(|file| file.set_modified(time))
                .expect("time");
        }
        Self { folder }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn perform(&self, guest: &Guest, script: &[u8]) -> Came {
        std::fs::write(self.at("script"), script).expect("a script");
        let before = self.outside();
        let finished = self.run(guest).unwrap_or_else(|error| panic!("no vote: {error}"));
        assert_eq!(self.outside(), before, "what is not the run's");
        let left = self.left(&finished);
        Came { outcome: finished.outcome, calls: finished.calls, left }
    }

    fn run(&self, guest: &Guest) -> Result<Finished, RunError> {
        let blobs = One(guest.program.clone().into());
        let (module, entry_point) = (BlobHash::of(&guest.program), "_start".into());
        let (profile, arguments) = (PROFILE.into(), vec!["argument".into(), "é".into()]);
        let engine = Engine::Wasm(Wasm { profile, module, imports: vec![], entry_point, arguments });
        let result = |(name, path): (&str, &str)| ResultPath { name: name.into(), path: path.into() };
        let result_paths = RESULTS.map(result).into();
        let environment = BTreeMap::from([("KEY".into(), "value".into())]);
        let invocation =
            Invocation { engine, environment, inputs: vec![], unread: vec![], result_paths, limits: LIMITS };
        let input = |target: &str, path| StagedInput { target: target.into(), path: self.at(path), writable: false };
        let inputs = vec![input("/in", "inputs"), input("/dev/stdin", "script")];
        let (work_dir, stage) = (self.at("work"), Default::default());
        let task = Task { invocation, inputs, work_dir, timeout: TIMEOUT, trace: None, stage };
        let (runtime, executor) = &*HOST;
        runtime.block_on(executor.run(task, &blobs, CancellationToken::new()))
    }

    /// Everything but the run's folder: names, contents, modes and times.
    fn outside(&self) -> BTreeMap<PathBuf, (u32, i64, Option<Vec<u8>>)> {
        let mut all = BTreeMap::new();
        walk(self.folder.path(), &mut |path, metadata| {
            let inside = path.starts_with(self.at("work")) || path == self.folder.path();
            if !inside {
                all.insert(path.to_owned(), (metadata.mode(), metadata.mtime(), content(path, metadata)));
            }
        });
        all
    }

    /// What the run has left, all of it within its limits and where it belongs.
    fn left(&self, finished: &Finished) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let work = self.at("work");
        let outputs = &finished.outputs;
        let streams = [&outputs.stdout, &outputs.stderr].into_iter().flatten();
        let results = outputs.results.iter().map(|(_, path)| path);
        let mut expected: Vec<_> = streams.chain(results).cloned().collect();
        let entries = std::fs::read_dir(&work).expect("the run's folder");
        let mut there: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        expected.sort();
        there.sort();
        assert_eq!(there, expected, "the run's folder holds its outputs and nothing else");
        let (mut all, mut bytes) = (BTreeMap::new(), 0);
        walk(&work, &mut |path, metadata| {
            assert!(metadata.is_dir() || metadata.is_file(), "{} is neither file nor folder", path.display());
            bytes += if metadata.is_file() { metadata.len() } else { 0 };
            let relative = path.strip_prefix(&work).expect("below the folder");
            all.insert(relative.to_owned(), content(path, metadata));
        });
        assert!(bytes <= LIMITS.output_bytes, "{bytes} bytes were left");
        assert!(all.len() <= MAX_LEFT, "{} names were left", all.len());
        all
    }
}

/// Every file and folder, without following links.
fn walk(path: &Path, see: &mut impl FnMut(&Path, &std::fs::Metadata)) {
    let metadata = std::fs::symlink_metadata(path).expect("metadata");
    see(path, &metadata);
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).expect("a folder") {
            walk(&entry.expect("an entry").path(), see);
        }
    }
}

fn content(path: &Path, metadata: &std::fs::Metadata) -> Option<Vec<u8>> {
    metadata.is_file().then(|| std::fs::read(path).expect("a file"))
}

/// The program, whatever is asked for.
struct One(Bytes);

#[async_trait]
impl Blobs for One {
    async fn read(&self, _: BlobHash, _: u64) -> io::Result<Bytes> {
        Ok(self.0.clone())
    }
}
