//! `shoal devnet`: several real nodes in one process, each with its own key, store and port, for trying things out.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use futures_util::future::{join_all, try_join_all};
use tempfile::TempDir;
use tokio::process::Command;

use super::output::{self, Format};
use super::signal::Stop;
use super::{FAILED, Global, Status, connect};
use crate::api::Server;
use crate::config::{Loaded, Settings};
use crate::node::Node;

/// The mesh of such nodes.
const MESH: &str = "devnet";
/// Most nodes in one process.
const MAX_NODES: u16 = 200;
/// How long the nodes may take to find each other.
const MEET_TIMEOUT: Duration = Duration::from_secs(20);

/// Flags of `shoal devnet`.
#[derive(Debug, Args)]
pub(super) struct Devnet {
    /// How many nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_NODES)))]
    nodes: u16,
    /// A shoal command to run against them; they stop when it ends
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Nodes that run, and where.
struct Mesh {
    nodes: Vec<Node>,
    server: Server,
    first_dir: PathBuf,
}

/// Where the nodes keep their data: for good, or while they run.
enum Root {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Devnet {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        // From here on an interrupt must not leave temporary files behind.
        let mut stop = Stop::new()?;
        let root = Root::new(global)?;
        let mesh = tokio::select! {
            mesh = Box::pin(Mesh::start(root.path(), self.nodes)) => mesh?,
            () = stop.requested() => return Ok(Status::Done),
        };
        let ended = if self.command.is_empty() {
            mesh.describe(global).map(|()| Status::Done)
        } else {
            run_command(global, &mesh, &self.command, &mut stop).await
        };
        if self.command.is_empty() && ended.is_ok() {
            stop.requested().await;
        }
        mesh.stop().await;
        ended
    }
}

impl Root {
    fn new(global: &Global) -> Result<Self> {
        match &global.data_dir {
            Some(_) => Ok(Self::Kept(global.data_dir()?)),
            None => {
                let dir = tempfile::Builder::new().prefix("shoal-devnet-").tempdir();
                Ok(Self::Temporary(dir.context("cannot make a temporary directory")?))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

impl Mesh {
    async fn start(root: &Path, nodes: u16) -> Result<Self> {
        let first_dir = root.join("node-0");
        let (first, server) = Box::pin(connect::serve(load(&first_dir, Vec::new(), true)?)).await?;
        let server = server.context("the first node has an API")?;
        let ticket = first.ticket().to_string();
        let others = (1..nodes).map(|index| {
            let loaded = load(&root.join(format!("node-{index}")), vec![ticket.clone()], false);
            async move { Box::pin(connect::serve(loaded?)).await.map(|(node, _)| node) }
        });
        let mut all = vec![first];
        all.extend(try_join_all(others).await?);
        let mesh = Self { nodes: all, server, first_dir };
        mesh.meet().await;
        Ok(mesh)
    }

    /// Waits until the first node, which submits, knows the others: a job announced before would miss some.
    async fn meet(&self) {
        let Some(first) = self.nodes.first() else { return };
        if !connect::wait_for_peers(first, self.nodes.len() - 1, MEET_TIMEOUT).await {
            output::note(format_args!(
                "warning: the first node has found {} of {} others so far",
                first.peers().len(),
                self.nodes.len() - 1
            ));
        }
    }

    fn describe(&self, global: &Global) -> Result<()> {
        let (url, dir) = (self.server.url(), self.first_dir.display().to_string());
        match global.format {
            Format::Table => output::print(&format!(
                "{} on loopback; Ctrl-C stops them. In another terminal:\n  export SHOAL_DATA_DIR={dir}\n  shoal peer list",
                output::count(self.nodes.len() as u64, "node")
            )),
            format => {
                let peers: Vec<String> = self.nodes.iter().map(|node| node.peer_id().to_string()).collect();
                let ready = serde_json::json!({ "API": url, "DataDir": dir, "Peers": peers });
                output::show(format, &ready, |_| String::new())
            }
        }
    }

    async fn stop(self) {
        self.server.stop().await;
        join_all(self.nodes.into_iter().map(Node::shutdown)).await;
    }
}

/// The configuration of one node. Everything that would differ on another machine is set here.
fn load(dir: &Path, join: Vec<String>, api: bool) -> Result<Loaded> {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings {
        listen: Some(loopback),
        join: Some(join),
        mesh: Some(MESH.into()),
        api_listen: Some(loopback),
        executors: Some(vec!["wasm".into()]),
        operator: Some(String::new()),
        ..Settings::default()
    };
    let mut loaded = Loaded::new(dir, settings)?;
    loaded.config.loopback_only = true;
    loaded.config.api_listen = loaded.config.api_listen.filter(|_| api);
    Ok(loaded)
}

/// Runs a command of this program as a process of its own, against the first node.
async fn run_command(global: &Global, mesh: &Mesh, command: &[OsString], stop: &mut Stop) -> Result<Status> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut child = Command::new(program);
    if global.format != Format::Table {
        child.arg("--format").arg(if global.format == Format::Json { "json" } else { "yaml" });
    }
    child.args(command).env("SHOAL_API", mesh.server.url()).env("SHOAL_DATA_DIR", &mesh.first_dir);
    child.env_remove(connect::TOKEN_VARIABLE).env(connect::PASSING_VARIABLE, "1").kill_on_drop(true);
    let mut child = child.spawn().context("cannot run the command")?;
    tokio::select! {
        ended = child.wait() => Ok(status(ended.context("cannot wait for the command")?)),
        () = stop.terminated() => Ok(Status::Done),
    }
}

fn status(ended: ExitStatus) -> Status {
    match ended.code().map(u8::try_from) {
        Some(Ok(code)) => Status::Other(code),
        // A signal ended it.
        _ => Status::Other(FAILED),
    }
}
