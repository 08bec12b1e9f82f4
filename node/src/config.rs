//! What an operator may choose: the file in the data directory < the environment < flags.
//!
//! What all nodes of a mesh must share is in `shoal_protocol::limits` instead.

mod access;

mod admission;

mod join;

mod relay;

mod settings;

mod values;

#[cfg(debug_assertions)]
mod misbehaviour;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use shoal_executors::docker::{AllowedGpus, HolderProgram};
use shoal_executors::wasm::compiler::Compiler;
use shoal_protocol::access::Access;
use shoal_protocol::admission::Locality;
use shoal_protocol::id::PeerId;
use shoal_protocol::job::spec::NetworkKind;
use shoal_protocol::job::units::{Bytes, Cpu, Seconds};
use shoal_protocol::message::{Contact, ExecutorKind, Resources, SourceKind};
use shoal_protocol::relay::RelayAddress;
use shoal_protocol::shard;
use shoal_store::data_dir::DataDir;
use shoal_store::sources::{AllowList, IpfsConfig};

use join::Joins;
use settings::{read_environment, read_file};
use values::{
    allow_list, allowed_gpus, amount, at_least_one, docker_address, docker_runtime_name, enough_peers, parse_executors,
    parse_login_scopes, parse_networks, parse_pull, parse_sources, rate, socket,
};

use crate::network::relay::RelaySettings;
use crate::network::ticket::{Ticket, TicketError};
use crate::network::{Bandwidth, DEFAULT_MAX_PEERS};
pub use crate::pulling::LoginScope;

pub use admission::AdmissionConfig;
#[cfg(debug_assertions)]
pub use misbehaviour::Misbehaviour;
#[cfg(debug_assertions)]
pub(crate) use misbehaviour::die;
pub use settings::Settings;

/// The mesh that a node joins when none is named.
pub const DEFAULT_MESH: &str = "public";
/// The share of the machine that a node offers unless told otherwise, in percent.
const DEFAULT_SHARE: u64 = 80;
/// Jobs that are remembered once they are over: some ten kilobytes each.
const DEFAULT_JOB_HISTORY: u64 = 10_000;
/// How long results of a node's jobs are kept unless somebody says otherwise.
const DEFAULT_RETENTION: Seconds = Seconds::days(30);
/// How long at most.
const DEFAULT_MAX_RETENTION: Seconds = Seconds::days(365);
/// How long those are kept at most that were made for others.
const DEFAULT_WORKER_RETENTION: Seconds = Seconds::days(1);

