//! What calls cost in stack.
//!
//! The unit stands for 8 bytes of nominal stack. Native frames are larger, by how much depends on the machine: the
//! native stack has eight times the room, so that the metered limit is always reached first.

/// Units of stack that a run has.
pub(super) const UNITS: i64 = 65_536;
/// Units that every frame costs.
const FRAME: u32 = 8;
/// Largest frame that a function which calls nothing may have unmetered. At most one such frame exists at a time.
pub(super) const LEAF: u32 = 64;

/// Cost of a frame, by its locals, those of them that are vectors, and its highest operand stack.
pub(super) fn frame(locals: usize, vectors: u32, operands: usize) -> u32 {
    let units = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    FRAME.saturating_add(units(locals)).saturating_add(vectors).saturating_add(units(2 * operands))
}
