//! What two results have to have in common to count as one answer.

use serde::{Deserialize, Serialize};

use super::ResultPath;

/// What a program printed to standard output, in a result.
pub const STDOUT: &str = "stdout";
/// What it printed to standard error.
pub const STDERR: &str = "stderr";
/// Its exit code in decimal.
pub const EXIT_CODE: &str = "exitCode";
/// The files that each result has beside its result paths.
pub const STREAMS: [&str; 3] = [STDOUT, STDERR, EXIT_CODE];

/// What of two results must agree. How the programs ended, and their exit codes, always must.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compare {
    /// All of it.
    #[default]
    All,
    /// All result paths, and nothing that was printed.
    Outputs,
    /// What has this name in the result: a result path, or one of [`STREAMS`].
    Part(String),
}

impl Compare {
    /// Whether a file of a result is compared.
    pub fn holds(&self, file: &str) -> bool {
        match self {
            Compare::All => true,
            Compare::Outputs => file != STDOUT && file != STDERR,
            Compare::Part(part) => {
                let below = file.strip_prefix(part.as_str()).map(|rest| rest.is_empty() || rest.starts_with('/'));
                file == EXIT_CODE || below == Some(true)
            }
        }
    }

    /// Whether there is something to compare in the results of a job with these paths.
    pub(super) fn is_sound(&self, paths: &[ResultPath]) -> bool {
        match self {
            Compare::All => true,
            Compare::Outputs => !paths.is_empty(),
            Compare::Part(part) => STREAMS.contains(&part.as_str()) || paths.iter().any(|path| path.name == *part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(compare: &Compare) -> Vec<&'static str> {
        const FILES: [&str; 7] = ["exitCode", "out", "out/a", "out/stdout", "outer/b", "stderr", "stdout"];
        FILES.into_iter().filter(|file| compare.holds(file)).collect()
    }

    #[test]
    fn exit_codes_are_always_compared_and_parts_to_their_last_file() {
        assert_eq!(held(&Compare::All).len(), 7);
        assert_eq!(held(&Compare::Outputs), ["exitCode", "out", "out/a", "out/stdout", "outer/b"]);
        assert_eq!(held(&Compare::Part("out".into())), ["exitCode", "out", "out/a", "out/stdout"]);
        assert_eq!(held(&Compare::Part("stdout".into())), ["exitCode", "stdout"]);
        assert_eq!(held(&Compare::Part("exitCode".into())), ["exitCode"]);
    }

    #[test]
    fn what_no_result_has_is_not_compared() {
        let paths = [ResultPath { name: "out".into(), path: "/out".into() }];
        assert!(Compare::Outputs.is_sound(&paths) && !Compare::Outputs.is_sound(&[]));
        let part = |name: &str| Compare::Part(name.into());
        assert!(part("out").is_sound(&paths) && part("stdout").is_sound(&[]) && Compare::All.is_sound(&[]));
        assert!(!part("out/a").is_sound(&paths) && !part("").is_sound(&paths));
    }
}
