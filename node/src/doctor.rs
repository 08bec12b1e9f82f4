//! What is wrong with a node, in plain words, and what to do about it: `shoal doctor`.
//!
//! Each check is a function of what was seen, so that a test can show it anything. [`examine`] sees what a running node
//! knows; [`machine`] what the machine gives, with a node or without one.

pub(crate) mod machine;

mod company;

mod reach;

mod agreement;

use shoal_store::data_dir::DataDir;
use shoal_store::meshes;

use crate::config::{Config, DEFAULT_MESH};
use crate::membership::Membership;
use crate::network::{KnownPeer, PeerInfo};
use crate::node::Node;
use crate::views::doctor::Finding;

/// Things of one kind that are named in one finding; the rest is counted.
const MAX_TOLD: usize = 4;
/// Differences between two names that a typing error makes.
const TYPING_ERRORS: usize = 2;

/// Everything that a running node can find out about itself.
pub(crate) async fn examine(node: &Node) -> Vec<Finding> {
    let inner = &node.0;
    let (config, network) = (&inner.config, &inner.network);
    let (peers, known, relays) = (network.peers(), network.known().await, network.known_relays());
    let names = mesh_names(config);
    let mut findings = vec![machine::data_dir(&config.data_dir), machine::identity(&config.data_dir)];
    findings.extend(company::duplicate(&network.duplicate_seen_by()));
    findings.extend(machine::disk(&config.data_dir));
    findings.extend(inner.containers.as_ref().map(|containers| machine::docker(containers.trouble())));
    findings.extend(inner.membership.as_ref().map(|membership| membership_among(membership, &peers, &known)));
    let mesh = company::Named { name: &config.mesh, is_private: inner.membership.is_some() };
    findings.extend(company::mesh(mesh, &names, &peers, &known));
    findings.push(company::peers(&peers, &known));
    let own: Vec<_> = network.endpoint_addr().ip_addrs().copied().collect();
    findings.extend(reach::udp(&peers));
    findings.push(reach::offline(&own, config.listen).unwrap_or_else(|| {
        reach::reachable(&own, network.port(), network.port_mapping(), network.home_relay().is_some())
    }));
    findings.extend(reach::relays(&relays));
    findings.push(agreement::clock(inner.skew.ahead_ms(inner.clock.now())));
    findings.push(agreement::version(network.protocol(), &peers, &network.strangers()));
    findings
}

/// The membership of a private mesh, as far as it shows without company.
pub(crate) fn membership(membership: &Membership) -> Finding {
    membership_among(membership, &[], &[])
}

fn membership_among(membership: &Membership, connected: &[PeerInfo], known: &[KnownPeer]) -> Finding {
    company::membership(membership.name(), &membership.standing(), connected, known)
}

/// Names of meshes that a person at this machine may have meant.
pub(crate) fn mesh_names(config: &Config) -> Vec<String> {
    let mut names = meshes::names(&DataDir::new(&config.data_dir)).unwrap_or_default();
    names.push(DEFAULT_MESH.to_owned());
    names
}

/// The name of a mesh that is nearly one that is known here.
pub(crate) fn mistyped(mesh: &str, names: &[String]) -> Option<Finding> {
    company::mesh(company::Named { name: mesh, is_private: false }, names, &[], &[])
}

/// The name that `typed` may be a mistyped form of.
fn meant<'a>(typed: &str, names: &'a [String]) -> Option<&'a str> {
    let distance = |name: &str| strsim::osa_distance(&typed.to_lowercase(), &name.to_lowercase());
    let near = names.iter().filter(|name| *name != typed).map(|name| (distance(name), name));
    let near = near.filter(|(distance, name)| *distance <= TYPING_ERRORS && *distance < name.chars().count());
    near.min().map(|(_, name)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_another_was_perhaps_meant_to_be_it() {
        let names = ["public", "lab", "homestead"].map(str::to_owned);
        let table = [
            ("publik", Some("public")),
            ("Public", Some("public")),
            ("lba", Some("lab")),
            ("homestaed", Some("homestead")),
            ("public", None),
            ("x", None),
            ("somewhere else", None),
        ];
        for (typed, expected) in table {
            assert_eq!(meant(typed, &names), expected, "{typed}");
        }
    }
}
