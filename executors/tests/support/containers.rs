//! Runs containers on a real engine, as a node of its own.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]

#[path = "../../../tests/docker-engine/engine.rs"]
pub mod engine;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::{containers, docker, image};
use shoal_executors::docker::{DEFAULT_HOST, HolderProgram, NetworkConfig};
use shoal_executors::{DockerConfig, DockerExecutor, Executor, Finished, RunError, Stage, StagedInput, Task};
use shoal_protocol::job::spec::NetworkKind;
use shoal_protocol::task::{
    Docker, Engine, Image, ImageOrigin, Invocation, Limits, Network, Outcome, ResultPath, Trap,
};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::Memory;

pub const MIB: u64 = 1 << 20;

/// A node of its own on the engine, and one job in the making.
pub struct Bench {
    pub executor: Arc<DockerExecutor>,
    pub node: String,
    pub dir: TempDir,
    pub image: Image,
    pub platform: String,
    pub blobs: Memory,
    pub limits: Limits,
    pub timeout: Duration,
    pub results: Vec<ResultPath>,
    pub inputs: Vec<StagedInput>,
    pub cancel: CancellationToken,
    pub stage: watch::Sender<Stage>,
    pub network: Network,
    pub environment: BTreeMap<String, String>,
}

impl Bench {
    pub async fn new(name: &str, changes: &[&str]) -> Option<Self> {
        Self::with(name, changes, false).await
    }

    pub async fn with(name: &str, changes: &[&str], allow_root: bool) -> Option<Self> {
        Self::configured(name, changes, |config| config.allow_root = allow_root).await
    }

    /// One whose operator opens networks, and private addresses to HTTP if it should.
    pub async fn open(kinds: &[NetworkKind], private_addresses: bool) -> Option<Self> {
        let holder = HolderProgram { program: env!("CARGO_BIN_EXE_shoal-hold").into(), arguments: Vec::new() };
        let kinds = BTreeSet::from_iter(kinds.iter().copied());
        let network = NetworkConfig { kinds, private_addresses, holder: Some(holder) };
        Self::configured("busybox", &[], |config| config.network = network).await
    }

    async fn configured(name: &str, changes: &[&str], change: impl FnOnce(&mut DockerConfig)) -> Option<Self> {
        let name = image(name, changes)?;
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
        let mut config = DockerConfig { node: node.clone(), ..config() };
        change(&mut config);
        let executor = Arc::new(DockerExecutor::new(config));
        let platform = executor.look().await.expect("the engine is fit").platform;
        let found = executor.image(&name).await.unwrap();
        Some(Self {
            executor,
            node,
            dir,
            image: Image { id: found.id, origin: ImageOrigin::Engine },
            platform,
            blobs: Memory::default(),
            limits: Limits { memory_bytes: 64 * MIB, fuel: 0, output_bytes: 8 * MIB },
            timeout: Duration::from_secs(120),
            results: Vec::new(),
            inputs: Vec::new(),
            cancel: CancellationToken::new(),
            stage: watch::Sender::default(),
            network: Network::None,
            environment: BTreeMap::from([("GREETING".into(), "hello there".into())]),
        })
    }

    /// The label of its containers and networks.
    pub fn label(&self) -> String {
        format!("shoal.node={}", self.node)
    }

    pub fn result(mut self, name: &str, path: &str) -> Self {
        self.results.push(ResultPath { name: name.into(), path: path.into() });
        self
    }

    pub async fn sh(&self, script: &str) -> Result<Ended, RunError> {
        self.run(&["sh", "-c", script]).await
    }

    pub async fn run(&self, words: &[&str]) -> Result<Ended, RunError> {
        let work_dir = self.dir.path().join("run");
        let _ = fs::remove_dir_all(&work_dir);
        fs::create_dir(&work_dir).unwrap();
        let docker = Docker {
            platform: self.platform.clone(),
            image: self.image.clone(),
            entrypoint: Vec::new(),
            parameters: words.iter().map(|&word| word.to_owned()).collect(),
            working_directory: Some("/tmp".into()),
            network: self.network.clone(),
            cpu_millis: 1_000,
            gpus: 0,
        };
        let invocation = Invocation {
            engine: Engine::Docker(docker),
            environment: self.environment.clone(),
            inputs: Vec::new(),
            unread: Vec::new(),
            result_paths: self.results.clone(),
            limits: self.limits,
        };
        let (inputs, timeout) = (self.inputs.clone(), self.timeout);
        let task = Task { invocation, inputs, work_dir, timeout, trace: None, stage: self.stage.clone() };
        let ended = self.executor.run(task, &self.blobs, self.cancel.clone()).await;
        assert_eq!(containers(&self.label()), Vec::<String>::new(), "no container stays");
        assert_eq!(networks(&self.label()), Vec::<String>::new(), "no network stays");
        ended.map(Ended)
    }
}

pub fn executor(node: &str, allow_root: bool) -> DockerExecutor {
    DockerExecutor::new(DockerConfig { node: node.into(), allow_root, ..config() })
}

pub fn config() -> DockerConfig {
    DockerConfig {
        host: std::env::var("DOCKER_HOST").unwrap_or_else(|_| DEFAULT_HOST.into()),
        node: String::new(),
        data_dir: "/of/a/test".into(),
        passing: false,
        allow_root: false,
        max_image_bytes: 1 << 30,
        work_dir: std::env::temp_dir(),
        network: NetworkConfig::default(),
        runtime: None,
        gpus: Vec::new(),
    }
}

/// A run that ended with a vote.
#[derive(Debug)]
pub struct Ended(pub Finished);

impl Ended {
    pub fn stdout(&self) -> String {
        read(self.0.outputs.stdout.as_deref())
    }

    pub fn stderr(&self) -> String {
        read(self.0.outputs.stderr.as_deref())
    }

    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.0.outcome, Outcome::Exited(code), "{} {}", self.stdout(), self.stderr());
        self
    }

    pub fn stopped_by(self, trap: Trap) -> Self {
        assert_eq!(self.0.outcome, Outcome::Trapped(trap), "{} {}", self.stdout(), self.stderr());
        self
    }

    pub fn result(&self, name: &str) -> PathBuf {
        self.0.outputs.results.iter().find(|(found, _)| found == name).expect("it is among the results").1.clone()
    }
}

fn read(path: Option<&Path>) -> String {
    path.map(|path| fs::read_to_string(path).unwrap()).unwrap_or_default()
}

/// The networks that carry a label.
pub fn networks(label: &str) -> Vec<String> {
    let listed = docker(&["network", "ls", "-q", "--filter", &format!("label={label}")]).expect("they are listed");
    listed.lines().map(str::to_owned).collect()
}
