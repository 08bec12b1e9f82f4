//! Arguments, environment, clocks and chance.

use super::Call;
use crate::wasi::clock::{TICK_NS, Which};
use crate::wasi::types::{Answer, Errno};

impl Call<'_> {
    pub(super) fn args_get(&mut self, argv: u32, buffer: u32) -> Answer<()> {
        let strings = self.world.arguments.clone();
        self.put_strings(&strings, argv, buffer)
    }

    pub(super) fn args_sizes_get(&mut self, count: u32, size: u32) -> Answer<()> {
        let (strings, bytes) = sizes(&self.world.arguments);
        self.put_u32(count, strings)?;
        self.put_u32(size, bytes)
    }

    pub(super) fn environ_get(&mut self, environ: u32, buffer: u32) -> Answer<()> {
        let strings = self.world.environment.clone();
        self.put_strings(&strings, environ, buffer)
    }

    pub(super) fn environ_sizes_get(&mut self, count: u32, size: u32) -> Answer<()> {
        let (strings, bytes) = sizes(&self.world.environment);
        self.put_u32(count, strings)?;
        self.put_u32(size, bytes)
    }

    pub(super) fn clock_res_get(&mut self, id: u32, result: u32) -> Answer<()> {
        Which::of(id).ok_or(Errno::Inval)?;
        self.put_u64(result, TICK_NS)
    }

    pub(super) fn clock_time_get(&mut self, id: u32, _precision: u64, result: u32) -> Answer<()> {
        let now = self.world.read_clock(id)?;
        self.put_u64(result, now)
    }

    pub(super) fn random_get(&mut self, buffer: u32, length: u32) -> Answer<()> {
        let range = self.range(buffer, length)?;
        self.charge(u64::from(length))?;
        self.world.random.fill(&mut self.memory[range.clone()]);
        self.world.calls.moved(&self.memory[range]);
        Ok(())
    }

    pub(super) fn sched_yield(&mut self) -> Answer<()> {
        Ok(())
    }

    pub(super) fn proc_raise(&mut self, _signal: u32) -> Answer<()> {
        Err(Errno::NoSys.into())
    }
}

fn sizes(strings: &[Vec<u8>]) -> (u32, u32) {
    let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
    (number(strings.len()), number(strings.iter().map(Vec::len).sum::<usize>()))
}