/// Everything a node is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the node keeps its key, state and blobs.
    pub data_dir: PathBuf,
    /// UDP address; port 0 picks one.
    pub listen: SocketAddr,
    /// Meshes' tickets to join with.
    pub join: Vec<Ticket>,
    /// Peers to join with.
    pub join_peers: Vec<(PeerId, Contact)>,
    /// The mesh's name. Nodes of different meshes do not talk. A private one is meant if the data directory belongs to
    /// one of this name, or if a ticket invites into one.
    pub mesh: String,
    /// Whether neighbours on the local network are looked for, and told of this node.
    pub mdns: bool,
    /// Whether the router is asked to open the UDP port.
    pub port_mapping: bool,
    /// TCP address of the HTTP API; none for no API.
    pub api_listen: Option<SocketAddr>,
    /// Executors that run jobs of others; none for a node that only submits.
    pub executors: BTreeSet<ExecutorKind>,
    /// Sources that the node reads for jobs of others.
    pub sources: BTreeSet<SourceKind>,
    /// What all executions may use together.
    pub capacity: Resources,
    /// How many bytes of blobs may pass in a second.
    pub bandwidth: Bandwidth,
    /// Connected peers, beyond which those that nobody needs are let go.
    pub max_peers: usize,
    /// How many jobs of this node are remembered once they are over.
    pub job_history: u64,
    /// Labels, for constraints of jobs.
    pub labels: BTreeMap<String, String>,
    /// Who operates the node: its bids are not independent of those of other nodes with this name.
    pub operator: Option<String>,
    /// Where containers run, and as whom.
    pub docker: DockerSettings,
    /// With whom the node has to do at all.
    pub access: Access,
    /// Which jobs of others run.
    pub admission: AdmissionConfig,
    /// Where content of IPFS comes from and goes to.
    pub ipfs: IpfsConfig,
    /// Paths of this machine that jobs may read or write.
    pub local_paths: AllowList,
    /// Whether jobs of other peers may read from addresses that are not public, and containers ask them by HTTP.
    pub private_addresses: bool,
    /// Where published results are.
    pub publish: PublishConfig,
    /// How long results are kept.
    pub retention: Retention,
    /// Relays to use, beside those that tickets name and the mesh announces.
    pub relays: Vec<RelayAddress>,
    /// The relay that the node runs; none to run none.
    pub relay: Option<RelaySettings>,
    /// Whether the node is there for one command, and its data directory goes with it.
    pub passing: bool,
    /// Whether the node stays on this machine: no port mapping, no relay.
    pub loopback_only: bool,
    /// Nodes that a [shard] of the mesh has at least. No setting: nodes of one mesh must agree.
    pub shard_nodes: u32,
    /// The program that compiles modules within limits; none to compile them in this process.
    pub compiler: Option<Compiler>,
    /// The program that holds networks of containers; none to give them no HTTP.
    pub holder: Option<HolderProgram>,
    /// What the node does wrong on purpose.
    #[cfg(debug_assertions)]
    pub misbehaviour: Option<Misbehaviour>,
}

/// Where containers run, and as whom.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DockerSettings {
    /// The engine, `unix://PATH` or `tcp://HOST:PORT`; none for the usual socket.
    pub host: Option<String>,
    /// Whether programs run as the user that their image names, root among them.
    pub allow_root: bool,
    /// Networks that programs may have, beside none.
    pub networks: BTreeSet<NetworkKind>,
    /// What runs containers, for example `runsc`; none for the engine's own choice.
    pub runtime: Option<String>,
    /// GPUs that containers may have.
    pub gpus: AllowedGpus,
    /// Whether images of registries are pulled.
    pub pulls: bool,
    /// Where the operator's login is shown for jobs of others.
    pub shared_logins: Vec<LoginScope>,
}

/// Where published results are, and how others reach them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PublishConfig {
    /// TCP address where archives are served; none to serve nothing.
    pub listen: Option<SocketAddr>,
    /// How others reach that address, where it is not as it is written: behind a NAT or a proxy.
    pub url: Option<String>,
    /// Where plain folders are written instead of archives.
    pub dir: Option<PathBuf>,
}

/// How long results are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Those of this node's jobs after their end, unless the job says otherwise.
    pub usual: Seconds,
    /// Those of this node's jobs at most.
    pub most: Seconds,
    /// Those of executions for others at most; 0 for not at all.
    pub for_others: Seconds,
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Nobody chose.
    Default,
    /// `config.toml` in the data directory.
    File,
    /// `SHOAL_…`.
    Environment,
    /// The command line.
    Flag,
}

