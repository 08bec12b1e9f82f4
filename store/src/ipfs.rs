//! IPFS as bytes: addresses, blocks that prove themselves, files and folders made of blocks, and archives of them.
//!
//! Everything here is pure. Sources read with it, publishers write with it.

mod address;
mod block;
mod dag;
mod hamt;

mod car;

pub(crate) use address::{Address, Root};
pub(crate) use block::{Cid, Hash, MAX_BLOCK_BYTES, RAW, inline, verify};
#[cfg(test)]
pub(crate) use block::{DAG_PB, cid_of};
pub(crate) use car::CarReader;
#[cfg(test)]
pub(crate) use car::{header, section};
pub(crate) use dag::{Link, Node, NodeError};
#[cfg(test)]
pub(crate) use dag::{encode_file, encode_folder, encode_shard};
pub(crate) use hamt::place;
