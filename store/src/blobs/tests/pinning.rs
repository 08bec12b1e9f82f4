//! Names that keep content: for good, or until a moment.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// A store whose clock is set by hand.
struct Timed {
    home: Home,
    now: Arc<AtomicU64>,
}

impl Timed {
    async fn new() -> Self {
        let now = Arc::new(AtomicU64::new(1_000));
        let home = Home::with(config(&now)).await;
        Self { home, now }
    }

    fn set(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
    }

    /// Closes and opens the store.
    async fn again(self) -> Self {
        self.home.blobs.shutdown().await.unwrap();
        let blobs = Blobs::open(&self.home.path("blobs"), config(&self.now)).await.unwrap();
        Self { home: Home { blobs, dir: self.home.dir }, now: self.now }
    }

    async fn pins(&self) -> Vec<(String, Option<Time>)> {
        let pins = self.home.blobs.pins().await.unwrap();
        pins.into_iter().map(|pin| (pin.name, pin.until)).collect()
    }
}

fn config(now: &Arc<AtomicU64>) -> BlobsConfig {
    let now = Arc::clone(now);
    BlobsConfig { clock: Clock::new(move || Time(now.load(Ordering::Relaxed))), ..BlobsConfig::default() }
}

#[tokio::test]
async fn pins_are_listed_replaced_and_removed_by_name_and_prefix() {
    let home = Home::new().await;
    let (one, two) = (raw(BlobHash::of(b"1")), folder(BlobHash::of(b"2")));
    for (name, content) in [("job/a/module", one), ("job/a/input", two), ("job/ab/module", one), ("user/x", two)] {
        home.blobs.pin(name, content).await.unwrap();
    }
    home.blobs.pin("user/x", one).await.unwrap();
    let pin = |name: &str, content| Pin { name: name.into(), content, until: None };
    let all = [pin("job/a/input", two), pin("job/a/module", one), pin("job/ab/module", one), pin("user/x", one)];
    assert_eq!(home.blobs.pins().await.unwrap(), all);
    assert_eq!(home.blobs.pins_with_prefix("job/a/").await.unwrap(), all[..2]);

    assert_eq!(home.blobs.unpin_prefix("job/a/").await.unwrap(), 2);
    assert!(home.blobs.unpin("user/x").await.unwrap());
    assert!(!home.blobs.unpin("user/x").await.unwrap());
    assert_eq!(home.blobs.pins().await.unwrap(), all[2..3]);
}

#[tokio::test]
async fn no_mistake_removes_every_pin() {
    let home = Home::new().await;
    home.blobs.pin("user/x", raw(BlobHash::of(b"1"))).await.unwrap();
    assert!(matches!(home.blobs.unpin_prefix("").await, Err(PinError::Name(_))));
    assert!(matches!(home.blobs.pin("", raw(BlobHash::of(b"1"))).await, Err(PinError::Name(_))));
    assert_eq!(home.blobs.pins().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_pin_with_an_end_keeps_content_until_then_and_across_restarts() {
    let timed = Timed::new().await;
    let added = timed.home.blobs.add_bytes(noise(LARGE, 40)).await.unwrap().content;
    timed.home.blobs.pin_until("user/week", added, Time(5_000)).await.unwrap();

    let timed = timed.again().await;
    timed.set(4_999);
    timed.home.blobs.gc().await.unwrap();
    assert_eq!(timed.pins().await, [("user/week".into(), Some(Time(5_000)))]);
    assert!(timed.home.has(added).await);

    timed.set(5_000);
    timed.home.blobs.gc().await.unwrap();
    assert_eq!(timed.pins().await, []);
    assert!(!timed.home.has(added).await);
}

#[tokio::test]
async fn an_expired_pin_is_not_listed_even_before_a_collection() {
    let timed = Timed::new().await;
    timed.home.blobs.pin_until("user/x", raw(BlobHash::of(b"1")), Time(2_000)).await.unwrap();
    timed.set(2_000);
    assert_eq!(timed.pins().await, []);
    timed.set(1_000);
    assert_eq!(timed.pins().await, [], "a clock that is set back does not bring it back");
}

#[tokio::test]
async fn the_last_pin_of_a_name_says_until_when() {
    let timed = Timed::new().await;
    let (content, blobs) = (raw(BlobHash::of(b"1")), &timed.home.blobs);
    for until in [Some(Time(3_000)), Some(Time(2_000)), Some(Time(9_000)), None, Some(Time(4_000))] {
        match until {
            Some(until) => blobs.pin_until("user/x", content, until).await.unwrap(),
            None => blobs.pin("user/x", content).await.unwrap(),
        }
        assert_eq!(timed.pins().await, [("user/x".into(), until)]);
    }
    assert!(blobs.unpin("user/x").await.unwrap());
    assert_eq!(timed.pins().await, []);
}

#[tokio::test]
async fn pins_of_one_name_that_are_set_at_once_leave_one() {
    let timed = Timed::new().await;
    let content = raw(BlobHash::of(b"1"));
    let pin = |until| timed.home.blobs.pin_until("user/x", content, Time(until));
    futures_util::future::try_join_all((2_000..2_016).map(pin)).await.unwrap();
    assert_eq!(timed.pins().await.len(), 1);
}

#[tokio::test]
async fn an_end_in_a_name_is_refused() {
    let timed = Timed::new().await;
    let error = timed.home.blobs.pin("user/x\u{0}4000", raw(BlobHash::of(b"1"))).await.unwrap_err();
    assert!(matches!(error, PinError::Name(_)), "{error}");
}
