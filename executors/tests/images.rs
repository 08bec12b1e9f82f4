//! Images of registries on a real engine: loaded once under a name of ours, bounded, and removed when others come.
//!
//! Where no engine runs these tests say so and are skipped.

#[path = "../../tests/docker-engine/engine.rs"]
#[expect(dead_code, reason = "other tests look for containers")]
mod engine;
mod support;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine::{docker, image};
use flate2::Compression;
use flate2::write::GzEncoder;
use shoal_executors::docker::{DEFAULT_HOST, NetworkConfig};
use shoal_executors::{
    Blobs, DockerConfig, DockerExecutor, Executor, Finished, PullRequest, Pulled, RunError, Stage, Task,
};
use shoal_protocol::id::{BlobHash, ImageId, ManifestDigest};
use shoal_protocol::message::Amount;
use shoal_protocol::task::{Docker, Engine, Image, ImageOrigin, Invocation, Limits, Network, Outcome};
use support::Memory;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What a node would have fetched of an image.
struct Shelf {
    memory: Memory,
    config: Bytes,
    layers: Vec<BlobHash>,
    pulls: AtomicUsize,
    /// Nobody gets an image before this is false.
    held: watch::Sender<bool>,
}

#[async_trait]
impl Blobs for Shelf {
    async fn read(&self, hash: BlobHash, max_bytes: u64) -> std::io::Result<Bytes> {
        self.memory.read(hash, max_bytes).await
    }

    async fn pull(&self, image: &PullRequest<'_>) -> Result<Pulled, RunError> {
        self.pulls.fetch_add(1, Ordering::Relaxed);
        (image.told)(Amount { done_bytes: 1, total_bytes: 2 });
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        Ok(Pulled { config: self.config.clone(), layers: self.layers.clone(), guard: Box::new(()) })
    }
}

/// An image that only a registry has.
struct Remote {
    id: ImageId,
    shelf: Shelf,
}

impl Remote {
    fn new(word: &str) -> Option<Self> {
        let name = image(&format!("remote-{word}"), &[&format!("ENV WORD={word}")])?;
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("saved.tar");
        docker(&["save", "-o", archive.to_str().unwrap(), &name]).unwrap();
        let id: ImageId = docker(&["image", "inspect", "--format", "{{.Id}}", &name]).unwrap().parse().unwrap();
        docker(&["rmi", &name]).unwrap();
        let files = unpacked(&archive);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let config = files.keys().find(|path| path.ends_with(".json") && path.len() > 64).unwrap();
        let manifest = text(&files["manifest.json"]);
        // The layers in the order of the manifest.
        let mut layers: Vec<&String> = files.keys().filter(|path| path.ends_with("layer.tar")).collect();
        layers.sort_by_key(|path| manifest.find(path.as_str()));
        let mut memory = Memory::default();
        let layers = layers.into_iter().map(|path| memory.add(gzip(&files[path]))).collect();
        let (config, pulls, held) = (files[config].clone().into(), AtomicUsize::new(0), watch::Sender::new(false));
        Some(Self { id, shelf: Shelf { memory, config, layers, pulls, held } })
    }

    fn image(&self) -> Image {
        let origin = ImageOrigin::Registry("localhost:5000/a".parse().unwrap(), ManifestDigest([1; 32]));
        Image { id: self.id, origin }
    }

    fn is_there(&self) -> bool {
        docker(&["image", "inspect", &self.id.to_string()]).is_some()
    }

    fn pulls(&self) -> usize {
        self.shelf.pulls.load(Ordering::Relaxed)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        docker(&["rmi", "-f", &self.id.to_string()]);
    }
}

fn unpacked(archive: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(std::fs::File::open(archive).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    });
    entries.collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A node of its own on the engine.
struct Node {
    name: String,
    executor: DockerExecutor,
    platform: String,
    dir: tempfile::TempDir,
    runs: Mutex<u32>,
}

