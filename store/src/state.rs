//! The node's records: a few tables of bytes in one file, changed by transactions that are on disk when they return.
//!
//! What a key or a value means is for the caller. Calls block (a change waits for the disk), so that async code
//! makes them where it may block. After an error of the disk every further call fails too: what a node cannot save
//! it must not do, so it ends and starts again, and what [`State::apply`] had confirmed is there.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTableMetadata, StorageBackend, TableDefinition,
    TableHandle,
};

use crate::reserve::{Insured, Reserve};

#[cfg(test)]
mod crash;
#[cfg(test)]
mod tests;

/// What this build writes. A file of a later one is refused.
pub const SCHEMA_VERSION: u64 = 1;
/// Memory for pages read before, in bytes. A node's live records are far smaller.
const CACHE_BYTES: usize = 8 << 20;
/// Largest value, in bytes: an award with its work is 72 KiB, a job's record a few of these.
pub const MAX_VALUE_BYTES: usize = 16 << 20;

const SCHEMA: TableDefinition<'_, &str, u64> = TableDefinition::new("schema");
const SCHEMA_KEY: &str = "version";

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// A kind of record. The number in its name grows when its records change their form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Jobs that this node requested.
    Jobs,
    /// Their ids by the time they were submitted.
    JobsByTime,
    /// Executions of those jobs.
    Executions,
    /// What happened to them, for `job history`.
    Events,
    /// Executions that this node holds as a worker.
    Held,
    /// What is thought of other peers.
    Standings,
    /// Where results of those jobs were published.
    Publications,
    /// Peers to return to.
    Peers,
    /// What sources of inputs were when they were read.
    Sources,
    /// Results as trees of IPFS, and where their blocks are.
    Trees,
    /// Anything there is one of.
    Meta,
}

/// One change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes a record, over an older one with the same key.
    Put {
        /// Where.
        table: Table,
        /// Its name.
        key: Vec<u8>,
        /// What it holds, at most [`MAX_VALUE_BYTES`].
        value: Vec<u8>,
    },
    /// Removes a record, if it is there.
    Delete {
        /// Where.
        table: Table,
        /// Its name.
        key: Vec<u8>,
    },
}

/// A record with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub key: Vec<u8>,
    /// What it holds.
    pub value: Vec<u8>,
}

/// The direction of a scan.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By growing keys.
    #[default]
    Ascending,
    /// By falling keys: the newest first where keys begin with a time.
    Descending,
}

/// The node's records.
#[derive(Debug)]
pub struct State {
    db: Database,
    path: PathBuf,
}

/// Why records cannot be opened, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has the file.
    #[error("{path} is in use by another process", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A later build wrote it.
    #[error(
        "{path} was written by a newer shoal (records version {found}, this build knows {SCHEMA_VERSION}): \
         run that version, or use another data directory",
        path = path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// It is not what a node writes.
    #[error(
        "{path} is damaged or not a file of records ({reason}): restore it from a backup, \
         or move it away to start without the jobs in it",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The disk failed, or an earlier call failed.
    #[error("cannot read or write {path}: {source}", path = path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the database says.
        source: Box<redb::Error>,
    },
    /// A value is larger than a record may be.
    #[error("a record of {bytes} bytes is larger than {MAX_VALUE_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

impl Table {
    /// Every table.
    pub const ALL: [Table; 11] = [
        Table::Jobs,
        Table::JobsByTime,
        Table::Executions,
        Table::Events,
        Table::Held,
        Table::Standings,
        Table::Publications,
        Table::Peers,
        Table::Sources,
        Table::Trees,
        Table::Meta,
    ];

    /// Its name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Jobs => "jobs/6",
            Table::JobsByTime => "jobs-by-time/1",
            Table::Executions => "executions/4",
            Table::Events => "events/3",
            Table::Held => "held/5",
            Table::Standings => "standings/1",
            Table::Publications => "publications/1",
            Table::Peers => "peers/1",
            Table::Sources => "sources/1",
            Table::Trees => "trees/1",
            Table::Meta => "meta/1",
        }
    }

    const fn rows(self) -> Rows {
        TableDefinition::new(self.name())
    }
}

impl Change {
    fn table(&self) -> Table {
        match self {
            Change::Put { table, .. } | Change::Delete { table, .. } => *table,
        }
    }
}

