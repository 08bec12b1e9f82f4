//! Whatever is confirmed survives: power cuts, torn writes and failing disks, at every step.
//!
//! The disk below keeps what is written since the last sync apart. A cut keeps any part of it, in any order, the
//! last bytes of a write missing, as real disks do.

use std::io;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::tests::{Model, change, everything, track};
use super::*;

/// A disk that fails from a chosen step on.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    /// What a power cut cannot take.
    synced: Vec<u8>,
    /// What a reader sees.
    seen: Vec<u8>,
    /// What lies between the two.
    pending: Vec<Pending>,
    /// Changing steps until it fails; none means never.
    steps_left: Option<usize>,
    /// Whether it fails once or from then on.
    fails_once: bool,
}

#[derive(Debug, Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    Resize(usize),
}

impl Pending {
    fn perform(&self, bytes: &mut Vec<u8>) {
        match self {
            Pending::Resize(length) => bytes.resize(*length, 0),
            Pending::Write(offset, data) => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
        }
    }

    /// What is left of it when the power goes: all, nothing, or its beginning.
    fn torn(&self, fate: u8) -> Option<Self> {
        match (self, fate % 4) {
            (_, 0) => None,
            (Pending::Write(offset, data), 1) => {
                let kept = data.len() * usize::from(fate) / 256;
                Some(Pending::Write(*offset, data[..kept].to_vec()))
            }
            _ => Some(self.clone()),
        }
    }
}

impl Platter {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.steps_left {
            None => Ok(()),
            Some(0) => {
                if self.fails_once {
                    self.steps_left = None;
                }
                Err(io::Error::other("the disk failed"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn change(&mut self, pending: Pending) -> io::Result<()> {
        if let Err(error) = self.step() {
            // A failed write may have reached the disk all the same.
            self.pending.push(pending);
            return Err(error);
        }
        pending.perform(&mut self.seen);
        self.pending.push(pending);
        Ok(())
    }
}

impl Disk {
    fn fail_after(&self, steps: usize, once: bool) {
        let mut platter = self.0.lock().unwrap();
        platter.steps_left = Some(steps);
        platter.fails_once = once;
    }

    /// The disk as it is found after a power cut.
    fn cut(&self, fates: &[u8]) -> Disk {
        let platter = self.0.lock().unwrap();
        let mut bytes = platter.synced.clone();
        let fate = |index: usize| if fates.is_empty() { 2 } else { fates[index % fates.len()] };
        for (index, pending) in platter.pending.iter().enumerate() {
            // The length of a file is kept in order with what needs it, by any journaling file system.
            let kept = if let Pending::Resize(_) = pending { Some(pending.clone()) } else { pending.torn(fate(index)) };
            if let Some(kept) = kept {
                kept.perform(&mut bytes);
            }
        }
        Disk(Arc::new(Mutex::new(Platter { synced: bytes.clone(), seen: bytes, ..Platter::default() })))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        let bytes = platter.seen.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().change(Pending::Resize(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.step()?;
        platter.synced = platter.seen.clone();
        platter.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().change(Pending::Write(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}

/// The states that the records may be in after a crash, oldest first.
struct Expected {
    confirmed: Model,
    /// A call that had not returned when the disk failed: it may have happened.
    open: Option<Model>,
}

impl Expected {
    /// Applies step after step until one fails.
    fn run(&mut self, state: &State, steps: &[Vec<Change>]) {
        for step in steps {
            let mut next = self.confirmed.clone();
            step.iter().for_each(|change| track(&mut next, change));
            if state.apply(step).is_err() {
                self.open = Some(next);
                return;
            }
            self.confirmed = next;
        }
    }

    fn settle(&mut self, found: Model) {
        let happened = self.open.take().is_some_and(|open| open == found);
        assert!(happened || found == self.confirmed, "a confirmed change is lost, or half a change was made");
        self.confirmed = found;
    }
}

fn steps() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let key = prop::collection::vec(0u8..4, 1..3);
    let change = (0usize..3, key, prop::option::weighted(0.8, any::<u8>()))
        .prop_map(|(table, key, value)| change(Table::ALL[table], key, value));
    prop::collection::vec(prop::collection::vec(change, 1..5), 1..8)
}

#[derive(Debug, Clone)]
struct Life {
    steps: Vec<Vec<Change>>,
    fails_after: usize,
    fates: Vec<u8>,
}

fn life() -> impl Strategy<Value = Life> {
    (steps(), 0usize..160, prop::collection::vec(any::<u8>(), 0..24)).prop_map(|(steps, fails_after, fates)| Life {
        steps,
        fails_after,
        fates,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Several lives on one disk: each ends in a cut at any step, opening and repairing included.
    #[test]
    fn what_was_confirmed_is_there_after_any_power_cut(lives in prop::collection::vec(life(), 1..4)) {
        let mut disk = Disk::default();
        let mut expected = Expected { confirmed: Model::new(), open: None };
        drop(State::open_backend(disk.clone()).unwrap());
        for life in lives {
            disk = disk.cut(&[]);
            disk.fail_after(life.fails_after, false);
            if let Ok(state) = State::open_backend(disk.clone()) {
                expected.settle(everything(&state));
                expected.run(&state, &life.steps);
            }
            disk = disk.cut(&life.fates);
        }
        expected.settle(everything(&State::open_backend(disk).unwrap()));
    }

    /// A disk that fails once: no later call may claim what is not there.
    #[test]
    fn an_error_of_the_disk_is_never_followed_by_a_false_confirmation(life in life(), more in steps()) {
        let disk = Disk::default();
        let mut expected = Expected { confirmed: Model::new(), open: None };
        let state = State::open_backend(disk.clone()).unwrap();
        disk.fail_after(life.fails_after, true);
        expected.run(&state, &life.steps);
        if expected.open.is_some() {
            for step in &more {
                prop_assert!(state.apply(step).is_err(), "records are closed after an error");
            }
        }
        drop(state);
        expected.settle(everything(&State::open_backend(disk.cut(&life.fates)).unwrap()));
    }
}
