//! Relays that die, and those who had nothing else.

use std::path::Path;

use super::internet::{Host, Internet, Nat};
use super::{carried, used_relays};
use crate::support::{Daemon, finish, noise, text, until};

const MIB: u64 = 1 << 20;
/// What a relay passes on in a second: so little that there is a middle to be killed in.
const RATE: [&str; 4] = ["--rate", "4MB", "--total-rate", "16MB"];

fn fetched(node: &Daemon) -> u64 {
    node.json(&["node", "info"])["Traffic"]["FetchedBytes"].as_u64().expect("it is counted")
}

#[test]
fn a_transfer_goes_on_over_another_relay_when_its_own_is_killed() {
    let Some(internet) = Internet::new() else { return };
    transfer(&internet, |_, relay| relay.kill());
}

#[test]
fn a_transfer_goes_on_over_another_relay_when_its_own_falls_silent() {
    let Some(internet) = Internet::new() else { return };
    transfer(&internet, |host, _| internet.part(&[host], true));
}

/// Has a file go through a relay, does `what` to that one in the middle, and expects it by the other.
fn transfer(internet: &Internet, what: impl FnOnce(&Host<'_>, &mut Daemon)) {
    let hosts = [internet.host(), internet.host()];
    let first = hosts[0].relay(&[], &RATE);
    let second = hosts[1].relay(&[&first.ticket], &RATE);
    let provider = internet.home(Nat::Symmetric).host().node(&[&first.ticket, &second.ticket], &[]);
    let fetcher = internet.home(Nat::UdpBlocked).host().node(&[&provider.ticket, &second.ticket], &[]);
    for node in [&provider, &fetcher] {
        node.connected(3);
        until("it uses both relays", || (used_relays(node) == 2).then_some(()));
    }

    let file = internet.dir().join("file");
    std::fs::write(&file, noise(32 * MIB)).expect("it can be written");
    let hash = provider.json(&["blob", "add", &file.display().to_string()])["Hash"].clone();
    let (hash, got) = (hash.as_str().expect("it has a hash"), internet.dir().join("got"));
    let before = [&first, &second].map(|relay| carried(relay, &provider));
    let get = ["blob", "get", hash, &got.display().to_string()];
    let getting = fetcher.begin(&get);
    until("some of it is there", || (fetched(&fetcher) > 8 * MIB).then_some(()));
    let since = |relay: usize| carried([&first, &second][relay], &provider) - before[relay];
    let is_first = since(0) > since(1);
    let (mut used, other) = if is_first { (first, second) } else { (second, first) };
    what(&hosts[usize::from(!is_first)], &mut used);

    let ended = finish(getting, &get);
    assert!(ended.status.success(), "{}", text(&ended));
    assert!(same(&file, &got.join(hash)), "it is what it should be");
    assert!(fetched(&fetcher) < 33 * MIB, "what was there is not fetched again: {}", fetched(&fetcher));
    assert!(carried(&other, &provider) > 8 * MIB, "the other relay has carried the rest");
}

fn same(one: &Path, other: &Path) -> bool {
    std::fs::read(one).expect("it is there") == std::fs::read(other).expect("it is there")
}
