//! Containers, through any engine that speaks the Docker API.
//!
//! What a container may do is in `container`, whom it reaches in [`network`]; what it leaves is never trusted (`tree`),
//! and neither is the archive that its image may come in ([`saved`]), nor its layers of a registry (`layers`). The
//! engine may come and go: [`DockerExecutor::look`] says whether it is there, and removes what earlier runs of this
//! node left on it.

mod engine;

mod container;

mod gpus;

mod images;

mod layers;

mod zstd;

mod listed;

pub mod saved;

mod run;

mod resume;

mod owner;

mod streams;

mod memory;

pub mod network;

mod tree;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::models::ContainerSummary;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use shoal_protocol::id::ImageId;
use shoal_protocol::job::spec::NetworkKind;
use shoal_protocol::message::{ExecutorKind, Reason};
use shoal_protocol::task::Engine as Program;
use tokio_util::sync::CancellationToken;

use crate::{Blobs, CheckError, Executor, Finished, RunError, Task};
use container::{DATA_DIR_LABEL, EXECUTION_LABEL, GPUS_LABEL, NODE_LABEL};
use engine::{Engine, is_missing, plain};
use gpus::Gpus;
use images::Images;
use listed::Listed;
use network::{Attached, Networks};
use owner::{OWNER_LABEL, Owner};

pub use engine::{DEFAULT_HOST, EngineError, Facts, platform_here};
pub use gpus::{Allowed as AllowedGpus, Gpu, NvidiaBy, Vendor, find as find_gpus};
pub use images::{Found, ImageError, look_through, save};
pub use network::{HolderProgram, NetworkConfig};

/// How long containers may take to go when the node stops.
const LAST_WAIT: Duration = Duration::from_secs(20);
/// Pause between two looks for containers that are nobody's.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Pause between two looks whether they are gone.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// How containers are run.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// Where the engine is: `unix://PATH` or `tcp://HOST:PORT`.
    pub host: String,
    /// The node's id: its containers and images carry it, and it touches no others.
    pub node: String,
    /// The node's data directory, for people who look at containers.
    pub data_dir: String,
    /// Whether it is never started again, so that others have to remove what it leaves.
    pub passing: bool,
    /// Whether programs run as the user that their image names, root among them.
    pub allow_root: bool,
    /// What images that were loaded may take on the engine's disk, in bytes.
    pub max_image_bytes: u64,
    /// A folder for what is made for a moment; the engine sees it as well.
    pub work_dir: PathBuf,
    /// Whom containers may reach.
    pub network: NetworkConfig,
    /// What runs containers, for example `runsc`; none for the engine's own choice.
    pub runtime: Option<String>,
    /// GPUs that containers may have.
    pub gpus: Vec<Gpu>,
}

/// Runs containers.
#[derive(Debug)]
pub struct DockerExecutor {
    config: DockerConfig,
    images: Images,
    gpus: Gpus,
    listed: Listed,
    networks: Networks,
    /// The engine, once and as long as it answers.
    engine: Mutex<Option<Arc<Engine>>>,
    /// The executions that run now.
    active: Mutex<BTreeSet<String>>,
    /// Whether a container may be left that should have gone.
    untidy: AtomicBool,
    /// When it was last looked whether others left something.
    swept: Mutex<Option<Instant>>,
}

impl DockerExecutor {
    /// An executor whose engine has not been looked for yet.
    pub fn new(config: DockerConfig) -> Self {
        let images = Images::new(&config.node, config.max_image_bytes);
        let networks = Networks::new(config.network.clone());
        let gpus = Gpus::new(config.gpus.clone());
        Self {
            config,
            images,
            gpus,
            listed: Listed::default(),
            networks,
            engine: Mutex::default(),
            active: Mutex::default(),
            untidy: AtomicBool::new(false),
            swept: Mutex::default(),
        }
    }

    /// Looks whether the engine is there. One that has come back is first rid of what this node left on it.
    pub async fn look(&self) -> Result<Facts, EngineError> {
        if let Some(engine) = self.present()
            && engine.answers().await
        {
            if self.untidy.swap(false, Ordering::Relaxed) || self.is_long_ago() {
                self.sweep(&engine).await;
            }
            return Ok(engine.facts.clone());
        }
        *lock(&self.engine) = None;
        let mut engine = Engine::find(&self.config.host, self.config.runtime.as_deref()).await?;
        self.sweep(&engine).await;
        engine.facts.networks = self.try_networks(&engine).await;
        let facts = engine.facts.clone();
        *lock(&self.engine) = Some(Arc::new(engine));
        Ok(facts)
    }

