//! Lists: as a table for people, as CSV for spreadsheets and scripts, or as a document.

use std::fmt::Display;

use anyhow::Result;
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::{Format, clean, print, show, trimmed};

/// How a list is printed, in Bacalhau's words.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct ListFlags {
    /// Another name for --format, which lists also have as csv
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<ListFormat>,
    /// Leave out the line with the names of the columns
    #[arg(long)]
    hide_header: bool,
    /// Print ids whole, as csv and documents always have them
    #[arg(long)]
    wide: bool,
    // What these two ask for is how it is anyway.
    #[arg(long = "no-style", hide = true)]
    _no_style: bool,
    #[arg(long = "pretty", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    _pretty: Option<bool>,
}

/// A form that a list can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    /// For people.
    Table,
    /// A line for each row, with commas between its cells.
    Csv,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// The cells of a list.
pub(in crate::cli) struct Rows<const N: usize> {
    head: [&'static str; N],
    rows: Vec<[String; N]>,
}

/// How ids are written in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Ids {
    /// As much of them as people need to tell them apart.
    Short,
    /// All of them.
    Whole,
}

impl ListFlags {
    /// Prints a list; `rows` makes the cells of a table.
    pub(in crate::cli) fn show<T: Serialize, const N: usize>(
        &self,
        global: Format,
        list: &T,
        rows: impl FnOnce(&T, Ids) -> Rows<N>,
    ) -> Result<()> {
        match self.output.unwrap_or(global.into()) {
            ListFormat::Csv => print(&rows(list, Ids::Whole).csv(!self.hide_header)),
            ListFormat::Table => {
                let ids = if self.wide { Ids::Whole } else { Ids::Short };
                print(&clean(&rows(list, ids).text(!self.hide_header)))
            }
            ListFormat::Json => show(Format::Json, list, |_| String::new()),
            ListFormat::Yaml => show(Format::Yaml, list, |_| String::new()),
        }
    }
}

impl From<Format> for ListFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Table => ListFormat::Table,
            Format::Json => ListFormat::Json,
            Format::Yaml => ListFormat::Yaml,
        }
    }
}

impl Ids {
    /// Writes one, given how it is shortened.
    pub(in crate::cli) fn of<I: Display>(self, id: &I, short: fn(&I) -> String) -> String {
        match self {
            Ids::Short => short(id),
            Ids::Whole => id.to_string(),
        }
    }
}

impl<const N: usize> Rows<N> {
    pub(in crate::cli) fn new(head: [&'static str; N], rows: impl IntoIterator<Item = [String; N]>) -> Self {
        Self { head, rows: rows.into_iter().collect() }
    }

    /// A table without lines.
    pub(in crate::cli) fn text(self, has_head: bool) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if has_head {
            table.set_header(self.head.map(str::to_uppercase));
        }
        table.add_rows(self.rows);
        trimmed(&table)
    }

    /// A line for each row, as RFC 4180 has it but for the ends of lines, which are this system's.
    fn csv(&self, has_head: bool) -> String {
        let head = has_head.then(|| self.head.map(str::to_owned));
        let lines = head.iter().chain(&self.rows).map(|row| row.each_ref().map(|cell| csv_cell(cell)).join(","));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// A cell that holds what would end it is quoted.
fn csv_cell(cell: &str) -> String {
    let cell = clean(cell);
    if cell.contains(['"', ',', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows<2> {
        Rows::new(["id", "state"], [["j-1".into(), "a, \"b\"".into()], ["j-22".into(), String::new()]])
    }

    #[test]
    fn cells_of_csv_are_quoted_where_they_must_be() {
        assert_eq!(rows().csv(true), "id,state\nj-1,\"a, \"\"b\"\"\"\nj-22,");
        assert_eq!(csv_cell("\u{1b}[2J\nx"), "\"\u{fffd}[2J\nx\"");
    }

    #[test]
    fn a_header_can_be_left_out() {
        assert!(rows().csv(false).starts_with("j-1,"));
        let first =
            |has_head| rows().text(has_head).lines().next().unwrap().split_whitespace().next().map(str::to_owned);
        assert_eq!((first(true).as_deref(), first(false).as_deref()), (Some("ID"), Some("j-1")));
    }
}
