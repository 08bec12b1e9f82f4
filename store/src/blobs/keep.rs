//! What stays and what makes way: pins and guards keep content, the rest is a cache.
//!
//! The cache stays as long as there is room. When somebody needs room, or the store comes near its quota, what was
//! not used for longest goes first. A folder's files count as used when the folder is. When that is not enough, pins
//! that yield are removed, those that end first first, and what only they kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::{Content, ContentKind};
use shoal_protocol::time::Time;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::folder::FolderError;
use super::import::blocking;
use super::pins::{Pin, Yielding};
use super::room::{Becomes, Disk, Reservation};
use super::{Blobs, Collected, MAX_LOOKED_UP, StoreFailed, content, failed};

/// Pause between two looks at the disk.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Eviction at the interval begins when the store uses more of its quota than this, in percent.
const HIGH_WATER: u64 = 90;
/// It ends at this.
const LOW_WATER: u64 = 80;
/// Beyond what is missing an eviction frees this share of what is used, so that not every write needs another.
const SLACK: u64 = 16;
/// The most that is asked for ahead by those who do not know how much they will write, in bytes.
const MAX_STEP_BYTES: u64 = 64 << 20;

/// How much the store holds, by what keeps it, in bytes on the disk.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What `--max-disk` allows.
    pub quota: u64,
    /// All blobs.
    pub used: u64,
    /// Those that pins keep for good or until their end.
    pub pinned: u64,
    /// Those that only pins keep that yield: they make way when the cache is not enough.
    pub yielding: u64,
    /// Those that jobs, executions, transfers and commands keep, and no pin does.
    pub in_use: u64,
    /// Those that nothing keeps: they make way when room is needed.
    pub cache: u64,
    /// What of all that belongs to blobs that are not complete.
    pub partial: u64,
    /// Room that executions and transfers were promised.
    pub promised: u64,
    /// What is free on the disk.
    pub free: u64,
}

/// What the last look found that was made for those who ask often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked {
    at: Instant,
    used: u64,
    evictable: u64,
}

/// What the store holds and what keeps it.
pub(super) struct Survey {
    blobs: BTreeMap<BlobHash, Held>,
    pinned: BTreeSet<BlobHash>,
    /// Pins that yield, in the order in which they go.
    yielding: Vec<Yielding>,
    in_use: BTreeSet<BlobHash>,
    last_use: BTreeMap<BlobHash, Time>,
}

/// One step of an eviction: blobs that go together, and the pin that goes with them.
struct Step<'a> {
    pin: Option<&'a Pin>,
    blobs: Vec<(BlobHash, u64)>,
}

/// One blob on the disk.
#[derive(Debug, Default, Clone, Copy)]
struct Held {
    bytes: u64,
    has_file: bool,
    partial: bool,
}

impl Blobs {
    /// Promises room for an execution's files.
    pub async fn reserve(&self, bytes: u64) -> Result<Reservation, StoreFailed> {
        self.promise(bytes, Becomes::Free).await
    }

    /// Promises room for blobs that are about to be written.
    pub async fn reserve_blobs(&self, bytes: u64) -> Result<Reservation, StoreFailed> {
        self.promise(bytes, Becomes::Blobs).await
    }

    /// Makes a reservation reach for `bytes` and some more, if it does not yet.
    pub async fn extend(&self, reservation: &mut Reservation, bytes: u64) -> Result<(), StoreFailed> {
        if bytes > reservation.bytes() {
            let needed = bytes - reservation.bytes();
            let (ahead, becomes) = (bytes.min(MAX_STEP_BYTES), reservation.becomes());
            let more = match self.room.promise(needed + ahead, becomes) {
                Some(more) => more,
                None => self.promise(needed, becomes).await?,
            };
            reservation.join(more);
        }
        Ok(())
    }

    /// What executions could be promised now, in bytes: at least `wanted`, or all that there is. Cheap while there is
    /// plenty, and else not more often than once in a while.
    pub async fn room_for(&self, wanted: u64) -> Result<u64, StoreFailed> {
        if let Some(spare) = self.room.spare_now().filter(|spare| *spare >= wanted) {
            return Ok(spare);
        }
        let mut looked = self.looked.lock().await;
        let (used, evictable) = match *looked {
            Some(Looked { at, used, evictable }) if at.elapsed() < LOOK_EVERY => (used, evictable),
            _ => {
                let survey = self.survey().await?;
                let (used, evictable) = (survey.total(), survey.evictable());
                *looked = Some(Looked { at: Instant::now(), used, evictable });
                (used, evictable)
            }
        };
        Ok(self.room.spare(used, evictable))
    }

