//! What will happen, in order of time; events of one millisecond keep the order in which they were planned.
//!
//! A ring of one bucket per millisecond for the near future, a sorted map for the rest: planning and taking cost
//! the same whether a hundred events wait or ten million.

use std::collections::BTreeMap;
use std::mem;

/// Milliseconds that the ring spans. Gossip and most timers fall within.
const SPAN: u64 = 1 << 14;

/// Planned events and the clock.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    now: u64,
    ring: Vec<Vec<T>>,
    /// How many events of the present millisecond have been taken.
    taken: usize,
    near: usize,
    far: BTreeMap<u64, Vec<T>>,
}

impl<T: Copy> Queue<T> {
    /// An empty queue at time zero.
    pub(crate) fn new() -> Self {
        Self { now: 0, ring: (0..SPAN).map(|_| Vec::new()).collect(), taken: 0, near: 0, far: BTreeMap::new() }
    }

    /// The present, in milliseconds.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Plans an event; what is planned for the past happens now.
    pub(crate) fn plan(&mut self, at: u64, event: T) {
        let at = at.max(self.now);
        if at - self.now < SPAN {
            self.ring[slot(at)].push(event);
            self.near += 1;
        } else {
            self.far.entry(at).or_default().push(event);
        }
    }

    /// Takes the next event and moves the clock to it.
    pub(crate) fn take(&mut self) -> Option<T> {
        loop {
            if let Some(event) = self.ring[slot(self.now)].get(self.taken).copied() {
                self.taken += 1;
                self.near -= 1;
                return Some(event);
            }
            self.advance()?;
        }
    }

    /// Moves the clock to the next millisecond that may hold something.
    fn advance(&mut self) -> Option<()> {
        drop(mem::take(&mut self.ring[slot(self.now)]));
        self.taken = 0;
        self.now = if self.near > 0 { self.now + 1 } else { *self.far.first_key_value()?.0 };
        while let Some(entry) = self.far.first_entry().filter(|entry| *entry.key() - self.now < SPAN) {
            let (at, events) = entry.remove_entry();
            self.near += events.len();
            self.ring[slot(at)] = events;
        }
        Some(())
    }
}

fn slot(at: u64) -> usize {
    (at % SPAN) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_then_of_planning() {
        let mut queue = Queue::new();
        let plan = [(SPAN * 3, 'e'), (5, 'b'), (0, 'a'), (5, 'c'), (SPAN + 1, 'd'), (SPAN * 3, 'f')];
        plan.into_iter().for_each(|(at, event)| queue.plan(at, event));
        let mut seen = Vec::new();
        while let Some(event) = queue.take() {
            seen.push((queue.now(), event));
            if event == 'd' {
                // Planned later for the same time as others that were planned early: it comes after them.
                queue.plan(SPAN * 3, 'g');
            }
        }
        let expected =
            [(0, 'a'), (5, 'b'), (5, 'c'), (SPAN + 1, 'd'), (SPAN * 3, 'e'), (SPAN * 3, 'f'), (SPAN * 3, 'g')];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_planned_for_now_happens_now() {
        let mut queue = Queue::new();
        queue.plan(7, 1);
        assert_eq!(queue.take(), Some(1));
        queue.plan(3, 2);
        assert_eq!((queue.take(), queue.now(), queue.take()), (Some(2), 7, None));
    }
}
