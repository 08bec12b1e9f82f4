//! Every decision of Shoal, and no action.
//!
//! No clock, no entropy, no socket, no disk: the world calls in, and what comes out is data. The contract:
//! *handle one input → perform every output in order → sleep until the deadline or the next input.*
//!
//! Read in this order: [`task`] is what is computed, [`message`] what peers say about it, [`machine`] what a node
//! does with what it hears. Control flow lives in the machine's two halves, `requester` and `worker`; the
//! judgements they ask for ([`admission`], [`auction`], [`shard`], [`suppression`], [`commitment`], [`verdict`], [`credibility`], [`trace`]) are
//! pure functions. What gossip is passed on and who is cut off is decided in [`budget`] and [`conduct`], before any of it
//! reaches the machine.

pub mod id;
pub mod image;
pub mod time;

pub mod job;

pub mod task;

pub mod message;
pub mod wire;

pub mod invitation;
pub mod membership;
pub mod relay;

mod inquiry;
pub mod machine;
pub mod record;
mod requester;
mod worker;

mod delays;

pub mod access;
pub mod admission;
pub mod auction;
pub mod budget;
pub mod commitment;
pub mod conduct;
pub mod credibility;
pub mod shard;
pub mod suppression;
pub mod trace;
pub mod verdict;

pub mod address;
pub mod limits;
pub mod text;
mod timers;
