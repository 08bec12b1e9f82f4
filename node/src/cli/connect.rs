//! Which node a command talks to: a named one, the running one, or one of its own for the length of the command.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use shoal_store::data_dir::DataDir;
use tempfile::TempDir;

use super::{Global, compile_module, hold_network, output};
use crate::api::Server;
use crate::client::{Client, ClientError};
use crate::config::{Loaded, Settings};
use crate::node::Node;
use crate::views::SettingView;

/// Holds the token for a node that `--api` names and whose data directory is not here.
pub(super) const TOKEN_VARIABLE: &str = "SHOAL_API_TOKEN";
/// Tells a command that the named node stops when the command ends.
pub(super) const PASSING_VARIABLE: &str = "SHOAL_PASSING";
/// How long a node of our own may take to find a peer of its ticket.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause between two looks for peers.
const JOIN_POLL: Duration = Duration::from_millis(20);

/// How a command finds a mesh when no node is running.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct JoinFlags {
    /// Join this mesh with a node of our own, for the length of the command, whatever node is running (repeatable)
    #[arg(long, value_name = "TICKET|ADDRESS|FILE")]
    join: Vec<String>,
}

/// A client, and the node behind it if that is ours.
pub(super) struct Session {
    pub(super) client: Client,
    own: Option<Own>,
}

/// A node for the length of a command.
struct Own {
    node: Node,
    server: Server,
    alone: bool,
    // Removed last.
    _dir: TempDir,
}

/// The client of a node that must be there.
pub(super) async fn running(global: &Global) -> Result<Client> {
    match find(global).await? {
        Some(client) => Ok(client),
        None => bail!(
            "no node is running on the data directory {}: start one with `shoal node`, \
             or name another with --data-dir or --api",
            global.data_dir()?.display()
        ),
    }
}

/// A client of the named or running node, or else of one of our own, with this executor.
pub(super) async fn session(global: &Global, flags: &JoinFlags, executor: &str) -> Result<Session> {
    if flags.join.is_empty()
        && let Some(client) = find(global).await?
    {
        return Ok(Session { client, own: None });
    }
    let own = Box::pin(Own::start(flags, executor)).await?;
    match client_of(own.server.url(), own._dir.path()) {
        Ok(client) => Ok(Session { client, own: Some(own) }),
        Err(error) => {
            own.stop().await;
            Err(error)
        }
    }
}

