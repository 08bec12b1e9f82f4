//! `shoal job ls`.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use shoal_protocol::id::BlobHash;

use crate::cli::listing::{Found, Line, ListedFile, Listing, Place, lines};
use crate::cli::output::{self, Ids, ListFlags, Rows};
use crate::cli::{Global, Status, connect};

/// Flags of `shoal job ls`.
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// The job's id, or its beginning; with a path, what lies at that place of its result
    #[arg(value_name = "ID[/PATH]")]
    place: Place,
    /// List every file, not only what lies directly there
    #[arg(short = 'R', long)]
    recursive: bool,
    /// List what each execution revealed, also those that were not believed, a folder for each
    #[arg(long)]
    all_executions: bool,
    #[command(flatten)]
    output: ListFlags,
}

/// A file or folder of a result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    /// Its name; that of a folder ends in `/`.
    name: String,
    /// Its size, unless some of it is on other nodes only.
    bytes: Option<u64>,
    /// Of a file: its hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<BlobHash>,
    /// Of a folder: the number of its files.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
}

impl Ls {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let client = connect::running(global).await?;
        let job = client.job(&self.place.job).await?;
        let listing = match self.all_executions {
            true => Listing::revealed(&client, &job).await?,
            false => Listing::believed(&client, &job).await?,
        };
        let rows: Vec<Row> = match listing.find(&self.place.path)? {
            Found::File(file) => vec![file.into()],
            Found::Folder(files) if self.recursive => files.into_iter().map(Row::from).collect(),
            Found::Folder(files) => lines(&self.place.path, &files).into_iter().map(Row::from).collect(),
        };
        self.output.show(global.format, &rows, |rows, ids| table(rows, ids))?;
        Ok(Status::Done)
    }
}

fn table(rows: &[Row], ids: Ids) -> Rows<3> {
    let size = |row: &Row| row.bytes.map_or_else(|| "elsewhere".into(), output::size);
    let what = |row: &Row| match (row.hash, row.files) {
        (Some(hash), _) => ids.of(&hash, BlobHash::short),
        (None, files) => output::count(files.unwrap_or_default(), "file"),
    };
    Rows::new(["name", "size", "hash"], rows.iter().map(|row| [row.name.clone(), size(row), what(row)]))
}

impl From<ListedFile> for Row {
    fn from(file: ListedFile) -> Self {
        Self { name: file.name, bytes: file.bytes, hash: Some(file.hash), files: None }
    }
}

impl From<Line> for Row {
    fn from(line: Line) -> Self {
        let name = line.name();
        match line {
            Line::File(file) => file.into(),
            Line::Folder(_, files, bytes) => Self { name, bytes, hash: None, files: Some(files) },
        }
    }
}
