//! Rewrites a component: the modules inside it, and what links them.
//!
//! Modules inside a component cannot import from the host by themselves, so the component gains a core module of its
//! own (`host`), which has the global that the meter crosses in, and is given to every other module. The component
//! itself imports two functions for it, [`REFILL_COMPONENT`] and [`SETTLE_COMPONENT`], and exports [`READ`]. Around
//! every function of the host that modules call stands one that settles first, so that the host, which charges for what
//! it does, has all of the fuel.
//!
//! Code outside modules would not be metered. So what makes such code, a call from one component to another, is refused:
//! components that are composed of several with modules in them. (Toolchains put components without modules around
//! what a component exports; those are taken.)
//!
//! `read` checks and rewrites the modules, `encode` puts everything together.

mod read;

mod encode;

mod host;

use super::Refused;

/// `(meter) -> meter`: settles what was used and hands out more, or ends the run.
pub const REFILL_COMPONENT: &str = "shoal-refill";
/// `(meter) -> meter`: gives all fuel back before a call to the host, and gets a loan for what the host calls meanwhile.
pub const SETTLE_COMPONENT: &str = "shoal-settle";
/// `() -> meter`: what the last function that returned has left.
pub const READ: &str = "shoal-read";

/// Rewrites a component.
pub(super) fn rewrite(bytes: &[u8]) -> Result<Vec<u8>, Refused> {
    encode::encode(bytes, read::read(bytes)?)
}
