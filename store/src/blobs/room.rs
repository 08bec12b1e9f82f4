//! Room on the disk: how much may be used, what is promised to whom, and a reserve for the hour of need.
//!
//! Whoever is about to write much asks for room first and is told no before the first byte, with sizes. The ledger
//! counts what was written since the last look at the disk; it may count too much, never too little, and is put right
//! by a look when it says that the quota is reached.
//!
//! The databases of the node grow when nobody asks, and a write of theirs that fails stops the node. So some of the
//! disk is left free for them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::statvfs;

use crate::reserve::RESERVE_BYTES;

/// Left free on the disk, in bytes, or an eighth of it if that is less.
pub const FREE_FLOOR_BYTES: u64 = 64 << 20;
/// Why there is no room for something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The operator allows no more.
    #[error(
        "no room: {needs} more are needed, and of the {quota} that --max-disk allows {kept} are pinned or in use and \
         {promised} promised to others: raise --max-disk, or unpin something (`shoal blob du` shows what)",
        needs = size(*needs), quota = size(*quota), kept = size(*kept), promised = size(*promised)
    )]
    Quota {
        /// What was asked for, in bytes.
        needs: u64,
        /// What is allowed.
        quota: u64,
        /// What pins, jobs and executions keep.
        kept: u64,
        /// What others were promised.
        promised: u64,
    },
    /// The disk has no more.
    #[error(
        "the disk of the data directory is full: {needs} more are needed, {free} are free, of which {floor} are left \
         alone: free some space on it",
        needs = size(*needs), free = size(*free), floor = size(*floor)
    )]
    Disk {
        /// What was asked for, in bytes.
        needs: u64,
        /// What is free.
        free: u64,
        /// What is left free.
        floor: u64,
    },
}

/// The ledger. A clone is the same.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    quota: u64,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    /// What blobs use, at most; unknown before the first look.
    used: Option<u64>,
    promised: u64,
}

/// Room that was promised, until dropped.
#[derive(Debug)]
#[must_use = "the room is given to others once this is dropped"]
pub struct Reservation {
    room: Room,
    bytes: u64,
    becomes: Becomes,
}

/// What happens to the room when its reservation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Becomes {
    /// Blobs fill it.
    Blobs,
    /// It is free again.
    Free,
}

/// The disk, now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disk {
    pub(super) free: u64,
    pub(super) floor: u64,
    pub(super) reserve: u64,
}

impl Room {
    pub(super) fn new(dir: &Path, quota: u64) -> Self {
        Self(Arc::new(Inner { dir: dir.into(), quota, ledger: Mutex::default() }))
    }

    pub(super) fn quota(&self) -> u64 {
        self.0.quota
    }

    /// What is promised, in bytes.
    pub(super) fn promised(&self) -> u64 {
        self.lock().promised
    }

    /// Takes note of what blobs use.
    pub(super) fn found(&self, used: u64) {
        self.lock().used = Some(used);
    }

    /// Promises room if the ledger and the disk have it.
    pub(super) fn promise(&self, bytes: u64, becomes: Becomes) -> Option<Reservation> {
        if self.short_on_disk(bytes).is_some() {
            return None;
        }
        let mut ledger = self.lock();
        let after = ledger.used?.saturating_add(ledger.promised).saturating_add(bytes);
        if after > self.0.quota {
            return None;
        }
        ledger.promised += bytes;
        Some(Reservation { room: self.clone(), bytes, becomes })
    }

    /// What could be promised now, if blobs use `used` and `evictable` of that could go.
    pub(super) fn spare(&self, used: u64, evictable: u64) -> u64 {
        let kept = used.saturating_sub(evictable).saturating_add(self.promised());
        let on_disk =
            self.disk().map_or(u64::MAX, |disk| disk.free.saturating_add(evictable).saturating_sub(disk.floor));
        self.0.quota.saturating_sub(kept).min(on_disk)
    }

    /// The same as the ledger has it, without anything that could go; unknown before the first look.
    pub(super) fn spare_now(&self) -> Option<u64> {
        let used = self.lock().used?;
        Some(self.spare(used, 0))
    }

