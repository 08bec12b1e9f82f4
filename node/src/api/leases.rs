//! Keeps what was uploaded until its owner has had time to use it.
//!
//! A guard lives as long as somebody holds it, and a caller of the API holds nothing: so uploads stay for a while,
//! and are collected later unless a job or a pin keeps them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shoal_protocol::task::Content;
use shoal_store::blobs::Guard;

use crate::offers::Offer;

/// How long an upload stays for sure.
const LEASE: Duration = Duration::from_secs(3_600);
/// Uploads that are kept at once; the oldest go first.
const MAX_LEASES: usize = 2 * shoal_store::blobs::MAX_FILES;

/// Guards of recent uploads.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<VecDeque<(Instant, Guard, Offer)>>);

impl Leases {
    /// Keeps what `guard` covers for an hour, and lets peers have it: whoever uploads gets a ticket.
    pub(super) fn keep(&self, guard: Guard, offer: Offer) {
        let now = Instant::now();
        let mut leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = leases.iter().take_while(|(since, ..)| now.duration_since(*since) > LEASE).count();
        let surplus = (leases.len() + 1).saturating_sub(MAX_LEASES);
        drop(leases.drain(..expired.max(surplus)));
        leases.push_back((now, guard, offer));
    }

    /// Lets go of what something else keeps now.
    pub(super) fn release(&self, content: Content) {
        let mut leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leases.retain(|(_, guard, _)| guard.content() != content);
    }
}
