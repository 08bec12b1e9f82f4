//! Whom a container reaches beside itself: nobody; hosts that its job names, through the node; or whomever the
//! operator opened.
//!
//! With `HTTP` a container has nothing but its loopback, and on that one port where the node answers (`proxy`). The
//! loopback is that of a second container, the holder, which hands the listening socket to the node (`handover`): so
//! no bridge, no route and no names lead out, and the node needs no rights over networks.

mod holder;

mod handover;

mod proxy;

mod bridge;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use shoal_protocol::address::is_public;
use shoal_protocol::job::spec::NetworkKind;
use shoal_protocol::task::Network;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::engine::Engine;
use handover::{LISTEN, Meeting};
use holder::Held;
use proxy::{Names, Proxy, SystemNames, notes};

pub(super) use bridge::{of_node, remove};
pub use handover::serve;
pub use holder::HolderProgram;

/// The folder of a run that its network needs.
const DIR: &str = "network";
/// The execution of a network that is only tried.
pub(super) const TRIAL: &str = "trial";
/// Hosts that programs do not ask a proxy for.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// Runtimes whose containers use the kernel's network. In others (gVisor, Kata) a loopback is within, and no holder's.
const KERNEL_RUNTIMES: [&str; 4] = ["runc", "io.containerd.runc.v2", "crun", "nvidia"];
/// A port that nobody needs to listen at.
const DISCARD: u16 = 9;

/// What the operator opens to containers.
#[derive(Debug, Clone, Default)]
pub struct NetworkConfig {
    /// The networks that they may have, beside none.
    pub kinds: BTreeSet<NetworkKind>,
    /// Whether their HTTP may go to addresses that are not public.
    pub private_addresses: bool,
    /// What holds the networks of containers with HTTP; without it there are none.
    pub holder: Option<HolderProgram>,
}

/// All networks of a node's containers.
#[derive(Debug)]
pub(super) struct Networks {
    config: NetworkConfig,
    names: Arc<dyn Names>,
}

/// The network of one container. Whoever drops it before it is removed has it removed.
pub(super) struct Attached {
    engine: Arc<Engine>,
    made: Option<Made>,
    /// As the engine is told.
    pub(super) mode: String,
    /// Variables that the program needs to use it.
    pub(super) variables: Vec<(&'static str, String)>,
    notes: Option<Lines>,
    /// What goes on for it.
    tasks: JoinSet<()>,
}

/// What a job's log is to be told of its network.
pub(super) type Lines = mpsc::Receiver<String>;

/// What was made for it.
enum Made {
    Bridge(String),
    Holder(String),
}

/// Whom a network is for.
pub(super) struct Whom<'a> {
    pub(super) labels: HashMap<String, String>,
    pub(super) execution: &'a str,
    /// A folder that the engine sees as well.
    pub(super) dir: &'a Path,
    /// What may pass through, in bytes.
    pub(super) max_bytes: u64,
}

impl Networks {
    pub(super) fn new(config: NetworkConfig) -> Self {
        Self { config, names: Arc::new(SystemNames::default()) }
    }

    /// The networks that containers of this engine can have. Only a trial tells whether it hands sockets over: it may
    /// be on another machine, or see other files.
    pub(super) async fn find(
        &self,
        engine: &Engine,
        dir: &Path,
        labels: HashMap<String, String>,
    ) -> BTreeSet<NetworkKind> {
        let mut kinds = self.config.kinds.clone();
        if kinds.contains(&NetworkKind::Http)
            && let Err(why) = self.trial(engine, dir, labels).await
        {
            tracing::warn!(why, "containers get no network of type HTTP");
            kinds.remove(&NetworkKind::Http);
        }
        kinds
    }

