//! How results are printed: as a table for people, as JSON or YAML for programs.

mod list;

use std::fmt;
use std::io::{self, Write};

use anyhow::Result;
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use serde::Serialize;

pub(super) use self::list::{Ids, ListFlags, Rows};

/// A form of output.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Bacalhau's spelling of `--format`, on the commands where `--output` means nothing else.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct OutputFlag {
    /// Another name for --format
    #[arg(long = "output", value_enum, hide = true, value_name = "FORMAT")]
    output: Option<Format>,
}

impl OutputFlag {
    /// The format that was asked for in either spelling.
    pub(super) fn format(self, global: Format) -> Format {
        self.output.unwrap_or(global)
    }
}

/// Whoever read our output has gone: there is nobody to fail for.
#[derive(Debug, thiserror::Error)]
#[error("stdout was closed")]
pub(super) struct StdoutClosed;

/// Writes bytes to stdout.
pub(super) fn write(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to stdout")),
        Ok(()) => Ok(()),
    }
}

/// Writes a text and the end of its line to stdout.
pub(super) fn print(text: &str) -> Result<()> {
    write(format!("{}\n", text.trim_end_matches('\n')).as_bytes())
}

/// Prints a value: as `table` makes it, or as a document.
pub(super) fn show<T: Serialize>(format: Format, value: &T, table: impl FnOnce(&T) -> String) -> Result<()> {
    match format {
        Format::Table => print(&clean(&table(value))),
        Format::Json => print(&serde_json::to_string_pretty(value)?),
        // By way of JSON, so that both have the same keys and values.
        Format::Yaml => print(&serde_saphyr::to_string(&serde_json::to_value(value)?)?),
    }
}

/// Says something to the person in front of the terminal.
pub(super) fn note(text: impl fmt::Display) {
    // Nobody can be told that nobody can be told.
    let _ = writeln!(io::stderr().lock(), "{}", clean(&text.to_string()));
}

/// Text that leaves the terminal as it is: much of what we print was written by other peers.
pub(super) fn clean(text: &str) -> String {
    let commands = |c: char| c.is_control() && c != '\n' && c != '\t';
    let reorders = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if commands(c) || reorders(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Says why the command failed.
pub(super) fn complain(error: &anyhow::Error) {
    note(format_args!("error: {}", told(error)));
}

/// What failed and why, each cause once: some errors repeat theirs in their own words.
pub(super) fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match &told[..] {
        "" => cause,
        said if said.contains(&cause) => told,
        said => format!("{said}: {cause}"),
    })
}

/// A table with a head, without lines.
pub(super) fn table<const N: usize>(head: [&'static str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    Rows::new(head, rows).text(true)
}

/// Names and values, a line each.
pub(super) fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.add_rows(rows.into_iter().map(|(name, value)| [name.to_owned(), value]));
    trimmed(&table)
}

fn trimmed(table: &Table) -> String {
    let lines = table.to_string();
    let lines: Vec<&str> = lines.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    lines.join("\n")
}

/// A number of bytes for people: `12.3 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog2() / 10).min(5);
    let tenths = u128::from(bytes) * 10 / (1 << (10 * power));
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[power as usize - 1])
}

/// A count and what is counted: `1 blob`, `2 blobs`.
pub(super) fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_rounded_down() {
        let table =
            [(0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (1_048_575, "1023.9 KiB"), (5 << 30, "5.0 GiB")];
        for (bytes, expected) in table {
            assert_eq!(size(bytes), expected);
        }
        assert_eq!(size(u64::MAX), "16383.9 PiB");
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = |outer: &'static str| anyhow::anyhow!("the disk is full").context(outer);
        assert_eq!(told(&error("cannot save")), "cannot save: the disk is full");
        assert_eq!(told(&error("cannot save: the disk is full")), "cannot save: the disk is full");
    }

    #[test]
    fn what_peers_wrote_cannot_command_the_terminal() {
        assert_eq!(clean("\u{1b}[2Jgone\r\u{9b}1m \u{202e}abc"), "\u{fffd}[2Jgone\u{fffd}\u{fffd}1m \u{fffd}abc");
        assert_eq!(clean("ä\tb\nc"), "ä\tb\nc");
    }

    #[test]
    fn tables_have_no_lines_and_no_trailing_spaces() {
        let text = table(["id", "state"], [["j-1".into(), "Running".into()], ["j-22".into(), String::new()]]);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words, [vec!["ID", "STATE"], vec!["j-1", "Running"], vec!["j-22"]]);
        assert!(text.lines().all(|line| line == line.trim_end() && !line.starts_with(' ')), "{text:?}");
    }
}
