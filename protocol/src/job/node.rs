//! A YAML or JSON document as read, before it means anything: bounded, in order, without duplicate keys.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Nesting of a document.
const MAX_DEPTH: usize = 32;
/// Values of a document, aliases expanded.
const MAX_NODES: usize = 100_000;
/// Text of a document, aliases expanded, in bytes.
const MAX_TEXT_BYTES: usize = 2 * super::parse::MAX_SPEC_BYTES;

/// One value of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Flag(bool),
    Whole(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// What it is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Node::Null => "nothing",
            Node::Flag(_) => "true or false",
            Node::Whole(_) => "whole number",
            Node::Float(_) => "decimal number",
            Node::Text(_) => "string",
            Node::List(_) => "list",
            Node::Map(_) => "mapping",
        }
    }

    /// What to do when it should have been a text: plain numbers and words like `on` need quotes.
    pub(crate) fn in_quotes(&self) -> Option<String> {
        match self {
            Node::Whole(number) => Some(format!("write it in quotes: \"{number}\"")),
            // The author may have written 1.10 or `on`, of which only 1.1 and true are left.
            Node::Float(_) | Node::Flag(_) => Some("write it in quotes".into()),
            _ => None,
        }
    }
}

/// Reads one [`Node`] within the bounds of a document.
pub(crate) struct NodeSeed<'a> {
    bounds: &'a Bounds,
    depth: usize,
}

/// What a document may still use up.
pub(crate) struct Bounds {
    nodes: Cell<usize>,
    text_bytes: Cell<usize>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { nodes: Cell::new(MAX_NODES), text_bytes: Cell::new(MAX_TEXT_BYTES) }
    }
}

impl Bounds {
    pub(crate) fn seed(&self) -> NodeSeed<'_> {
        NodeSeed { bounds: self, depth: 0 }
    }
}

impl NodeSeed<'_> {
    fn child(&self) -> Self {
        Self { bounds: self.bounds, depth: self.depth + 1 }
    }

    fn text<E: Error>(&self, text: String) -> Result<String, E> {
        take(&self.bounds.text_bytes, text.len()).ok_or_else(|| E::custom("the document holds too much text"))?;
        Ok(text)
    }
}

fn take(left: &Cell<usize>, amount: usize) -> Option<()> {
    left.set(left.get().checked_sub(amount)?);
    Some(())
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom(format!("the document is nested more than {MAX_DEPTH} deep")));
        }
        take(&self.bounds.nodes, 1).ok_or_else(|| D::Error::custom("the document has too many values"))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Node, E> {
        Ok(Node::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Whole(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Node, E> {
        i64::try_from(number).map(Node::Whole).or_else(|_| self.visit_f64(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Float(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        self.text(text.to_owned()).map(Node::Text)
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Node, E> {
        self.text(text).map(Node::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = access.next_element_seed(self.child())? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let (mut entries, mut keys) = (Vec::new(), BTreeSet::new());
        while let Some(key) = access.next_key::<String>()? {
            let key = self.text::<A::Error>(key)?;
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom(format!("the key '{key}' is there twice")));
            }
            entries.push((key, access.next_value_seed(self.child())?));
        }
        Ok(Node::Map(entries))
    }
}
