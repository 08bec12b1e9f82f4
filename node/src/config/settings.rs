//! Settings as they are written: in the file, in the environment, and as flags.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::values::{flag, parse_labels};

/// Largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Values from one origin; what is absent is left to the next.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// UDP address, `IP:PORT`.
    pub listen: Option<SocketAddr>,
    /// Tickets, multiaddresses, and files with one of these a line.
    pub join: Option<Vec<String>>,
    /// The mesh's name.
    pub mesh: Option<String>,
    /// Whether neighbours on the local network are looked for, and told of this node.
    pub mdns: Option<bool>,
    /// Whether the router is asked to open the UDP port (UPnP, NAT-PMP, PCP).
    pub port_mapping: Option<bool>,
    /// TCP address of the API, `IP:PORT`.
    pub api_listen: Option<SocketAddr>,
    /// Executors: `wasm`, `docker`.
    pub executors: Option<Vec<String>>,
    /// Sources that jobs of others may have the node read: `url`, `s3`, `ipfs`, `local`.
    pub sources: Option<Vec<String>>,
    /// Memory for executions, for example `4GiB`.
    pub max_memory: Option<String>,
    /// CPU for executions, for example `1500m`.
    pub max_cpu: Option<String>,
    /// Disk for blobs and executions together, for example `20GB`.
    pub max_disk: Option<String>,
    /// Bytes of blobs a second to all peers together, for example `10MB`; nothing for no limit.
    pub max_upload: Option<String>,
    /// The same to one peer.
    pub max_upload_per_peer: Option<String>,
    /// The same from all peers.
    pub max_download: Option<String>,
    /// Connected peers, beyond which those that nobody needs are let go.
    pub max_peers: Option<u64>,
    /// How many jobs are remembered once they are over; the oldest beyond that are forgotten.
    pub job_history: Option<u64>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Who operates the node.
    pub operator: Option<String>,
    /// The docker engine, `unix://PATH` or `tcp://HOST:PORT`.
    pub docker_host: Option<String>,
    /// Whether containers run as the user that their image names, root among them.
    pub docker_allow_root: Option<bool>,
    /// Networks that containers may have: `http`, `bridge`, `host`.
    pub docker_networks: Option<Vec<String>>,
    /// What runs containers, for example `runsc`; empty for the engine's own choice.
    pub docker_runtime: Option<String>,
    /// GPUs that containers may have: `all`, `none`, or their ids.
    pub gpus: Option<Vec<String>>,
    /// Which images of registries are pulled: `missing`, `never`.
    pub docker_pull: Option<String>,
    /// Where docker's login is shown for jobs of others, `REGISTRY[/REPOSITORY]`.
    pub docker_share_login: Option<Vec<String>>,
    /// Peers that the node has to do with; none for all that are not denied.
    pub allow_peers: Option<Vec<String>>,
    /// Peers that it has nothing to do with.
    pub deny_peers: Option<Vec<String>>,
    /// Networks of such peers, `ADDRESS/LENGTH`; none for all that are not denied.
    pub allow_networks: Option<Vec<String>>,
    /// Networks of peers that it has nothing to do with.
    pub deny_networks: Option<Vec<String>>,
    /// Patterns of images that run; none for all that are not denied.
    pub allow_images: Option<Vec<String>>,
    /// Patterns of images that do not run.
    pub deny_images: Option<Vec<String>>,
    /// Peers whose jobs run; none for all that are not blocked.
    pub allow_requesters: Option<Vec<String>>,
    /// Peers whose jobs do not run.
    pub block_requesters: Option<Vec<String>>,
    /// Whether jobs without inputs are refused.
    pub reject_stateless: Option<bool>,
    /// Where the data of jobs may be: `anywhere`, `local`.
    pub locality: Option<String>,
    /// A command that is asked about each job.
    pub probe_exec: Option<String>,
    /// A URL that is asked about each job.
    pub probe_http: Option<String>,
    /// The RPC address of a Kubo node, for example `http://127.0.0.1:5001`.
    pub ipfs_api: Option<String>,
    /// Trustless gateways of IPFS, asked in order.
    pub ipfs_gateways: Option<Vec<String>>,
    /// Patterns `GLOB[:ro|:rw]` of paths that jobs may read or write.
    pub allow_local_paths: Option<Vec<String>>,
    /// Whether jobs of other peers may read from addresses that are not public.
    pub allow_private_addresses: Option<bool>,
    /// TCP address where published results are served, `IP:PORT`.
    pub publish_listen: Option<String>,
    /// How others reach that address.
    pub publish_url: Option<String>,
    /// Where results are published as plain folders.
    pub publish_dir: Option<PathBuf>,
    /// How long results of this node's jobs are kept that do not say so, for example `30d`.
    pub retention: Option<String>,
    /// The longest that a job of this node may ask for.
    pub max_retention: Option<String>,
    /// How long results of executions for others are kept at most; 0 for not at all.
    pub worker_retention: Option<String>,
    /// Relays to use, beside those that tickets name and the mesh announces.
    pub relays: Option<Vec<String>>,
    /// Whether the node relays for peers that cannot reach each other directly.
    pub relay: Option<bool>,
    /// TCP and UDP address of the relay, `IP:PORT`.
    pub relay_listen: Option<String>,
    /// How others reach the relay, for example `https://relay.example`.
    pub relay_url: Option<String>,
    /// The relay's certificate chain, a file of PEM.
    pub relay_cert: Option<PathBuf>,
    /// The key of the certificate, a file of PEM.
    pub relay_key: Option<PathBuf>,
    /// Bytes a second that one client of the relay may send, for example `1MB`.
    pub relay_rate: Option<String>,
    /// Bytes a second of all clients together.
    pub relay_total_rate: Option<String>,
    /// Clients of the relay at once.
    pub relay_clients: Option<u64>,
    /// Peers that are not relayed.
    pub relay_deny: Option<Vec<String>>,
}

