//! Reads typed fields out of a document, as Go's `encoding/json` would: keys in any case, `null` as absent.
//!
//! A wrong field is noted and reading goes on, so that one report names every mistake. A field that nobody asked
//! for is unknown.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use crate::job::node::Node;
use crate::job::problem::{Problem, Problems, nearest, quoted};
use crate::job::units::{Seconds, UnitError};

/// What was found wrong and what was ignored so far.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) problems: Problems,
    pub(crate) warnings: Vec<Problem>,
}

/// The fields of one mapping that were not read yet.
pub(crate) struct Fields {
    /// Where the mapping is.
    pub(crate) path: String,
    entries: Vec<(String, Node)>,
    asked: Vec<&'static str>,
}

impl Fields {
    /// The path of one of its fields.
    pub(crate) fn path_of(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// Takes a field out; `null` is the same as none.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Node> {
        self.asked.push(name);
        self.take_quietly(name)
    }

    /// Takes a field out that no message should propose.
    pub(crate) fn take_quietly(&mut self, name: &str) -> Option<Node> {
        let index = self.entries.iter().position(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(self.entries.remove(index).1).filter(|node| *node != Node::Null)
    }

    /// These fields, and for those that are missing here the ones of another mapping.
    pub(crate) fn or_from(mut self, other: Fields) -> Fields {
        let is_here = |key: &str| self.entries.iter().any(|(known, _)| known.eq_ignore_ascii_case(key));
        let missing: Vec<_> = other.entries.into_iter().filter(|(key, _)| !is_here(key)).collect();
        self.entries.extend(missing);
        self
    }

    /// The fields that are left.
    fn unknown(&self) -> impl Iterator<Item = (String, String)> {
        self.entries.iter().map(|(key, _)| {
            let remedy = match nearest(key, self.asked.iter().copied()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("known are {}", self.asked.join(", ")),
            };
            (format!("{}.{}", self.path, key.chars().take(80).collect::<String>()), remedy)
        })
    }
}

impl Reader {
    /// Opens a mapping; keys that differ only in case are a mistake.
    pub(crate) fn fields(&mut self, path: impl Into<String>, node: Option<Node>) -> Fields {
        let path = path.into();
        let mut entries: Vec<(String, Node)> = match node {
            None => Vec::new(),
            Some(Node::Map(entries)) => entries,
            Some(other) => {
                self.wrong_type(&path, &other, "a mapping");
                Vec::new()
            }
        };
        let mut seen = BTreeMap::new();
        entries.retain(|(key, _)| match seen.insert(key.to_ascii_lowercase(), key.clone()) {
            None => true,
            Some(first) => {
                self.problems.push(format!("{path}.{key}"), format!("is there twice, also as '{first}'"), "keep one");
                false
            }
        });
        Fields { path, entries, asked: Vec::new() }
    }

    /// Closes a mapping: what nobody asked for is kept as a warning.
    pub(crate) fn close(&mut self, fields: &Fields) {
        let unknown = fields.unknown();
        self.warnings.extend(unknown.map(|(path, remedy)| Problem::new(path, "is unknown and was ignored", remedy)));
    }

    /// Closes a mapping in which unknown fields are mistakes.
    pub(crate) fn close_strictly(&mut self, fields: &Fields) {
        fields.unknown().for_each(|(path, remedy)| self.problems.push(path, "is unknown", remedy));
    }

    fn wrong_type(&mut self, path: &str, node: &Node, expected: &str) {
        let remedy = node.in_quotes().filter(|_| expected == "a string").unwrap_or_default();
        self.problems.push(path, format!("has the wrong type: {}, expected {expected}", node.kind()), remedy);
    }

    /// Reads a text.
    pub(crate) fn text(&mut self, fields: &mut Fields, name: &'static str) -> Option<String> {
        let node = fields.take(name)?;
        self.text_of(&fields.path_of(name), node)
    }

    fn text_of(&mut self, path: &str, node: Node) -> Option<String> {
        match node {
            Node::Text(text) => Some(text),
            other => {
                self.wrong_type(path, &other, "a string");
                None
            }
        }
    }

    /// Reads a whole number within bounds.
    pub(crate) fn whole<T: TryFrom<i64> + Display + PartialOrd>(
        &mut self,
        fields: &mut Fields,
        name: &'static str,
        (least, most): (T, T),
    ) -> Option<T> {
        let node = fields.take(name)?;
        let path = fields.path_of(name);
        let number = match &node {
            Node::Whole(number) => Some(*number),
            // Go writes and reads 3.0 as 3.
            Node::Float(number) => number.to_string().parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.wrong_type(&path, &node, "a whole number");
            return None;
        };
        let value = T::try_from(number).ok().filter(|value| (&least..=&most).contains(&value));
        if value.is_none() {
            self.problems.push(path, format!("is {number}"), format!("write a number from {least} to {most}"));
        }
        value
    }

