//! A running node: its parts, how they start, and how they stop.

mod joining;

mod parts;

mod relays;

mod remembered;

mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use shoal_executors::WasmExecutor;
use shoal_protocol::budget::Budgets;
use shoal_protocol::id::{JobId, MeshId, MeshKey, PeerId};
use shoal_protocol::job::spec::NetworkKind;
use shoal_protocol::machine::Machine;
use shoal_protocol::message::{Contact, ExecutorKind, Resources};
use shoal_protocol::record::{self, Record};
use shoal_protocol::time::Millis;
use shoal_store::blobs::{Blobs, StoreFailed};
use shoal_store::data_dir::{DataDir, DataDirError, DataDirLock};
use shoal_store::identity::{self, IdentityError};
use shoal_store::publishers::Publishers;
use shoal_store::reserve::Reserve;
use shoal_store::sources::{DataError, Sources};
use shoal_store::state::{State, StateError};
use shoal_store::trees::Trees;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use parts::{
    blobs_config, containers, executors, offering, open_sources, profile, publishers_config, pulling, sources_config,
    wasm_config,
};
use remembered::{known_peers, known_publicly, listen_again, peers_to_save, save_peers};
use watching::{drive, observe, sweep_published, view, watch_blobs};

use crate::admission::Gate;
use crate::agreed::Agreed;
use crate::announcer::Announcer;
use crate::clock::Clock;
use crate::comparing::Comparing;
use crate::config::Config;
use crate::dialect::dialect;
use crate::driver::{self, Driver, Event};
use crate::engine::Containers;
use crate::gateway;
use crate::hands::{Hands, Runs};
use crate::history::History;
use crate::ingress::Ingress;
use crate::kept::Kept;
use crate::membership::{Membership, MembershipError};
use crate::network::join::JoinError;
use crate::network::ticket::Ticket;
use crate::network::{Fended, Network, NetworkConfig, NetworkError, Passed, PeerInfo, Traffic};
use crate::offers::Offers;
use crate::outbox::Outbox;
use crate::pins;
use crate::publish::Publishing;
use crate::published::{self, Published, PublishedError};
use crate::reading::Reading;
use crate::records;
use crate::skew::Skew;
use crate::validator::Validators;
use crate::views::{AccessView, AdmissionView, StandingView};
use crate::voice::Voice;

/// Happenings that a slow listener may be behind; then it must read the history.
const MAX_HAPPENINGS: usize = 4_096;