/// The node that was named or is running; none if none was named and none runs.
pub(super) async fn find(global: &Global) -> Result<Option<Client>> {
    let dir = global.data_dir();
    if let Some(url) = &global.api {
        let named = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
        let client = Client::new(url, named.or_else(|| token(&dir.ok()?)))?;
        return match client.node().await {
            Ok(_) => Ok(Some(client)),
            Err(error) if error.is_absent() => Err(anyhow::Error::new(error)
                .context("the API named with --api or SHOAL_API cannot be used; start its node, or leave it out")),
            Err(error) => Err(error.into()),
        };
    }
    let dir = dir?;
    let path = DataDir::new(&dir).api_addr();
    let url = match std::fs::read_to_string(&path) {
        Ok(url) => url,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let client = client_of(&url, &dir)?;
    match client.node().await {
        Ok(_) => Ok(Some(client)),
        // The node was killed and could not remove its address, which may be somebody else's by now.
        Err(error) if error.is_absent() || matches!(error, ClientError::Broken { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn client_of(url: &str, dir: &Path) -> Result<Client> {
    Ok(Client::new(url, token(dir))?)
}

fn token(dir: &Path) -> Option<String> {
    let token = std::fs::read_to_string(DataDir::new(dir).api_token()).ok()?;
    Some(token.trim().to_owned())
}

impl Session {
    /// Whether the node goes when the command ends, with all that it keeps.
    pub(super) fn is_ephemeral(&self) -> bool {
        self.own.is_some() || std::env::var_os(PASSING_VARIABLE).is_some()
    }

    /// Whether the node is ours and has joined no mesh.
    pub(super) fn is_alone(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.alone)
    }

    /// Stops the node if it is ours.
    pub(super) async fn close(self) {
        if let Some(own) = self.own {
            own.stop().await;
        }
    }
}

impl Own {
    async fn start(flags: &JoinFlags, executor: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("shoal-").tempdir().context("cannot make a temporary directory")?;
        let join = Some(flags.join.clone()).filter(|join| !join.is_empty());
        let settings = Settings {
            join,
            api_listen: Some(([127, 0, 0, 1], 0).into()),
            executors: Some(vec![executor.into()]),
            // It is gone before a router or neighbours could make use of it.
            mdns: Some(false),
            port_mapping: Some(false),
            ..Settings::default()
        };
        let mut loaded = Loaded::new(dir.path(), settings)?;
        let alone = loaded.config.join.is_empty() && loaded.config.join_peers.is_empty();
        loaded.config.loopback_only = alone;
        loaded.config.passing = true;
        if alone {
            loaded.config.listen = ([127, 0, 0, 1], 0).into();
        } else {
            // In a mesh it is here for its own job, and gone before it could finish another's.
            loaded.config.executors.clear();
        }
        let (node, server) = serve(loaded).await?;
        let own = Self { node, server: server.context("a node of our own has an API")?, alone, _dir: dir };
        if !alone && !own.finds_a_peer().await {
            own.stop().await;
            bail!(
                "no peer of the ticket answered within {} s: are its nodes running, and is the ticket current \
                 (`shoal ticket`)?",
                JOIN_TIMEOUT.as_secs()
            );
        }
        Ok(own)
    }

    async fn finds_a_peer(&self) -> bool {
        wait_for_peers(&self.node, 1, JOIN_TIMEOUT).await
    }

    async fn stop(self) {
        self.server.stop().await;
        self.node.shutdown().await;
    }
}

/// Starts a node and, if it is to have one, its API.
pub(super) async fn serve(mut loaded: Loaded) -> Result<(Node, Option<Server>)> {
    loaded.config.compiler = Some(compile_module::compiler()?);
    loaded.config.holder = Some(hold_network::holder()?);
    let address = loaded.config.api_listen;
    let settings = settings(&loaded);
    let node = Box::pin(Node::start(loaded.config)).await?;
    tokio::spawn(exit_on_failure(node.failed()));
    let Some(address) = address else { return Ok((node, None)) };
    match Server::start(node.clone(), address, settings).await {
        Ok(server) => Ok((node, Some(server))),
        Err(error) => {
            node.shutdown().await;
            Err(error.into())
        }
    }
}

/// Ends the process when its node cannot go on: whoever waits for an answer would wait for ever.
async fn exit_on_failure(failed: impl Future<Output = String>) {
    let reason = failed.await;
    output::note(format_args!("error: {reason}; the node stops, and goes on from its data when it is started again"));
    std::process::exit(super::FAILED.into());
}

/// What a configuration is and where each value came from.
pub(super) fn settings(loaded: &Loaded) -> Vec<SettingView> {
    let view = |(name, value, origin): &(&'static str, String, crate::config::Origin)| SettingView {
        name: (*name).to_owned(),
        value: value.clone(),
        origin: serde_json::to_value(origin)
            .ok()
            .and_then(|origin| Some(origin.as_str()?.to_owned()))
            .unwrap_or_default(),
    };
    loaded.explanation.iter().map(view).collect()
}

/// Whether a node gets to know `wanted` peers in time.
pub(super) async fn wait_for_peers(node: &Node, wanted: usize, timeout: Duration) -> bool {
    let connected = async {
        while node.peers().len() < wanted {
            tokio::time::sleep(JOIN_POLL).await;
        }
    };
    tokio::time::timeout(timeout, connected).await.is_ok()
}

/// Says that a job ran on this machine alone.
pub(super) fn warn_alone() {
    output::note(
        "note: no node is running and no mesh was joined, so the job runs here alone: one execution verifies \
         nothing. Start a node with `shoal node` or join a mesh with `--join TICKET`; `--executions 1` says that \
         you know.",
    );
}
