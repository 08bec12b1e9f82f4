//! Limits how many bytes pass in a second, and lets everybody have a fair share of them.
//!
//! Each key has a queue: a peer that is served, or a fetch that is under way. They take turns, so that whoever opens
//! many streams waits in its own queue, not in the others'.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::turns::Turns;

/// After a pause so much of the limit may be made up for. Longer than a timer is late.
const BURST: Duration = Duration::from_millis(100);

/// A limit that many share. Clones are the same limit.
#[derive(Debug)]
pub(crate) struct Shaper<K>(Option<Arc<Mutex<State<K>>>>);

#[derive(Debug)]
struct State<K> {
    bytes_per_second: u64,
    /// When the last of the bytes that were let through would have passed at the limit.
    paid_until: Instant,
    queues: Turns<K, Waiting>,
    is_running: bool,
}

#[derive(Debug)]
struct Waiting {
    bytes: u64,
    go: oneshot::Sender<()>,
}

impl<K> Clone for Shaper<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Ord + Copy + Send + 'static> Shaper<K> {
    /// A limit; none lets everything through.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        Self(bytes_per_second.map(|limit| {
            Arc::new(Mutex::new(State {
                bytes_per_second: limit.max(1),
                paid_until: Instant::now(),
                queues: Turns::default(),
                is_running: false,
            }))
        }))
    }

    /// Whether there is a limit at all.
    pub(crate) fn is_limited(&self) -> bool {
        self.0.is_some()
    }

    /// Waits until so many bytes of `key` may pass.
    pub(crate) async fn pass(&self, key: K, bytes: u64) {
        let Some(shared) = &self.0 else { return };
        let waiting = {
            let mut state = lock(shared);
            let now = Instant::now();
            if state.queues.is_empty() && !state.is_running && state.paid_until <= now {
                state.charge(bytes, now);
                return;
            }
            let (go, waiting) = oneshot::channel();
            state.queues.push(key, Waiting { bytes, go });
            if !std::mem::replace(&mut state.is_running, true) {
                tokio::spawn(serve(Arc::clone(shared)));
            }
            waiting
        };
        // Whoever is told nothing because the runtime ends does not go on either.
        let _ = waiting.await;
    }
}

impl<K: Ord + Copy> State<K> {
    /// When so many bytes may pass, if they come next. They are paid for.
    fn charge(&mut self, bytes: u64, now: Instant) -> Instant {
        let from = now.checked_sub(BURST).map_or(self.paid_until, |earliest| self.paid_until.max(earliest));
        self.paid_until = from + self.duration(bytes);
        from
    }

    /// How long so many bytes take.
    fn duration(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Takes the next one. One that was given up costs nothing.
    fn next(&mut self) -> Option<Waiting> {
        std::iter::from_fn(|| self.queues.pop()).find(|waiting| !waiting.go.is_closed())
    }
}

/// Lets one after the other through, until nobody waits.
async fn serve<K: Ord + Copy + Send>(shared: Arc<Mutex<State<K>>>) {
    loop {
        let (until, waiting) = {
            let mut state = lock(&shared);
            let Some(waiting) = state.next() else {
                state.is_running = false;
                return;
            };
            (state.charge(waiting.bytes, Instant::now()), waiting)
        };
        tokio::time::sleep_until(until.into()).await;
        let _ = waiting.go.send(());
    }
}

fn lock<K>(shared: &Mutex<State<K>>) -> MutexGuard<'_, State<K>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const PIECE: u64 = 16 << 10;

    fn state(bytes_per_second: u64, now: Instant) -> State<u8> {
        State { bytes_per_second, paid_until: now, queues: Turns::default(), is_running: false }
    }

    fn ask(state: &mut State<u8>, key: u8) -> oneshot::Receiver<()> {
        let (go, waiting) = oneshot::channel();
        state.queues.push(key, Waiting { bytes: PIECE, go });
        waiting
    }

    #[test]
    fn as_much_passes_as_is_allowed() {
        let start = Instant::now();
        let (mut state, mut now, mut passed) = (state(1 << 20, start), start, 0);
        while now < start + Duration::from_secs(10) {
            // Timers are late, and what was missed meanwhile is made up for.
            now = now.max(state.charge(PIECE, now)) + Duration::from_micros(900);
            passed += PIECE;
        }
        assert!((10 << 20..(10 << 20) + (128 << 10)).contains(&passed), "{passed}");
    }

    #[test]
    fn a_pause_is_made_up_for_only_in_part() {
        let start = Instant::now();
        let mut state = state(1 << 20, start);
        let later = start + Duration::from_secs(60);
        let at_once = std::iter::repeat_with(|| state.charge(PIECE, later)).take_while(|at| *at <= later).count();
        assert_eq!(at_once, 7, "a tenth of a second at sixteen kilobytes each, and the one that is under way");
    }

    #[test]
    fn whoever_has_many_streams_gets_no_more_than_one_who_has_few() {
        let mut state = state(1 << 20, Instant::now());
        let streams = [(1, 1), (2, 50), (3, 2)];
        let mut waiting: Vec<_> = streams
            .into_iter()
            .flat_map(|(key, count)| (0..count).map(move |_| key))
            .map(|key| (key, ask(&mut state, key)))
            .collect();
        let mut passed = BTreeMap::<u8, u32>::new();
        for _ in 0..300 {
            state.next().unwrap().go.send(()).unwrap();
            let gone = waiting.iter_mut().position(|(_, waiting)| waiting.try_recv().is_ok()).unwrap();
            let (key, _) = waiting.swap_remove(gone);
            *passed.entry(key).or_default() += 1;
            waiting.push((key, ask(&mut state, key)));
        }
        assert_eq!(passed, [(1, 100), (2, 100), (3, 100)].into());
    }

    #[test]
    fn whoever_gave_up_is_passed_over() {
        let mut state = state(1 << 20, Instant::now());
        drop(ask(&mut state, 1));
        let waiting = ask(&mut state, 2);
        state.next().unwrap().go.send(()).unwrap();
        assert!(waiting.blocking_recv().is_ok() && state.next().is_none() && state.queues.is_empty());
    }

    #[tokio::test]
    async fn everybody_gets_through_in_the_end() {
        let shaper = Shaper::new(Some(100 << 20));
        let all = (0..64).map(|stream| shaper.pass(stream % 8, PIECE));
        futures_util::future::join_all(all).await;
        Shaper::new(None).pass(1, u64::MAX).await;
    }
}
