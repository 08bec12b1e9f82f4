//! Jobs that an operator turned down once he had seen them: they are not bid for again.

use std::collections::{BTreeMap, VecDeque};

use crate::id::JobId;
use crate::limits::{MAX_REFUSED, MAX_TEXT_BYTES};
use crate::text;

/// Why jobs were turned down, of so many as are remembered.
#[derive(Debug, Default)]
pub(super) struct Refused {
    reasons: BTreeMap<JobId, String>,
    order: VecDeque<JobId>,
}

impl Refused {
    /// Remembers why a job was turned down.
    pub(super) fn note(&mut self, job: JobId, why: &str) {
        if self.reasons.insert(job, text::beginning(why, MAX_TEXT_BYTES).to_owned()).is_none() {
            self.order.push_back(job);
        }
        if self.order.len() > MAX_REFUSED {
            self.order.pop_front().map(|oldest| self.reasons.remove(&oldest));
        }
    }

    /// Why a job was turned down, if it was.
    pub(super) fn why(&self, job: JobId) -> Option<&str> {
        self.reasons.get(&job).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: usize) -> JobId {
        JobId(std::array::from_fn(|i| if i < 8 { number.to_le_bytes()[i] } else { 0 }))
    }

    #[test]
    fn the_oldest_are_forgotten_and_reasons_are_of_a_size_that_can_be_said() {
        let mut refused = Refused::default();
        for number in 0..=MAX_REFUSED {
            refused.note(job(number), &"long ".repeat(100));
        }
        assert_eq!(refused.why(job(0)), None);
        assert_eq!(refused.why(job(1)).map(str::len), Some(MAX_TEXT_BYTES));
        assert_eq!((refused.reasons.len(), refused.order.len()), (MAX_REFUSED, MAX_REFUSED));
    }
}
