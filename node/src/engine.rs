//! The docker engine beside the node: whether it is there, now and later.
//!
//! It may be stopped, started and replaced at any time. The machine is told, so that the node bids for containers only
//! while it could run them; a person is told once each time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shoal_executors::DockerExecutor;
use shoal_executors::docker::{Facts, Gpu};
use shoal_protocol::job::spec::NetworkKind;
use shoal_protocol::message::{ExecutorKind, ImageSource, NeededImage};
use tokio::sync::{mpsc, watch};

use crate::driver::Event;

/// Pause between two looks at an engine that is there.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// First pause before an engine is looked for again that is not there; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a look may take: an engine that does not answer in time does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was seen of the engine last: what it is, or why it cannot be used.
pub(crate) type Seen = Result<Facts, String>;

/// The executor of containers, and how it is.
#[derive(Debug, Clone)]
pub(crate) struct Containers {
    pub(crate) executor: Arc<DockerExecutor>,
    seen: watch::Sender<Seen>,
    /// One look at a time, so that what is said last is what was seen last.
    looking: Arc<tokio::sync::Mutex<()>>,
}

impl Containers {
    /// Looks for the engine once.
    pub(crate) async fn find(executor: DockerExecutor) -> Self {
        let executor = Arc::new(executor);
        let first = look(&executor).await;
        tell(&first);
        Self { executor, seen: watch::Sender::new(first), looking: Arc::default() }
    }

    /// The platform that it runs, while it can.
    pub(crate) fn platform(&self) -> Option<String> {
        Some(self.seen.borrow().as_ref().ok()?.platform.clone())
    }

    /// The GPUs that it can give, for people.
    pub(crate) fn gpus(&self) -> Vec<String> {
        let gpus = self.seen.borrow().as_ref().map(|facts| self.executor.gpus(facts)).unwrap_or_default();
        gpus.iter().map(Gpu::to_string).collect()
    }

    /// How many GPUs it can give.
    pub(crate) fn gpu_count(&self) -> u16 {
        u16::try_from(self.gpus().len()).unwrap_or(u16::MAX)
    }

    /// Whether a container could be made of an image here: the engine has it, or it comes with the job.
    pub(crate) async fn has_image(&self, image: NeededImage) -> bool {
        image.source == ImageSource::Peers || self.executor.has_image(image.id).await
    }

    /// The networks that containers get now, beside none.
    pub(crate) fn networks(&self) -> BTreeSet<NetworkKind> {
        self.seen.borrow().as_ref().map(|facts| facts.networks.clone()).unwrap_or_default()
    }

    /// Why it cannot be used, if it cannot.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.seen.borrow().as_ref().err().cloned()
    }

    /// How the engine is, for people.
    pub(crate) fn in_words(&self) -> String {
        match &*self.seen.borrow() {
            Ok(facts) => {
                let runtime = facts.runtime.iter().map(|name| format!(", runtime {name}"));
                format!("version {}, {}{}", facts.version, facts.platform, runtime.collect::<String>())
            }
            Err(why) => format!("away: {why}"),
        }
    }

    /// Keeps looking, and says what changes.
    pub(crate) async fn watch(self, inbox: mpsc::Sender<Event>) {
        let mut absent = FIRST_PAUSE;
        loop {
            let is_there = self.seen.borrow().is_ok();
            tokio::time::sleep(if is_there { LOOK_EVERY } else { absent }).await;
            let is_there = self.look(&inbox).await;
            absent = if is_there { FIRST_PAUSE } else { (absent * 2).min(LONGEST_PAUSE) };
        }
    }

    /// Looks whether the engine is there, and says so if that has changed.
    pub(crate) async fn look(&self, inbox: &mpsc::Sender<Event>) -> bool {
        let _turn = self.looking.lock().await;
        let seen = look(&self.executor).await;
        let before = self.seen.send_replace(seen.clone());
        let is_there = seen.is_ok();
        if before.is_ok() != is_there || before.ok() != seen.as_ref().ok().cloned() {
            tell(&seen);
            let networks = seen.as_ref().map(|facts| facts.networks.clone()).unwrap_or_default();
            let profile = seen.ok().map(|facts| facts.platform);
            let offered = [Event::OfferNetworks(networks), Event::Gpus(self.gpu_count())];
            for event in offered.into_iter().chain([Event::Offer(ExecutorKind::Docker, profile)]) {
                // The driver is gone only when the node stops.
                let _ = inbox.send(event).await;
            }
        }
        is_there
    }
}

async fn look(executor: &DockerExecutor) -> Seen {
    match tokio::time::timeout(PATIENCE, executor.look()).await {
        Ok(seen) => seen.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the engine did not answer within {} s", PATIENCE.as_secs())),
    }
}

fn tell(seen: &Seen) {
    match seen {
        Ok(facts) => tracing::info!(version = facts.version, platform = facts.platform, "docker is there"),
        Err(why) => tracing::warn!(why, "no containers are run until docker is there"),
    }
}
