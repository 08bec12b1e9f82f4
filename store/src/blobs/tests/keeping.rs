//! What stays and what makes way.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Room for three of the blobs that these tests add, and a little more.
const QUOTA: u64 = 3 * LARGE as u64 + 20_000;

/// A store with a quota, whose clock ticks whenever it is read.
async fn bounded() -> Home {
    Home::with(config()).await
}

fn config() -> BlobsConfig {
    let now = AtomicU64::new(0);
    let clock = Clock::new(move || Time(now.fetch_add(1, Ordering::Relaxed)));
    BlobsConfig { clock, quota: QUOTA, ..BlobsConfig::default() }
}

/// Adds a file of noise, as an import does.
async fn import(home: &Home, seed: u8) -> Result<Imported, ImportError> {
    let path = home.path("import");
    fs::write(&path, noise(LARGE, seed)).unwrap();
    home.blobs.import_file(&path).await
}

async fn cached(home: &Home, seed: u8) -> Content {
    import(home, seed).await.unwrap().content
}

#[tokio::test]
async fn what_nobody_keeps_stays_as_long_as_there_is_room() {
    let home = bounded().await;
    let [first, second] = [cached(&home, 1).await, cached(&home, 2).await];
    home.blobs.tidy().await.unwrap();
    assert!(home.has(first).await && home.has(second).await);
    let third = cached(&home, 3).await;
    home.blobs.tidy().await.unwrap();
    assert!(!home.has(first).await && home.has(third).await, "above the high water mark the oldest goes");
}

#[tokio::test]
async fn what_was_used_last_goes_last() {
    let home = bounded().await;
    let [first, second, third] = [cached(&home, 1).await, cached(&home, 2).await, cached(&home, 3).await];
    home.blobs.touch(first);
    cached(&home, 4).await;
    assert!(home.has(first).await && home.has(third).await);
    assert!(!home.has(second).await, "it was not used for longest");
}

#[tokio::test]
async fn the_order_of_use_survives_a_restart() {
    let home = bounded().await;
    let [first, second, _] = [cached(&home, 1).await, cached(&home, 2).await, cached(&home, 3).await];
    home.blobs.touch(first);
    home.blobs.shutdown().await.unwrap();
    let blobs = Blobs::open(&home.path("blobs"), config()).await.unwrap();
    let home = Home { blobs, dir: home.dir };
    cached(&home, 4).await;
    assert!(home.has(first).await && !home.has(second).await);
}