    /// How much has to go before `bytes` fit, if blobs use `used`: for the quota's sake or for the disk's.
    pub(super) fn missing(&self, bytes: u64, used: u64) -> u64 {
        let wanted = used.saturating_add(self.promised()).saturating_add(bytes);
        let for_disk = self.disk().map_or(0, |disk| bytes.saturating_add(disk.floor).saturating_sub(disk.free));
        wanted.saturating_sub(self.0.quota).max(for_disk)
    }

    /// Why `bytes` do not fit, though nothing is left that could go: `kept` stays.
    pub(super) fn refusal(&self, bytes: u64, kept: u64) -> NoRoom {
        let quota = NoRoom::Quota { needs: bytes, quota: self.0.quota, kept, promised: self.promised() };
        self.short_on_disk(bytes).unwrap_or(quota)
    }

    /// The disk, if the system tells.
    pub(super) fn disk(&self) -> Option<Disk> {
        let stats = statvfs(&self.0.dir).ok()?;
        let total = stats.f_blocks.saturating_mul(stats.f_frsize);
        Some(Disk {
            free: stats.f_bavail.saturating_mul(stats.f_frsize),
            floor: FREE_FLOOR_BYTES.min(total / 8),
            reserve: RESERVE_BYTES.min(total / 16),
        })
    }

    /// Says that the disk was full when `bytes` were written.
    pub(super) fn full(&self, bytes: u64) -> NoRoom {
        let disk = self.disk();
        let (free, floor) = disk.map_or((0, 0), |disk| (disk.free, disk.floor));
        NoRoom::Disk { needs: bytes, free, floor }
    }

    fn short_on_disk(&self, bytes: u64) -> Option<NoRoom> {
        let Disk { free, floor, .. } = self.disk()?;
        (free < floor.saturating_add(bytes)).then(|| self.full(bytes))
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// How much it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Joins another that becomes the same.
    pub(super) fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    pub(super) fn becomes(&self) -> Becomes {
        self.becomes
    }

    /// Gives back what was not needed.
    pub(super) fn shrink(&mut self, bytes: u64) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.bytes -= surplus;
        self.room.lock().promised -= surplus;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut ledger = self.room.lock();
        ledger.promised -= self.bytes;
        if self.becomes == Becomes::Blobs {
            ledger.used = ledger.used.map(|used| used.saturating_add(self.bytes));
        }
    }
}

/// A number of bytes for people: `12.3 GiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (bytes.max(1).ilog2() as usize / 10).min(UNITS.len() - 1);
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    if power == 0 { format!("{bytes} B") } else { format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[power]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(quota: u64, used: u64) -> (tempfile::TempDir, Room) {
        let dir = tempfile::tempdir().unwrap();
        let room = Room::new(dir.path(), quota);
        room.found(used);
        (dir, room)
    }

    #[test]
    fn no_more_is_promised_than_the_quota_has() {
        let (_dir, room) = room(100, 40);
        let first = room.promise(50, Becomes::Free).unwrap();
        assert!(room.promise(11, Becomes::Free).is_none());
        assert_eq!(room.missing(11, 40), 1);
        drop(first);
        assert!(room.promise(60, Becomes::Free).is_some());
    }

    #[test]
    fn what_blobs_fill_counts_as_used_afterwards() {
        let (_dir, room) = room(100, 40);
        drop(room.promise(50, Becomes::Blobs).unwrap());
        assert!(room.promise(11, Becomes::Free).is_none());
        room.found(40);
        assert!(room.promise(11, Becomes::Free).is_some(), "a look at the disk puts it right");
    }

    #[test]
    fn more_than_the_disk_has_is_refused_with_sizes() {
        let (_dir, room) = room(u64::MAX, 0);
        let exbibyte = 1 << 60;
        assert!(room.promise(exbibyte, Becomes::Free).is_none());
        let message = room.refusal(exbibyte, 0).to_string();
        assert!(message.contains("disk") && message.contains("1048576.0 TiB") && message.contains("free"), "{message}");
    }
}
