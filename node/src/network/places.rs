//! Places for strangers who have yet to show who they are. When all are taken, the oldest is given to the next: an
//! honest stranger is done in a moment, while whoever means harm would hold what it has.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::{CancellationToken, DropGuard};

/// So many places. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Places {
    most: usize,
    taken: Arc<Mutex<VecDeque<CancellationToken>>>,
}

/// One of them, until it is dropped or [lost](Place::lost).
#[derive(Debug)]
pub(super) struct Place(CancellationToken, #[expect(dead_code, reason = "gives the place back")] DropGuard);

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// A place, whoever has to lose one for it.
    pub(super) fn take(&self) -> Place {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|place| !place.is_cancelled());
        while taken.len() >= self.most {
            let Some(oldest) = taken.pop_front() else { break };
            oldest.cancel();
        }
        let place = CancellationToken::new();
        taken.push_back(place.clone());
        Place(place.clone(), place.drop_guard())
    }
}

impl Place {
    /// Waits until somebody else has got it, which may never be.
    pub(super) async fn lost(&self) {
        self.0.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_place_goes_to_the_next_and_a_free_one_before_that() {
        let places = Places::new(2);
        let (first, second) = (places.take(), places.take());
        let third = places.take();
        assert!(first.0.is_cancelled() && !second.0.is_cancelled());
        drop(third);
        let _fourth = places.take();
        assert!(!second.0.is_cancelled(), "there was room");
    }
}
