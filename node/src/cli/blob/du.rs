//! `shoal blob du`.

use anyhow::Result;
use clap::Args;

use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect};
use crate::views::UsageView;

/// Flags of `shoal blob du`.
#[derive(Debug, Args)]
pub(super) struct Du {
    #[command(flatten)]
    output: OutputFlag,
}

impl Du {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let usage = connect::running(global).await?.usage().await?;
        output::show(self.output.format(global.format), &usage, table)?;
        Ok(Status::Done)
    }
}

fn table(usage: &UsageView) -> String {
    let sums = [
        ("Pinned", usage.pinned),
        ("For others", usage.for_others),
        ("In use", usage.in_use),
        ("Cache", usage.cache),
        ("Used", usage.used),
        ("  of it partial", usage.partial),
        ("Promised", usage.promised),
        ("Quota", usage.quota),
        ("Free on disk", usage.free),
    ];
    let sums = output::pairs(sums.map(|(name, bytes)| (name, output::size(bytes))));
    let pins = output::table(["pin", "size"], usage.pins.iter().map(|pin| [pin.name.clone(), output::size(pin.bytes)]));
    if usage.pins.is_empty() { sums } else { format!("{sums}\n\n{pins}") }
}