/// A configuration and where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Name, value and origin of each setting.
    pub explanation: Vec<(&'static str, String, Origin)>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// The file is no configuration.
    #[error("{0} is not a valid configuration: {1}")]
    Invalid(PathBuf, String),
    /// A value is wrong.
    #[error("{origin} {name}: {reason}")]
    Value {
        /// The setting.
        name: &'static str,
        /// Where it came from.
        origin: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A ticket is wrong.
    #[error("cannot join: {0}")]
    Ticket(#[from] TicketError),
    /// A file of tickets cannot be used, or one of its lines.
    #[error("cannot join: {path}{line}: {reason}", path = path.display(), line = line.map(|line| format!(", line {line}")).unwrap_or_default())]
    JoinFile {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: Option<usize>,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// What is to be joined is nothing that can be.
    #[error("cannot join: {0}")]
    Join(String),
}

impl Loaded {
    /// Completes `flags` with the environment, the file in `data_dir`, and defaults.
    pub fn new(data_dir: &Path, flags: Settings) -> Result<Self, ConfigError> {
        let file = read_file(&data_dir.join("config.toml"))?;
        let environment = read_environment(|name| std::env::var(name).ok())?;
        Self::merge(data_dir, [(flags, Origin::Flag), (environment, Origin::Environment), (file, Origin::File)])
    }

    fn merge(data_dir: &Path, origins: [(Settings, Origin); 3]) -> Result<Self, ConfigError> {
        let mut explanation = Vec::new();
        macro_rules! setting {
            ($field:ident, $default:expr) => {{
                let found = origins.iter().find_map(|(settings, origin)| Some((settings.$field.clone()?, *origin)));
                let (value, origin) = found.unwrap_or_else(|| ($default, Origin::Default));
                explanation.push((stringify!($field), display(&value), origin));
                (value, origin)
            }};
        }
        let (listen, _) = setting!(listen, SocketAddr::from(([0, 0, 0, 0], 0)));
        let (join, _) = setting!(join, Vec::new());
        if let Some((_, shown, _)) = explanation.last_mut() {
            *shown = display(&join.iter().map(|word| join::shown(word)).collect::<Vec<_>>());
        }
        let join = Joins::read(&join)?;
        let ticket_mesh = join.mesh().unwrap_or(DEFAULT_MESH).to_owned();
        let (mesh, _) = setting!(mesh, ticket_mesh);
        let (mdns, _) = setting!(mdns, true);
        let (port_mapping, _) = setting!(port_mapping, true);
        let (api_listen, _) = setting!(api_listen, SocketAddr::from(([127, 0, 0, 1], 0)));
        let (executors, executors_from) = setting!(executors, vec!["wasm".to_owned()]);
        let (sources, sources_from) = setting!(sources, Vec::new());
        let machine = machine_size(data_dir);
        let (memory, memory_from) = setting!(max_memory, format!("{}", machine.memory_bytes));
        let (cpu, cpu_from) = setting!(max_cpu, format!("{}m", machine.cpu_millis));
        let (disk, disk_from) = setting!(max_disk, format!("{}", machine.disk_bytes));
        let (upload, upload_from) = setting!(max_upload, String::new());
        let (per_peer, per_peer_from) = setting!(max_upload_per_peer, String::new());
        let (download, download_from) = setting!(max_download, String::new());
        let (max_peers, max_peers_from) = setting!(max_peers, DEFAULT_MAX_PEERS as u64);
        let (job_history, job_history_from) = setting!(job_history, DEFAULT_JOB_HISTORY);
        let (labels, _) = setting!(labels, BTreeMap::new());
        let (operator, _) = setting!(operator, String::new());
        let (docker_host, docker_host_from) = setting!(docker_host, String::new());
        let (docker_allow_root, _) = setting!(docker_allow_root, false);
        let (docker_networks, docker_networks_from) = setting!(docker_networks, Vec::new());
        let (docker_runtime, docker_runtime_from) = setting!(docker_runtime, String::new());
        let (gpus, gpus_from) = setting!(gpus, vec!["all".to_owned()]);
        let (docker_pull, docker_pull_from) = setting!(docker_pull, "missing".to_owned());
        let (docker_share_login, share_login_from) = setting!(docker_share_login, Vec::new());
        let admission = admission::read(admission::Given {
            allow_images: setting!(allow_images, Vec::new()),
            deny_images: setting!(deny_images, Vec::new()),
            allow_requesters: setting!(allow_requesters, Vec::new()),
            block_requesters: setting!(block_requesters, Vec::new()),
            reject_stateless: setting!(reject_stateless, false).0,
            locality: setting!(locality, Locality::default().to_string()),
            probe_exec: setting!(probe_exec, String::new()).0,
            probe_http: setting!(probe_http, String::new()),
        })?;
        let access = access::read(&access::Given {
            allow_peers: setting!(allow_peers, Vec::new()),
            deny_peers: setting!(deny_peers, Vec::new()),
            allow_networks: setting!(allow_networks, Vec::new()),
            deny_networks: setting!(deny_networks, Vec::new()),
        })?;
        let (ipfs_api, _) = setting!(ipfs_api, String::new());
        let (mut ipfs_gateways, _) = setting!(ipfs_gateways, Vec::new());
        ipfs_gateways.retain(|url| !url.is_empty());
        let (local_paths, local_paths_from) = setting!(allow_local_paths, Vec::new());
        let (private_addresses, _) = setting!(allow_private_addresses, false);
        let (publish_listen, publish_from) = setting!(publish_listen, String::new());
        let (publish_url, _) = setting!(publish_url, String::new());
        let (publish_dir, _) = setting!(publish_dir, PathBuf::new());
        let (most, most_from) = setting!(max_retention, DEFAULT_MAX_RETENTION.to_string());
        let most = amount("max_retention", most_from, &most)?;
        let (usual, usual_from) = setting!(retention, DEFAULT_RETENTION.min(most).to_string());
        let usual = amount("retention", usual_from, &usual)?;
        let (for_others, for_others_from) = setting!(worker_retention, DEFAULT_WORKER_RETENTION.to_string());
        let for_others = amount("worker_retention", for_others_from, &for_others)?;
        let retention = Retention { usual, most, for_others };
        let publish_listen = match publish_listen.as_str() {
            "" => None,
            text => Some(socket("publish_listen", publish_from, text)?),
        };
        let (relays, relays_from) = setting!(relays, Vec::new());
        let relay = relay::read(relay::Given {
            is_on: setting!(relay, false).0,
            listen: setting!(relay_listen, relay::DEFAULT_LISTEN.to_owned()),
            url: setting!(relay_url, String::new()),
            certificate: setting!(relay_cert, PathBuf::new()),
            key: setting!(relay_key, PathBuf::new()).0,
            rate: setting!(relay_rate, relay::DEFAULT_RATE.to_owned()),
            total_rate: setting!(relay_total_rate, relay::DEFAULT_TOTAL_RATE.to_owned()),
            clients: setting!(relay_clients, relay::DEFAULT_CLIENTS),
            denied: setting!(relay_deny, Vec::new()),
        })?;
        let capacity = Resources {
            cpu_millis: amount::<Cpu>("max_cpu", cpu_from, &cpu)?.0,
            memory_bytes: amount::<Bytes>("max_memory", memory_from, &memory)?.0,
            disk_bytes: amount::<Bytes>("max_disk", disk_from, &disk)?.0,
            gpus: 0,
        };
        let bandwidth = Bandwidth {
            upload: rate("max_upload", upload_from, &upload)?,
            upload_per_peer: rate("max_upload_per_peer", per_peer_from, &per_peer)?,
            download: rate("max_download", download_from, &download)?,
        };
        let executors = parse_executors(&executors, executors_from)?;
        let host = match executors.contains(&ExecutorKind::Docker) {
            true => docker_address(docker_host, docker_host_from)?,
            // Other tools' variable may hold what only they understand.
            false => None,
        };
        let docker = DockerSettings {
            host,
            allow_root: docker_allow_root,
            networks: parse_networks(&docker_networks, docker_networks_from)?,
            runtime: docker_runtime_name(docker_runtime, docker_runtime_from)?,
            gpus: allowed_gpus(gpus, gpus_from)?,
            pulls: parse_pull(&docker_pull, docker_pull_from)?,
            shared_logins: parse_login_scopes(&docker_share_login, share_login_from)?,
        };
        let tickets = join.tickets.into_iter().map(|ticket| ticket.for_mesh(&mesh));
        let config = Config {
            data_dir: data_dir.to_owned(),
            listen,
            join: tickets.collect::<Result<_, _>>()?,
            join_peers: join.peers,
            mesh,
            mdns,
            port_mapping,
            api_listen: Some(api_listen),
            executors,
            sources: parse_sources(&sources, sources_from)?,
            capacity,
            bandwidth,
            max_peers: enough_peers("max_peers", max_peers_from, max_peers)?,
            job_history: at_least_one("job_history", job_history_from, job_history)?,
            labels,
            operator: Some(operator).filter(|name| !name.is_empty()),
            docker,
            access,
            admission,
            local_paths: allow_list(&local_paths, local_paths_from)?,
            private_addresses,
            publish: PublishConfig {
                listen: publish_listen,
                url: Some(publish_url).filter(|url| !url.is_empty()),
                dir: Some(publish_dir).filter(|dir| !dir.as_os_str().is_empty()),
            },
            retention: retention.checked(usual_from)?,
            relays: relay::named(&relays, relays_from)?,
            relay,
            ipfs: IpfsConfig { api: Some(ipfs_api).filter(|url| !url.is_empty()), gateways: ipfs_gateways },
            passing: false,
            loopback_only: false,
            shard_nodes: shard::SHARD_NODES,
            compiler: None,
            holder: None,
            #[cfg(debug_assertions)]
            misbehaviour: misbehaviour::misbehaviour(),
        };
        Ok(Self { config, explanation })
    }
}

impl Retention {
    fn checked(self, origin: Origin) -> Result<Self, ConfigError> {
        let reason = match self.usual {
            Seconds(0) => "is 0, so that nobody could fetch a result; write at least 1s".to_owned(),
            usual if usual > self.most => {
                format!("is {usual}, longer than max_retention, which is {}: change one of them", self.most)
            }
            _ => return Ok(self),
        };
        Err(ConfigError::Value { name: "retention", origin: origin.as_str(), reason })
    }
}

/// What a node offers unless told otherwise: most of the machine.
fn machine_size(data_dir: &Path) -> Resources {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = sysinfo::System::new().map_or(0, |mut system| {
        system.refresh_memory();
        system.total_memory()
    });
    Resources {
        // A core is never split below one job of the default size.
        cpu_millis: u32::try_from(cores * 1_000).unwrap_or(u32::MAX),
        memory_bytes: memory / 100 * DEFAULT_SHARE,
        disk_bytes: room_on_disk(data_dir) / 100 * DEFAULT_SHARE,
        gpus: 0,
    }
}

/// Room on the disk that `data_dir` is or will be on, in bytes: what is free and what the node's blobs have already.
fn room_on_disk(data_dir: &Path) -> u64 {
    let existing = data_dir.ancestors().find_map(|path| path.canonicalize().ok()).unwrap_or_default();
    let free = rustix::fs::statvfs(&existing).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    free.saturating_add(DataDir::new(data_dir).blobs_bytes())
}

fn display(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    }
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::File => "config.toml",
            Origin::Environment => "environment",
            Origin::Flag => "flag",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(file: &str, environment: &[(&str, &str)], flags: Settings) -> Result<Loaded, ConfigError> {
        let file = toml::from_str(file).unwrap();
        let get = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let origins = [(flags, Origin::Flag), (read_environment(get)?, Origin::Environment), (file, Origin::File)];
        Loaded::merge(Path::new("/tmp"), origins)
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file() {
        let flags = Settings { max_cpu: Some("3".into()), ..Settings::default() };
        let loaded = merged(
            "mesh = 'a'\nmax_cpu = '1'\nmax_memory = '1GiB'",
            &[("SHOAL_MESH", "b"), ("SHOAL_MAX_CPU", "2")],
            flags,
        )
        .unwrap();
        assert_eq!((loaded.config.mesh.as_str(), loaded.config.capacity.cpu_millis), ("b", 3_000));
        assert_eq!(loaded.config.capacity.memory_bytes, 1 << 30);
        let origin = |name| loaded.explanation.iter().find(|(n, ..)| *n == name).unwrap().2;
        let origins = ["max_cpu", "mesh", "max_memory", "listen"].map(origin);
        assert_eq!(origins, [Origin::Flag, Origin::Environment, Origin::File, Origin::Default]);
    }

    #[test]
    fn neighbours_and_the_router_are_asked_unless_somebody_says_no() {
        let asked = |loaded: Loaded| (loaded.config.mdns, loaded.config.port_mapping);
        assert_eq!(asked(merged("", &[], Settings::default()).unwrap()), (true, true));
        assert_eq!(asked(merged("mdns = false", &[], Settings::default()).unwrap()), (false, true));
        let flags = Settings { mdns: Some(false), ..Settings::default() };
        assert_eq!(asked(merged("", &[("SHOAL_PORT_MAPPING", "false")], flags).unwrap()), (false, false));
    }

    #[test]
    fn a_rate_is_bytes_a_second_and_none_is_no_limit() {
        let loaded = merged("max_upload = '10MB/s'\nmax_download = '1MiB'", &[], Settings::default()).unwrap();
        assert_eq!(
            loaded.config.bandwidth,
            Bandwidth { upload: Some(10_000_000), upload_per_peer: None, download: Some(1 << 20) }
        );
        assert_eq!(merged("", &[], Settings::default()).unwrap().config.bandwidth, Bandwidth::default());
    }

    #[test]
    fn retention_is_a_length_of_time_and_workers_may_keep_nothing() {
        let usual = merged("", &[], Settings::default()).unwrap().config.retention;
        let days = Seconds::days;
        assert_eq!(usual, Retention { usual: days(30), most: days(365), for_others: days(1) });
        let short = merged("max_retention = '7d'", &[], Settings::default()).unwrap().config.retention;
        assert_eq!(short.usual, days(7), "what nobody chose gives way");
        let flags = Settings { worker_retention: Some("0".into()), ..Settings::default() };
        let chosen = merged("max_retention = '60d'", &[("SHOAL_RETENTION", "7d")], flags).unwrap().config.retention;
        assert_eq!(chosen, Retention { usual: days(7), most: days(60), for_others: Seconds(0) });
    }

    #[test]
    fn a_wrong_value_names_itself_and_its_origin() {
        let table = [
            (merged("max_memory = 'lots'", &[], Settings::default()), "config.toml max_memory"),
            (merged("", &[("SHOAL_LISTEN", "here")], Settings::default()), "environment SHOAL_LISTEN"),
            (merged("executors = ['docker']\ndocker_host = 'ssh://there'", &[], Settings::default()), "unix:///PATH"),
            (merged("docker_runtime = 'run sc'", &[], Settings::default()), "config.toml docker_runtime: \"run sc\""),
            (merged("", &[("SHOAL_GPUS", "all,GPU-1")], Settings::default()), "environment gpus: all and none"),
            (merged("max_upload = '0'", &[], Settings::default()), "config.toml max_upload: nothing could pass"),
            (merged("", &[("SHOAL_MAX_DOWNLOAD", "fast")], Settings::default()), "environment max_download"),
            (merged("max_upload_per_peer = '0'", &[], Settings::default()), "config.toml max_upload_per_peer: nothing"),
            (merged("job_history = 0", &[], Settings::default()), "config.toml job_history: a job that is forgotten"),
            (merged("max_peers = 3", &[], Settings::default()), "config.toml max_peers: a node needs at least 16"),
            (merged("", &[("SHOAL_JOB_HISTORY", "all")], Settings::default()), "\"all\" is not a number"),
            (
                merged("retention = 'ages'", &[], Settings::default()),
                "config.toml retention: is 'ages', which is not a",
            ),
            (merged("retention = '0'", &[], Settings::default()), "config.toml retention: is 0, so that nobody"),
            (
                merged("retention = '2d'", &[("SHOAL_MAX_RETENTION", "1d")], Settings::default()),
                "config.toml retention: is 2d, longer than max_retention, which is 1d",
            ),
            (merged("sources = ['ftp']", &[], Settings::default()), "use url, s3, ipfs or local"),
            (
                merged("", &[("SHOAL_DOCKER_NETWORKS", "http,lan")], Settings::default()),
                "environment docker_networks: there is no network \"lan\"",
            ),
            (merged("join = ['gibberish']", &[], Settings::default()), "cannot join"),
        ];
        for (result, expected) in table {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
