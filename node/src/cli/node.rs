//! `shoal node`: runs a node until it is told to stop. `shoal node info`: what the running one says about itself.

mod access;
mod admission;

mod relay;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use shoal_protocol::id::PeerId;

use access::AccessFlags;
use admission::AdmissionFlags;
use relay::RelayFlags;

use super::signal::Stop;
use super::{Global, Status, connect, output};
use crate::config::{Loaded, Settings};

/// `shoal node`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Node {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: NodeFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what the running node says about itself
    Info(output::OutputFlag),
}

/// Settings of a node; what is left out comes from the environment, `config.toml` and defaults.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct NodeFlags {
    /// UDP address; port 0 picks one
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Join the mesh of this ticket, the peer at this multiaddress, or those in this file, one a line (repeatable)
    #[arg(long, value_name = "TICKET|ADDRESS|FILE")]
    join: Vec<String>,
    /// Name of the mesh, public or a private one of this data directory; nodes of different meshes do not talk
    #[arg(long, value_name = "NAME")]
    mesh: Option<String>,
    /// Do not look for neighbours of the mesh on the local network, nor tell them of this node
    #[arg(long)]
    no_mdns: bool,
    /// Do not ask the router to open the UDP port (UPnP, NAT-PMP, PCP)
    #[arg(long)]
    no_port_mapping: bool,
    /// TCP address of the HTTP API
    #[arg(long, value_name = "IP:PORT")]
    api_listen: Option<SocketAddr>,
    /// Executors that run jobs of others: `wasm`, `docker`; `none` for a node that only submits [default: wasm]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    executors: Vec<String>,
    /// Sources that jobs of others may have this node read [possible: url, s3, ipfs, local; default: none]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    sources: Vec<String>,
    /// Memory for all executions together, for example 4GiB
    #[arg(long, value_name = "SIZE")]
    max_memory: Option<String>,
    /// CPU for all executions together, for example 1500m
    #[arg(long, value_name = "CPU")]
    max_cpu: Option<String>,
    /// Disk for blobs and executions together, for example 20GB [default: 80 % of what is free and held]
    #[arg(long, value_name = "SIZE")]
    max_disk: Option<String>,
    /// Bytes of blobs a second to all peers together, for example 10MB [default: no limit]
    #[arg(long, value_name = "SIZE")]
    max_upload: Option<String>,
    /// Bytes of blobs a second to one peer, whatever the others leave, for example 2MB [default: no limit]
    #[arg(long, value_name = "SIZE")]
    max_upload_per_peer: Option<String>,
    /// Bytes of blobs a second from all peers together, for example 10MB [default: no limit]
    #[arg(long, value_name = "SIZE")]
    max_download: Option<String>,
    /// Connected peers, beyond which those that nobody needs are let go [default: 32]
    #[arg(long, value_name = "N")]
    max_peers: Option<u64>,
    /// Jobs of this node to remember once they are over; the oldest are forgotten [default: 10000]
    #[arg(long, value_name = "N")]
    job_history: Option<u64>,
    /// A label that jobs can ask for (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Who operates the node: results of one operator's nodes are not independent
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Docker engine, unix:///PATH or tcp://HOST:PORT [default: DOCKER_HOST, else the usual socket]
    #[arg(long, value_name = "URL")]
    docker_host: Option<String>,
    /// Let containers run as the user that their image names, root among them
    #[arg(long)]
    docker_allow_root: bool,
    /// Networks that containers may have if their job asks for one [possible: http, bridge, host; default: none]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    docker_networks: Vec<String>,
    /// What runs containers, for example runsc or kata [default: the engine's own choice]
    #[arg(long, value_name = "NAME")]
    docker_runtime: Option<String>,
    /// GPUs that containers may have: all, none, or ids as `shoal node info` shows them [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    gpus: Vec<String>,
    /// Which images of registries are pulled for containers: `missing`, `never` [default: missing]
    #[arg(long, value_name = "WHEN")]
    docker_pull: Option<String>,
    /// Pull images from there for jobs of others with this machine's docker login (repeatable)
    #[arg(long, value_name = "REGISTRY[/REPOSITORY]")]
    docker_share_login: Vec<String>,
    /// Kubo node that gives content of IPFS and takes what is published there, for example http://127.0.0.1:5001
    #[arg(long, value_name = "URL")]
    ipfs_api: Option<String>,
    /// Trustless gateway that gives content of IPFS (repeatable: asked in order)
    #[arg(long = "ipfs-gateway", value_name = "URL")]
    ipfs_gateways: Vec<String>,
    /// Let jobs read paths of this machine, or write them with `:rw` (repeatable)
    #[arg(long = "allow-local-path", value_name = "GLOB[:ro|:rw]")]
    allow_local_paths: Vec<String>,
    /// Let jobs of other peers, and containers with HTTP, read from private, loopback and link-local addresses
    #[arg(long)]
    allow_private_addresses: bool,
    /// TCP address where results of the `local` publisher are served to everybody
    #[arg(long, value_name = "IP:PORT")]
    publish_listen: Option<SocketAddr>,
    /// How others reach that address, behind a NAT or a proxy, for example http://192.0.2.7:6001
    #[arg(long, value_name = "URL")]
    publish_url: Option<String>,
    /// Write results of the `local` publisher into this folder, as plain files
    #[arg(long, value_name = "DIR")]
    publish_dir: Option<PathBuf>,
    /// How long results of jobs are kept that do not say so [default: 30d]
    #[arg(long, value_name = "TIME")]
    retention: Option<String>,
    /// The longest that a job may ask its result to be kept [default: 365d]
    #[arg(long, value_name = "TIME")]
    max_retention: Option<String>,
    /// How long this node keeps results that it made for others, at most; 0 for not at all [default: 1d]
    #[arg(long, value_name = "TIME")]
    worker_retention: Option<String>,
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    admission: AdmissionFlags,
    #[command(flatten)]
    relay: RelayFlags,
}