    async fn trial(&self, engine: &Engine, dir: &Path, labels: HashMap<String, String>) -> Result<(), String> {
        if let Some(name) = engine.facts.runtime.as_deref().filter(|name| !KERNEL_RUNTIMES.contains(name)) {
            return Err(format!("runtime {name} may give them a loopback of their own, where the node is not"));
        }
        let dir = tempfile::tempdir_in(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let held = self.held(engine, dir.path(), labels).await;
        let held =
            held.map_err(|why| format!("{why}; the engine must run on this machine and see the node's files"))?;
        super::remove(engine, &held.id).await;
        Ok(())
    }

    async fn held(&self, engine: &Engine, dir: &Path, labels: HashMap<String, String>) -> Result<Held, String> {
        let program = self.config.holder.as_ref().ok_or("this node has no program that holds networks")?;
        let meeting = Meeting::new(&dir.join(DIR)).map_err(|error| error.to_string())?;
        holder::hold(engine, program, labels, meeting).await
    }

    /// Makes the network of a container.
    pub(super) async fn attach(
        &self,
        engine: &Arc<Engine>,
        network: &Network,
        whom: Whom<'_>,
    ) -> Result<Attached, String> {
        match network {
            Network::None => Ok(Attached::simple(engine, "none")),
            Network::Host => Ok(Attached::simple(engine, "host")),
            Network::Bridge => {
                let id = bridge::make(engine, format!("shoal-{}", whom.execution), whom.labels).await?;
                Ok(Attached::made(engine, &id.clone(), Made::Bridge(id)))
            }
            Network::Http(domains) => self.http(engine, domains.clone(), whom).await,
        }
    }

    async fn http(&self, engine: &Arc<Engine>, domains: Vec<String>, whom: Whom<'_>) -> Result<Attached, String> {
        let held = self.held(engine, whom.dir, whom.labels).await?;
        let mode = format!("container:{}", held.id);
        let mut attached = Attached::made(engine, &mode, Made::Holder(held.id));
        let (notes, lines) = notes();
        let may_reach = if self.config.private_addresses { |_| true } else { is_elsewhere };
        let proxy = Proxy::new(domains, Arc::clone(&self.names), may_reach, whom.max_bytes, notes);
        attached.variables = variables();
        attached.notes = Some(lines);
        attached.tasks.spawn(proxy.serve(held.listener));
        Ok(attached)
    }
}

impl Attached {
    fn simple(engine: &Arc<Engine>, mode: &str) -> Self {
        Self {
            engine: Arc::clone(engine),
            made: None,
            mode: mode.to_owned(),
            variables: Vec::new(),
            notes: None,
            tasks: JoinSet::new(),
        }
    }

    fn made(engine: &Arc<Engine>, mode: &str, made: Made) -> Self {
        let mut attached = Self::simple(engine, mode);
        attached.made = Some(made);
        attached
    }

    /// What the job's log is to be told, once.
    pub(super) fn notes(&mut self) -> Option<Lines> {
        self.notes.take()
    }

    /// Removes it, once its container is gone; returns whether that is done.
    pub(super) async fn remove(mut self) -> bool {
        match self.made.take() {
            Some(made) => made.remove(&self.engine).await,
            None => true,
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(made) = self.made.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let engine = Arc::clone(&self.engine);
            runtime.spawn(async move { made.remove(&engine).await });
        }
    }
}

impl Made {
    async fn remove(self, engine: &Engine) -> bool {
        match self {
            Made::Bridge(id) => bridge::remove(engine, &id).await,
            Made::Holder(id) => super::remove(engine, &id).await,
        }
    }
}

/// Whether an address is a public one of another machine. What listens on this one is meant for whom its firewall
/// lets in, and a connection that begins here passes none.
fn is_elsewhere(address: IpAddr) -> bool {
    is_public(address) && !is_own(address)
}

/// Whether an address is one of this machine: from there, and only there, it would speak to it.
fn is_own(address: IpAddr) -> bool {
    let anywhere: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let from = UdpSocket::bind((anywhere, 0)).and_then(|socket| {
        // This asks for the route, and sends nothing.
        socket.connect((address, DISCARD))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == address)
}

/// What tells programs where the node is: most look for one of these.
fn variables() -> Vec<(&'static str, String)> {
    let proxy = format!("http://{LISTEN}");
    let proxies = ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"].map(|name| (name, proxy.clone()));
    let others = ["no_proxy", "NO_PROXY"].map(|name| (name, NO_PROXY.to_owned()));
    proxies.into_iter().chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_knows_its_own_addresses() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 1).into()));
    }
}
