//! WASI preview 1 and 2 over a file system, clocks and randomness of our own.
//!
//! The stock implementations show a program the host's directory order, inodes, times and sleep, none of which can
//! be sealed from outside. Here nothing but the invocation and the inputs reaches the program, so that every machine
//! gives the same answers in the same order. [`world`] is what the calls mean, [`abi`] and
//! [`component`] how they are called.

pub(crate) mod abi;

pub(crate) mod component;

pub(crate) mod world;

pub(crate) mod calls;

mod descriptors;

pub(crate) mod fs;

mod clock;

mod random;

pub(crate) mod types;
