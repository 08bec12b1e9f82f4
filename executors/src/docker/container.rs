//! What a container is allowed: the whole of its isolation, as one value that a test can look at.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, ImageConfig, Mount, MountTmpfsOptions,
    MountType, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use shoal_protocol::task::{Docker, Limits};

use super::engine::{Facts, LOG_DRIVER};
use super::gpus::Given;

/// Processes and threads of one container.
const MAX_PROCESSES: i64 = 1_024;
/// Files that one process of a container may hold open.
const MAX_OPEN_FILES: i64 = 16_384;
/// Files and folders that may lie in a folder that is in memory.
const MAX_MEMORY_FILES: u32 = 65_536;
/// The least memory that an engine lets a container have, in bytes.
const MIN_MEMORY_BYTES: u64 = 6 << 20;
/// The least processor time that an engine lets a container have, in thousandths of a core.
const MIN_CPU_MILLIS: u32 = 10;
/// Files in which the engine keeps what a program prints; it drops the oldest when it needs another.
const LOG_FILES: u64 = 2;
/// The least that such a file may hold, in bytes.
const MIN_LOG_BYTES: u64 = 64 << 10;
/// Volumes that an image may declare.
pub(super) const MAX_VOLUMES: usize = 32;
/// Nobody, on every system: neither root nor a person.
const NOBODY: (u32, u32) = (65_534, 65_534);
/// Where programs write what they do not keep.
const SCRATCH: &str = "/tmp";

/// Label of the node that made a container.
pub(super) const NODE_LABEL: &str = "shoal.node";
/// Label of the execution that a container belongs to.
pub(super) const EXECUTION_LABEL: &str = "shoal.execution";
/// Label of the data directory of the node.
pub(super) const DATA_DIR_LABEL: &str = "shoal.data-dir";
/// Label of the GPUs that a container has.
pub(super) const GPUS_LABEL: &str = "shoal.gpus";

/// Everything that a container is made from.
pub(super) struct Plan<'a> {
    pub(super) docker: &'a Docker,
    pub(super) limits: Limits,
    pub(super) environment: Vec<String>,
    /// The image, as the engine has it.
    pub(super) image: String,
    pub(super) image_config: &'a ImageConfig,
    pub(super) facts: &'a Facts,
    pub(super) user: String,
    pub(super) labels: HashMap<String, String>,
    /// The network, as the engine is told.
    pub(super) network: &'a str,
    /// What the program only reads: on disk, and where it finds it.
    pub(super) inputs: Vec<(PathBuf, String)>,
    /// What it may write.
    pub(super) written: Vec<(PathBuf, String)>,
    pub(super) gpus: Given,
}

/// Engines tell nothing from an empty list.
fn words<T: Clone>(words: &[T]) -> Option<Vec<T>> {
    (!words.is_empty()).then(|| words.to_vec())
}