    /// The disk was full when `bytes` were written.
    pub(super) fn full(&self, bytes: u64) -> StoreFailed {
        self.room.full(bytes).into()
    }

    /// Content is wanted now, though nobody guards it.
    pub fn touch(&self, content: Content) {
        self.uses.note(content);
    }

    /// How much the store holds, and how much of it could make way.
    pub async fn usage(&self) -> Result<Usage, StoreFailed> {
        let survey = self.survey().await?;
        let mut usage = Usage {
            quota: self.room.quota(),
            used: survey.total(),
            promised: self.room.promised(),
            free: self.room.disk().map_or(0, |disk| disk.free),
            ..Usage::default()
        };
        let yielding = survey.last_yielding();
        for (hash, held) in &survey.blobs {
            let kind = match () {
                () if survey.pinned.contains(hash) => &mut usage.pinned,
                () if survey.in_use.contains(hash) => &mut usage.in_use,
                () if yielding.contains_key(hash) => &mut usage.yielding,
                () => &mut usage.cache,
            };
            *kind += held.bytes;
            usage.partial += if held.partial { held.bytes } else { 0 };
        }
        Ok(usage)
    }

    /// What [`Blobs::gc`] would remove.
    pub async fn unwanted(&self) -> Result<Collected, StoreFailed> {
        Ok(sum(&self.survey().await?.cache()))
    }

    /// Removes now all that neither guards nor pins keep.
    pub async fn gc(&self) -> Result<Collected, StoreFailed> {
        // Fails at once when the store is closed, where the collector would never answer.
        self.sync().await?;
        let _turn = self.making_room.lock().await;
        let survey = self.survey().await?;
        let victims = survey.cache();
        self.collector.remove(victims.iter().map(|(hash, _)| *hash).collect()).await?;
        let left: BTreeSet<BlobHash> = self.hashes().await?.into_iter().collect();
        let gone: Vec<_> = victims.into_iter().filter(|(hash, _)| !left.contains(hash)).collect();
        let collected = sum(&gone);
        self.room.found(survey.total().saturating_sub(collected.bytes));
        Ok(collected)
    }

    /// When each blob was used last, as far as that is remembered.
    pub async fn last_uses(&self) -> Result<BTreeMap<BlobHash, Time>, StoreFailed> {
        let mut all = BTreeMap::new();
        for (content, time) in self.uses.last() {
            for hash in self.blobs_of(content).await? {
                let last: &mut Time = all.entry(hash).or_default();
                *last = time.max(*last);
            }
        }
        Ok(all)
    }

    async fn promise(&self, bytes: u64, becomes: Becomes) -> Result<Reservation, StoreFailed> {
        if let Some(promised) = self.room.promise(bytes, becomes) {
            return Ok(promised);
        }
        let _turn = self.making_room.lock().await;
        let survey = self.survey().await?;
        self.room.found(survey.total());
        let missing = self.room.missing(bytes, survey.total());
        if missing > 0 && missing <= survey.evictable() {
            self.evict(&survey, missing + survey.total() / SLACK).await?;
        }
        let kept = survey.total() - survey.evictable();
        self.room.promise(bytes, becomes).ok_or_else(|| self.room.refusal(bytes, kept).into())
    }

    /// Removes what was not used for longest, then what pins keep that yield, until `bytes` are free or nothing is
    /// left that could go.
    async fn evict(&self, survey: &Survey, bytes: u64) -> Result<(), StoreFailed> {
        let (mut victims, mut freed) = (BTreeSet::new(), 0);
        for step in survey.goes() {
            if freed >= bytes {
                break;
            }
            if let Some(pin) = step.pin {
                self.remove_pin(pin).await?;
            }
            victims.extend(step.blobs.iter().map(|(hash, _)| *hash));
            freed += step.blobs.iter().map(|(_, size)| size).sum::<u64>();
        }
        tracing::debug!(blobs = victims.len(), bytes = freed, "evicted");
        self.collector.remove(victims).await?;
        self.room.found(survey.total().saturating_sub(freed));
        Ok(())
    }

