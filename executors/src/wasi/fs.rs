//! The file system that a program sees: a tree of names in memory over file contents on disk.
//!
//! Inputs stay where they were staged and are listed and opened when the program looks at them. What the program
//! writes lies in flat files named by inode, so no name of the program's ever reaches the host during a run; the
//! result paths get their names when the run is over. Symbolic links are followed here, never by the host, and nothing
//! outside can be named.

pub(crate) mod path;

pub(crate) mod tree;

mod resolve;

mod content;

mod edit;

mod mounts;

mod collect;

pub(crate) use content::Quota;
pub(crate) use mounts::MountError;
pub(crate) use resolve::Found;
pub(crate) use tree::{Inode, Tree};
