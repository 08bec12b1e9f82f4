//! A program's memory as calls see it, and the fuel that they cost.

use std::ops::Range;

use super::{Call, after};
use crate::wasi::types::{Answer, Errno, Fault};

/// What a step in the file system costs, in fuel: a name of a path, an entry of a folder.
const STEP_FUEL: u64 = 20;
/// Buffers of one read or write.
const MAX_BUFFERS: u32 = 1_024;

impl Call<'_> {
    /// Acts, and charges for what that was in the file system. Also when it failed: looking costs as much.
    pub(super) fn perform(&mut self, act: impl FnOnce(&mut Self) -> Answer<()>) -> Answer<()> {
        let answer = act(self);
        let work = self.world.tree.take_work();
        self.charge(work * STEP_FUEL)?;
        answer
    }

    /// Takes fuel; what is not there ends the run.
    pub(super) fn charge(&mut self, fuel: u64) -> Answer<()> {
        let left = self.fuel.checked_sub(fuel);
        self.fuel = left.unwrap_or(0);
        left.map(drop).ok_or(Fault::OutOfFuel)
    }

    pub(super) fn range(&self, start: u32, length: u32) -> Answer<Range<usize>> {
        let (start, length) = (start as usize, length as usize);
        let end = start.checked_add(length).filter(|end| *end <= self.memory.len()).ok_or(Errno::Fault)?;
        Ok(start..end)
    }

    pub(super) fn put(&mut self, at: u32, bytes: &[u8]) -> Answer<()> {
        let range = self.range(at, u32::try_from(bytes.len()).map_err(|_| Errno::Fault)?)?;
        self.memory[range].copy_from_slice(bytes);
        self.world.calls.moved(bytes);
        Ok(())
    }

    pub(super) fn put_u32(&mut self, at: u32, value: u32) -> Answer<()> {
        self.put(at, &value.to_le_bytes())
    }

    pub(super) fn put_u64(&mut self, at: u32, value: u64) -> Answer<()> {
        self.put(at, &value.to_le_bytes())
    }

    fn get_u32(&self, at: u32) -> Answer<u32> {
        let range = self.range(at, 4)?;
        Ok(u32::from_le_bytes(std::array::from_fn(|i| self.memory[range.start + i])))
    }

    pub(super) fn put_strings(&mut self, strings: &[Vec<u8>], pointers: u32, buffer: u32) -> Answer<()> {
        let (mut pointer, mut at) = (pointers, buffer);
        for string in strings {
            self.put_u32(pointer, at)?;
            self.put(at, string)?;
            pointer = after(pointer, 4)?;
            at = after(at, u32::try_from(string.len()).map_err(|_| Errno::Fault)?)?;
        }
        Ok(())
    }

    /// The buffers of a read or write, each within memory.
    fn buffers(&self, buffers: u32, count: u32) -> Answer<Vec<Range<usize>>> {
        if count > MAX_BUFFERS {
            return Err(Errno::Inval.into());
        }
        let buffer = |index| {
            let at = after(buffers, index * 8)?;
            self.range(self.get_u32(at)?, self.get_u32(after(at, 4)?)?)
        };
        (0..count).map(buffer).collect()
    }

    pub(super) fn read(&mut self, fd: u32, buffers: u32, count: u32, at: Option<u64>, result: u32) -> Answer<()> {
        self.each_buffer(fd, buffers, count, at, result, |call, buffer, at| {
            let read = call.world.read(fd, &mut call.memory[buffer.clone()], at)?;
            call.world.calls.moved(&call.memory[buffer][..read]);
            Ok(read)
        })
    }

    pub(super) fn write(&mut self, fd: u32, buffers: u32, count: u32, at: Option<u64>, result: u32) -> Answer<()> {
        self.each_buffer(fd, buffers, count, at, result, |call, buffer, at| {
            call.world.calls.moved(&call.memory[buffer.clone()]);
            call.world.write(fd, &call.memory[buffer], at)
        })
    }

    /// Moves buffer after buffer until one is not moved whole; what was moved before an error counts.
    fn each_buffer(
        &mut self,
        fd: u32,
        buffers: u32,
        count: u32,
        at: Option<u64>,
        result: u32,
        mut transfer: impl FnMut(&mut Self, Range<usize>, Option<u64>) -> Answer<usize>,
    ) -> Answer<()> {
        self.world.descriptors.get(fd)?;
        self.range(result, 4)?;
        let mut moved = 0;
        for buffer in self.buffers(buffers, count)? {
            let length = buffer.len();
            let position = at.map(|at| at.saturating_add(moved));
            match transfer(self, buffer, position) {
                Ok(part) => {
                    moved += part as u64;
                    self.charge(part as u64)?;
                    if part < length {
                        break;
                    }
                }
                Err(Fault::Errno(_)) if moved > 0 => break,
                Err(fault) => return Err(fault),
            }
        }
        self.put_u32(result, u32::try_from(moved).map_err(|_| Errno::Range)?)
    }
}
