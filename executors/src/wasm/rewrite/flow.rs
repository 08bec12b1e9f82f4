//! What may stand in a float: solved over the flow of values through one function.
//!
//! Every float value is a node, and so is every float local (whatever is ever assigned to it flows in, wherever that
//! happens) and every float result of a block (what any branch brings flows in). So joins and loops need no care, and
//! the graph is linear in the size of the body. A node's level is its [`Rule`] applied to the highest level that
//! flows into it; all rules are monotone, so the least solution is found by raising levels until nothing changes.

use super::Refused;

/// What is known of a float, from most to least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Neither NaN nor infinite.
    Finite,
    /// Not NaN.
    Number,
    /// Perhaps NaN, with bits that are the same everywhere.
    Same,
    /// Perhaps NaN, with bits that differ between machines.
    Differs,
}

use Level::{Differs, Finite, Number, Same};

/// How a node's level follows from the highest level of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// No inputs.
    Is(Level),
    /// A move.
    Join,
    /// A move after which the bits are canonical if they could differ.
    Canonical,
    /// Addition, subtraction, multiplication: only infinities and NaN give NaN.
    Sum,
    /// Minimum, maximum, rounding, promotion: only NaN gives NaN.
    Round,
    /// As rounding, but large numbers become infinite.
    Demote,
}

impl Rule {
    fn apply(self, input: Level) -> Level {
        match (self, input) {
            (Rule::Is(level), _) => level,
            (Rule::Join, _) => input,
            (Rule::Canonical, _) => input.min(Same),
            (Rule::Sum, Finite) => Number,
            (Rule::Round, Finite | Number) => input,
            (Rule::Demote, Finite | Number) => Number,
            (Rule::Sum | Rule::Round | Rule::Demote, _) => Differs,
        }
    }
}

/// A value in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node(u32);

impl Node {
    /// Any value whose bits are the same everywhere; all that are no scalar floats too.
    pub(super) const SAME: Node = Node(0);
    pub(super) const NUMBER: Node = Node(1);
    pub(super) const FINITE: Node = Node(2);
}

/// Nodes and edges of a function. Real programs stay far below one for each byte.
const MAX_SIZE: usize = 4 << 20;

/// The graph of one function.
#[derive(Debug)]
pub(super) struct Flow {
    rules: Vec<Rule>,
    edges: Vec<(Node, Node)>,
}

impl Flow {
    pub(super) fn new() -> Self {
        let constants = [Same, Number, Finite].map(Rule::Is);
        Self { rules: constants.to_vec(), edges: Vec::new() }
    }

    pub(super) fn node(&mut self, rule: Rule, inputs: &[Node]) -> Node {
        let node = Node(u32::try_from(self.rules.len()).expect("a body is limited"));
        self.rules.push(rule);
        for input in inputs {
            self.edges.push((*input, node));
        }
        node
    }

    pub(super) fn edge(&mut self, from: Node, to: Node) {
        // What is no float flows nowhere.
        if to != Node::SAME {
            self.edges.push((from, to));
        }
    }

    /// Refuses a graph, or `others` that go with it, beyond the limit.
    pub(super) fn check(&self, others: usize) -> Result<(), Refused> {
        let have = self.rules.len().max(self.edges.len()).max(others);
        if have > MAX_SIZE {
            return Err(Refused::TooMuch { what: "values across branches of one function", have, limit: MAX_SIZE });
        }
        Ok(())
    }

    /// The level of every node.
    pub(super) fn solve(mut self) -> Levels {
        self.edges.sort_unstable_by_key(|(from, _)| from.0);
        let mut levels: Vec<_> = self.rules.iter().map(|rule| rule.apply(Finite)).collect();
        let mut raised: Vec<usize> = (0..levels.len()).collect();
        while let Some(from) = raised.pop() {
            let first = self.edges.partition_point(|(node, _)| (node.0 as usize) < from);
            for (_, to) in self.edges[first..].iter().take_while(|(node, _)| node.0 as usize == from) {
                let to = to.0 as usize;
                let level = self.rules[to].apply(levels[from]);
                if level > levels[to] {
                    levels[to] = level;
                    raised.push(to);
                }
            }
        }
        Levels(levels)
    }
}

/// A solution.
#[derive(Debug)]
pub(super) struct Levels(Vec<Level>);

impl Levels {
    /// Whether the value's bits may differ between machines.
    pub(super) fn differs(&self, node: Node) -> bool {
        self.0[node.0 as usize] == Differs
    }
}
