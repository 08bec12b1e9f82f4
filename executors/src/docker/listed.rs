//! Which images the engine has, remembered for a moment: it is asked for each job that is announced.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bollard::query_parameters::ListImagesOptions;
use shoal_protocol::id::ImageId;
use tokio::sync::Mutex;

use super::engine::{Engine, plain};

/// How old what is remembered may be.
const FRESH: Duration = Duration::from_secs(5);
/// How long the engine may take to list them.
const PATIENCE: Duration = Duration::from_secs(5);

/// The images of an engine.
#[derive(Debug, Default)]
pub(super) struct Listed(Mutex<Option<(Instant, BTreeSet<ImageId>)>>);

impl Listed {
    /// Whether the engine has an image. One that does not answer has none.
    pub(super) async fn has(&self, engine: &Engine, id: ImageId) -> bool {
        let mut listed = self.0.lock().await;
        if listed.as_ref().is_none_or(|(at, _)| at.elapsed() > FRESH) {
            *listed = Some((Instant::now(), list(engine).await));
        }
        listed.as_ref().is_some_and(|(_, ids)| ids.contains(&id))
    }
}

async fn list(engine: &Engine) -> BTreeSet<ImageId> {
    let listed = engine.client.list_images(None::<ListImagesOptions>);
    match tokio::time::timeout(PATIENCE, listed).await {
        Ok(Ok(images)) => images.iter().filter_map(|image| image.id.parse().ok()).collect(),
        Ok(Err(error)) => {
            tracing::debug!(error = plain(&error), "images are not listed");
            BTreeSet::new()
        }
        Err(_) => BTreeSet::new(),
    }
}
