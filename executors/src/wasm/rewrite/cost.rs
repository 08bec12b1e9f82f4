//! What code costs in fuel, and where it is charged.
//!
//! A body is cut into segments: straight code between places where control splits or joins. The fuel of a segment is
//! charged at a site: its own, or an earlier one through which every path to it leads (of the same turn of the
//! innermost loop), as long as no more is added there than it costs itself, or [`FOLDED`]. So a path is never charged
//! less than it costs, and never more than about twice that, [`FOLDED`] for each site, and what an early exit leaves.
//!
//! Charging is a subtraction. Looking whether fuel is left is a branch: it is done on entry, at every turn of a loop,
//! and where more than [`UNCHECKED`] may have been charged since.

use wasmparser::Operator;

/// Fuel of conditional code that any site takes in advance.
const FOLDED: u32 = 32;
/// Fuel that may be charged before anybody looks. Bounds what a run may be overdrawn.
const UNCHECKED: u32 = 4_096;
/// A function that calls nothing, has no loop and costs no more is charged without looking.
const UNCHECKED_LEAF: u32 = 256;
/// A call's fuel, before what moving its arguments and results costs.
const CALL: u32 = 4;
/// Fuel of a function's entry and return.
const ENTRY: u32 = 2;

/// A place where fuel is charged: before the operator with number `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) at: usize,
    pub(super) fuel: u32,
    /// Whether it is looked afterwards if any is left.
    pub(super) check: bool,
}

#[derive(Debug)]
struct Site {
    charge: Charge,
    folded: u32,
}

/// Where a frame began: what leads to every place after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    site: usize,
    checked: u32,
}

/// The charges of one body, in the making.
#[derive(Debug)]
pub(super) struct Costs {
    sites: Vec<Site>,
    /// Dominates the code at hand.
    site: usize,
    /// The segment at hand: where it begins, and its fuel so far.
    segment: (usize, u32),
    /// All fuel charged in the code so far, whatever the path: it bounds the fuel of every path between two places.
    total: u32,
    /// `total` at the last look that dominates the code at hand.
    checked: u32,
    loops: bool,
    calls: bool,
}

impl Costs {
    pub(super) fn new() -> Self {
        let entry = Charge { at: 0, fuel: ENTRY, check: true };
        let sites = vec![Site { charge: entry, folded: 0 }];
        Self { sites, site: 0, segment: (0, 0), total: ENTRY, checked: 0, loops: false, calls: false }
    }

    pub(super) fn add(&mut self, fuel: u32) {
        self.segment.1 = self.segment.1.saturating_add(fuel);
    }

    /// A call to code that may itself return without having looked.
    pub(super) fn call(&mut self, moved: usize) {
        self.calls = true;
        self.total = self.total.saturating_add(UNCHECKED_LEAF);
        self.add(CALL + values(moved));
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { site: self.site, checked: self.checked }
    }

    /// Control splits or ends; the next segment begins at `next`.
    pub(super) fn cut(&mut self, next: usize) {
        let (at, fuel) = std::mem::replace(&mut self.segment, (next, 0));
        if fuel == 0 {
            return;
        }
        self.total = self.total.saturating_add(fuel);
        let unchecked = self.total - self.checked > UNCHECKED;
        let site = &mut self.sites[self.site];
        if site.charge.at == at {
            site.charge.fuel += fuel;
        } else if !unchecked && site.folded + fuel <= FOLDED.max(site.charge.fuel - site.folded) {
            site.folded += fuel;
            site.charge.fuel += fuel;
        } else {
            self.open(Charge { at, fuel, check: unchecked });
        }
    }

    fn open(&mut self, charge: Charge) {
        self.site = self.sites.len();
        self.sites.push(Site { charge, folded: 0 });
        if charge.check {
            self.checked = self.total;
        }
    }

    /// Control joins: only what lay before the frame dominates.
    pub(super) fn join(&mut self, next: usize, frame: Mark) {
        self.cut(next);
        (self.site, self.checked) = (frame.site, frame.checked);
    }

    /// A loop's turns begin at `next`.
    pub(super) fn turn(&mut self, next: usize) {
        self.cut(next);
        self.loops = true;
        self.open(Charge { at: next, fuel: 0, check: true });
    }

    /// Whether the body never calls.
    pub(super) fn is_leaf(&self) -> bool {
        !self.calls
    }

    /// All charges, in order. Those of a small leaf without a metered frame are made without looking.
    pub(super) fn finish(mut self, end: usize, frame: u32) -> Vec<Charge> {
        self.cut(end);
        if frame == 0 && !self.calls && !self.loops && self.total <= UNCHECKED_LEAF {
            self.sites[0].charge.check = false;
        }
        let charges = self.sites.into_iter().map(|site| site.charge);
        charges.filter(|charge| charge.fuel > 0 || charge.check).collect()
    }
}

/// Fuel for passing `moved` values from one module of a component to another: two calls and entries.
pub(super) fn crossing(moved: usize) -> u32 {
    (2 * (CALL + ENTRY)).saturating_add(values(2 * moved))
}

/// Fuel for moving values across a branch, call or join.
pub(super) fn values(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Fuel of one operator; calls and moved values come on top.
pub(super) fn weight(operator: &Operator<'_>) -> u32 {
    use Operator as O;
    match operator {
        O::Nop | O::Block { .. } | O::Loop { .. } | O::End | O::Else | O::Drop | O::TryTable { .. } => 0,
        // Constants and readings of locals become operands of what uses them.
        O::LocalGet { .. } | O::I32Const { .. } | O::I64Const { .. } | O::F32Const { .. } | O::F64Const { .. } => 0,
        O::I32DivS | O::I32DivU | O::I32RemS | O::I32RemU | O::I64DivS | O::I64DivU | O::I64RemS | O::I64RemU => 8,
        O::F32Div | O::F64Div | O::F32Sqrt | O::F64Sqrt => 4,
        O::F32x4Div | O::F64x2Div | O::F32x4Sqrt | O::F64x2Sqrt => 8,
        O::Throw { .. } | O::ThrowRef => 1_000,
        _ => 1,
    }
}
