//! How a job is run: whether its end is waited for, what is shown meanwhile, and what is done with its result.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use crate::cli::connect::JoinFlags;

/// How a job is run and what is done with its result.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct RunFlags {
    #[command(flatten)]
    pub(super) join: JoinFlags,
    /// Submit the job and do not wait for it
    #[arg(long, conflicts_with_all = ["download", "follow"])]
    detach: bool,
    /// Wait for the job's end, as is usual; --wait=false is --detach
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    wait: Option<bool>,
    /// Wait no longer than this; the job goes on, and the exit status is 124 [default: 0, until the job has ended]
    #[arg(long, value_name = "SECONDS")]
    wait_timeout_secs: Option<u64>,
    /// Print the job's id and nothing else
    #[arg(long)]
    pub(super) id_only: bool,
    /// Check the job and print what would be submitted; nothing is kept or run
    #[arg(long, conflicts_with_all = [
        "detach", "download", "follow", "id_only", "wait", "wait_timeout_secs", "node_details", "group_events",
    ])]
    pub(super) dry_run: bool,
    /// Write the result to this folder, which must be new or empty
    #[arg(long, value_name = "DIR")]
    pub(super) download: Option<PathBuf>,
    /// Print what the program prints while it runs
    #[arg(short, long, conflicts_with = "id_only")]
    pub(super) follow: bool,
    /// In the end, say of each execution who ran it and what came of it
    #[arg(long, conflicts_with = "id_only")]
    pub(super) node_details: bool,
    /// Show what happened execution by execution, as a terminal does anyway, instead of in the order of time
    #[arg(long, conflicts_with_all = ["id_only", "follow"])]
    pub(super) group_events: bool,
}

impl RunFlags {
    /// Whether the command ends when the job is submitted.
    pub(super) fn detaches(&self) -> bool {
        self.detach || self.wait == Some(false)
    }

    /// How long the job's end is waited for; none for as long as it takes. Every job ends by its own limits, so a limit
    /// that nobody asked for would only surprise those who run long ones.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.wait_timeout_secs.filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    /// Refuses what only makes sense for those who wait.
    pub(super) fn check(&self) -> Result<()> {
        let detaches = if self.detach { "--detach" } else { "--wait=false" };
        let needs = [
            (self.detach && self.wait == Some(true), "--wait"),
            (self.download.is_some(), "--download"),
            (self.follow, "--follow"),
            (self.wait_timeout_secs.is_some(), "--wait-timeout-secs"),
            (self.node_details, "--node-details"),
            (self.group_events, "--group-events"),
        ];
        match needs.into_iter().find(|(given, _)| *given) {
            Some((_, flag)) if self.detaches() => {
                bail!("{flag} is about waiting for the job, which {detaches} does not do: leave one of them out")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        run: RunFlags,
    }

    fn flags(arguments: &str) -> RunFlags {
        Alone::try_parse_from(std::iter::once("run").chain(arguments.split_whitespace())).unwrap().run
    }

    #[test]
    fn not_waiting_is_detaching() {
        assert!(!flags("").detaches() && !flags("--wait").detaches() && !flags("--wait=true").detaches());
        assert!(flags("--wait=false").detaches() && flags("--detach").detaches());
        assert!(flags("--wait=false --id-only").check().is_ok());
    }

    #[test]
    fn who_does_not_wait_cannot_ask_for_what_comes_of_it() {
        for arguments in ["--wait=false -f", "--wait=false --download d", "--detach --node-details", "--detach --wait"]
        {
            let error = flags(arguments).check().unwrap_err().to_string();
            assert!(error.contains("leave one of them out"), "{arguments}: {error}");
        }
    }

    #[test]
    fn patience_has_no_end_unless_one_is_given() {
        assert_eq!((flags("").patience(), flags("--wait-timeout-secs 0").patience()), (None, None));
        assert_eq!(flags("--wait-timeout-secs 7").patience(), Some(Duration::from_secs(7)));
    }
}