    /// Keeps the store in order until it is closed.
    pub(super) async fn keep_house(self, interval: Duration, closed: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let first = tokio::time::Instant::now() + interval;
        let mut turns = tokio::time::interval_at(first, interval);
        loop {
            let done = tokio::select! {
                () = closed.cancelled() => return,
                _ = turns.tick() => self.tidy().await,
                _ = looks.tick() => self.look_at_disk().await,
            };
            if let Err(error) = done {
                tracing::debug!(%error, "the store was not put in order");
            }
        }
    }

    /// Ends pins whose time has come, makes room above the high water mark, and remembers last uses.
    pub(super) async fn tidy(&self) -> Result<(), StoreFailed> {
        let _turn = self.making_room.lock().await;
        let in_place = self.references.hashes();
        let survey = self.survey().await?;
        self.references.tidy(&in_place, |hash| survey.blobs.contains_key(hash)).map_err(failed)?;
        let (used, quota) = (survey.total().saturating_add(self.room.promised()), self.room.quota());
        self.room.found(survey.total());
        if used > quota / 100 * HIGH_WATER {
            self.evict(&survey, used - quota / 100 * LOW_WATER).await?;
        }
        self.clear_temporary().await;
        let here = |content: &Content| survey.blobs.contains_key(&content.hash);
        self.uses.tidy(here).map_err(failed)
    }

    /// Gives the reserve up on a disk that others have filled, and makes way for them before that.
    async fn look_at_disk(&self) -> Result<(), StoreFailed> {
        let Some(Disk { free, floor, reserve: size }) = self.room.disk() else { return Ok(()) };
        // First: to remove blobs is to write into their database, which ends if it cannot.
        if let Some(reserve) = &self.reserve
            && free < size
            && reserve.give_up()
        {
            tracing::warn!(free, "the disk is full: its reserve was given up");
        }
        if free < floor {
            let _turn = self.making_room.lock().await;
            let survey = self.survey().await?;
            if survey.evictable() > 0 {
                self.evict(&survey, floor - free).await?;
            }
        }
        match &self.reserve {
            Some(reserve) if free > floor + 2 * size => reserve.keep(size).map_err(failed),
            _ => Ok(()),
        }
    }

    /// Looks at all blobs, and ends pins whose time has come.
    async fn survey(&self) -> Result<Survey, StoreFailed> {
        let ((pinned, mut yielding), in_use) = (self.pinned().await?, self.guarded().await?);
        yielding.sort_by_key(|one| one.pin.until.unwrap_or(Time::NEVER));
        let data = self.dir.join("data");
        let mut files = blocking(move || files_of_blobs(&data)).await;
        let mut blobs = BTreeMap::new();
        for hash in self.hashes().await? {
            let mut held = files.remove(&hash).unwrap_or_default();
            if !held.has_file {
                held.bytes += self.size_in_database(hash).await?;
            }
            blobs.insert(hash, held);
        }
        Ok(Survey { blobs, pinned, yielding, in_use, last_use: self.last_uses().await? })
    }

    /// What a blob without a file takes up: nothing, if its file is somebody else's.
    async fn size_in_database(&self, hash: BlobHash) -> Result<u64, StoreFailed> {
        let bytes = self.blob_status(hash).await?.bytes();
        Ok(if bytes <= MAX_LOOKED_UP as u64 { bytes } else { 0 })
    }

    pub(super) async fn hashes(&self) -> Result<Vec<BlobHash>, StoreFailed> {
        let hashes = self.store.blobs().list().hashes().await.map_err(failed)?;
        Ok(hashes.into_iter().map(|hash| BlobHash(*hash.as_bytes())).collect())
    }

    async fn guarded(&self) -> Result<BTreeSet<BlobHash>, StoreFailed> {
        let mut tags = self.store.tags().list_temp_tags().await.map_err(failed)?;
        let mut contents = BTreeSet::new();
        while let Some(tag) = tags.next().await {
            contents.insert(content(tag));
        }
        let mut guarded = BTreeSet::new();
        for content in contents {
            guarded.extend(self.blobs_of(content).await?);
        }
        Ok(guarded)
    }