/// A handle to a running node; clones are the same node.
#[derive(Clone)]
pub struct Node(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) me: PeerId,
    pub(crate) clock: Clock,
    pub(crate) skew: Skew,
    pub(crate) network: Network,
    /// Of the private mesh, if the node is in one.
    pub(crate) membership: Option<Membership>,
    pub(crate) blobs: Blobs,
    pub(crate) state: Arc<State>,
    pub(crate) executor: Arc<WasmExecutor>,
    /// None where the operator has no docker jobs run.
    pub(crate) containers: Option<Containers>,
    pub(crate) runs: Runs,
    pub(crate) kept: Kept,
    pub(crate) offers: Offers,
    pub(crate) announcer: Announcer,
    pub(crate) sources: Sources,
    pub(crate) publishing: Publishing,
    pub(crate) inbox: mpsc::Sender<Event>,
    pub(crate) happenings: broadcast::Sender<record::Event>,
    /// Whose turn it is to run a job again, to replay or to compare it.
    pub(crate) replaying: Arc<tokio::sync::Mutex<()>>,
    failed: watch::Sender<Option<String>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    // Held for the life of the node.
    _lock: DataDirLock,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be had.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The key cannot be read or made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state file cannot be opened.
    #[error(transparent)]
    State(#[from] StateError),
    /// The blob store cannot be opened.
    #[error("cannot open the blob store: {0}")]
    Blobs(#[from] StoreFailed),
    /// The network does not start.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The node is no member of the private mesh.
    #[error(transparent)]
    Membership(Box<MembershipError>),
    /// It was not let into the private mesh.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The readers of sources do not start.
    #[error("cannot read sources")]
    Sources(#[from] DataError),
    /// Published results cannot be served.
    #[error(transparent)]
    Published(#[from] PublishedError),
    /// The publishers do not start.
    #[error("cannot publish results")]
    Publishers(#[source] DataError),
    /// The executor does not start.
    #[error("cannot start the wasm executor: {0}")]
    Executor(String),
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(getrandom::Error),
}

/// Why a job was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// There is no such job.
    #[error("this node has no job {0}")]
    NotFound(JobId),
    /// It is over already.
    #[error("job {0} is over already: {1:?}")]
    Over(JobId, record::JobState),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// The state file cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a node says about itself.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeInfo {
    /// Its id.
    #[serde(rename = "PeerID")]
    pub peer: PeerId,
    /// The build's version.
    pub version: &'static str,
    /// The protocol's version.
    pub protocol: u8,
    /// The mesh's name.
    pub mesh: String,
    /// Estimated number of nodes in the mesh.
    pub mesh_size: u32,
    /// Connected peers.
    pub peers: usize,
    /// The mesh's key, if it is private.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh_key: Option<MeshKey>,
    /// Where it can be reached.
    pub contact: Contact,
    /// The same, for `--join` of another node.
    pub multiaddrs: Vec<String>,
    /// The relay where peers find it that cannot reach it directly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_relay: Option<String>,
    /// The relay that it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// What the router does for its port.
    pub port_mapping: String,
    /// Executors and their profiles; `none` for one that is not there now.
    pub executors: BTreeMap<String, String>,
    /// The engine that runs containers, if the operator wants it used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_engine: Option<String>,
    /// Networks that its containers get, beside none.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub docker_networks: BTreeSet<NetworkKind>,
    /// GPUs that containers can have.
    #[serde(rename = "GPUs", skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// What its executions may use together.
    pub capacity: Resources,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Who operates it.
    pub operator: Option<String>,
    /// With whom it has to do at all, if not with everybody.
    #[serde(skip_serializing_if = "AccessView::is_open")]
    pub access: AccessView,
    /// Which jobs of others it takes, if not all that it can run.
    #[serde(skip_serializing_if = "AdmissionView::is_open")]
    pub admission: AdmissionView,
    /// Where it keeps its data.
    pub data_dir: String,
    /// What blobs have travelled since it was started.
    pub traffic: Traffic,
    /// Bytes that have passed between it and its peers since then, blobs and all else, by the kind of path.
    pub passed: Passed,
    /// What it fended off since it was started.
    pub fended: Fended,
}

impl Node {
    /// Opens the data directory, takes up what was saved, and joins the mesh.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        raise_file_limit();
        let dir = DataDir::new(&config.data_dir);
        let lock = dir.lock()?;
        let key = identity::load_or_create(&dir.identity_key())?;
        let me = identity::peer_id(&key);
        let state = Arc::new(State::open_insured(&dir.state(), Reserve::new(dir.reserve()))?);
        let (clock, dialect) = (clock(&config), dialect(&config));
        let blobs = Blobs::open(&dir.blobs(), blobs_config(&config, &dir, clock)).await?;
        let sources = Sources::new(blobs.clone(), Arc::clone(&state), sources_config(&config))?;
        let served = serve_published(&config).await?;
        let publishers = publishers_config(&config, &dir, served.as_ref());
        let trees = Trees::new(blobs.clone(), Arc::clone(&state));
        let publishers = Publishers::new(blobs.clone(), trees.clone(), publishers).map_err(StartError::Publishers)?;
        let executor = WasmExecutor::new(wasm_config(&config, &dir));
        let executor = Arc::new(executor.map_err(|error| StartError::Executor(error.to_string()))?);
        let saved = records::load(&state)?;
        let outlived = outlived(&saved);
        let containers = Box::pin(containers(&config, &dir, me, &outlived)).await;
        dir.clear_work(&lock, &outlived)?;
        let offers = Offers::default();
        let kept = Kept::restore(&blobs, &saved, &offers).await?;
        // Now that guards keep what is needed.
        if let Err(error) = pins::release_old(&blobs).await {
            tracing::warn!(%error, "pins of an earlier build stay");
        }
        if let Err(error) = pins::end_all(&blobs, &state, config.retention.usual.millis()).await {
            tracing::warn!(%error, "results whose jobs are over are kept until the next start");
        }
        let history = History::new(Arc::clone(&state), blobs.clone(), config.job_history, &saved)?;
        let policy = offers.clone();
        let mut machine = Machine::new(me, offering(&config, containers.as_ref()), random()?);
        machine.restore(clock.now(), saved);

        let mut network = NetworkConfig {
            listen: config.listen,
            join: config.join.clone(),
            join_peers: config.join_peers.clone(),
            known_peers: known_publicly(&state, &config.mesh)?,
            clock,
            dialect,
            mdns: config.mdns,
            port_mapping: config.port_mapping,
            loopback_only: config.loopback_only,
            access: config.access.clone(),
            runs: machine.offering().executors.keys().copied().collect(),
            shard_nodes: config.shard_nodes,
            max_peers: config.max_peers,
            serve: Some(Arc::new(move |peer, hash| policy.allows(peer, hash))),
            bandwidth: config.bandwidth,
            relay: config.relay.clone(),
            store_threads: Some(blobs.threads().clone()),
            #[cfg(debug_assertions)]
            corrupt: config.misbehaviour == Some(crate::config::Misbehaviour::ServeCorrupt),
            ..NetworkConfig::new(key.clone(), config.mesh.clone(), blobs.store().clone())
        };
        let membership = Box::pin(joining::membership(&dir, me, clock, &mut network)).await?;
        let mesh = membership.as_ref().map_or_else(|| MeshId::of(&config.mesh), Membership::mesh);
        if membership.is_some() {
            network.known_peers = known_peers(&state, mesh)?;
        }
        network.membership = membership.clone();
        let chosen = config.relays.iter().map(ToString::to_string);
        network.relays = chosen.chain(relays::known(&state, mesh)?).collect();
        let (network, heard) = Box::pin(listen_again(network, &state)).await?;
        machine.observe(view(&network));

        let (inbox, events) = mpsc::channel(driver::MAX_EVENTS);
        let (happenings, _) = broadcast::channel(MAX_HAPPENINGS);
        let runs = Runs::default();
        let announcer = Announcer::new(blobs.clone(), network.clone(), offers.clone());
        let publishing = Publishing::new(publishers, Arc::clone(&state));
        let pulling = pulling(&config, &sources);
        let hands = Hands {
            blobs: blobs.clone(),
            network: network.clone(),
            executors: executors(&executor, containers.as_ref()),
            containers: containers.clone(),
            work_dir: dir.work(),
            inbox: inbox.clone(),
            runs: runs.clone(),
            kept: kept.clone(),
            agreed: Agreed::restore(&blobs).await?,
            comparing: Comparing { blobs: blobs.clone(), network: network.clone() },
            validators: Validators::new(
                blobs.clone(),
                network.clone(),
                Arc::<WasmExecutor>::clone(&executor),
                dir.work(),
            ),
            announcer: announcer.clone(),
            publishing: publishing.clone(),
            reading: Reading { sources: sources.clone(), open: open_sources(&config) },
            pulling: pulling.clone(),
            gate: Gate::new(me, config.admission.clone(), containers.clone()),
            history: history.clone(),
            #[cfg(debug_assertions)]
            misbehaviour: config.misbehaviour,
        };
        let driver = Driver {
            machine,
            clock,
            key,
            dialect,
            mesh,
            state: Arc::clone(&state),
            network: network.clone(),
            voice: Voice::new(network.clone(), clock),
            hands,
            inbox: events,
            happenings: happenings.clone(),
            outbox: Outbox::new(network.clone(), inbox.clone()),
            inquiries: BTreeMap::new(),
            postponed: driver::Postponed::default(),
            heard: None,
        };
        let (pricing, log_reads) = Ingress::slots();
        let skew = Skew::default();
        let (net, blob, inb, run) = (network.clone(), blobs.clone(), inbox.clone(), runs.clone());
        let ingress = Ingress {
            me,
            mesh,
            dialect,
            clock,
            skew: skew.clone(),
            network: net,
            blobs: blob,
            containers: containers.clone(),
            pulls: pulling.is_open,
            runs: run,
            inbox: inb,
            pricing,
            log_reads,
            budgets: Budgets::new(clock.now()),
        };
        let failed = watch::Sender::new(None);
        let mut tasks = vec![
            tokio::spawn(drive(driver, failed.clone())),
            tokio::spawn(ingress.run(heard)),
            tokio::spawn(observe(network.clone(), clock, Arc::clone(&state), inbox.clone())),
            tokio::spawn(announcer.clone().run()),
            tokio::spawn(watch_blobs(blobs.clone(), inbox.clone(), failed.clone())),
            tokio::spawn(sweep_published(publishing.clone())),
            tokio::spawn(history.run()),
        ];
        if let Some(containers) = containers.clone() {
            tasks.push(tokio::spawn(containers.watch(inbox.clone())));
        }
        if let Some(served) = served {
            let router = published::archives(dir.published()).merge(gateway::router(trees));
            tasks.push(tokio::spawn(served.serve(router)));
        }
        let tasks = Mutex::new(tasks);
        let inner = Inner {
            config,
            me,
            clock,
            skew,
            network,
            membership,
            blobs,
            state,
            executor,
            containers,
            runs,
            kept,
            offers,
            announcer,
            sources,
            publishing,
            inbox,
            happenings,
            replaying: Arc::default(),
            failed,
            tasks,
            _lock: lock,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The node's id.
    pub fn peer_id(&self) -> PeerId {
        self.0.me
    }

    /// A ticket with which others join the mesh through this node.
    pub fn ticket(&self) -> Ticket {
        self.0.network.ticket()
    }

    /// The same, good for so many milliseconds; for ever for none.
    pub fn ticket_for(&self, good_for: Option<Millis>) -> Ticket {
        let expires = good_for.map(|millis| Clock::start().now() + millis);
        Ticket { expires, ..self.ticket() }
    }

    /// The node's membership, if its mesh is private.
    pub fn membership(&self) -> Option<&Membership> {
        self.0.membership.as_ref()
    }

    /// The connected peers.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.0.network.peers()
    }

    /// What the node thinks of a peer.
    pub fn standing(&self, peer: PeerId) -> StandingView {
        let standing = records::standing(&self.0.state, peer).unwrap_or_default();
        StandingView::of(&standing, Clock::start().now())
    }

    /// What the node was started with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The node's blob store.
    pub fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    /// The node's network.
    pub fn network(&self) -> &Network {
        &self.0.network
    }

    /// What the node says about itself.
    pub fn info(&self) -> NodeInfo {
        let config = &self.0.config;
        let containers = self.0.containers.as_ref();
        let profile = |kind: &ExecutorKind| (kind.to_string(), profile(*kind, containers).unwrap_or("none".into()));
        NodeInfo {
            peer: self.0.me,
            version: env!("CARGO_PKG_VERSION"),
            protocol: self.0.network.protocol(),
            mesh: config.mesh.clone(),
            mesh_size: self.0.network.mesh_size(),
            peers: self.0.network.peers().len(),
            mesh_key: self.0.membership.as_ref().map(Membership::key),
            contact: self.0.network.contact(),
            multiaddrs: self.0.network.multiaddrs(),
            home_relay: self.0.network.home_relay().map(|relay| relay.to_string()),
            relay: self.0.network.own_relay().map(|relay| relay.to_string()),
            port_mapping: self.0.network.port_mapping().in_words(),
            executors: config.executors.iter().map(profile).collect(),
            docker_engine: containers.map(Containers::in_words),
            docker_networks: containers.map(Containers::networks).unwrap_or_default(),
            gpus: containers.map(Containers::gpus).unwrap_or_default(),
            capacity: Resources { gpus: containers.map_or(0, Containers::gpu_count), ..config.capacity },
            labels: config.labels.clone(),
            operator: config.operator.clone(),
            access: AccessView::of(&config.access),
            admission: AdmissionView::of(&config.admission),
            data_dir: config.data_dir.display().to_string(),
            traffic: self.0.network.traffic(),
            passed: self.0.network.passed(),
            fended: self.0.network.fended(),
        }
    }

    /// Stops a job: its workers are told to stop too. Returns once that is durable.
    pub async fn stop(&self, job: JobId) -> Result<(), StopError> {
        let record = records::job(&self.0.state, job)?.ok_or(StopError::NotFound(job))?;
        if record.state.is_over() {
            return Err(StopError::Over(job, record.state));
        }
        let (answer, done) = oneshot::channel();
        self.0.inbox.send(Event::Stop(job, answer)).await.map_err(|_| StopError::Stopping)?;
        done.await.map_err(|_| StopError::Stopping)
    }

    /// Waits until the node has failed, which may never be: then it says nothing more, and should be shut down.
    pub fn failed(&self) -> impl Future<Output = String> + use<> {
        let mut failed = self.0.failed.subscribe();
        async move {
            let reason =
                failed.wait_for(Option::is_some).await.ok().and_then(|error| Some(error.as_ref()?.to_string()));
            match reason {
                Some(reason) => reason,
                // It was shut down.
                None => std::future::pending().await,
            }
        }
    }

    /// Says goodbye, stops what runs and closes everything. What is unfinished goes on at the next start.
    pub async fn shutdown(self) {
        let _ = self.0.inbox.send(Event::Shutdown).await;
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let mut tasks = tasks.into_iter();
        if let Some(driver) = tasks.next() {
            let _ = driver.await;
        }
        if let Some(containers) = &self.0.containers {
            containers.executor.stop().await;
        }
        let known = peers_to_save(&self.0.network, self.0.clock.now()).await;
        save_peers(self.0.network.mesh_id(), known, &self.0.state);
        relays::save(&self.0.network, &self.0.state);
        self.0.network.clone().shutdown().await;
        tasks.for_each(|task| task.abort());
        if let Err(error) = self.0.blobs.shutdown().await {
            tracing::warn!(%error, "the blob store did not close");
        }
    }
}

#[cfg(not(debug_assertions))]
fn clock(_: &Config) -> Clock {
    Clock::start()
}

#[cfg(debug_assertions)]
fn clock(config: &Config) -> Clock {
    let is_ahead = config.misbehaviour == Some(crate::config::Misbehaviour::ClockAhead);
    if is_ahead { Clock::ahead(600_000) } else { Clock::start() }
}

/// Executions whose programs may have gone on while this node was away.
fn outlived(saved: &[Record]) -> BTreeSet<String> {
    let may_go_on = |record: &Record| match record {
        Record::Held(held) if held.may_have_gone_on() => Some(held.execution.to_string()),
        _ => None,
    };
    saved.iter().filter_map(may_go_on).collect()
}

async fn serve_published(config: &Config) -> Result<Option<Published>, PublishedError> {
    match config.publish.listen {
        Some(address) => Published::bind(address).await.map(Some),
        None => Ok(None),
    }
}

/// Programs, blobs and connections all hold files open; the usual soft limit of 1,024 is soon reached.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Fresh secret bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StartError::Randomness)?;
    Ok(bytes)
}
