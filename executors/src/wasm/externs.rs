//! Types of what modules import and export, how they are written for people, and which fits which.

use std::fmt;

use wasmparser::{FuncType, GlobalType, MemoryType, TableType, ValType};

/// The most of a name out of a module that is shown, in characters.
const MAX_SHOWN: usize = 100;

/// The type of something that a module imports or exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Extern {
    Function(FuncType),
    Table(TableType),
    Memory(MemoryType),
    Global(GlobalType),
    Tag(FuncType),
}

impl Extern {
    /// A function that takes some numbers and gives some.
    pub(super) fn function(
        parameters: impl IntoIterator<Item = ValType>,
        results: impl IntoIterator<Item = ValType>,
    ) -> Self {
        Self::Function(FuncType::new(parameters, results))
    }

    /// Whether it can be taken where `wanted` is imported. Sizes are left to the engine, because they may grow before
    /// the import is looked at.
    pub(super) fn fits(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Memory(given), Self::Memory(wanted)) => {
                (given.shared, given.memory64) == (wanted.shared, wanted.memory64)
            }
            (Self::Table(given), Self::Table(wanted)) => {
                (given.element_type, given.table64) == (wanted.element_type, wanted.table64)
            }
            _ => self == wanted,
        }
    }

    /// Whether it can be a program's entry point.
    pub(super) fn is_entry_point(&self) -> bool {
        matches!(self, Self::Function(kind) if kind.params().is_empty() && kind.results().is_empty())
    }
}

impl fmt::Display for Extern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(kind) => write!(f, "function {} -> {}", list(kind.params()), list(kind.results())),
            Self::Tag(kind) => write!(f, "tag {}", list(kind.params())),
            Self::Global(kind) if kind.mutable => write!(f, "global mut {}", kind.content_type),
            Self::Global(kind) => write!(f, "global {}", kind.content_type),
            Self::Table(kind) => {
                write!(f, "table of {}, {}", kind.element_type, range(kind.initial, kind.maximum, "elements"))
            }
            Self::Memory(kind) => {
                let shared = if kind.shared { "shared " } else { "" };
                write!(f, "{shared}memory, {}", range(kind.initial, kind.maximum, "pages"))
            }
        }
    }
}

fn list(types: &[ValType]) -> String {
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    format!("({})", types.join(", "))
}

fn range(least: u64, most: Option<u64>, what: &str) -> String {
    most.map_or_else(|| format!("{least} {what} or more"), |most| format!("{least} to {most} {what}"))
}

/// A name out of a module, fit for a terminal: short and without control characters.
pub(super) fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(MAX_SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if name.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: MemoryType =
        MemoryType { memory64: false, shared: false, initial: 1, maximum: Some(2), page_size_log2: None };

    #[test]
    fn types_are_written_for_people() {
        let global = |mutable| GlobalType { content_type: ValType::F64, mutable, shared: false };
        let table = [
            (Extern::function([ValType::I32, ValType::I64], [ValType::I32]), "function (i32, i64) -> (i32)"),
            (Extern::function([], []), "function () -> ()"),
            (Extern::Global(global(true)), "global mut f64"),
            (Extern::Global(global(false)), "global f64"),
            (Extern::Memory(MEMORY), "memory, 1 to 2 pages"),
            (Extern::Memory(MemoryType { shared: true, maximum: None, ..MEMORY }), "shared memory, 1 pages or more"),
        ];
        for (kind, expected) in table {
            assert_eq!(kind.to_string(), expected);
        }
    }

    #[test]
    fn a_memory_of_another_size_may_fit_and_a_shared_one_does_not() {
        let wanted = Extern::Memory(MEMORY);
        assert!(Extern::Memory(MemoryType { initial: 0, maximum: None, ..MEMORY }).fits(&wanted));
        assert!(!Extern::Memory(MemoryType { shared: true, ..MEMORY }).fits(&wanted));
        assert!(!Extern::function([], []).fits(&wanted));
    }

    #[test]
    fn names_are_fit_for_a_terminal() {
        assert_eq!(shown("a\x1b]0;b"), "a\u{fffd}]0;b");
        assert_eq!(shown(&"é".repeat(MAX_SHOWN + 1)), format!("{}…", "é".repeat(MAX_SHOWN)));
    }
}