#[tokio::test]
async fn what_is_pinned_or_guarded_makes_no_way_and_more_is_refused_with_sizes() {
    let home = bounded().await;
    let pinned = cached(&home, 1).await;
    home.blobs.pin("user/x", pinned).await.unwrap();
    let guarded = [import(&home, 2).await.unwrap(), import(&home, 3).await.unwrap()];
    let message = import(&home, 4).await.unwrap_err().to_string();
    for part in ["97.6 KiB more", "312.5 KiB", "292.9 KiB are pinned", "--max-disk", "blob du"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let usage = home.blobs.usage().await.unwrap();
    assert_eq!((usage.pinned, usage.in_use, usage.cache), (LARGE as u64, 2 * LARGE as u64, 0));
    drop(guarded);
    cached(&home, 4).await;
    assert!(home.has(pinned).await);
}

#[tokio::test]
async fn what_is_kept_for_others_goes_after_the_cache_by_its_end_and_nothing_else_pinned_goes() {
    let home = bounded().await;
    let [late, early, cache] = [cached(&home, 1).await, cached(&home, 2).await, cached(&home, 3).await];
    home.blobs.pin_until("agreed/late", late, Time(2_000_000)).await.unwrap();
    home.blobs.pin_until("agreed/early", early, Time(1_000_000)).await.unwrap();
    let usage = home.blobs.usage().await.unwrap();
    assert_eq!((usage.pinned, usage.yielding, usage.cache), (0, 2 * LARGE as u64, LARGE as u64));

    for (seed, gone, stays) in [(4, cache, early), (5, early, late)] {
        let kept = import(&home, seed).await.unwrap();
        home.blobs.pin(&format!("user/{seed}"), kept.content).await.unwrap();
        assert!(!home.has(gone).await && home.has(stays).await, "{seed}");
    }
    home.blobs.pin("job/result", late).await.unwrap();
    assert!(import(&home, 6).await.is_err(), "what somebody else keeps too does not go");
    assert!(home.has(late).await);
}

#[tokio::test]
async fn content_that_two_keep_for_others_goes_with_the_last() {
    let home = bounded().await;
    let [shared, _, _] = [cached(&home, 1).await, cached(&home, 2).await, cached(&home, 3).await];
    for (name, until) in [("agreed/a", 1_000_000), ("agreed/b", 2_000_000)] {
        home.blobs.pin_until(name, shared, Time(until)).await.unwrap();
    }
    let _room = home.blobs.reserve(QUOTA).await.unwrap();
    assert!(!home.has(shared).await && home.blobs.pins().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_collection_by_hand_leaves_what_is_kept_for_others() {
    let home = bounded().await;
    let result = cached(&home, 1).await;
    home.blobs.pin_until("agreed/a", result, Time(1_000_000)).await.unwrap();
    assert_eq!(home.blobs.unwanted().await.unwrap(), Collected::default());
    home.blobs.gc().await.unwrap();
    assert!(home.has(result).await);
}

#[tokio::test]
async fn a_stream_of_any_length_ends_at_the_quota_and_leaves_nothing() {
    let home = bounded().await;
    let kept = import(&home, 1).await.unwrap();
    let pieces = futures_util::stream::iter((0..u8::MAX).map(|seed| Ok(noise(LARGE, seed).into())));
    let error = home.blobs.add_stream(pieces).await.unwrap_err();
    assert!(matches!(error, StoreFailed::NoRoom(NoRoom::Quota { .. })), "{error}");
    home.blobs.tidy().await.unwrap();
    assert_eq!(fs::read_dir(home.path("blobs/temp")).unwrap().count(), 0);
    assert!(home.has(kept.content).await);
}

#[tokio::test]
async fn room_for_an_execution_is_made_by_eviction_and_given_back() {
    let home = bounded().await;
    let old = cached(&home, 1).await;
    let room = home.blobs.reserve(QUOTA - 10_000).await.unwrap();
    assert!(!home.has(old).await);
    assert!(matches!(home.blobs.reserve(20_000).await, Err(StoreFailed::NoRoom(_))));
    drop(room);
    let _all = home.blobs.reserve(QUOTA).await.unwrap();
}

#[tokio::test]
async fn files_of_a_folder_are_as_new_as_the_folder() {
    let home = Home::with(config()).await;
    let root = home.path("tree");
    plant(&root, &BTreeMap::from([("a".into(), noise(LARGE, 1))]));
    let tree = home.blobs.import_path(&root).await.unwrap().content;
    let [second, _] = [cached(&home, 2).await, cached(&home, 3).await];
    home.blobs.touch(tree);
    cached(&home, 4).await;
    assert!(home.has(tree).await && !home.has(second).await);
}

#[tokio::test]
async fn executions_can_have_what_is_neither_kept_nor_promised() {
    let home = bounded().await;
    let [pinned, _cache] = [cached(&home, 1).await, cached(&home, 2).await];
    home.blobs.pin("user/x", pinned).await.unwrap();
    let large = LARGE as u64;
    assert!((2 * large..QUOTA).contains(&home.blobs.room_for(2 * large).await.unwrap()), "the cache makes way");
    let promised = home.blobs.reserve(large).await.unwrap();
    let left = home.blobs.room_for(2 * large).await.unwrap();
    assert!((large - 20_000..2 * large).contains(&left), "{left}");
    drop(promised);
}

#[tokio::test]
async fn a_dry_run_tells_what_would_go_and_removes_nothing() {
    let home = bounded().await;
    let (unwanted, pinned) = (cached(&home, 1).await, cached(&home, 2).await);
    home.blobs.pin("user/x", pinned).await.unwrap();
    let told = home.blobs.unwanted().await.unwrap();
    assert_eq!(told, Collected { blobs: 1, bytes: LARGE as u64 });
    assert!(home.has(unwanted).await);
    assert_eq!(home.blobs.gc().await.unwrap(), told);
    assert!(!home.has(unwanted).await && home.has(pinned).await);
}

#[tokio::test]
async fn leftovers_of_a_crash_are_removed_at_the_start() {
    let home = bounded().await;
    let kept = import(&home, 1).await.unwrap().content;
    home.blobs.shutdown().await.unwrap();
    let (half, stray) =
        (home.path("blobs/temp/half.temp"), home.path(&format!("blobs/data/{}.data", BlobHash([7; 32]))));
    [&half, &stray].into_iter().for_each(|path| fs::write(path, "left").unwrap());
    let blobs = Blobs::open(&home.path("blobs"), config()).await.unwrap();
    let home = Home { blobs, dir: home.dir };
    assert!(!half.exists() && !stray.exists());
    assert!(home.has(kept).await);
}