impl Node {
    async fn new(max_image_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_lowercase();
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| DEFAULT_HOST.into());
        let data_dir = "/of/a/test".into();
        let config = DockerConfig {
            host,
            node: name.clone(),
            data_dir,
            work_dir: dir.path().to_owned(),
            passing: false,
            allow_root: false,
            max_image_bytes,
            network: NetworkConfig::default(),
            runtime: None,
            gpus: Vec::new(),
        };
        let executor = DockerExecutor::new(config);
        let platform = executor.look().await.expect("the engine is fit").platform;
        Self { name, executor, platform, dir, runs: Mutex::new(0) }
    }

    async fn run(&self, remote: &Remote) -> Result<Finished, RunError> {
        self.run_until(remote, CancellationToken::new(), watch::Sender::default()).await
    }

    async fn run_until(
        &self,
        remote: &Remote,
        cancel: CancellationToken,
        stage: watch::Sender<Stage>,
    ) -> Result<Finished, RunError> {
        let number = {
            let mut runs = self.runs.lock().unwrap();
            *runs += 1;
            *runs
        };
        let work_dir = self.dir.path().join(number.to_string());
        std::fs::create_dir(&work_dir).unwrap();
        let docker = Docker {
            platform: self.platform.clone(),
            image: remote.image(),
            entrypoint: Vec::new(),
            parameters: ["sh", "-c", "echo $WORD"].map(str::to_owned).into(),
            working_directory: None,
            network: Network::None,
            cpu_millis: 1_000,
            gpus: 0,
        };
        let limits = Limits { memory_bytes: 64 << 20, fuel: 0, output_bytes: 1 << 20 };
        let invocation = Invocation {
            engine: Engine::Docker(docker),
            environment: BTreeMap::new(),
            inputs: Vec::new(),
            unread: Vec::new(),
            result_paths: Vec::new(),
            limits,
        };
        let timeout = Duration::from_secs(120);
        let task = Task { invocation, inputs: Vec::new(), work_dir, timeout, trace: None, stage };
        self.executor.run(task, &remote.shelf, cancel).await
    }
}

fn printed(finished: &Finished) -> String {
    std::fs::read_to_string(finished.outputs.stdout.as_deref().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_registry_is_pulled_once_and_has_a_name_of_ours() {
    let Some(remote) = Remote::new("once") else { return };
    let node = Node::new(1 << 30).await;
    for _ in 0..2 {
        let finished = node.run(&remote).await.unwrap();
        assert_eq!((finished.outcome, printed(&finished).as_str()), (Outcome::Exited(0), "once\n"));
    }
    assert_eq!(remote.pulls(), 1);
    let tags = docker(&["image", "inspect", "--format", "{{.RepoTags}}", &remote.id.to_string()]).unwrap();
    let hex = remote.id.to_string().replace("sha256:", "");
    let node: String = node.name.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    assert_eq!(tags, format!("[shoal/{node}:{hex}]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_that_wait_for_the_same_image_share_it_and_say_how_far_it_is() {
    let Some(remote) = Remote::new("shared") else { return };
    let node = Node::new(1 << 30).await;
    remote.shelf.held.send_replace(true);
    let stage = watch::Sender::default();
    let mut stages = stage.subscribe();
    let first = node.run_until(&remote, CancellationToken::new(), stage);
    let second = node.run(&remote);
    let release = async {
        let amount = Amount { done_bytes: 1, total_bytes: 2 };
        stages.wait_for(|stage| *stage == Stage::Preparing(amount)).await.unwrap();
        remote.shelf.held.send_replace(false);
        stages.wait_for(|stage| *stage == Stage::Running).await.unwrap();
    };
    let (first, second, ()) = tokio::join!(first, second, release);
    assert_eq!((first.unwrap().outcome, second.unwrap().outcome), (Outcome::Exited(0), Outcome::Exited(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_while_it_waits_for_its_image_leaves_nothing() {
    let Some(remote) = Remote::new("cancelled") else { return };
    let node = Node::new(1 << 30).await;
    remote.shelf.held.send_replace(true);
    let (cancel, stage) = (CancellationToken::new(), watch::Sender::default());
    let mut stages = stage.subscribe();
    let stop = async {
        stages.wait_for(|stage| *stage != Stage::Waiting).await.unwrap();
        cancel.cancel();
    };
    let (ran, ()) = tokio::join!(node.run_until(&remote, cancel.clone(), stage), stop);
    assert!(matches!(ran, Err(RunError::Cancelled)), "{ran:?}");
    assert!(!remote.is_there());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_unpacks_to_too_much_never_reaches_the_engine() {
    let Some(remote) = Remote::new("large") else { return };
    let error = Node::new(100_000).await.run(&remote).await.unwrap_err();
    assert!(matches!(&error, RunError::Declined(why) if why.contains("more than 100000 bytes")), "{error}");
    assert!(!remote.is_there());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_that_was_used_the_longest_time_ago_makes_way() {
    let (Some(first), Some(second)) = (Remote::new("first"), Remote::new("second")) else { return };
    // Room for one and a half.
    let node = Node::new(3_000_000).await;
    node.run(&first).await.unwrap();
    assert!(first.is_there());
    node.run(&second).await.unwrap();
    assert!(second.is_there() && !first.is_there());
    node.run(&first).await.unwrap();
    assert_eq!(first.pulls(), 2, "it comes again when it is wanted again");
}
