//! Where functions and globals stand in a rewritten module.
//!
//! ```text
//! every function outside is metered:  imported | refill leave enter | defined | bulk… | start
//! some are not (see `boundary`):      imported | refill | defined | entrances | exits | leave enter | bulk… | start
//! ```

use std::ops::Range;

use super::boundary::Boundary;

/// Counts that say where a function or global has moved.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Indices {
    pub(super) boundary: Boundary,
    /// Functions imported by the module itself.
    pub(super) imported: u32,
    /// Functions of its own.
    pub(super) defined: u32,
    /// Globals that it imports itself.
    pub(super) globals: u32,
    /// Functions of its own that it exports.
    pub(super) exported: u32,
}

impl Indices {
    pub(super) fn new(boundary: Boundary) -> Self {
        Self { boundary, ..Self::default() }
    }

    /// The metered function that stands for the module's function `index`.
    pub(super) fn function(self, index: u32) -> u32 {
        match self.boundary {
            _ if index >= self.imported => index - self.imported + self.own(),
            Boundary::Metered => index,
            Boundary::Plain => self.exit(index),
        }
    }

    /// The function that is exported for the module's function `index`, the entrance with number `entrance` if it is
    /// its own.
    pub(super) fn export(self, index: u32, entrance: Option<u32>) -> u32 {
        match (self.boundary, entrance) {
            (Boundary::Plain, Some(entrance)) => self.entrance(entrance),
            (Boundary::Plain, None) => index,
            (Boundary::Metered, _) => self.function(index),
        }
    }

    /// The global that stands for the module's global `index`.
    pub(super) fn global(self, index: u32) -> u32 {
        match self.boundary {
            Boundary::Plain if index >= self.globals => index + 1,
            _ => index,
        }
    }

    /// The global in which the meter waits outside metered functions.
    pub(super) fn meter(self) -> u32 {
        self.globals
    }

    pub(super) fn refill(self) -> u32 {
        self.imported
    }

    pub(super) fn leave(self) -> u32 {
        match self.boundary {
            Boundary::Metered => self.imported + 1,
            Boundary::Plain => self.exit(self.imported),
        }
    }

    pub(super) fn enter(self) -> u32 {
        self.leave() + 1
    }

    /// The first function of the module's own.
    pub(super) fn own(self) -> u32 {
        match self.boundary {
            Boundary::Metered => self.imported + 3,
            Boundary::Plain => self.imported + 1,
        }
    }

    /// The unmetered function before the exported one with this number.
    pub(super) fn entrance(self, number: u32) -> u32 {
        self.own() + self.defined + number
    }

    /// The metered function before an imported one.
    pub(super) fn exit(self, imported: u32) -> u32 {
        self.entrance(self.exported) + imported
    }

    /// The functions between metered and other ones.
    pub(super) fn crossings(self) -> Range<u32> {
        self.own() + self.defined..self.bulk()
    }

    /// The first function for bulk work.
    pub(super) fn bulk(self) -> u32 {
        match self.boundary {
            Boundary::Metered => self.own() + self.defined,
            Boundary::Plain => self.enter() + 1,
        }
    }
}
