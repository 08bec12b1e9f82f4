//! What may stand in a float: solved over the flow of values through one function.
//!
//! Every float value is a node, and so is every float local (whatever is ever assigned to it flows in, wherever that
//! happens) and every float result of a block (what any branch brings flows in). So joins and loops need no care, and
//! the graph is linear in the size of the body. A node's level is its [`Rule`] applied to the highest level that
//! flows into it; all rules are monotone, so the least solution is found by raising levels until nothing changes.
//!
//! Where NaN of two kinds meet, those that arithmetic made (open) and those whose bits mean something (kept: constants,
//! loads, parameters), the open ones are made canonical on the way, since afterwards nobody can tell them apart.

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

    /// What is known of every node.
    pub(super) fn solve(mut self) -> Known {
        self.edges.sort_unstable_by_key(|(from, _)| from.0);
        let rules = &self.rules;
        let levels = self.spread(rules.iter().map(|rule| rule.apply(Finite)).collect(), |to, level| to.apply(level));
        let kept = rules.iter().zip(&levels).map(|(rule, level)| match rule {
            Rule::Is(level) => *level == Same,
            Rule::Canonical => *level >= Same,
            _ => false,
        });
        let kept = self.spread(kept.collect(), |to, kept| kept && to == Rule::Join);
        let made = rules.iter().zip(&levels).map(|(rule, level)| {
            let arithmetic = !matches!(rule, Rule::Join | Rule::Canonical);
            arithmetic && *level == Differs
        });
        let open = self.spread_unless(made.collect(), |to, open| open && to == Rule::Join, &kept);
        Known { open, kept }
    }

    fn spread<T: Copy + PartialOrd>(&self, values: Vec<T>, rule: impl Fn(Rule, T) -> T) -> Vec<T> {
        self.spread_unless(values, rule, &[])
    }

    /// Raises values along the edges by the rule of where they lead, until nothing changes; not those of `fixed`.
    fn spread_unless<T: Copy + PartialOrd>(
        &self,
        mut values: Vec<T>,
        rule: impl Fn(Rule, T) -> T,
        fixed: &[bool],
    ) -> Vec<T> {
        let mut raised: Vec<usize> = (0..values.len()).collect();
        while let Some(from) = raised.pop() {
            let first = self.edges.partition_point(|(node, _)| (node.0 as usize) < from);
            for (_, to) in self.edges[first..].iter().take_while(|(node, _)| node.0 as usize == from) {
                let to = to.0 as usize;
                let value = rule(self.rules[to], values[from]);
                if value > values[to] && !fixed.get(to).is_some_and(|fixed| *fixed) {
                    values[to] = value;
                    raised.push(to);
                }
            }
        }
        values
    }
}

/// A solution.
#[derive(Debug)]
pub(super) struct Known {
    open: Vec<bool>,
    kept: Vec<bool>,
}

impl Known {
    /// Whether the value may be a NaN that arithmetic made and nothing has made canonical since.
    pub(super) fn is_open(&self, node: Node) -> bool {
        self.open[node.0 as usize]
    }

    /// Whether a NaN may stand there whose bits are to be kept as they are. Such a node is never open: what is open is
    /// made canonical on its way there.
    pub(super) fn is_kept(&self, node: Node) -> bool {
        self.kept[node.0 as usize]
    }
}
