//! Who is connected, and if nobody is, why.

use std::collections::BTreeMap;

use shoal_protocol::id::PeerId;
use shoal_protocol::membership::{Certificate, NotAMember};

use super::{MAX_TOLD, meant};
use crate::config::DEFAULT_MESH;
use crate::membership::MembershipError;
use crate::network::{KnownPeer, PeerInfo, Unreached};
use crate::views::doctor::{Check, Finding};

/// A mesh as this node has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) is_private: bool,
}

/// Who is connected, and what becomes of dialling the others.
pub(super) fn peers(connected: &[PeerInfo], known: &[KnownPeer]) -> Finding {
    if !connected.is_empty() {
        let number = connected.len();
        return Finding::ok(
            Check::Peers,
            format!("connected to {number} {}", if number == 1 { "peer" } else { "peers" }),
        );
    }
    let failed: Vec<(&KnownPeer, &Unreached)> =
        known.iter().filter_map(|peer| Some((peer, peer.reason.as_ref()?))).collect();
    match (known, &failed[..]) {
        ([], _) => Finding::note(
            Check::Peers,
            "no peer is connected, and none is known",
            "jobs of a node that is alone are run by nobody else, so nothing verifies them",
            "give `shoal ticket` to others, or start this node with the ticket of one of them: `--join TICKET`",
        ),
        (_, []) => Finding::note(
            Check::Peers,
            format!("no peer is connected yet; {} are being dialled", known.len()),
            "until one answers, jobs find no workers",
            "ask again in some seconds",
        ),
        (_, failed) => Finding::wrong(
            Check::Peers,
            format!("no peer is connected: {}", reasons(failed)),
            "without peers, jobs of this node find no workers, and it hears of none",
            remedy(failed),
        ),
    }
}

/// Whether the name of the mesh is the one that was meant. Says nothing while there is no doubt.
pub(super) fn mesh(mesh: Named<'_>, names: &[String], connected: &[PeerInfo], known: &[KnownPeer]) -> Option<Finding> {
    if !connected.is_empty() {
        return None;
    }
    let elsewhere = known.iter().filter(|peer| peer.reason == Some(Unreached::OtherMesh)).count();
    let meant = meant(mesh.name, names);
    let here = format!("this node is in {} mesh {:?}", kind(mesh.is_private), mesh.name);
    let remedy = match meant {
        Some(name) => format!("did you mean {name:?}? Start the node with `--mesh {name}`"),
        None if mesh.is_private => "start the node with the name that the others use (`shoal node info` there): \
            `--mesh NAME`"
            .to_owned(),
        None => "start the node with the name that the others use (`shoal node info` there): `--mesh NAME`, or with a \
                 ticket of theirs, which holds it. If theirs is a private mesh, this node needs an invitation, whatever \
                 the name: `shoal mesh invite` there, and `--join FILE` here"
            .to_owned(),
    };
    let why = "a private mesh is none of a public one, even of the same name, and nodes of different meshes have nothing to \
               say to each other";
    if elsewhere > 0 {
        let what = format!("{here}, and {elsewhere} of {} peers in another one", known.len());
        return Some(Finding::wrong(Check::Mesh, what, why, remedy));
    }
    meant.map(|name| {
        let like = kind(name != DEFAULT_MESH);
        let what = format!("{here}, which is nearly {like} mesh {name:?} of this data directory, and nobody is there");
        Finding::wrong(Check::Mesh, what, why, remedy)
    })
}

/// Whether another node has this node's key, as these peers say.
pub(super) fn duplicate(witnesses: &[PeerId]) -> Option<Finding> {
    let named = witnesses.iter().take(MAX_TOLD).map(PeerId::short).collect::<Vec<_>>().join(", ");
    let more = witnesses.len().saturating_sub(MAX_TOLD);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!witnesses.is_empty()).then(|| {
        Finding::wrong(
            Check::Identity,
            format!("another node runs with this node's key: seen by {named}{more} within the last ten minutes"),
            "to all others the two are one node: each takes the other's connections away, and messages and awards reach \
             the wrong one",
            "stop the node that runs on a copy of this data directory, and remove `identity.key` there: its next start makes \
             a key of its own. Private meshes have to invite it again",
        )
    })
}

fn kind(is_private: bool) -> &'static str {
    if is_private { "private" } else { "public" }
}