    /// Reads true or false.
    pub(crate) fn flag(&mut self, fields: &mut Fields, name: &'static str) -> Option<bool> {
        match fields.take(name)? {
            Node::Flag(flag) => Some(flag),
            other => {
                self.wrong_type(&fields.path_of(name), &other, "true or false");
                None
            }
        }
    }

    /// Reads a list; gives each item with its path.
    pub(crate) fn list(&mut self, fields: &mut Fields, name: &'static str) -> Vec<(String, Node)> {
        let path = fields.path_of(name);
        match fields.take(name) {
            None => Vec::new(),
            Some(Node::List(items)) => {
                items.into_iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item)).collect()
            }
            Some(other) => {
                self.wrong_type(&path, &other, "a list");
                Vec::new()
            }
        }
    }

    /// Reads a list of texts.
    pub(crate) fn texts(&mut self, fields: &mut Fields, name: &'static str) -> Vec<String> {
        let items = self.list(fields, name);
        items.into_iter().filter_map(|(path, node)| self.text_of(&path, node)).collect()
    }

    /// Reads a mapping from texts to texts, whose keys are the author's own.
    pub(crate) fn text_map(&mut self, fields: &mut Fields, name: &'static str) -> BTreeMap<String, String> {
        let path = fields.path_of(name);
        let entries = match fields.take(name) {
            None => return BTreeMap::new(),
            Some(Node::Map(entries)) => entries,
            Some(other) => {
                self.wrong_type(&path, &other, "a mapping");
                return BTreeMap::new();
            }
        };
        let mut texts = BTreeMap::new();
        for (key, node) in entries {
            match node {
                Node::Null => drop(texts.insert(key, String::new())),
                Node::Text(text) => drop(texts.insert(key, text)),
                other => {
                    let reason =
                        format!("has the wrong type for {}: {}, expected a string", quoted(&key), other.kind());
                    self.problems.push(&path, reason, other.in_quotes().unwrap_or_default());
                }
            }
        }
        texts
    }

    /// Reads a text that means an amount.
    pub(crate) fn amount<T: FromStr<Err: Display> + Default + PartialEq>(
        &mut self,
        fields: &mut Fields,
        name: &'static str,
        default: T,
    ) -> T {
        let text = match fields.take(name) {
            // People write plain numbers, and each means one amount only.
            Some(Node::Whole(number)) => number.to_string(),
            Some(Node::Float(number)) => number.to_string(),
            Some(node) => self.text_of(&fields.path_of(name), node).unwrap_or_default(),
            None => String::new(),
        };
        if text.trim().is_empty() {
            return default;
        }
        match text.parse() {
            // As in Bacalhau, asking for nothing is asking for the default.
            Ok(amount) if amount == T::default() => default,
            Ok(amount) => amount,
            Err(why) => {
                self.problems.push(fields.path_of(name), why.to_string(), "");
                default
            }
        }
    }

    /// Reads a length of time: a text, or a number of seconds.
    pub(crate) fn length_of_time(&mut self, fields: &mut Fields, name: &'static str) -> Option<Seconds> {
        let node = fields.take(name)?;
        let text = match node {
            Node::Text(text) => text,
            Node::Whole(seconds) => seconds.to_string(),
            Node::Float(seconds) => seconds.to_string(),
            other => {
                self.wrong_type(&fields.path_of(name), &other, "a length of time");
                return None;
            }
        };
        text.parse().map_err(|why: UnitError| self.problems.push(fields.path_of(name), why.to_string(), "")).ok()
    }

    /// Reads one of some words, in any case.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        fields: &mut Fields,
        name: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.text(fields, name).filter(|text| !text.is_empty())?;
        let found = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
        if found.is_none() {
            let words = || choices.iter().map(|(word, _)| *word).filter(|word| !word.is_empty());
            let remedy = match nearest(&text, words()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("write one of {}", words().collect::<Vec<_>>().join(", ")),
            };
            self.problems.push(fields.path_of(name), format!("is {}, which is unknown", quoted(&text)), remedy);
        }
        found.map(|(_, choice)| *choice)
    }

    /// Reads one of some words that must be there. Without one there is a problem.
    pub(crate) fn required_choice<T: Copy>(
        &mut self,
        fields: &mut Fields,
        name: &'static str,
        choices: &[(&'static str, T)],
        remedy: &str,
    ) -> Option<T> {
        let problems = self.problems.0.len();
        let choice = self.choice(fields, name, choices);
        if choice.is_none() && self.problems.0.len() == problems {
            self.missing(fields, name, remedy);
        }
        choice
    }

    /// Notes that a field must be there.
    pub(crate) fn missing(&mut self, fields: &Fields, name: &str, remedy: impl Into<String>) {
        self.problems.push(fields.path_of(name), "is missing", remedy);
    }

    /// Notes what was understood, but differently from what is written.
    pub(crate) fn warn(&mut self, path: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) {
        self.warnings.push(Problem::new(path, reason, remedy));
    }
}
