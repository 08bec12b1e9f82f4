//! Names of functions, as their authors wrote them.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use cpp_demangle::{DemangleOptions, Symbol};
use wasmparser::{KnownCustom, Name, Parser, Payload};

use super::externs::shown;

/// The longest mangled name that is undone, in bytes: longer ones are not worth their work.
const MAX_MANGLED: usize = 1_024;
/// The most that is written of a name, in bytes: a short mangled name can stand for an endless one.
const MAX_WRITTEN: usize = 1_024;

/// The names that a module has for some of its functions. What is damaged has no name.
pub(super) fn of_functions(bytes: &[u8], wanted: &[u32]) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        let Payload::CustomSection(section) = payload else { continue };
        let KnownCustom::Name(sections) = section.as_known() else { continue };
        for section in sections.into_iter().map_while(Result::ok) {
            let Name::Function(functions) = section else { continue };
            let named = functions.into_iter().map_while(Result::ok).filter(|naming| wanted.contains(&naming.index));
            names.extend(named.map(|naming| (naming.index, readable(naming.name))));
        }
    }
    names
}

/// A function's name as in its source, fit for a terminal.
pub(super) fn readable(name: &str) -> String {
    if name.len() > MAX_MANGLED {
        return shown(name);
    }
    let mut text = Bounded(String::new());
    // What does not fit is cut, which is the writer's only error.
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        let _ = write!(text, "{rust:#}");
    } else if name.starts_with("_Z")
        && let Ok(symbol) = Symbol::new(name)
    {
        let _ = symbol.structured_demangle(&mut text, &DemangleOptions::default());
    }
    shown(if text.0.is_empty() { name } else { &text.0 })
}

/// A text of at most [`MAX_WRITTEN`] bytes.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_WRITTEN {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_in_the_source() {
        let table = [
            ("main", "main"),
            ("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt"),
            ("_ZN5Hello4testEi", "Hello::test(int)"),
            ("_Z", "_Z"),
            ("runtime.main", "runtime.main"),
        ];
        for (mangled, expected) in table {
            assert_eq!(readable(mangled), expected);
        }
    }

    #[test]
    fn a_name_that_doubles_itself_is_cut() {
        // A function's parameters: a pair, a pair of that pair, and so on.
        let pairs = ["1aIiiE".to_owned(), "S_IS0_S0_E".to_owned()].into_iter();
        let pairs = pairs.chain((1..30).map(|n| format!("S_IS{n}_S{n}_E", n = base_36(n))));
        let bomb = format!("_Z1f{}", pairs.collect::<String>());
        let doubled = Symbol::new(&bomb).expect("a symbol");
        let mut text = Bounded(String::new());
        assert!(doubled.structured_demangle(&mut text, &DemangleOptions::default()).is_err(), "{}", text.0);
        assert!(readable(&bomb).starts_with("f(a<int, int>, a<a<int, int>"), "{}", readable(&bomb));
    }

    fn base_36(number: u32) -> char {
        char::from_digit(number, 36).expect("a digit").to_ascii_uppercase()
    }

    #[test]
    fn only_wanted_functions_are_named() {
        let module = wat::parse_str("(module (func $first) (func $second) (func))").unwrap();
        assert_eq!(of_functions(&module, &[1, 2]), BTreeMap::from([(1, "second".to_owned())]));
    }
}
