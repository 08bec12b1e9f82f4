//! What a node looks after while it runs: its driver, its blob store, the mesh around it.

use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::machine::View;
use shoal_store::blobs::Blobs;
use shoal_store::state::State;
use tokio::sync::{mpsc, watch};

use super::relays;
use super::remembered::{peers_to_save, save_peers};
use crate::clock::Clock;
use crate::driver::{Driver, Event};
use crate::network::Network;
use crate::publish::Publishing;

/// Pause between two looks whether blobs have to make way.
pub(super) const GC_INTERVAL: Duration = Duration::from_secs(300);
/// Pause between two looks whether the blob store still works.
const CHECK_BLOBS_EVERY: Duration = Duration::from_secs(5);
/// Pause between two looks at the mesh.
const OBSERVE_EVERY: Duration = Duration::from_secs(1);
/// Looks at the mesh after which peers are saved; after the first few they are saved more often.
const SAVE_PEERS_EVERY: u32 = 15;

/// A node that cannot save must not go on: it would say what it could forget.
pub(super) async fn drive(driver: Driver, failed: watch::Sender<Option<String>>) {
    let network = driver.network.clone();
    if let Err(error) = driver.run().await {
        tracing::error!(%error, "the node cannot save its state and stops");
        failed.send_replace(Some(format!("the node's state cannot be saved: {error}")));
        network.shutdown().await;
    }
}

/// The blob store stops for good when the disk fails it, and without blobs a node can do nothing for anybody.
pub(super) async fn watch_blobs(blobs: Blobs, inbox: mpsc::Sender<Event>, failed: watch::Sender<Option<String>>) {
    let mut ticks = tokio::time::interval(CHECK_BLOBS_EVERY);
    loop {
        ticks.tick().await;
        if let Err(error) = blobs.check().await {
            tracing::error!(%error, "the blob store has stopped, and the node with it");
            failed.send_replace(Some(format!("the blob store has stopped (is the disk full?): {error}")));
            let _ = inbox.send(Event::Shutdown).await;
            return;
        }
    }
}

/// Tells the driver how large and how far the mesh is, remembers peers for the next start, and notices sleep.
pub(super) async fn observe(network: Network, clock: Clock, state: Arc<State>, inbox: mpsc::Sender<Event>) {
    let mut ticks = tokio::time::interval(OBSERVE_EVERY);
    let mut looks = 0_u32;
    loop {
        ticks.tick().await;
        if let Some(slept_ms) = clock.notice_sleep() {
            tracing::info!(slept_ms, "the machine has slept, or its clock was set: looking for peers anew");
            network.hurry().await;
        }
        if inbox.send(Event::View(view(&network))).await.is_err() {
            return;
        }
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(SAVE_PEERS_EVERY) || looks < SAVE_PEERS_EVERY && looks.is_power_of_two() {
            let (network, state) = (network.clone(), Arc::clone(&state));
            let known = peers_to_save(&network, clock.now()).await;
            let _ = tokio::task::spawn_blocking(move || {
                save_peers(network.mesh_id(), known, &state);
                relays::save(&network, &state);
            })
            .await;
        }
    }
}

pub(super) fn view(network: &Network) -> View {
    let delay_ms = u32::try_from(network.delay_ms()).unwrap_or(u32::MAX).max(1);
    View {
        mesh_size: network.mesh_size().max(1),
        level: network.first_level(),
        delay_ms,
        without: network.without(),
        contact: network.contact(),
    }
}

/// Removes published copies when the results that they are of are not kept any more.
pub(super) async fn sweep_published(publishing: Publishing) {
    let mut ticks = tokio::time::interval(GC_INTERVAL);
    loop {
        ticks.tick().await;
        if let Err(error) = publishing.sweep().await {
            tracing::debug!(%error, "published results were not swept");
        }
    }
}