    /// The blobs that content consists of, as far as they are known: those of a folder once its list is here.
    pub(super) async fn blobs_of(&self, content: Content) -> Result<Vec<BlobHash>, StoreFailed> {
        let mut blobs = vec![content.hash];
        if content.kind == ContentKind::Collection {
            match self.folder_blobs(content.hash).await {
                Ok(more) => blobs.extend(more),
                Err(FolderError::Store(error)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(blobs)
    }

    /// Removes files of imports that broke off, if no import is under way.
    async fn clear_temporary(&self) {
        let Ok(_turn) = self.importing.try_write() else { return };
        let temporary = self.dir.join("temp");
        blocking(move || clear(&temporary)).await;
    }

    /// Removes what an earlier process left behind: files of imports that broke off, and those of no blob.
    pub(super) async fn clear_leftovers(&self) -> Result<(), StoreFailed> {
        let known: BTreeSet<BlobHash> = self.hashes().await?.into_iter().collect();
        let (temporary, data) = (self.dir.join("temp"), self.dir.join("data"));
        blocking(move || {
            clear(&temporary);
            for entry in fs::read_dir(&data).into_iter().flatten().flatten() {
                if blob_of(&entry.path()).is_some_and(|hash| !known.contains(&hash)) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        })
        .await;
        Ok(())
    }
}

impl Survey {
    pub(super) fn total(&self) -> u64 {
        self.blobs.values().map(|held| held.bytes).sum()
    }

    /// What nothing keeps, the longest unused first.
    pub(super) fn cache(&self) -> Vec<(BlobHash, u64)> {
        let yielding = self.last_yielding();
        let is_cache = |(hash, _): &(&BlobHash, &Held)| !self.is_kept(hash) && !yielding.contains_key(*hash);
        let mut cache: Vec<_> = self.blobs.iter().filter(is_cache).collect();
        cache.sort_by_key(|(hash, _)| self.last_use.get(hash));
        cache.into_iter().map(|(hash, held)| (*hash, held.bytes)).collect()
    }

    /// What goes when there is no room, in that order.
    fn goes(&self) -> Vec<Step<'_>> {
        let mut steps: Vec<Step<'_>> =
            self.cache().into_iter().map(|blob| Step { pin: None, blobs: vec![blob] }).collect();
        let pins = steps.len();
        steps.extend(self.yielding.iter().map(|one| Step { pin: Some(&one.pin), blobs: Vec::new() }));
        for (hash, last) in self.last_yielding() {
            if let Some(held) = self.blobs.get(&hash).filter(|_| !self.is_kept(&hash)) {
                steps[pins + last].blobs.push((hash, held.bytes));
            }
        }
        steps
    }

    /// What pins keep that yield, each blob with the last of them.
    fn last_yielding(&self) -> BTreeMap<BlobHash, usize> {
        let each =
            |(index, one): (usize, &Yielding)| one.blobs.iter().map(move |hash| (*hash, index)).collect::<Vec<_>>();
        self.yielding.iter().enumerate().flat_map(each).collect()
    }

    /// What could go when there is no room.
    fn evictable(&self) -> u64 {
        self.blobs.iter().filter(|(hash, _)| !self.is_kept(hash)).map(|(_, held)| held.bytes).sum()
    }

    fn is_kept(&self, hash: &BlobHash) -> bool {
        self.pinned.contains(hash) || self.in_use.contains(hash)
    }
}

fn sum(blobs: &[(BlobHash, u64)]) -> Collected {
    Collected { blobs: blobs.len() as u64, bytes: blobs.iter().map(|(_, bytes)| bytes).sum() }
}

/// What the files of each blob take up.
fn files_of_blobs(data: &Path) -> HashMap<BlobHash, Held> {
    let mut blobs: HashMap<BlobHash, (Held, u64)> = HashMap::new();
    for entry in fs::read_dir(data).into_iter().flatten().flatten() {
        let path = entry.path();
        let (Some(hash), Ok(metadata)) = (blob_of(&path), entry.metadata()) else { continue };
        let (held, allocated) = blobs.entry(hash).or_default();
        let extension = path.extension().unwrap_or_default();
        held.has_file |= extension == "data";
        held.partial |= extension == "bitfield";
        held.bytes += metadata.len();
        *allocated += metadata.blocks() * 512;
    }
    // A file that is not complete has holes.
    let fill = |(held, allocated): (Held, u64)| match held.partial {
        true => Held { bytes: held.bytes.min(allocated), ..held },
        false => held,
    };
    blobs.into_iter().map(|(hash, found)| (hash, fill(found))).collect()
}

/// The blob that a file belongs to: its name is the hash and what it holds of it.
fn blob_of(path: &Path) -> Option<BlobHash> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// Removes the files in a folder.
fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Err(error) = fs::remove_file(entry.path()) {
            tracing::debug!(path = %entry.path().display(), %error, "not removed");
        }
    }
}