impl State {
    /// Opens the records in the file at `path`, which is made (open to its owner only) if it is not there.
    ///
    /// The caller holds the data directory's lock, so that nobody else makes it at the same time.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        if !path.exists() {
            Self::make(path)?;
        }
        Self::open_file(path, path, OpenOptions::new().read(true).write(true))
    }

    /// The same; on a disk that turns out to be full, `reserve` is given up.
    pub fn open_insured(path: &Path, reserve: Reserve) -> Result<Self, StateError> {
        if !path.exists() {
            Self::make(path)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| at(path)(DatabaseError::from(error)))?;
        let file = FileBackend::new(file).map_err(|error| cannot_open(path, error))?;
        let db = builder().create_with_backend(Insured { file, reserve }).map_err(|error| cannot_open(path, error))?;
        Self::prepare(db, path)
    }

    /// Makes the file under another name first: cut off in its making, a redb file cannot be opened again.
    fn make(path: &Path) -> Result<(), StateError> {
        let draft = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        drop(Self::open_file(path, &draft, &options)?);
        fs::rename(&draft, path).and_then(|()| sync_folder(path)).map_err(|error| at(path)(DatabaseError::from(error)))
    }

    fn open_file(path: &Path, file: &Path, options: &OpenOptions) -> Result<Self, StateError> {
        let file = options.open(file).map_err(|error| at(path)(DatabaseError::from(error)))?;
        let db = builder().create_file(file).map_err(|error| cannot_open(path, error))?;
        Self::prepare(db, path)
    }

    /// Opens records that lie somewhere else than in a file, for tests of failing disks.
    pub fn open_backend(backend: impl StorageBackend) -> Result<Self, StateError> {
        let path = Path::new("(memory)");
        let db = builder().create_with_backend(backend).map_err(|error| cannot_open(path, error))?;
        Self::prepare(db, path)
    }

    /// Makes all changes or none, in order. They are on disk when this returns.
    pub fn apply(&self, changes: &[Change]) -> Result<(), StateError> {
        check_sizes(changes)?;
        self.write(changes).map_err(at(&self.path))
    }

    /// The record of that name.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let get = || -> Result<_, redb::Error> {
            let rows = self.db.begin_read()?.open_table(table.rows())?;
            Ok(rows.get(key)?.map(|value| value.value().to_vec()))
        };
        get().map_err(at(&self.path))
    }

    /// Every record of a table, by key: for the start of a node.
    pub fn scan(&self, table: Table) -> Result<Vec<Row>, StateError> {
        self.scan_prefix(table, b"", None, usize::MAX, Order::Ascending)
    }

    /// At most `limit` records whose keys begin with `prefix`, in `order`, starting behind the key `after`.
    ///
    /// The last key of one page is the `after` of the next.
    pub fn scan_prefix(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Row>, StateError> {
        let Some((from, to)) = key_range(prefix, after, order) else { return Ok(Vec::new()) };
        let scan = || -> Result<_, redb::Error> {
            let rows = self.db.begin_read()?.open_table(table.rows())?;
            let found = rows.range::<&[u8]>((from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice)))?;
            match order {
                Order::Ascending => found.take(limit).map(row).collect(),
                Order::Descending => found.rev().take(limit).map(row).collect(),
            }
        };
        scan().map_err(at(&self.path))
    }

    /// How many records a table has.
    pub fn count(&self, table: Table) -> Result<u64, StateError> {
        let count = || -> Result<_, redb::Error> { Ok(self.db.begin_read()?.open_table(table.rows())?.len()?) };
        count().map_err(at(&self.path))
    }

    /// Makes the tables that are not there yet, so that reading finds them, and refuses a later build's file.
    fn prepare(db: Database, path: &Path) -> Result<Self, StateError> {
        let state = Self { db, path: path.into() };
        match state.version().map_err(|error| unreadable(path, error))? {
            Some(SCHEMA_VERSION) if state.is_complete().map_err(|error| unreadable(path, error))? => Ok(state),
            Some(found) if found > SCHEMA_VERSION => Err(StateError::Newer { path: path.into(), found }),
            Some(found) if found < SCHEMA_VERSION => {
                let reason = format!("records version {found} never was");
                Err(StateError::Damaged { path: path.into(), reason })
            }
            Some(_) | None => {
                state.make_tables().map_err(at(path))?;
                Ok(state)
            }
        }
    }

    fn version(&self) -> Result<Option<u64>, redb::Error> {
        match self.db.begin_read()?.open_table(SCHEMA) {
            Ok(table) => Ok(table.get(SCHEMA_KEY)?.map(|version| version.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the file has all tables: one of an earlier build has fewer.
    fn is_complete(&self) -> Result<bool, redb::Error> {
        let transaction = self.db.begin_read()?;
        let found: BTreeSet<String> = transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
        Ok(Table::ALL.iter().all(|table| found.contains(table.name())))
    }

    fn make_tables(&self) -> Result<(), redb::Error> {
        let transaction = self.begin()?;
        transaction.open_table(SCHEMA)?.insert(SCHEMA_KEY, SCHEMA_VERSION)?;
        for table in Table::ALL {
            transaction.open_table(table.rows())?;
        }
        Ok(transaction.commit()?)
    }

    fn write(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let transaction = self.begin()?;
        for table in Table::ALL {
            let mut changes = changes.iter().filter(|change| change.table() == table).peekable();
            if changes.peek().is_none() {
                continue;
            }
            // Opened once: it is looked up by name, and written back when it is closed.
            let mut rows = transaction.open_table(table.rows())?;
            for change in changes {
                match change {
                    Change::Put { key, value, .. } => drop(rows.insert(key.as_slice(), value.as_slice())?),
                    Change::Delete { key, .. } => drop(rows.remove(key.as_slice())?),
                }
            }
        }
        Ok(transaction.commit()?)
    }

    fn begin(&self) -> Result<redb::WriteTransaction, redb::Error> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        Ok(transaction)
    }
}

fn sync_folder(of: &Path) -> io::Result<()> {
    let folder = of.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn check_sizes(changes: &[Change]) -> Result<(), StateError> {
    for change in changes {
        if let Change::Put { value, .. } = change
            && value.len() > MAX_VALUE_BYTES
        {
            return Err(StateError::TooLarge { bytes: value.len() });
        }
    }
    Ok(())
}

type Bytes<'a> = redb::AccessGuard<'a, &'static [u8]>;

fn row(found: Result<(Bytes<'_>, Bytes<'_>), redb::StorageError>) -> Result<Row, redb::Error> {
    let (key, value) = found?;
    Ok(Row { key: key.value().to_vec(), value: value.value().to_vec() })
}

type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The keys that begin with `prefix` and lie behind `after`; nothing if there can be none.
fn key_range(prefix: &[u8], after: Option<&[u8]>, order: Order) -> Option<KeyRange> {
    let (first, behind) = (prefix.to_vec(), successor(prefix));
    let after = after.map(<[u8]>::to_vec);
    let past_last = |key: &Vec<u8>| behind.as_ref().is_some_and(|behind| key >= behind);
    match (order, after) {
        (Order::Ascending, Some(after)) if past_last(&after) => None,
        (Order::Ascending, Some(after)) if after >= first => Some((Bound::Excluded(after), below(behind))),
        (Order::Descending, Some(after)) if after <= first => None,
        (Order::Descending, Some(after)) if !past_last(&after) => {
            Some((Bound::Included(first), Bound::Excluded(after)))
        }
        _ => Some((Bound::Included(first), below(behind))),
    }
}

fn below(key: Option<Vec<u8>>) -> Bound<Vec<u8>> {
    key.map_or(Bound::Unbounded, Bound::Excluded)
}

/// The least key that is above every key with this prefix.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut key = prefix[..=last].to_vec();
    key[last] += 1;
    Some(key)
}

fn cannot_open(path: &Path, error: DatabaseError) -> StateError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StateError::InUse { path: path.into() },
        error => unreadable(path, error.into()),
    }
}

/// Tells a file with the wrong content from a disk that does not work.
fn unreadable(path: &Path, error: redb::Error) -> StateError {
    let reason = match &error {
        redb::Error::Corrupted(reason) => reason.clone(),
        redb::Error::UpgradeRequired(version) => format!("database format {version}"),
        redb::Error::Io(io) if is_about_content(io) => io.to_string(),
        redb::Error::TableTypeMismatch { table, .. } => format!("table {table} has another type"),
        _ => return at(path)(error),
    };
    StateError::Damaged { path: path.into(), reason }
}

fn is_about_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof)
}

fn at<E: Into<redb::Error>>(path: &Path) -> impl FnOnce(E) -> StateError {
    move |error| StateError::Failed { path: path.into(), source: Box::new(error.into()) }
}
