//! The bounds that the encoding itself does not set.

use super::{Amount, Announce, Award, Contact, OutOfBounds, Reason, SourceKind, TraceAnswer};
use crate::limits::{
    MAX_ADDRESSES, MAX_ANNOUNCED_INPUTS, MAX_BACKTRACE_BYTES, MAX_CONSTRAINT_VALUES, MAX_CONSTRAINTS, MAX_EXCLUDED,
    MAX_FAILURE_BYTES, MAX_INPUTS, MAX_LEVEL, MAX_TEXT_BYTES, MAX_WANTED, MAX_WINDOW_MS, MAX_WORK_BYTES,
};
use crate::task::{Account, Failure};
use crate::time::Millis;

impl Announce {
    pub(super) fn check(&self) -> Result<(), OutOfBounds> {
        if Millis::from(self.window_ms) > MAX_WINDOW_MS {
            return Err(OutOfBounds("window"));
        }
        sound("level", self.level <= MAX_LEVEL)?;
        within("wanted", usize::from(self.wanted), usize::from(MAX_WANTED))?;
        within("excluded", self.excluded.len(), MAX_EXCLUDED)?;
        within("inputs", self.needs.inputs.len(), MAX_ANNOUNCED_INPUTS)?;
        within("constraints", self.needs.constraints.len(), MAX_CONSTRAINTS)?;
        within("sources", self.needs.sources.len(), SourceKind::ALL.len())?;
        text("profile", &self.needs.profile)?;
        text("image", &self.needs.image_name)?;
        for constraint in &self.needs.constraints {
            text("constraint key", &constraint.key)?;
            within("constraint values", constraint.values.len(), MAX_CONSTRAINT_VALUES)?;
            constraint.values.iter().try_for_each(|value| text("constraint value", value))?;
        }
        self.contact.check()
    }
}

impl Amount {
    pub(super) fn is_sound(self) -> bool {
        self.done_bytes <= self.total_bytes
    }
}

impl Award {
    pub(super) fn check(&self) -> Result<(), OutOfBounds> {
        within("work", self.work.len(), MAX_WORK_BYTES)?;
        self.contact.check()
    }
}

impl TraceAnswer {
    pub(super) fn check(&self) -> Result<(), OutOfBounds> {
        match self {
            TraceAnswer::Running => Ok(()),
            TraceAnswer::Done(rerun) => {
                sound("trace", rerun.trace.is_sound())?;
                rerun.account.check()
            }
            TraceAnswer::Failed(failure) => failure.check(),
        }
    }
}

impl Account {
    pub(super) fn check(&self) -> Result<(), OutOfBounds> {
        within("inputs read", self.inputs.len(), MAX_INPUTS)?;
        within("backtrace", self.backtrace.len(), MAX_BACKTRACE_BYTES)
    }
}

impl Contact {
    pub(super) fn check(&self) -> Result<(), OutOfBounds> {
        within("addresses", self.addresses.len(), MAX_ADDRESSES)?;
        text("relay", self.relay.as_deref().unwrap_or_default())
    }
}

impl Reason {
    pub(super) fn check(&self) -> Result<(), OutOfBounds> {
        match self {
            Reason::OtherProfile(words) | Reason::Constraint(words) | Reason::Policy(words) | Reason::Image(words) => {
                text("reason", words)
            }
            Reason::NoExecutor(_)
            | Reason::TooLarge(..)
            | Reason::Busy
            | Reason::NoSource(_)
            | Reason::NoImage(_)
            | Reason::DiskFull(..)
            | Reason::NoNetwork(_)
            | Reason::Requester
            | Reason::Stateless
            | Reason::NotLocal
            | Reason::Unsettled(_)
            | Reason::Owing(_)
            | Reason::OtherVersion(_) => Ok(()),
        }
    }
}

impl Failure {
    pub(super) fn check(&self) -> Result<(), OutOfBounds> {
        match self {
            Failure::HostFailed(words)
            | Failure::InputMissing(words)
            | Failure::Declined(words)
            | Failure::Refused(words) => within("failure", words.len(), MAX_FAILURE_BYTES),
            _ => Ok(()),
        }
    }
}

pub(super) fn sound(what: &'static str, is: bool) -> Result<(), OutOfBounds> {
    if is { Ok(()) } else { Err(OutOfBounds(what)) }
}

fn within(what: &'static str, size: usize, limit: usize) -> Result<(), OutOfBounds> {
    sound(what, size <= limit)
}

pub(super) fn text(what: &'static str, words: &str) -> Result<(), OutOfBounds> {
    within(what, words.len(), MAX_TEXT_BYTES)
}
