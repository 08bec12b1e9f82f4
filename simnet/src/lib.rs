//! A whole mesh in one thread, in virtual time, from one seed.
//!
//! The machines are the real ones of `shoal-protocol`; everything else is made up here. A run does what a scenario
//! says, looks after each step for what may never happen, lets the world come to rest, and looks for what must have
//! happened. Equal seeds give equal runs, to the letter.
//!
//! Read in this order: [`scenarios`] is what can be simulated, `world` how, `checks` what is looked for, [`report`]
//! what comes out. [`mesh`] is the odd one out: some of the scenarios with real nodes, in real time.

pub mod scenarios;

mod world;

mod chance;
mod checks;
mod disk;
mod errors;
mod jobs;
mod links;
mod neighbourhoods;
mod node;
mod overlay;
mod peers;
mod queue;
mod stats;

pub mod report;

pub mod mesh;

pub use links::{Distance, Profile};
pub use peers::Behaviour;
pub use world::{Setup, run};
