//! `shoal job run`.

use anyhow::Result;
use clap::Args;

use crate::cli::output::OutputFlag;
use crate::cli::run::{self, RunFlags};
use crate::cli::spec::SpecFlags;
use crate::cli::{Global, Status};

/// Flags of `shoal job run`.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    spec: SpecFlags,
    #[command(flatten)]
    run: RunFlags,
    #[command(flatten)]
    output: OutputFlag,
}

impl Run {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let described = self.spec.read()?;
        run::run(global, self.output.format(global.format), described, &self.run).await
    }
}
