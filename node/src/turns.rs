//! Queues that take turns, so that whoever puts much into its own keeps nobody else waiting.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A queue for each key that has something in it.
#[derive(Debug)]
pub(crate) struct Turns<K, V> {
    queues: BTreeMap<K, VecDeque<V>>,
    /// Whose turn was last.
    last: Option<K>,
    len: usize,
}

impl<K, V> Default for Turns<K, V> {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), last: None, len: 0 }
    }
}

impl<K: Ord + Copy, V> Turns<K, V> {
    pub(crate) fn push(&mut self, key: K, value: V) {
        self.queues.entry(key).or_default().push_back(value);
        self.len += 1;
    }

    /// Takes the first in the queue of whoever's turn it is.
    pub(crate) fn pop(&mut self) -> Option<V> {
        let after = self.last.and_then(|last| {
            let later = (Bound::Excluded(last), Bound::Unbounded);
            self.queues.range(later).next().map(|(key, _)| *key)
        });
        let key = after.or_else(|| self.queues.keys().next().copied())?;
        self.last = Some(key);
        self.take(key, VecDeque::pop_front)
    }

    /// Takes out what came last into the longest queue.
    pub(crate) fn pop_longest(&mut self) -> Option<V> {
        let (key, _) = self.queues.iter().max_by_key(|(_, queue)| queue.len())?;
        self.take(*key, VecDeque::pop_back)
    }

    /// All that waits.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What waits in one queue.
    pub(crate) fn len_of(&self, key: K) -> usize {
        self.queues.get(&key).map_or(0, VecDeque::len)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn take(&mut self, key: K, end: fn(&mut VecDeque<V>) -> Option<V>) -> Option<V> {
        let queue = self.queues.get_mut(&key)?;
        let value = end(queue);
        if queue.is_empty() {
            self.queues.remove(&key);
        }
        self.len -= usize::from(value.is_some());
        value
    }
}

/// The same between tasks.
#[derive(Debug)]
pub(crate) struct Lines<K, V> {
    turns: Mutex<Turns<K, V>>,
    came: Notify,
    most: usize,
    most_of_one: usize,
}

impl<K: Ord + Copy, V> Lines<K, V> {
    /// With room for so many values, and so many in one queue.
    pub(crate) fn new(most: usize, most_of_one: usize) -> Self {
        Self { turns: Mutex::default(), came: Notify::new(), most, most_of_one }
    }

    /// Puts a value in. Returns one that there is no room for: this one, or the last of the longest queue.
    pub(crate) fn push(&self, key: K, value: V) -> Option<V> {
        let mut turns = self.lock();
        if turns.len_of(key) >= self.most_of_one {
            return Some(value);
        }
        turns.push(key, value);
        self.came.notify_one();
        if turns.len() > self.most { turns.pop_longest() } else { None }
    }

    /// Waits for the next value. Only one task may do so.
    pub(crate) async fn next(&self) -> V {
        loop {
            if let Some(value) = self.lock().pop() {
                return value;
            }
            self.came.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turns<K, V>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(lengths: [usize; 3]) -> Turns<usize, usize> {
        let mut turns = Turns::default();
        for (key, length) in lengths.into_iter().enumerate() {
            (0..length).for_each(|_| turns.push(key, key));
        }
        turns
    }

    #[test]
    fn everybody_comes_once_before_anybody_comes_twice() {
        let mut turns = filled([1, 5, 2]);
        let order: Vec<usize> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order, [0, 1, 2, 1, 2, 1, 1, 1]);
        assert!(turns.is_empty() && turns.queues.is_empty());
    }

    #[test]
    fn whoever_comes_late_does_not_wait_for_the_others_queues() {
        let mut turns = filled([0, 5, 5]);
        turns.pop();
        turns.push(0, 0);
        assert_eq!([turns.pop(), turns.pop()], [Some(2), Some(0)]);
    }

    #[test]
    fn the_longest_queue_gives_way() {
        let mut turns = filled([1, 3, 2]);
        assert_eq!(turns.pop_longest(), Some(1));
        assert_eq!((turns.len(), turns.len_of(0), turns.len_of(1)), (5, 1, 2));
    }

    #[tokio::test]
    async fn whoever_fills_all_the_room_makes_room_for_others() {
        let lines = Lines::new(100, 80);
        let dropped = (0..1_000).filter_map(|number| lines.push(1, number)).count();
        assert_eq!(dropped, 1_000 - 80);
        assert!((0..20).all(|number| lines.push(2, number).is_none()));
        assert_eq!(lines.push(3, 7), Some(79), "the last of the longest");
        assert_eq!([lines.next().await, lines.next().await, lines.next().await], [0, 0, 7]);
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_what_comes() {
        let lines = std::sync::Arc::new(Lines::new(10, 10));
        let waiting = tokio::spawn({
            let lines = std::sync::Arc::clone(&lines);
            async move { lines.next().await }
        });
        tokio::task::yield_now().await;
        assert_eq!(lines.push(1, 5), None);
        assert_eq!(waiting.await.unwrap(), 5);
    }
}