pub(super) fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Settings::default()),
        Err(error) => return Err(ConfigError::Unreadable(path.to_owned(), error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| ConfigError::Unreadable(path.to_owned(), error))?;
    toml::from_str(&text).map_err(|error| ConfigError::Invalid(path.to_owned(), error.to_string()))
}

pub(super) fn read_environment(get: impl Fn(&str) -> Option<String>) -> Result<Settings, ConfigError> {
    let words = |name| get(name).map(|text| text.split(',').map(|word| word.trim().to_owned()).collect());
    let address = |name: &'static str| {
        let parse = |text: String| {
            let reason = format!("{text:?} is not an address; write IP:PORT, for example 0.0.0.0:4433");
            text.parse().map_err(|_| ConfigError::Value { name, origin: "environment", reason })
        };
        get(name).map(parse).transpose()
    };
    let count = |name: &'static str| {
        let parse = |text: String| {
            let reason = format!("{text:?} is not a number; write digits, for example 1000");
            text.trim().parse().map_err(|_| ConfigError::Value { name, origin: "environment", reason })
        };
        get(name).map(parse).transpose()
    };
    let labels = get("SHOAL_LABELS").map(|text| parse_labels(&text)).transpose()?;
    let switch = |name: &'static str| get(name).map(|text| flag(name, &text)).transpose();
    Ok(Settings {
        listen: address("SHOAL_LISTEN")?,
        join: words("SHOAL_JOIN"),
        mesh: get("SHOAL_MESH"),
        mdns: switch("SHOAL_MDNS")?,
        port_mapping: switch("SHOAL_PORT_MAPPING")?,
        api_listen: address("SHOAL_API_LISTEN")?,
        executors: words("SHOAL_EXECUTORS"),
        sources: words("SHOAL_SOURCES"),
        max_memory: get("SHOAL_MAX_MEMORY"),
        max_cpu: get("SHOAL_MAX_CPU"),
        max_disk: get("SHOAL_MAX_DISK"),
        max_upload: get("SHOAL_MAX_UPLOAD"),
        max_upload_per_peer: get("SHOAL_MAX_UPLOAD_PER_PEER"),
        max_download: get("SHOAL_MAX_DOWNLOAD"),
        max_peers: count("SHOAL_MAX_PEERS")?,
        job_history: count("SHOAL_JOB_HISTORY")?,
        labels,
        operator: get("SHOAL_OPERATOR"),
        // The variable that other tools use, for want of our own.
        docker_host: get("SHOAL_DOCKER_HOST").or_else(|| get("DOCKER_HOST")),
        docker_allow_root: switch("SHOAL_DOCKER_ALLOW_ROOT")?,
        docker_networks: words("SHOAL_DOCKER_NETWORKS"),
        docker_runtime: get("SHOAL_DOCKER_RUNTIME"),
        gpus: words("SHOAL_GPUS"),
        docker_pull: get("SHOAL_DOCKER_PULL"),
        docker_share_login: words("SHOAL_DOCKER_SHARE_LOGIN"),
        allow_peers: words("SHOAL_ALLOW_PEERS"),
        deny_peers: words("SHOAL_DENY_PEERS"),
        allow_networks: words("SHOAL_ALLOW_NETWORKS"),
        deny_networks: words("SHOAL_DENY_NETWORKS"),
        allow_images: words("SHOAL_ALLOW_IMAGES"),
        deny_images: words("SHOAL_DENY_IMAGES"),
        allow_requesters: words("SHOAL_ALLOW_REQUESTERS"),
        block_requesters: words("SHOAL_BLOCK_REQUESTERS"),
        reject_stateless: switch("SHOAL_REJECT_STATELESS")?,
        locality: get("SHOAL_LOCALITY"),
        probe_exec: get("SHOAL_PROBE_EXEC"),
        probe_http: get("SHOAL_PROBE_HTTP"),
        ipfs_api: get("SHOAL_IPFS_API"),
        ipfs_gateways: words("SHOAL_IPFS_GATEWAYS"),
        allow_local_paths: words("SHOAL_ALLOW_LOCAL_PATHS"),
        allow_private_addresses: switch("SHOAL_ALLOW_PRIVATE_ADDRESSES")?,
        publish_listen: get("SHOAL_PUBLISH_LISTEN"),
        publish_url: get("SHOAL_PUBLISH_URL"),
        publish_dir: get("SHOAL_PUBLISH_DIR").map(PathBuf::from),
        retention: get("SHOAL_RETENTION"),
        max_retention: get("SHOAL_MAX_RETENTION"),
        worker_retention: get("SHOAL_WORKER_RETENTION"),
        relays: words("SHOAL_RELAYS"),
        relay: switch("SHOAL_RELAY")?,
        relay_listen: get("SHOAL_RELAY_LISTEN"),
        relay_url: get("SHOAL_RELAY_URL"),
        relay_cert: get("SHOAL_RELAY_CERT").map(PathBuf::from),
        relay_key: get("SHOAL_RELAY_KEY").map(PathBuf::from),
        relay_rate: get("SHOAL_RELAY_RATE"),
        relay_total_rate: get("SHOAL_RELAY_TOTAL_RATE"),
        relay_clients: count("SHOAL_RELAY_CLIENTS")?,
        relay_deny: words("SHOAL_RELAY_DENY"),
    })
}
