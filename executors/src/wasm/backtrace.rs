//! Where a program was when it was stopped, for people.
//!
//! Functions are named by the module's own names and numbers and by nothing else: no address, no path of this
//! machine. The text stands beside a result and is no part of it.

use std::fmt::Write;

use wasmtime::{FrameInfo, WasmBacktrace};

use super::names;
use super::rewrite::{CROSSING, IMPORT};

/// The most frames that are listed, innermost first.
const MAX_FRAMES: usize = 20;

/// The functions that an error came out of, a line each; none if it did not come out of the program's code.
pub(super) fn of(error: &wasmtime::Error) -> Option<String> {
    listed(error.downcast_ref::<WasmBacktrace>()?.frames())
}

/// The functions of a backtrace, a line each; none if there are none.
pub(super) fn listed(frames: &[FrameInfo]) -> Option<String> {
    let frames: Vec<_> = frames.iter().filter(|frame| frame.func_name() != Some(CROSSING)).collect();
    let mut text = String::new();
    for (depth, frame) in frames.iter().take(MAX_FRAMES).enumerate() {
        let _ = writeln!(text, "{depth:>4}: {}", function(frame));
    }
    if frames.len() > MAX_FRAMES {
        let _ = writeln!(text, "      {} more", frames.len() - MAX_FRAMES);
    }
    (!text.is_empty()).then_some(text)
}

/// The function's number in the module as its owner knows it: the rewrite puts imports of its own before all others.
fn original(frame: &FrameInfo) -> u32 {
    let added =
        frame.module().imports().filter(|import| import.module() == IMPORT && import.ty().func().is_some()).count();
    frame.func_index().saturating_sub(u32::try_from(added).unwrap_or(0))
}

/// `library::work (function 17)`, or `function 17`.
fn function(frame: &FrameInfo) -> String {
    let index = original(frame);
    match frame.func_name() {
        Some(name) => format!("{} (function {index})", names::readable(name)),
        None => format!("function {index}"),
    }
}
