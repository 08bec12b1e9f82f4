//! IPFS as bytes: addresses, blocks that prove themselves, files and folders made of blocks, and archives of them.
//!
//! Everything here is pure. Sources read with it, publishers write with it.

mod address;
mod block;
mod dag;
mod hamt;

mod car;

pub(crate) use address::{Address, Root};
pub(crate) use block::{Cid, DAG_PB, Hash, MAX_BLOCK_BYTES, RAW, cid_of, inline, is_ours, verify};
pub(crate) use car::{CarReader, header, section};
pub(crate) use dag::{Link, Node, NodeError, encode_file, encode_folder, encode_shard};
pub(crate) use hamt::place;
