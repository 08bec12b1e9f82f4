//! Every decision of Shoal, and no action.
//!
//! No clock, no entropy, no socket, no disk: the world calls in, and what comes out is data. The contract:
//! *handle one input → perform every output in order → sleep until the deadline or the next input.*

pub mod id;
pub mod time;

pub mod task;

pub mod message;

pub mod wire;

pub mod commitment;

pub mod limits;
