//! Constraints as the command line writes them: Kubernetes' label selectors.
//!
//! `region=eu,zone!=a,gpu in (a100, h100),!spot,disk,ram>16`

use crate::job::problem::quoted;
use crate::job::spec::Constraint;
use crate::limits::MAX_CONSTRAINTS;
use crate::message::Operator;

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A part is not understood.
    #[error(
        "{0} is no constraint: write 'key=value', 'key!=value', 'key in (a,b)', 'key notin (a,b)', 'key', '!key', 'key>1' or 'key<1'"
    )]
    Part(String),
    /// A parenthesis is missing.
    #[error("{0} has a '(' that is never closed")]
    Open(String),
    /// There are too many.
    #[error("there are more than {MAX_CONSTRAINTS} constraints")]
    TooMany,
}

/// Reads a selector: constraints with commas between them. An empty one has none.
pub fn parse(text: &str) -> Result<Vec<Constraint>, SelectorError> {
    let parts = parts(text)?;
    if parts.len() > MAX_CONSTRAINTS {
        return Err(SelectorError::TooMany);
    }
    parts.into_iter().map(constraint).collect()
}

/// Cuts at the commas outside of parentheses.
fn parts(text: &str) -> Result<Vec<&str>, SelectorError> {
    let (mut parts, mut start, mut open) = (Vec::new(), 0, false);
    for (index, c) in text.char_indices() {
        match c {
            '(' => open = true,
            ')' => open = false,
            ',' if !open => {
                parts.push(text[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    if open {
        return Err(SelectorError::Open(quoted(&text[start..])));
    }
    parts.push(text[start..].trim());
    if parts == [""] { Ok(Vec::new()) } else { Ok(parts) }
}

fn constraint(part: &str) -> Result<Constraint, SelectorError> {
    let wrong = || SelectorError::Part(quoted(part));
    let found = if let Some(key) = part.strip_prefix('!') {
        (key, Operator::Absent, Vec::new())
    } else if let Some(found) = set(part) {
        found
    } else if let Some(found) = comparison(part) {
        found
    } else {
        (part, Operator::Exists, Vec::new())
    };
    let (key, operator, values) = found;
    if is_key(key.trim()) { Ok(Constraint { key: key.trim().into(), operator, values }) } else { Err(wrong()) }
}

/// `key in (a,b)` or `key notin (a,b)`.
fn set(part: &str) -> Option<(&str, Operator, Vec<String>)> {
    let (head, list) = part.strip_suffix(')')?.split_once('(')?;
    let (key, word) = head.trim().rsplit_once(char::is_whitespace)?;
    let operator = match word {
        "in" => Operator::In,
        "notin" => Operator::NotIn,
        _ => return None,
    };
    Some((key, operator, list.split(',').map(|value| value.trim().to_owned()).collect()))
}

fn comparison(part: &str) -> Option<(&str, Operator, Vec<String>)> {
    const SIGNS: [(&str, Operator); 5] = [
        ("!=", Operator::NotEquals),
        ("==", Operator::Equals),
        ("=", Operator::Equals),
        (">", Operator::Greater),
        ("<", Operator::Less),
    ];
    // The first sign of the text decides; at the same place the longer one.
    let at = part.find(['!', '=', '>', '<'])?;
    let (sign, operator) = SIGNS.into_iter().find(|(sign, _)| part[at..].starts_with(sign))?;
    let value = part[at + sign.len()..].trim();
    let is_number = value.parse::<i64>().is_ok();
    let fits = match operator {
        Operator::Greater | Operator::Less => is_number,
        _ => !value.contains(['!', '=', '>', '<', '(', ')']),
    };
    fits.then(|| (&part[..at], operator, vec![value.to_owned()]))
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(key: &str, operator: Operator, values: &[&str]) -> Constraint {
        Constraint { key: key.into(), operator, values: values.iter().map(|&value| value.into()).collect() }
    }

    #[test]
    fn selectors_are_read_as_kubernetes_reads_them() {
        let table = [
            ("", vec![]),
            ("region=eu", vec![rule("region", Operator::Equals, &["eu"])]),
            ("region == eu", vec![rule("region", Operator::Equals, &["eu"])]),
            ("a!=b", vec![rule("a", Operator::NotEquals, &["b"])]),
            ("a=", vec![rule("a", Operator::Equals, &[""])]),
            ("gpu in (a100, h100)", vec![rule("gpu", Operator::In, &["a100", "h100"])]),
            ("gpu notin (x)", vec![rule("gpu", Operator::NotIn, &["x"])]),
            ("!spot, disk", vec![rule("spot", Operator::Absent, &[]), rule("disk", Operator::Exists, &[])]),
            ("ram>16,cpu < 4", vec![rule("ram", Operator::Greater, &["16"]), rule("cpu", Operator::Less, &["4"])]),
            ("favour_a=b", vec![rule("favour_a", Operator::Equals, &["b"])]),
            (
                "a in (x,y),node.io/b=c",
                vec![rule("a", Operator::In, &["x", "y"]), rule("node.io/b", Operator::Equals, &["c"])],
            ),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_quoted() {
        for text in ["a=b,", "=b", "a within (b)", "ram>much", "!", "a b", "a=b=c", "in (a)", ")"] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, SelectorError::Part(_)), "{text}: {error}");
        }
        assert!(parse("a in (b").unwrap_err().to_string().contains("never closed"));
        assert_eq!(parse(&"a,".repeat(20)), Err(SelectorError::TooMany));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([a-z]|[!=<>(),]| in | notin |\\PC){0,30}") {
            let _ = parse(&text);
        }
    }
}
