//! Programs that try everything: any calls of the host, in any order, with any arguments.
//!
//! [`calls`] is what can be called, [`guest`] the program that does it, [`script`] what it is told to do, [`check`]
//! what must hold whatever that was. The tests make scripts of random bytes, the fuzzer of bytes that it has chosen.

#![allow(dead_code, reason = "each fuzz target uses its part")]

pub(crate) mod calls;

pub(crate) mod guest;

pub(crate) mod script;

pub(crate) mod check;
