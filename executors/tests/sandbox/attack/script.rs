//! Scripts: sequences of calls with arguments that mean something, made of arbitrary bytes.

use arbitrary::{Result, Unstructured};

use super::calls::{Import, Meaning, Yield};
use super::guest::{DATA, DATA_BYTES, Guest, PARAMETERS, REFERENCE, RING_BYTES, SLOTS, SLOTS_EACH};

/// Most calls of a script, repetitions left out.
const MAX_CALLS: usize = 400;
/// Most repetitions of a call: more than there may be descriptors.
const MAX_REPEATED: u32 = 20_000;
/// Paths of a script, and where each has its place.
const TEXTS: u32 = 24;
const TEXT_BYTES: u32 = 320;
/// Lists of buffers, and the buffers of each.
const LISTS: u32 = 8;
const LISTED: u32 = 4;
const LISTS_AT: u32 = DATA + TEXTS * TEXT_BYTES;
/// Subscriptions to poll.
const SUBSCRIPTIONS: u32 = 4;
const SUBSCRIPTIONS_AT: u32 = LISTS_AT + LISTS * LISTED * 8;
/// Where results go, 16 bytes each.
const RESULTS_AT: u32 = 0x100;
const RESULTS: u32 = 32;
/// Where calls put and find bytes.
const BYTES_AT: u32 = 0x1000;
const BYTES: u32 = 0xc000;

/// Where most paths begin.
const FOLDERS: [&[u8]; 8] = [b"out/", b"out/", b"out/", b"tmp/", b"in/", b"out/folder/", b"out/a/", b""];
/// Names of what most paths lead to.
const NAMES: [&[u8]; 6] = [b"a", b"b", b"file", b"folder", b"deep", b"c"];
/// What the others are made of: what is there, what is outside, and what no name can be.
const STEPS: [&[u8]; 20] = [
    b"out",
    b"in",
    b"tmp",
    b"dev",
    b"stdin",
    b"file",
    b"folder",
    b"a",
    b"b",
    b"..",
    b"..",
    b".",
    b"",
    b"canary",
    b"work",
    b"scratch",
    b"etc",
    b"\xc3\xa9",
    b"a\0b",
    b"\xff",
];

/// Makes a script for `guest` of any bytes.
pub(crate) fn script(guest: &Guest, bytes: &[u8]) -> Vec<u8> {
    let (source, lengths, script) = (Unstructured::new(bytes), Vec::new(), Vec::new());
    let mut maker = Maker { source, mistakes: guest.mistakes, lengths, script };
    // Where bytes run out the source gives zeros; that it says so is no more than where it ends.
    let _ = maker.make(&guest.imports);
    maker.script
}

struct Maker<'a> {
    source: Unstructured<'a>,
    mistakes: u32,
    /// Of the paths.
    lengths: Vec<u32>,
    script: Vec<u8>,
}

