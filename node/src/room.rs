//! Fetches with room for what arrives: they end when there is none, as soon as it is known how much there is.

use shoal_protocol::id::PeerId;
use shoal_protocol::task::Content;
use shoal_store::blobs::{Blobs, Status, StoreFailed};
use tokio::sync::watch;

use crate::network::{FetchError, Network, Progress};

/// Fetches content as [`Network::fetch`] does, into room that is made as it arrives.
pub(crate) async fn fetch(
    (network, blobs): (&Network, &Blobs),
    content: Content,
    providers: Vec<PeerId>,
    max_bytes: u64,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<u64, FetchError> {
    let before = blobs.status(content).await.map_or(0, Status::bytes);
    let (arrived, arriving) = watch::channel(0);
    let count = |so_far: Progress| {
        let all = so_far.total.unwrap_or_default().max(so_far.bytes);
        arrived.send_replace(all.saturating_sub(before));
        progress(so_far);
    };
    tokio::select! {
        fetched = network.fetch(content, providers, max_bytes, count) => fetched,
        error = follow(blobs, arriving) => Err(FetchError::Store { hash: content.hash, reason: error.to_string() }),
    }
}

/// Asks for as much room as the fetch is known to need; ends when there is none.
async fn follow(blobs: &Blobs, mut arriving: watch::Receiver<u64>) -> StoreFailed {
    let mut room = match blobs.reserve_blobs(0).await {
        Ok(room) => room,
        Err(error) => return error,
    };
    loop {
        let bytes: u64 = *arriving.borrow_and_update();
        if let Err(error) = blobs.extend(&mut room, bytes).await {
            return error;
        }
        if arriving.changed().await.is_err() {
            // The fetch has ended, and this with it.
            std::future::pending::<()>().await;
        }
    }
}
