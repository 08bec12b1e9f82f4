//! Results that this node made for others and that were agreed on: pinned for a while, so that they can be had when
//! their requester is gone. When there are too many, those go first that end first.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use shoal_protocol::id::ExecutionId;
use shoal_protocol::task::Content;
use shoal_protocol::time::Time;
use shoal_store::blobs::{Blobs, PinError, StoreFailed};

use crate::pins;

/// Results that are kept at once.
const MAX_AGREED: usize = 4_096;

/// Keeps results for others. A clone is the same.
#[derive(Debug, Clone)]
pub(crate) struct Agreed {
    blobs: Blobs,
    /// The names of the pins, by their ends. Some may have made way.
    pins: Arc<Mutex<BTreeSet<(Time, String)>>>,
}

impl Agreed {
    /// Takes up what an earlier run kept.
    pub(crate) async fn restore(blobs: &Blobs) -> Result<Self, StoreFailed> {
        let pins = blobs.pins_with_prefix(pins::AGREED).await?;
        let pins = pins.into_iter().filter_map(|pin| Some((pin.until?, pin.name))).collect();
        Ok(Self { blobs: blobs.clone(), pins: Arc::new(Mutex::new(pins)) })
    }

    /// Keeps the result of an execution until then.
    pub(crate) async fn keep(&self, execution: ExecutionId, result: Content, until: Time) -> Result<(), PinError> {
        let name = pins::agreed(execution);
        self.blobs.pin_until(&name, result, until).await?;
        if let Some(surplus) = self.note(until, name) {
            self.blobs.unpin(&surplus).await?;
        }
        Ok(())
    }

    /// Notes a pin, and returns one that is too many.
    fn note(&self, until: Time, name: String) -> Option<String> {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.insert((until, name));
        if pins.len() > MAX_AGREED { pins.pop_first().map(|(_, name)| name) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use shoal_protocol::id::BlobHash;
    use shoal_protocol::task::ContentKind;
    use shoal_store::blobs::BlobsConfig;

    use super::*;

    fn execution(number: usize) -> ExecutionId {
        ExecutionId((number as u128).to_be_bytes())
    }

    #[tokio::test]
    async fn what_is_kept_survives_a_restart_and_has_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path(), BlobsConfig::default()).await.unwrap();
        let result = Content { hash: BlobHash([1; 32]), kind: ContentKind::Collection };
        let agreed = Agreed::restore(&blobs).await.unwrap();
        agreed.keep(execution(1), result, Time(2)).await.unwrap();
        agreed.keep(execution(0), result, Time(1)).await.unwrap();

        let agreed = Agreed::restore(&blobs).await.unwrap();
        for number in 2..MAX_AGREED {
            assert_eq!(agreed.note(Time(9), pins::agreed(execution(number))), None);
        }
        agreed.keep(execution(MAX_AGREED), result, Time(9)).await.unwrap();
        let left: Vec<String> = blobs.pins().await.unwrap().into_iter().map(|pin| pin.name).collect();
        assert_eq!(left, [1, MAX_AGREED].map(|number| pins::agreed(execution(number))), "what ends first goes first");
    }
}