    /// The GPUs that containers can be given on an engine like this.
    pub fn gpus(&self, engine: &Facts) -> Vec<Gpu> {
        self.gpus.usable(engine.nvidia).cloned().collect()
    }

    /// Whether the engine has an image, as far as was seen lately.
    pub async fn has_image(&self, id: ImageId) -> bool {
        match self.present() {
            Some(engine) => self.listed.has(&engine, id).await,
            None => false,
        }
    }

    /// The networks that containers can have there, of those that they may have.
    async fn try_networks(&self, engine: &Engine) -> BTreeSet<NetworkKind> {
        let labels = self.labels(network::TRIAL);
        self.networks.find(engine, &self.config.work_dir, labels).await
    }

    /// What containers and networks of an execution are known by.
    fn labels(&self, execution: &str) -> HashMap<String, String> {
        let DockerConfig { node, data_dir, .. } = &self.config;
        let labels = [(NODE_LABEL, node.as_str()), (EXECUTION_LABEL, execution), (DATA_DIR_LABEL, data_dir)];
        let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
        let owner = self.config.passing.then(Owner::this).flatten();
        labels.into_iter().chain(owner.map(|owner| (OWNER_LABEL.to_owned(), owner.to_string()))).collect()
    }

    /// Keeps the containers of these executions, which an earlier process of this node began, until each was
    /// [taken up](Executor::resume). Said before the first [look](Self::look).
    pub fn expect(&self, executions: impl IntoIterator<Item = String>) {
        lock(&self.active).extend(executions);
    }

    /// What `name` is on the engine.
    pub async fn image(&self, name: &str) -> Result<Found, ImageError> {
        let absent = || ImageError::Engine(name.into(), format!("no engine answers at {}", self.config.host));
        images::find(&self.present().ok_or_else(absent)?.client, name).await
    }

    /// What the engine calls an image, beside the names that nodes give; none if it does not have it, or has it from a
    /// node alone.
    pub async fn names(&self, id: ImageId) -> Result<Option<Vec<String>>, ImageError> {
        let absent = || ImageError::Engine(id.short(), format!("no engine answers at {}", self.config.host));
        self.images.names(&*self.present().ok_or_else(absent)?, id).await
    }

    /// Waits until the containers of cancelled runs are gone, but not for ever, and removes what is left.
    pub async fn stop(&self) {
        let gone = async {
            while !lock(&self.active).is_empty() {
                tokio::time::sleep(LAST_LOOK).await;
            }
        };
        let _ = tokio::time::timeout(LAST_WAIT, gone).await;
        lock(&self.active).clear();
        if let Some(engine) = self.present() {
            self.sweep(&engine).await;
        }
    }

    /// Whether it is time to look again for what others left.
    fn is_long_ago(&self) -> bool {
        lock(&self.swept).is_none_or(|swept| swept.elapsed() > SWEEP_EVERY)
    }

    fn present(&self) -> Option<Arc<Engine>> {
        lock(&self.engine).clone()
    }

    /// Removes this node's containers that belong to no run, with their volumes, and then such networks. So for nodes
    /// that will never do it.
    async fn sweep(&self, engine: &Engine) {
        self.sweep_containers(engine).await;
        self.sweep_networks(engine).await;
        self.sweep_orphans(engine).await;
    }

    /// Removes what nodes left that were there for one command. What fails is tried again with the next sweep.
    async fn sweep_orphans(&self, engine: &Engine) {
        *lock(&self.swept) = Some(Instant::now());
        let found = labelled(engine, OWNER_LABEL.to_owned()).await.unwrap_or_default();
        for container in found {
            let label = |name: &str| container.labels.as_ref()?.get(name);
            let owner = label(OWNER_LABEL).and_then(|owner| owner.parse::<Owner>().ok());
            let (Some(node), Some(id)) = (label(NODE_LABEL), &container.id) else { continue };
            if owner.is_some_and(|owner| owner.is_gone()) {
                tracing::info!(
                    container = &id[..id.len().min(12)],
                    node,
                    "removing a container of a node that is gone"
                );
                remove(engine, id).await;
                for (network, _) in network::of_node(engine, node).await.unwrap_or_default() {
                    network::remove(engine, &network).await;
                }
            }
        }
    }