/// Whether this node is a member of its private mesh, and whether the others think so too.
pub(super) fn membership(
    mesh: &str,
    standing: &Result<Certificate, MembershipError>,
    connected: &[PeerInfo],
    known: &[KnownPeer],
) -> Finding {
    let sent_away = "a key that was sent away is not let in again: to come back, start with a new data directory \
                     (`--data-dir`) and a new invitation, as a file: `--join FILE`";
    let refusing = known.iter().filter(|peer| peer.reason == Some(Unreached::NotAdmitted)).count();
    match standing {
        Err(MembershipError::Ended { reason: NotAMember::Revoked, .. }) => Finding::wrong(
            Check::Membership,
            format!("this node was sent away from private mesh {mesh:?}: a holder of the mesh's key revoked it"),
            "members refuse it, without a word",
            format!("ask whoever holds the key why; {sent_away}"),
        ),
        Err(ended) => Finding::wrong(
            Check::Membership,
            ended.to_string(),
            "members refuse a node whose certificate is not good, without a word",
            format!(
                "ask whoever holds the key of {mesh:?} for an invitation (`shoal mesh invite`), and start with \
                 `--join FILE`"
            ),
        ),
        Ok(_) if connected.is_empty() && refusing > 0 => Finding::wrong(
            Check::Membership,
            format!(
                "{refusing} of {} members of private mesh {mesh:?} answer and do not let this node in",
                known.len()
            ),
            "most likely it was sent away (`shoal mesh revoke`), which nobody tells it; or its clock, or theirs, is wrong, \
             or their own certificates have expired",
            format!("ask whoever holds the key: `shoal mesh show` there lists whom it sent away; {sent_away}"),
        ),
        Ok(certificate) => Finding::ok(
            Check::Membership,
            format!("a member of private mesh {mesh:?} until {}", crate::views::time::rfc3339(certificate.expires)),
        ),
    }
}

/// Each peer with its reason, the first few by name.
fn reasons(failed: &[(&KnownPeer, &Unreached)]) -> String {
    let told = failed.iter().take(MAX_TOLD).map(|(known, reason)| format!("peer {}: {reason}", known.peer.short()));
    let mut told: Vec<String> = told.collect();
    if failed.len() > MAX_TOLD {
        told.push(format!("and {} more", failed.len() - MAX_TOLD));
    }
    told.join("; ")
}

/// What helps against the commonest reason.
fn remedy(failed: &[(&KnownPeer, &Unreached)]) -> &'static str {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for (_, reason) in failed {
        *counts.entry(remedy_of(reason)).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map_or("", |(remedy, _)| remedy)
}

