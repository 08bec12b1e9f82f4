//! A Shoal node: it performs for real what `shoal_protocol` decides.
//!
//! [`Node::start`] opens the data directory, takes up what was saved, and joins the mesh. One driver owns the
//! protocol machine; network, executors and blob store report to it as events. Everything that a person does, on
//! the command line or through the HTTP API, goes through [`Node`].

mod node;

pub mod config;

mod submit;

mod inputs;

mod query;

mod driver;

mod dialect;

mod ingress;

mod hands;

mod means;

mod admission;

mod engine;

mod publish;

mod published;

mod gateway;

mod reading;

mod pulling;

mod outbox;

mod turns;

mod voice;

mod runner;

mod room;

mod lists;

mod replay;

mod diff;

mod pins;

mod agreed;

mod comparing;

mod validator;

mod tickets;

mod kept;

mod offers;

mod announcer;

mod records;

mod history;

mod logs;

mod direct;

pub mod network;

pub mod membership;

pub mod clock;

mod skew;

mod doctor;

pub mod api;

pub mod views;

pub mod client;

pub mod cli;

pub use config::Config;
pub use diff::{Diff, DiffError};
pub use direct::Stream;
pub use driver::TooManyJobs;
pub use inputs::Watcher;
pub use node::{Node, NodeInfo, StartError, StopError};
pub use query::{ListError, LogChunk, LogsError, ResultError, ResultInfo};
pub use records::LookupError;
pub use replay::{Compared, Difference, Replay, ReplayError};
pub use submit::SubmitError;