impl Maker<'_> {
    fn make(&mut self, imports: &[Import]) -> Result<()> {
        for _ in 0..TEXTS {
            let mut text = self.text()?;
            text.truncate(TEXT_BYTES as usize);
            self.lengths.push(u32::try_from(text.len()).unwrap_or(0));
            text.resize(TEXT_BYTES as usize, b'x');
            self.script.extend(text);
        }
        for _ in 0..LISTS * LISTED {
            let (place, length) = self.bytes()?;
            self.script.extend([place, length].into_iter().flat_map(|number| number.to_le_bytes()));
        }
        for _ in 0..SUBSCRIPTIONS {
            let subscription = self.subscription()?;
            self.script.extend(subscription);
        }
        self.script.resize(DATA_BYTES as usize, 0);
        self.calls(imports)
    }

    fn calls(&mut self, imports: &[Import]) -> Result<()> {
        for (number, import) in imports.iter().enumerate().filter(|(_, import)| gives_first_handles(import)) {
            self.call(number, import, 1)?;
        }
        let weighted: Vec<_> = (0..).zip(imports).flat_map(|(number, import)| vec![number; weight(import)]).collect();
        for _ in 0..MAX_CALLS {
            if self.source.is_empty() {
                break;
            }
            let number = *self.source.choose(&weighted)?;
            let times = if self.rarely(500)? { self.source.int_in_range(2..=MAX_REPEATED)? } else { 1 };
            self.call(number, &imports[number], times)?;
        }
        Ok(())
    }

    fn call(&mut self, number: usize, import: &Import, times: u32) -> Result<()> {
        let mut parameters = Vec::new();
        for meaning in &import.meanings {
            self.parameter(*meaning, &mut parameters)?;
        }
        parameters.resize(PARAMETERS as usize, 0);
        self.script.extend(u32::try_from(number).unwrap_or(0).to_le_bytes());
        self.script.extend(times.to_le_bytes());
        self.script.extend(parameters.into_iter().flat_map(u64::to_le_bytes));
        Ok(())
    }

    fn parameter(&mut self, meaning: Meaning, into: &mut Vec<u64>) -> Result<()> {
        let mistake = self.rarely(self.mistakes)?;
        let (one, two) = match meaning {
            Meaning::Descriptor | Meaning::Handle(_) | Meaning::Small(_) | Meaning::Result if mistake => {
                return self.source.arbitrary::<u32>().map(|number| into.push(number.into()));
            }
            Meaning::Path | Meaning::Bytes | Meaning::Buffers | Meaning::Handles(_) if mistake => {
                self.source.arbitrary()?
            }
            Meaning::Descriptor => return self.descriptor().map(|fd| into.push(fd)),
            Meaning::Handle(resource) => return self.slot(resource).map(|at| into.push(REFERENCE | u64::from(at))),
            Meaning::Small(count) => return self.below(count).map(|number| into.push(number.into())),
            Meaning::Short => return self.source.arbitrary::<u32>().map(|number| into.push(number.into())),
            Meaning::Long => return self.long().map(|number| into.push(number)),
            Meaning::Opening => return self.opening().map(|flags| into.push(flags)),
            Meaning::Rights => return self.rights().map(|rights| into.push(rights)),
            Meaning::Length => return self.length(mistake).map(|length| into.push(length)),
            Meaning::NewDescriptor => return self.slot(0).map(|at| into.push(at.into())),
            Meaning::Result => return self.below(RESULTS).map(|at| into.push((RESULTS_AT + 16 * at).into())),
            Meaning::Path => self.path()?,
            Meaning::Bytes => self.bytes()?,
            Meaning::Buffers => (LISTS_AT + 8 * LISTED * self.below(LISTS)?, self.below(LISTED + 1)?),
            Meaning::Handles(resource) => (ring(resource) + 4, 1),
            Meaning::Poll => {
                into.push(SUBSCRIPTIONS_AT.into());
                (BYTES_AT, self.below(SUBSCRIPTIONS + 1)?)
            }
        };
        into.extend([u64::from(one), u64::from(two)]);
        Ok(())
    }

    /// The root, one that was opened, or one of the first.
    fn descriptor(&mut self) -> Result<u64> {
        Ok(match self.below(8)? {
            0..=3 => 3,
            4..=6 => REFERENCE | u64::from(self.slot(0)?),
            _ => self.source.int_in_range(0..=12)?,
        })
    }

    /// Where a handle or descriptor is kept; the first places are filled first.
    fn slot(&mut self, resource: usize) -> Result<u32> {
        let slot = self.below(SLOTS_EACH)?.min(self.below(SLOTS_EACH)?);
        Ok(ring(resource) + 4 + 4 * slot)
    }

    /// Made if it is not there, mostly. The first four bits: create, folder, exclusive, truncate.
    fn opening(&mut self) -> Result<u64> {
        if self.rarely(3)? { self.source.int_in_range(0..=15) } else { Ok(*self.source.choose(&[1, 1, 0, 2, 9])?) }
    }

    /// To read and write, mostly.
    fn rights(&mut self) -> Result<u64> {
        Ok(match self.below(4)? {
            0 | 1 => u64::MAX,
            2 => 1 << 1 | 1 << 6,
            _ => self.source.arbitrary()?,
        })
    }

    fn length(&mut self, any: bool) -> Result<u64> {
        if any { self.source.arbitrary() } else { self.source.int_in_range(0..=5_000) }
    }

    fn long(&mut self) -> Result<u64> {
        Ok(match self.below(4)? {
            0 | 1 => self.source.int_in_range(0..=5_000)?,
            2 => *self.source.choose(&[u64::MAX, i64::MAX as u64, 1 << 32, 1 << 40, u64::MAX >> 34])?,
            _ => self.source.arbitrary()?,
        })
    }

    fn path(&mut self) -> Result<(u32, u32)> {
        let text = self.below(TEXTS)?;
        Ok((DATA + text * TEXT_BYTES, self.lengths[text as usize]))
    }

    fn bytes(&mut self) -> Result<(u32, u32)> {
        Ok((BYTES_AT + self.below(BYTES)?, self.below(3_000)?))
    }

    fn text(&mut self) -> Result<Vec<u8>> {
        Ok(match self.below(10)? {
            0..=6 => [*self.source.choose(&FOLDERS)?, *self.source.choose(&NAMES)?].concat(),
            7 | 8 => {
                let steps = (0..self.source.int_in_range(1..=5)?).map(|_| self.step()).collect::<Result<Vec<_>>>()?;
                steps.join(&b'/')
            }
            _ => vec![b'n'; self.source.int_in_range(250..=TEXT_BYTES as usize)?],
        })
    }

    /// What is no text ends a component's run, so there is little of it.
    fn step(&mut self) -> Result<&'static [u8]> {
        let text = STEPS.len() - if self.rarely(self.mistakes)? { 0 } else { 2 };
        Ok(*self.source.choose(&STEPS[..text])?)
    }

    /// User data, kind, clock or descriptor, timeout, precision, flags.
    fn subscription(&mut self) -> Result<[u8; 48]> {
        let mut bytes = [0; 48];
        bytes[8] = self.source.int_in_range(0..=3)?;
        bytes[16] = self.source.int_in_range(0..=5)?;
        bytes[24..32].copy_from_slice(&self.long()?.to_le_bytes());
        bytes[40] = self.source.int_in_range(0..=1)?;
        Ok(bytes)
    }

    fn below(&mut self, bound: u32) -> Result<u32> {
        self.source.int_in_range(0..=bound - 1)
    }

    /// Once in `times`; not where the bytes are at their end.
    fn rarely(&mut self, times: u32) -> Result<bool> {
        Ok(self.source.int_in_range(0..=times - 1)? == times - 1)
    }
}

fn ring(resource: usize) -> u32 {
    SLOTS + RING_BYTES * u32::try_from(resource).unwrap_or(0)
}

/// What a component has handles from, without having any.
fn gives_first_handles(import: &Import) -> bool {
    matches!(import.yields, Yield::Direct(_) | Yield::Listed(_))
        && import.meanings.iter().all(|meaning| *meaning == Meaning::Result)
}

/// Without files and links there is not much to be tried.
fn weight(import: &Import) -> usize {
    let named = |words: &[&str]| words.iter().any(|word| import.name.contains(word));
    match () {
        () if named(&["path_open", "open-at"]) => 16,
        () if named(&["create", "link", "rename", "write", "read", "remove"]) => 3,
        () => 1,
    }
}
