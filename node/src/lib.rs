//! Work in progress.

pub mod network;
