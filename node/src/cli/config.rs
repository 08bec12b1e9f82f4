//! `shoal config show`: what a node on this data directory would be started with, and why.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{Global, Status, connect, output};
use crate::config::{Loaded, Settings};
use crate::views::SettingView;

/// `shoal config`.
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show each setting, its value, and where that came from
    Show(output::OutputFlag),
}

impl Config {
    pub(super) fn run(self, global: &Global) -> Result<Status> {
        let Command::Show(output) = self.command;
        let settings = connect::settings(&Loaded::new(&global.data_dir()?, Settings::default())?);
        output::show(output.format(global.format), &settings, |settings| table(settings))?;
        Ok(Status::Done)
    }
}

fn table(settings: &[SettingView]) -> String {
    let row = |setting: &SettingView| [setting.name.clone(), setting.value.clone(), setting.origin.clone()];
    output::table(["setting", "value", "from"], settings.iter().map(row))
}
