//! `shoal job validate`: all that can be said of a job file without a node.

use anyhow::Result;
use clap::Args;

use crate::cli::output::{self, Format, OutputFlag};
use crate::cli::spec::SpecFlags;
use crate::cli::upload;
use crate::cli::{Global, Status};

/// Flags of `shoal job validate`.
#[derive(Debug, Args)]
pub(super) struct Validate {
    #[command(flatten)]
    spec: SpecFlags,
    #[command(flatten)]
    output: OutputFlag,
}

impl Validate {
    pub(super) fn run(self, global: &Global) -> Result<Status> {
        let described = self.spec.read()?;
        upload::local_inputs(&described.job, &described.base)?;
        match self.output.format(global.format) {
            Format::Table => output::print("OK")?,
            // The job as it was understood, complete with defaults.
            format => output::show(format, &described.job, |_| String::new())?,
        }
        Ok(Status::Done)
    }
}
