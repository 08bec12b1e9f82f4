//! Containers that are nobody's: of a node that was there for one command, and was killed in the middle of it.
//!
//! A node that is started again looks after its own. One that was there for a command never is, so its containers say
//! which process it was, and any node of the same machine removes them once that process is gone.

use std::fmt;
use std::fs;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};

/// Label of the process whose container it is, if nobody else will ever look after it.
pub(super) const OWNER_LABEL: &str = "shoal.owner";

/// A process, told from all others, on other machines and of other times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// Since when the machine runs.
    boot: String,
    /// Where the process has its number.
    namespace: String,
    process: i32,
    /// When it was started, in ticks since then.
    started: u64,
}

impl Owner {
    /// This process; none where the system does not tell.
    pub(super) fn this() -> Option<Self> {
        let process = getpid().as_raw_nonzero().get();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?.to_str()?.to_owned();
        Some(Self { boot, namespace, process, started: started(process)? })
    }

    /// Whether the process has surely ended. Of those of other machines nobody here can tell.
    pub(super) fn is_gone(&self) -> bool {
        let Some(this) = Self::this() else { return false };
        let is_of_here = this.boot == self.boot && this.namespace == self.namespace;
        let Some(process) = Pid::from_raw(self.process).filter(|_| is_of_here) else { return false };
        match test_kill_process(process) {
            Err(Errno::SRCH) => true,
            // Somebody has its number, perhaps another by now.
            _ => started(self.process).is_some_and(|started| started != self.started),
        }
    }
}

/// When a process was started, in ticks since the machine was.
fn started(process: i32) -> Option<u64> {
    let told = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, which may hold anything, is in parentheses; see proc(5).
    let (_, after_name) = told.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.boot, self.namespace, self.process, self.started)
    }
}

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let [boot, namespace, process, started] = text.split('/').collect::<Vec<_>>()[..] else { return Err(()) };
        let (process, started) = (process.parse().map_err(drop)?, started.parse().map_err(drop)?);
        Ok(Self { boot: boot.into(), namespace: namespace.into(), process, started })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_of_this_machine_that_has_ended_is_gone() {
        let this = Owner::this().unwrap();
        assert_eq!(this.to_string().parse(), Ok(this.clone()));
        assert!(!this.is_gone());
        assert!(Owner { started: this.started + 1, ..this.clone() }.is_gone(), "another has its number");
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        let process = i32::try_from(ended.id()).unwrap();
        ended.wait().unwrap();
        assert!(Owner { process, ..this.clone() }.is_gone());
        assert!(!Owner { boot: "another".into(), process, ..this.clone() }.is_gone());
        assert!(!Owner { namespace: "pid:[1]".into(), process, ..this }.is_gone());
        for text in ["", "a/b/c/d", "a/b/1", "a/b/1/2/3"] {
            assert_eq!(text.parse::<Owner>(), Err(()), "{text}");
        }
    }
}
