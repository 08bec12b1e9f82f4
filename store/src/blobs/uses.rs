//! When content was last wanted, so that what was not wanted for longest makes way first.
//!
//! Only the order matters. It is written now and then, and what a crash loses makes a little difference to what goes
//! first. A clock that is set back does not turn the order around.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use shoal_protocol::task::Content;
use shoal_protocol::time::Time;

use super::Clock;

/// Contents whose last use is remembered; those that were not used for longest are forgotten first.
const MAX_ROWS: usize = 262_144;
/// Largest file that is read: rows are less than 48 bytes.
const MAX_FILE_BYTES: u64 = MAX_ROWS as u64 * 48;

/// Remembers last uses.
#[derive(Debug)]
pub(super) struct Uses {
    path: PathBuf,
    clock: Clock,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last: BTreeMap<Content, Time>,
    newest: Time,
    changed: bool,
}

impl Uses {
    /// What the file at `path` remembers; nothing if it is not there or no such file.
    pub(super) fn load(path: &Path, clock: Clock) -> Self {
        let last: BTreeMap<Content, Time> = read(path).unwrap_or_default();
        let newest = last.values().copied().max().unwrap_or_default();
        Self { path: path.into(), clock, table: Mutex::new(Table { last, newest, changed: false }) }
    }

    /// Content is wanted now.
    pub(super) fn note(&self, content: Content) {
        let now = self.clock.now();
        let mut table = self.lock();
        table.newest = table.newest.max(now);
        let newest = table.newest;
        table.last.insert(content, newest);
        table.changed = true;
    }

    /// The last use of every content that is remembered.
    pub(super) fn last(&self) -> BTreeMap<Content, Time> {
        self.lock().last.clone()
    }

    /// Forgets what is not `here` any more, and writes the rest if something has changed.
    pub(super) fn tidy(&self, here: impl Fn(&Content) -> bool) -> io::Result<()> {
        let last = {
            let mut table = self.lock();
            table.last.retain(|content, _| here(content));
            forget_oldest(&mut table.last);
            if !std::mem::take(&mut table.changed) {
                return Ok(());
            }
            table.last.clone()
        };
        write(&self.path, &last).inspect_err(|_| self.lock().changed = true)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_oldest(last: &mut BTreeMap<Content, Time>) {
    if last.len() > MAX_ROWS {
        let mut times: Vec<Time> = last.values().copied().collect();
        let surplus = last.len() - MAX_ROWS;
        let (_, oldest_kept, _) = times.select_nth_unstable(surplus);
        let oldest_kept = *oldest_kept;
        last.retain(|_, time| *time >= oldest_kept);
    }
}

fn read(path: &Path) -> Option<BTreeMap<Content, Time>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    postcard::from_bytes(&bytes).ok()
}

fn write(path: &Path, last: &BTreeMap<Content, Time>) -> io::Result<()> {
    let bytes = postcard::to_allocvec(last).map_err(io::Error::other)?;
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(&bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use shoal_protocol::id::BlobHash;
    use shoal_protocol::task::ContentKind;

    use super::*;

    fn content(name: u8) -> Content {
        Content { hash: BlobHash([name; 32]), kind: ContentKind::Raw }
    }

    fn uses(path: &Path) -> (Uses, Arc<AtomicU64>) {
        let now = Arc::new(AtomicU64::new(10));
        let read = Arc::clone(&now);
        (Uses::load(path, Clock::new(move || Time(read.load(Ordering::Relaxed)))), now)
    }

    #[test]
    fn uses_are_remembered_across_restarts_as_long_as_the_content_is_here() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uses");
        let (first, _) = uses(&path);
        [1, 2].into_iter().for_each(|name| first.note(content(name)));
        first.tidy(|here| *here == content(2)).unwrap();
        assert_eq!(uses(&path).0.last(), BTreeMap::from([(content(2), Time(10))]));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_make_what_is_new_old() {
        let dir = tempfile::tempdir().unwrap();
        let (uses, now) = uses(&dir.path().join("uses"));
        uses.note(content(1));
        now.store(3, Ordering::Relaxed);
        uses.note(content(2));
        assert!(uses.last()[&content(2)] >= uses.last()[&content(1)]);
    }

    #[test]
    fn a_file_of_something_else_is_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uses");
        fs::write(&path, [0xff; 100]).unwrap();
        assert_eq!(uses(&path).0.last(), BTreeMap::new());
    }
}
