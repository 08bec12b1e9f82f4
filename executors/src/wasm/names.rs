//! Names of functions, as their authors wrote them.

use std::collections::BTreeMap;

use wasmparser::{KnownCustom, Name, Parser, Payload};

use super::externs::shown;

/// The longest mangled name that is undone, in bytes: longer ones are somebody's joke.
const MAX_MANGLED: usize = 4_096;

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
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return shown(&format!("{rust:#}"));
    }
    let cpp = name.starts_with("_Z").then(|| cpp_demangle::Symbol::new(name).ok()).flatten();
    shown(&cpp.and_then(|symbol| symbol.demangle().ok()).unwrap_or_else(|| name.to_owned()))
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
    fn only_wanted_functions_are_named() {
        let module = wat::parse_str("(module (func $first) (func $second) (func))").unwrap();
        assert_eq!(of_functions(&module, &[1, 2]), BTreeMap::from([(1, "second".to_owned())]));
    }
}