/// What a node says when it is ready.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ready {
    #[serde(rename = "PeerID")]
    peer_id: PeerId,
    ticket: String,
}

impl Node {
    /// Whether this runs a node, rather than asking about one.
    pub(super) fn is_service(&self) -> bool {
        self.command.is_none()
    }

    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        match self.command {
            Some(Command::Info(output)) => info(global, output).await,
            None => serve(global, self.flags.into()).await,
        }
    }
}

impl From<NodeFlags> for Settings {
    fn from(flags: NodeFlags) -> Self {
        let (access, admission) = (flags.access, flags.admission);
        let mut settings = Self {
            listen: flags.listen,
            join: Some(flags.join).filter(|join| !join.is_empty()),
            mesh: flags.mesh,
            mdns: flags.no_mdns.then_some(false),
            port_mapping: flags.no_port_mapping.then_some(false),
            api_listen: flags.api_listen,
            executors: Some(flags.executors).filter(|executors| !executors.is_empty()),
            sources: Some(flags.sources).filter(|sources| !sources.is_empty()),
            max_memory: flags.max_memory,
            max_cpu: flags.max_cpu,
            max_disk: flags.max_disk,
            max_upload: flags.max_upload,
            max_upload_per_peer: flags.max_upload_per_peer,
            max_download: flags.max_download,
            max_peers: flags.max_peers,
            job_history: flags.job_history,
            labels: Some(flags.labels).filter(|labels| !labels.is_empty()).map(|labels| labels.into_iter().collect()),
            operator: flags.operator,
            docker_host: flags.docker_host,
            docker_allow_root: flags.docker_allow_root.then_some(true),
            docker_networks: Some(flags.docker_networks).filter(|networks| !networks.is_empty()),
            docker_runtime: flags.docker_runtime,
            gpus: Some(flags.gpus).filter(|gpus| !gpus.is_empty()),
            docker_pull: flags.docker_pull,
            docker_share_login: Some(flags.docker_share_login).filter(|scopes| !scopes.is_empty()),
            allow_peers: some(access.allow_peers),
            deny_peers: some(access.deny_peers),
            allow_networks: some(access.allow_networks),
            deny_networks: some(access.deny_networks),
            allow_images: some(admission.allow_images),
            deny_images: some(admission.deny_images),
            allow_requesters: some(admission.allow_requesters),
            block_requesters: some(admission.block_requesters),
            reject_stateless: admission.reject_stateless.then_some(true),
            locality: admission.locality,
            probe_exec: admission.probe_exec,
            probe_http: admission.probe_http,
            ipfs_api: flags.ipfs_api,
            ipfs_gateways: Some(flags.ipfs_gateways).filter(|urls| !urls.is_empty()),
            allow_local_paths: Some(flags.allow_local_paths).filter(|paths| !paths.is_empty()),
            allow_private_addresses: flags.allow_private_addresses.then_some(true),
            publish_listen: flags.publish_listen.map(|address| address.to_string()),
            publish_url: flags.publish_url,
            publish_dir: flags.publish_dir.and_then(|dir| std::path::absolute(dir).ok()),
            retention: flags.retention,
            max_retention: flags.max_retention,
            worker_retention: flags.worker_retention,
            ..Self::default()
        };
        flags.relay.apply(&mut settings);
        settings
    }
}

fn some(list: Vec<String>) -> Option<Vec<String>> {
    Some(list).filter(|list| !list.is_empty())
}

/// Runs a node until it is told to stop.
pub(super) async fn serve(global: &Global, settings: Settings) -> Result<Status> {
    let loaded = Loaded::new(&global.data_dir()?, settings)?;
    let mut stop = Stop::new()?;
    let (node, server) = Box::pin(connect::serve(loaded)).await?;
    let ready = Ready { peer_id: node.peer_id(), ticket: node.ticket().to_string() };
    let said = announce(global, &ready);
    if said.is_ok() {
        stop.requested().await;
        tracing::info!("stopping");
    }
    if let Some(server) = server {
        server.stop().await;
    }
    node.shutdown().await;
    said.map(|()| Status::Done)
}

/// One line, whatever its form: whoever started us reads a line and goes on.
fn announce(global: &Global, ready: &Ready) -> Result<()> {
    match global.format {
        output::Format::Json => output::print(&serde_json::to_string(ready)?),
        _ => output::print(&format!("{} {}", ready.peer_id, ready.ticket)),
    }
}

async fn info(global: &Global, output: output::OutputFlag) -> Result<Status> {
    let info = connect::running(global).await?.node().await?;
    output::show(output.format(global.format), &info, table)?;
    Ok(Status::Done)
}

fn table(info: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = info.as_object().into_iter().flatten();
    output::pairs(rows.map(|(name, value)| (name.as_str(), text(value))))
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().into(), value.trim().into())),
        _ => Err(format!("{text:?} is not a label: write KEY=VALUE")),
    }
}
