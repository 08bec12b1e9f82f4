//! The job specification: Bacalhau's YAML and JSON files, read unchanged, checked, and compiled to work.
//!
//! The way of a job file: [`template`] → [`parse`](mod@parse) → [`validate`](mod@validate) → [`support`] →
//! [`resolve`] (local paths, inline data and host variables become blobs and values) → [`compile`](mod@compile).
//! All of it is pure: whoever submits reads the files and variables that [`resolve`] names.

pub mod spec;

pub mod template;

pub mod parse;

pub mod problem;

pub mod units;

pub mod data_url;

pub mod validate;

pub mod support;

pub mod resolve;

pub mod compile;

pub mod selector;

pub mod input;

mod node;

pub(crate) mod paths;

mod read;

pub use compile::{CompileError, compile};
pub use parse::{ParseError, Parsed, parse};
pub use problem::{Problem, Problems};
pub use spec::Job;
pub use support::check as check_support;
pub use template::render;
pub use validate::validate;
