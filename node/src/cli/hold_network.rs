//! `shoal hold-network`: what a node starts in a container to have a network there. Not for people.

use anyhow::{Context as _, Result};
use shoal_executors::docker::HolderProgram;

/// The command's name.
pub(super) const NAME: &str = "hold-network";

/// This program as a holder.
pub(super) fn holder() -> Result<HolderProgram> {
    HolderProgram::this_program([NAME.into()]).context("cannot find this program's own file")
}