    async fn sweep_networks(&self, engine: &Engine) {
        let found = match network::of_node(engine, &self.config.node).await {
            Ok(found) => found,
            Err(error) => {
                self.untidy.store(true, Ordering::Relaxed);
                return tracing::warn!(error, "networks of before cannot be listed");
            }
        };
        for (id, execution) in found {
            let is_active = execution.is_some_and(|execution| lock(&self.active).contains(&execution));
            if !is_active && !network::remove(engine, &id).await {
                self.untidy.store(true, Ordering::Relaxed);
            }
        }
    }

    async fn sweep_containers(&self, engine: &Engine) {
        let found = match labelled(engine, format!("{NODE_LABEL}={}", self.config.node)).await {
            Ok(found) => found,
            Err(error) => {
                self.untidy.store(true, Ordering::Relaxed);
                return tracing::warn!(error = plain(&error), "containers of before cannot be listed");
            }
        };
        for container in found {
            let label = |name: &str| container.labels.as_ref()?.get(name);
            let execution = label(EXECUTION_LABEL);
            let is_active = execution.is_some_and(|execution| self.goes_on(execution, label(GPUS_LABEL)));
            if let Some(id) = container.id.filter(|_| !is_active) {
                tracing::info!(container = &id[..id.len().min(12)], execution, "removing a container of before");
                self.remove(engine, &id).await;
            }
        }
    }

    /// Removes a network, now or when the engine is asked next.
    async fn remove_network(&self, network: Attached) {
        if !network.remove().await {
            self.untidy.store(true, Ordering::Relaxed);
        }
    }

    /// Whether an execution goes on; then the GPUs that its container has stay its own.
    fn goes_on(&self, execution: &str, gpus: Option<&String>) -> bool {
        let active = lock(&self.active);
        let goes_on = active.contains(execution);
        if let Some(gpus) = gpus.filter(|_| goes_on) {
            self.gpus.retake(gpus, execution);
        }
        goes_on
    }

    /// Removes a container, now or when the engine is asked next.
    async fn remove(&self, engine: &Engine, id: &str) {
        if !remove(engine, id).await {
            self.untidy.store(true, Ordering::Relaxed);
        }
    }
}

/// The containers that carry a label, or have it with that value.
async fn labelled(engine: &Engine, label: String) -> Result<Vec<ContainerSummary>, Error> {
    let filter = HashMap::from([("label".to_owned(), vec![label])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
    engine.client.list_containers(Some(options)).await
}

/// Kills and removes a container with its volumes; returns whether it is gone.
async fn remove(engine: &Engine, id: &str) -> bool {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    match engine.client.remove_container(id, Some(options)).await {
        Err(error) if !is_missing(&error) => {
            tracing::warn!(container = id, error = plain(&error), "a container is not removed yet");
            false
        }
        _ => true,
    }
}

#[async_trait]
impl Executor for DockerExecutor {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Docker
    }

    async fn check(&self, engine: &Program, _: &dyn Blobs) -> Result<(), CheckError> {
        match engine {
            Program::Docker(_) => Ok(()),
            other => Err(CheckError::OtherEngine(self.kind(), other.kind())),
        }
    }

    async fn run(&self, task: Task, blobs: &dyn Blobs, cancel: CancellationToken) -> Result<Finished, RunError> {
        let Program::Docker(docker) = task.invocation.engine.clone() else {
            return Err(RunError::Declined("this executor runs containers, not modules".into()));
        };
        let engine = self.present().ok_or_else(|| RunError::HostFailed("its docker engine is away".into()))?;
        if engine.facts.platform != docker.platform {
            return Err(RunError::Declined(format!("it runs {}, not {}", engine.facts.platform, docker.platform)));
        }
        let network = docker.network.kind();
        if network != NetworkKind::None && !engine.facts.networks.contains(&network) {
            return Err(RunError::Declined(Reason::NoNetwork(network).to_string()));
        }
        run::Run::new(self, engine, task, docker).perform(blobs, cancel).await
    }

    async fn resume(&self, task: Task, cancel: CancellationToken) -> Result<Finished, RunError> {
        let Program::Docker(docker) = task.invocation.engine.clone() else { return Err(RunError::cut_off()) };
        let Some(engine) = self.present() else {
            // Should it come back, nobody waits for the container any more.
            let execution = task.work_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            lock(&self.active).remove(&execution);
            return Err(RunError::cut_off());
        };
        run::Run::new(self, engine, task, docker).resume(cancel).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
