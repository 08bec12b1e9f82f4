//! Guests as native programs, made of the same source by the C compiler of this machine.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Runs the guest's `main` and prints how long that took, so that starting the process is left out.
const TIMER: &str = r#"#include <stdio.h>
#include <time.h>
int guest_main(void);
int main(void) {
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    int code = guest_main();
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%lld\n", (end.tv_sec - begin.tv_sec) * 1000000000LL + (end.tv_nsec - begin.tv_nsec));
    return code;
}
"#;

/// A guest that was compiled.
pub(super) struct Native {
    program: PathBuf,
}

impl Native {
    /// Compiles `source` in `folder`; none if there is no C compiler.
    pub(super) fn new(name: &str, source: &str, folder: &Path) -> io::Result<Option<Self>> {
        let (guest, timer) = (folder.join(format!("{name}.c")), folder.join("timer.c"));
        std::fs::write(&guest, source)?;
        std::fs::write(&timer, TIMER)?;
        let (object, program) = (folder.join(format!("{name}.o")), folder.join(name));
        // Contracted operations would round otherwise than the guest does.
        let flags = ["-O2", "-ffp-contract=off", "-Dmain=guest_main", "-c", "-o"];
        match Command::new("cc").args(flags).args([&object, &guest]).output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            compiled => succeeded(name, compiled?)?,
        }
        let linked = Command::new("cc").args(["-O2", "-o"]).args([&program, &timer, &object]).arg("-lm").output()?;
        succeeded(name, linked)?;
        Ok(Some(Self { program }))
    }

    /// How long it runs. It exits with 0 only if its result is the right one.
    pub(super) fn run(&self) -> io::Result<Duration> {
        let output = Command::new(&self.program).output()?;
        let time = String::from_utf8_lossy(&output.stdout).trim().parse();
        match time {
            Ok(ns) if output.status.success() => Ok(Duration::from_nanos(ns)),
            _ => Err(io::Error::other(format!("{} ended with {}", self.program.display(), output.status))),
        }
    }
}

fn succeeded(name: &str, compiled: Output) -> io::Result<()> {
    let why = String::from_utf8_lossy(&compiled.stderr);
    match compiled.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("cc does not compile the guest {name} of the benchmark: {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_native_guest_is_timed_and_one_with_a_wrong_result_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let Some(right) = Native::new("right", "int main(void) { return 0; }", folder.path()).unwrap() else {
            // Without a C compiler nothing is compared.
            return;
        };
        assert!(right.run().is_ok());
        let wrong = Native::new("wrong", "int main(void) { return 1; }", folder.path()).unwrap().unwrap();
        assert!(wrong.run().is_err());
        assert!(Native::new("invalid", "int main(void) {", folder.path()).is_err());
    }
}
