//! Waiting. Files are always ready; where only clocks are waited for, virtual time jumps to the first of them.

use super::{Call, after};
use crate::wasi::clock::Which;
use crate::wasi::types::{Answer, Errno};

/// Subscriptions of one poll.
const MAX_SUBSCRIPTIONS: u32 = 1_024;

/// What a subscription waits for.
enum Wait {
    Clock { which: Which, until: u64 },
    Descriptor { kind: u8, fd: u32 },
}

impl Call<'_> {
    pub(super) fn poll_oneoff(&mut self, subscriptions: u32, events: u32, count: u32, result: u32) -> Answer<()> {
        if count == 0 || count > MAX_SUBSCRIPTIONS {
            return Err(Errno::Inval.into());
        }
        let mut waits = Vec::new();
        for index in 0..count {
            waits.push(self.subscription(after(subscriptions, index * 48)?)?);
        }
        if !waits.iter().any(|(_, wait)| matches!(wait, Wait::Descriptor { .. })) {
            self.sleep(&waits);
        }
        let mut ready = 0;
        for (userdata, wait) in &waits {
            if let Some((errno, kind, bytes)) = self.event(wait) {
                self.put_event(after(events, ready * 32)?, *userdata, errno, kind, bytes)?;
                ready += 1;
            }
        }
        self.put_u32(result, ready)
    }

    fn subscription(&mut self, at: u32) -> Answer<(u64, Wait)> {
        let range = self.range(at, 48)?;
        let bytes = &self.memory[range];
        self.world.calls.moved(bytes);
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let wait = match bytes[8] {
            0 => {
                let which = Which::of(u32_at(16)).ok_or(Errno::Inval)?;
                let (timeout, absolute) = (u64_at(24), bytes[40] & 1 == 1);
                let now = self.world.clock.now(which);
                Wait::Clock { which, until: if absolute { timeout } else { now.saturating_add(timeout) } }
            }
            kind @ (1 | 2) => Wait::Descriptor { kind, fd: u32_at(16) },
            _ => return Err(Errno::Inval.into()),
        };
        Ok((u64_at(0), wait))
    }

    fn sleep(&mut self, waits: &[(u64, Wait)]) {
        let clock = &mut self.world.clock;
        let spans = waits.iter().filter_map(|(_, wait)| match wait {
            Wait::Clock { which, until } => Some(clock.until(*which, *until)),
            Wait::Descriptor { .. } => None,
        });
        let shortest = spans.min().unwrap_or(0);
        clock.sleep(shortest);
    }

    fn event(&self, wait: &Wait) -> Option<(u16, u8, u64)> {
        match wait {
            Wait::Clock { which, until } => (self.world.clock.until(*which, *until) == 0).then_some((0, 0, 0)),
            Wait::Descriptor { kind, fd } => match self.world.stat(*fd) {
                Ok(stat) => Some((0, *kind, stat.size)),
                Err(_) => Some((Errno::BadF as u16, *kind, 0)),
            },
        }
    }

    fn put_event(&mut self, at: u32, userdata: u64, errno: u16, kind: u8, ready_bytes: u64) -> Answer<()> {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&userdata.to_le_bytes());
        bytes[8..10].copy_from_slice(&errno.to_le_bytes());
        bytes[10] = kind;
        bytes[16..24].copy_from_slice(&ready_bytes.to_le_bytes());
        self.put(at, &bytes)
    }
}
