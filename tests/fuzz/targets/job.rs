//! Whatever a job file holds is a job or a list of problems.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shoal_protocol::job;

fuzz_target!(|text: &str| {
    let _ = job::render(text, &Default::default());
    if let Ok(parsed) = job::parse(text) {
        let _ = job::validate(&parsed.job);
        let _ = job::check_support(&parsed.job);
    }
});