impl Plan<'_> {
    /// The container as the engine is told.
    pub(super) fn body(self) -> ContainerCreateBody {
        ContainerCreateBody {
            image: Some(self.image.clone()),
            user: Some(self.user.clone()),
            env: Some(self.environment.clone()),
            entrypoint: words(&self.docker.entrypoint),
            cmd: words(&self.docker.parameters),
            working_dir: self.docker.working_directory.clone(),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            // What the image wants to be asked now and then is nobody's business here.
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }),
            labels: Some(self.labels.clone()),
            host_config: Some(self.host_config()),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(&self) -> HostConfig {
        let memory_bytes = self.limits.memory_bytes.max(MIN_MEMORY_BYTES);
        let cpu_millis = self.docker.cpu_millis.clamp(MIN_CPU_MILLIS, self.facts.cpu_millis.max(MIN_CPU_MILLIS));
        HostConfig {
            cap_drop: Some(vec!["ALL".into()]),
            // The default seccomp profile stays, because no other is named.
            security_opt: Some(vec!["no-new-privileges:true".into()]),
            privileged: Some(false),
            readonly_rootfs: Some(true),
            network_mode: Some(self.network.to_owned()),
            ipc_mode: Some("private".into()),
            pids_limit: Some(MAX_PROCESSES),
            memory: Some(signed(memory_bytes)),
            // With what is swapped out: nothing.
            memory_swap: Some(signed(memory_bytes)),
            nano_cpus: Some(i64::from(cpu_millis) * 1_000_000),
            // A part of the memory, as all that is in memory: Docker's usual 64 MiB are too little for many programs.
            shm_size: Some(signed(memory_bytes / 2)),
            ulimits: Some(self.ulimits()),
            tmpfs: Some(self.scratch(memory_bytes)),
            mounts: Some(self.mounts(memory_bytes)),
            init: Some(true),
            log_config: Some(self.log_config()),
            runtime: self.facts.runtime.clone(),
            device_requests: words(&self.gpus.requests),
            devices: words(&self.gpus.devices),
            group_add: words(&self.gpus.groups),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            ..HostConfig::default()
        }
    }

    /// What the program prints is read while it runs. Should the node be killed, the engine has it.
    fn log_config(&self) -> HostConfigLogConfig {
        if !self.facts.keeps_output {
            return HostConfigLogConfig { typ: Some("none".into()), config: None };
        }
        let size = log_bytes(self.limits.output_bytes).to_string();
        let options = [("max-size", size), ("max-file", LOG_FILES.to_string()), ("compress", "false".into())];
        let options = options.map(|(name, value)| (name.to_owned(), value));
        HostConfigLogConfig { typ: Some(LOG_DRIVER.into()), config: Some(options.into()) }
    }

    /// The kernel holds each file to what all files together may be: who fills the disk with one file gets no further.
    fn ulimits(&self) -> Vec<ResourcesUlimits> {
        let limits = [("nofile", MAX_OPEN_FILES), ("core", 0), ("fsize", signed(self.limits.output_bytes))];
        let ulimit = |(name, most): (&str, i64)| ResourcesUlimits {
            name: Some(name.into()),
            soft: Some(most),
            hard: Some(most),
        };
        limits.into_iter().map(ulimit).collect()
    }

    /// Half of the memory, so that who fills it is told before the program has to die for it.
    fn scratch(&self, memory_bytes: u64) -> HashMap<String, String> {
        if self.is_mounted(SCRATCH) {
            return HashMap::new();
        }
        let size = memory_bytes / 2;
        let options = format!("rw,exec,nosuid,nodev,size={size},nr_inodes={MAX_MEMORY_FILES},mode=1777");
        HashMap::from([(SCRATCH.to_owned(), options)])
    }

    fn mounts(&self, memory_bytes: u64) -> Vec<Mount> {
        let bind = |read_only: bool| {
            move |(source, target): &(PathBuf, String)| Mount {
                typ: Some(MountType::BIND),
                source: Some(source.display().to_string()),
                target: Some(target.clone()),
                read_only: Some(read_only),
                ..Mount::default()
            }
        };
        let inputs = self.inputs.iter().map(bind(true));
        let written = self.written.iter().map(bind(false));
        inputs.chain(written).chain(self.volumes(memory_bytes)).collect()
    }

    /// What the image declares as volumes would be folders on the host's disk without a bound: here they are memory.
    fn volumes(&self, memory_bytes: u64) -> Vec<Mount> {
        let declared = self.image_config.volumes.iter().flatten();
        let free = declared.filter(|path| !self.is_mounted(path) && path.trim_end_matches('/') != SCRATCH);
        let volume = |path: &String| Mount {
            typ: Some(MountType::TMPFS),
            target: Some(path.clone()),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: Some(signed(memory_bytes / 2)),
                mode: Some(0o1777),
                ..MountTmpfsOptions::default()
            }),
            ..Mount::default()
        };
        free.map(volume).collect()
    }

    fn is_mounted(&self, path: &str) -> bool {
        self.inputs.iter().chain(&self.written).any(|(_, target)| target == path.trim_end_matches('/'))
    }
}

/// How large a file with what a program prints may get, in bytes: together they hold no more than it may write.
pub(super) fn log_bytes(output_bytes: u64) -> u64 {
    (output_bytes / LOG_FILES).max(MIN_LOG_BYTES)
}