fn remedy_of(reason: &Unreached) -> &'static str {
    match reason {
        Unreached::NoAddress => "start the node with a fresh ticket of a running node: `shoal ticket` there",
        Unreached::NoAnswer => {
            "check that those nodes run, that their UDP port is open in their firewall and router, and that this \
             network lets UDP out (guest and company networks often do not); a fresh ticket (`shoal ticket` there) has \
             their current addresses"
        }
        Unreached::OtherMesh => "see the finding on the mesh's name",
        Unreached::OtherVersion(_) => "see the finding on the version",
        Unreached::NotAdmitted => {
            "see the finding on the membership, and ask whoever holds the mesh's key whether it is good (`shoal mesh show` \
             here and there)"
        }
        Unreached::Failed(_) => {
            "check that the address leads to that very node: one that was installed anew has another key, and needs a \
             fresh ticket"
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Instant;

    use ed25519_dalek::SigningKey;
    use shoal_protocol::id::{MeshKey, PeerId};
    use shoal_protocol::membership::Authority;
    use shoal_protocol::message::Contact;
    use shoal_protocol::time::Time;

    use super::*;
    use crate::network::{Passed, Service};
    use crate::views::doctor::State;

    pub(in crate::doctor) fn connected(peer: u8) -> PeerInfo {
        PeerInfo {
            peer: PeerId([peer; 32]),
            contact: Contact::default(),
            connected_since: Instant::now(),
            rtt: None,
            relayed: false,
            relay: None,
            remote: None,
            nat: None,
            passed: Passed::default(),
            score: 0.0,
            version: None,
            protocol: None,
        }
    }

    fn signer() -> SigningKey {
        SigningKey::from_bytes(&[1; 32])
    }

    fn known(peer: u8, reason: Option<Unreached>) -> KnownPeer {
        KnownPeer { peer: PeerId([peer; 32]), failures: 1, reason, service: Service::default() }
    }

    #[test]
    fn why_nobody_is_connected_is_told_of_each_peer() {
        let others = [known(1, Some(Unreached::NoAnswer)), known(2, Some(Unreached::NotAdmitted)), known(3, None)];
        let finding = peers(&[], &others);
        assert_eq!(finding.state, State::Wrong);
        assert!(finding.what.contains("peer 0101010101: no answer"), "{finding:?}");
        assert!(finding.what.contains("peer 0202020202: it answers, but one of the two"), "{finding:?}");
        assert_eq!(peers(&[connected(1)], &others).state, State::Ok);
        assert_eq!(peers(&[], &[]).state, State::Note);
        assert_eq!(peers(&[], &[known(1, None)]).state, State::Note, "it has not failed yet");
    }

    #[test]
    fn who_has_seen_another_node_with_this_key_is_named() {
        assert_eq!(duplicate(&[]), None);
        let witnesses: Vec<PeerId> = (1..7).map(|n| PeerId([n; 32])).collect();
        let finding = duplicate(&witnesses).unwrap();
        assert_eq!(finding.state, State::Wrong);
        assert!(finding.what.contains("seen by 0101010101, ") && finding.what.contains(" and 2 more"), "{finding:?}");
        assert!(finding.remedy.is_some_and(|remedy| remedy.contains("remove `identity.key`")));
    }

    #[test]
    fn the_commonest_reason_is_what_is_to_be_mended_and_a_long_list_is_cut() {
        let failed = |n, reason| known(n, Some(reason));
        let mut others: Vec<KnownPeer> = (1..9).map(|n| failed(n, Unreached::NoAnswer)).collect();
        others.push(failed(9, Unreached::NoAddress));
        let finding = peers(&[], &others);
        assert!(finding.what.ends_with("and 5 more"), "{finding:?}");
        assert!(finding.remedy.is_some_and(|remedy| remedy.contains("UDP port")));
    }

    #[test]
    fn a_mistyped_name_is_noticed_by_peers_of_another_mesh_or_by_one_like_it_here() {
        let names = ["public", "home"].map(str::to_owned);
        let other = [known(1, Some(Unreached::OtherMesh)), known(2, None)];
        let mesh = |name, names: &[String], connected: &[PeerInfo], known: &[KnownPeer]| {
            mesh(Named { name, is_private: false }, names, connected, known)
        };
        let finding = mesh("publik", &names, &[], &other).unwrap();
        assert!(finding.what.contains("\"publik\", and 1 of 2 peers"), "{finding:?}");
        assert!(finding.remedy.unwrap().contains("--mesh public"));
        let finding = mesh("somewhere", &names, &[], &other).unwrap();
        assert!(finding.remedy.unwrap().contains("--mesh NAME"));
        assert!(mesh("hom", &names, &[], &[]).unwrap().what.contains("nearly private mesh \"home\""));
        assert_eq!(mesh("hom", &names, &[connected(1)], &[]), None, "somebody is there");
        assert_eq!(mesh("public", &names, &[], &[known(1, Some(Unreached::NoAnswer))]), None);
    }
    #[test]
    fn whoever_was_sent_away_is_told_even_if_nobody_told_the_node() {
        let authority = Authority::new("home", MeshKey(signer().verifying_key().to_bytes()));
        let good = || Ok(authority.certify(&signer(), PeerId([9; 32]), Time(1)));
        let ended = |reason| Err(MembershipError::Ended { mesh: "home".into(), reason });
        let refusing = [known(1, Some(Unreached::NotAdmitted)), known(2, Some(Unreached::NoAnswer))];
        let table = [
            (good(), vec![], State::Ok, "a member of private mesh \"home\""),
            (good(), vec![connected(1)], State::Ok, "a member"),
            (ended(NotAMember::Expired), vec![connected(1)], State::Wrong, "expired"),
            (ended(NotAMember::Revoked), vec![], State::Wrong, "was sent away from private mesh \"home\""),
        ];
        for (standing, connected, state, words) in table {
            let finding = membership("home", &standing, &connected, &[]);
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.what.contains(words), "{finding:?}");
        }
        let finding = membership("home", &good(), &[], &refusing);
        assert!(finding.what.starts_with("1 of 2 members of private mesh \"home\" answer"), "{finding:?}");
        assert!(finding.remedy.unwrap().contains("new invitation"));
        assert_eq!(membership("home", &good(), &[connected(2)], &refusing).state, State::Ok, "others let it in");
    }
}
