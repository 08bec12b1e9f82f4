//! What a node keeps: its key, its records, and the blobs that jobs read and write.
//!
//! Knows the protocol's ids and nothing of the network; it serves no peer and asks none.

pub mod data_dir;

pub mod identity;

pub mod meshes;

pub mod remove;

pub mod reserve;

pub mod state;

pub mod blobs;

mod ipfs;

pub mod trees;

mod s3;

pub mod sources;

pub mod publishers;