/// As whom the program runs.
///
/// Names are not believed: an image may call root what it likes. Files that the program writes must be readable and
/// removable for the node, which they are if it is root, or the same user.
pub(super) fn user(image_user: &str, facts: &Facts, node: (u32, u32), allow_root: bool) -> String {
    let id = |(user, group): (u32, u32)| format!("{user}:{group}");
    let (is_root, is_number) = (node.0 == 0, image_user.split(':').all(|part| part.parse::<u32>().is_ok()));
    let of_image = image_user.split(':').next().and_then(|part| part.parse::<u32>().ok());
    match of_image {
        // Root of such a container is the user who runs the engine.
        _ if facts.is_rootless => id((0, 0)),
        _ if !is_root => id(node),
        _ if allow_root => image_user.to_owned(),
        Some(user) if user != 0 && is_number => image_user.to_owned(),
        _ => id(NOBODY),
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use bollard::models::{DeviceMapping, DeviceRequest};
    use shoal_protocol::id::ImageId;
    use shoal_protocol::task::{Image, ImageOrigin, Network};

    use super::*;

    fn docker() -> Docker {
        Docker {
            platform: "linux/amd64".into(),
            image: Image { id: ImageId([1; 32]), origin: ImageOrigin::Engine },
            entrypoint: Vec::new(),
            parameters: vec!["true".into()],
            working_directory: None,
            network: Network::None,
            cpu_millis: 500_000,
            gpus: 0,
        }
    }

    fn facts() -> Facts {
        Facts {
            platform: "linux/amd64".into(),
            version: "1".into(),
            cpu_millis: 2_000,
            is_rootless: false,
            networks: [].into(),
            keeps_output: true,
            nvidia: None,
            runtime: None,
        }
    }

    fn body(image_config: &ImageConfig) -> ContainerCreateBody {
        let (docker, facts) = (docker(), facts());
        plan(&docker, &facts, image_config).body()
    }

    fn plan<'a>(docker: &'a Docker, facts: &'a Facts, image_config: &'a ImageConfig) -> Plan<'a> {
        Plan {
            docker,
            limits: Limits { memory_bytes: 100 << 20, fuel: 0, output_bytes: 1 << 20 },
            environment: vec!["A=b".into()],
            image: "sha256:1".into(),
            image_config,
            facts,
            user: "65534:65534".into(),
            labels: HashMap::new(),
            network: "none",
            inputs: vec![("/w/inputs/0".into(), "/in".into())],
            written: vec![("/w/results/0".into(), "/out".into())],
            gpus: Given::default(),
        }
    }

    #[test]
    fn a_container_has_no_privilege_and_a_bound_on_everything() {
        let host = body(&ImageConfig::default()).host_config.unwrap();
        assert_eq!(host.cap_drop, Some(vec!["ALL".into()]));
        assert_eq!(host.cap_add, None);
        assert_eq!((host.devices, host.device_requests, host.group_add, host.runtime), (None, None, None, None));
        assert_eq!(host.binds, None);
        assert_eq!(host.security_opt, Some(vec!["no-new-privileges:true".into()]));
        assert_eq!((host.privileged, host.readonly_rootfs), (Some(false), Some(true)));
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!((host.pid_mode, host.uts_mode, host.userns_mode), (None, None, None));
        assert_eq!((host.memory, host.memory_swap), (Some(100 << 20), Some(100 << 20)));
        assert_eq!(host.nano_cpus, Some(2_000_000_000), "no more than there is");
        assert_eq!((host.pids_limit, host.shm_size), (Some(MAX_PROCESSES), Some(50 << 20)));
        let fsize = host.ulimits.unwrap().into_iter().find(|limit| limit.name.as_deref() == Some("fsize")).unwrap();
        assert_eq!((fsize.soft, fsize.hard), (Some(1 << 20), Some(1 << 20)));
        let log = host.log_config.unwrap();
        let kept = log.config.unwrap();
        assert_eq!(
            (log.typ.as_deref(), kept["max-size"].as_str(), kept["max-file"].as_str()),
            (Some("local"), "524288", "2")
        );
    }

    #[test]
    fn a_container_has_the_gpus_that_are_given_and_the_runtime_that_is_chosen() {
        let request = DeviceRequest { driver: Some("nvidia".into()), ..DeviceRequest::default() };
        let device = DeviceMapping { path_on_host: Some("/dev/kfd".into()), ..DeviceMapping::default() };
        let (docker, config) = (docker(), ImageConfig::default());
        let facts = Facts { runtime: Some("runsc".into()), ..facts() };
        let gpus = Given { requests: vec![request.clone()], devices: vec![device.clone()], groups: vec!["44".into()] };
        let host = Plan { gpus, ..plan(&docker, &facts, &config) }.body().host_config.unwrap();
        assert_eq!((host.device_requests, host.devices), (Some(vec![request]), Some(vec![device])));
        assert_eq!((host.group_add, host.runtime.as_deref()), (Some(vec!["44".into()]), Some("runsc")));
        assert_eq!((host.cap_add, host.privileged), (None, Some(false)));
    }

    #[test]
    fn inputs_cannot_be_written_and_volumes_of_the_image_are_memory() {
        let config =
            ImageConfig { volumes: Some(vec!["/out".into(), "/tmp".into(), "/db".into()]), ..Default::default() };
        let mounts = body(&config).host_config.unwrap().mounts.unwrap();
        let of =
            |target: &str| mounts.iter().filter(|mount| mount.target.as_deref() == Some(target)).collect::<Vec<_>>();
        assert_eq!(of("/in")[0].read_only, Some(true));
        assert_eq!((of("/out").len(), of("/out")[0].typ), (1, Some(MountType::BIND)));
        assert_eq!(of("/db")[0].typ, Some(MountType::TMPFS));
        assert!(of("/tmp").is_empty());
    }

    #[test]
    fn nobody_is_root_unless_the_operator_allows_it() {
        let (plain, rootless) = (facts(), Facts { is_rootless: true, ..facts() });
        let (root, person) = ((0, 0), (1_000, 100));
        let table = [
            ("", &plain, root, false, "65534:65534"),
            ("0", &plain, root, false, "65534:65534"),
            ("00:5", &plain, root, false, "65534:65534"),
            ("root", &plain, root, false, "65534:65534"),
            ("app", &plain, root, false, "65534:65534"),
            ("12", &plain, root, false, "12"),
            ("12:34", &plain, root, false, "12:34"),
            ("12:root", &plain, root, false, "65534:65534"),
            ("app", &plain, root, true, "app"),
            ("12", &plain, person, true, "1000:100"),
            ("", &rootless, person, false, "0:0"),
        ];
        for (image, facts, node, allow_root, expected) in table {
            assert_eq!(user(image, facts, node, allow_root), expected, "{image:?} for {node:?}");
        }
    }
}
