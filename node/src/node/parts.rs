//! What the parts of a node are told of its configuration.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use shoal_executors::docker::{DEFAULT_HOST, Gpu, NetworkConfig, find_gpus};
use shoal_executors::wasm::compiler::Compiler;
use shoal_executors::{DockerConfig, DockerExecutor, Executor, PROFILE, WasmConfig, WasmExecutor};
use shoal_protocol::auction::Offering;
use shoal_protocol::id::PeerId;
use shoal_protocol::message::{ExecutorKind, Resources, SourceKind};
use shoal_store::blobs::{self, BlobsConfig};
use shoal_store::data_dir::DataDir;
use shoal_store::publishers::PublishersConfig;
use shoal_store::reserve::Reserve;
use shoal_store::sources::{Sources, SourcesConfig};

use super::watching::GC_INTERVAL;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::Containers;
use crate::hands::Executors;
use crate::published::Published;
use crate::pulling::Pulling;

/// What a compilation may always use, in bytes: less would not do for an ordinary program.
const MIN_COMPILER_BYTES: u64 = 512 << 20;

/// What sources may be read from.
pub(super) fn sources_config(config: &Config) -> SourcesConfig {
    SourcesConfig {
        local: config.local_paths.clone(),
        ipfs: config.ipfs.clone(),
        private_addresses: config.private_addresses,
    }
}

/// Where results go, and how others reach them.
pub(super) fn publishers_config(config: &Config, dir: &DataDir, served: Option<&Published>) -> PublishersConfig {
    PublishersConfig {
        folder: dir.published(),
        plain_folder: config.publish.dir.clone(),
        max_bytes: Some(config.capacity.disk_bytes),
        base_url: config.publish.url.clone().or(served.map(Published::url)),
        ipfs: config.ipfs.clone(),
    }
}

/// Compiling a module may take no more memory than all executions together.
pub(super) fn wasm_config(config: &Config, dir: &DataDir) -> WasmConfig {
    let mut compiler = config.compiler.clone();
    if let Some(Compiler { limits, .. }) = &mut compiler {
        limits.memory_bytes = limits.memory_bytes.min(config.capacity.memory_bytes.max(MIN_COMPILER_BYTES));
    }
    WasmConfig { cache_dir: Some(dir.modules()), compiler, ..WasmConfig::default() }
}

/// All blobs together may take what the node offers of its disk.
pub(super) fn blobs_config(config: &Config, dir: &DataDir, clock: Clock) -> BlobsConfig {
    BlobsConfig {
        gc_interval: GC_INTERVAL,
        clock: blobs::Clock::new(move || clock.now()),
        quota: config.capacity.disk_bytes,
        reserve: Some(Reserve::new(dir.reserve())),
    }
}

/// The executor of containers, where the operator wants it, and how its engine is. The containers of `outlived`
/// executions stay.
pub(super) async fn containers(
    config: &Config,
    dir: &DataDir,
    me: PeerId,
    outlived: &BTreeSet<String>,
) -> Option<Containers> {
    if !config.executors.contains(&ExecutorKind::Docker) {
        return None;
    }
    let executor = DockerExecutor::new(DockerConfig {
        host: config.docker.host.clone().unwrap_or_else(|| DEFAULT_HOST.to_owned()),
        node: me.to_string(),
        data_dir: config.data_dir.display().to_string(),
        passing: config.passing,
        allow_root: config.docker.allow_root,
        max_image_bytes: config.capacity.disk_bytes,
        work_dir: dir.work(),
        network: NetworkConfig {
            kinds: config.docker.networks.clone(),
            private_addresses: config.private_addresses,
            holder: config.holder.clone(),
        },
        runtime: config.docker.runtime.clone(),
        gpus: gpus(config),
    });
    executor.expect(outlived.iter().cloned());
    Some(Containers::find(executor).await)
}

/// GPUs of this machine that containers may have. An engine elsewhere has others, of which nobody here knows.
fn gpus(config: &Config) -> Vec<Gpu> {
    let is_here = config.docker.host.as_deref().is_none_or(|host| host.starts_with("unix://"));
    if is_here { config.docker.gpus.of(find_gpus(Path::new("/"))) } else { Vec::new() }
}

/// Where containers get images of registries from.
pub(super) fn pulling(config: &Config, sources: &Sources) -> Pulling {
    let (is_open, shared_logins) = (config.docker.pulls, config.docker.shared_logins.clone());
    Pulling { sources: sources.clone(), is_open, shared_logins }
}

/// What an executor offers, if it is there.
pub(super) fn profile(kind: ExecutorKind, containers: Option<&Containers>) -> Option<String> {
    match kind {
        ExecutorKind::Wasm => Some(PROFILE.to_owned()),
        ExecutorKind::Docker => containers?.platform(),
    }
}

/// What the node offers to the mesh now.
pub(super) fn offering(config: &Config, containers: Option<&Containers>) -> Offering {
    let offered = config.executors.iter().filter_map(|kind| Some((*kind, profile(*kind, containers)?)));
    Offering {
        executors: offered.collect(),
        capacity: Resources { gpus: containers.map_or(0, Containers::gpu_count), ..config.capacity },
        labels: config.labels.clone(),
        operator: config.operator.clone(),
        sources: open_sources(config),
        networks: containers.map(Containers::networks).unwrap_or_default(),
        keep_ms: config.retention.for_others.millis(),
        admission: config.admission.policy.clone(),
    }
}

/// Sources that the operator opened to others and that can be read here at all.
pub(super) fn open_sources(config: &Config) -> BTreeSet<SourceKind> {
    let has_ipfs = config.ipfs.api.is_some() || !config.ipfs.gateways.is_empty();
    config.sources.iter().copied().filter(|kind| *kind != SourceKind::Ipfs || has_ipfs).collect()
}

/// A node without executors still runs its own jobs when it is alone, so the engine is always there.
pub(super) fn executors(executor: &Arc<WasmExecutor>, containers: Option<&Containers>) -> Executors {
    let wasm: Arc<dyn Executor> = Arc::clone(executor) as _;
    let docker = containers.map(|containers| (ExecutorKind::Docker, Arc::clone(&containers.executor) as _));
    Arc::new(std::iter::once((ExecutorKind::Wasm, wasm)).chain(docker).collect())
}
