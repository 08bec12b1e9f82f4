//! Who is in whose shard. Names are drawn evenly here, so a node's name is its place.

use std::collections::HashMap;

use shoal_protocol::limits::MAX_LEVEL;
use shoal_protocol::shard::{self, Shard};

use crate::node::Node;

/// The nodes of each shard that anybody may address.
#[derive(Debug, Default)]
pub(crate) struct Neighbourhoods(HashMap<Shard, Vec<u32>>);

impl Neighbourhoods {
    /// All shards of these nodes, down to the smallest that one of them may address.
    pub(crate) fn of(nodes: &[Node], shard_nodes: u32) -> Self {
        let largest = nodes.iter().map(|node| node.view.mesh_size).max().unwrap_or(0);
        let deepest = shard::first_level(largest, shard_nodes).min(MAX_LEVEL);
        let mut members: HashMap<Shard, Vec<u32>> = HashMap::new();
        for (number, node) in (0..).zip(nodes) {
            for level in 0..=deepest {
                members.entry(Shard::around(&node.me.0, level)).or_default().push(number);
            }
        }
        Self(members)
    }

    /// The nodes of the shard of `level` around a node, that one included.
    pub(crate) fn around(&self, node: &Node, level: u8) -> &[u32] {
        self.0.get(&Shard::around(&node.me.0, level)).map_or(&[], Vec::as_slice)
    }
}
