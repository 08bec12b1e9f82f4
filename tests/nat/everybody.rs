//! One internet with hosts of every kind in it, and one job for all of them.

use super::internet::{Internet, Nat};
use super::{path_to, wait_until_direct};
use crate::support::{Daemon, example, executions, text};

#[test]
fn two_homes_behind_two_routers_each_reach_each_other_directly() {
    let Some(internet) = Internet::new() else { return };
    let relay = internet.host().relay(&[], &[]);
    let doubled = || internet.home(Nat::PortPreserving).home(Nat::PortPreserving).host();
    let first = doubled().node(&[&relay.ticket], &[]);
    let second = doubled().node(&[&first.ticket], &[]);
    wait_until_direct(&first, &second);
    wait_until_direct(&second, &first);
}

#[test]
fn eight_hosts_of_every_kind_run_a_job_together_and_all_get_its_result() {
    let Some(internet) = Internet::new() else { return };
    let relay = internet.host().relay(&[], &[]);
    let join = [relay.ticket.as_str()];
    let public = internet.host().node(&join, &[]);
    let at_home = |nat| internet.home(nat).host().node(&join, &[]);
    let [preserving, symmetric, blocked] = [Nat::PortPreserving, Nat::Symmetric, Nat::UdpBlocked].map(at_home);
    let doubled = internet.home(Nat::PortPreserving).home(Nat::PortPreserving).host().node(&join, &[]);
    let home = internet.home(Nat::PortPreserving);
    // Only one of the two in this home was told of the mesh.
    let (told, neighbour) = (home.host().node(&[&public.ticket], &[]), home.host().node(&[], &[]));
    let all = [&relay, &public, &preserving, &symmetric, &blocked, &doubled, &told, &neighbour];
    for node in all {
        node.connected(all.len() - 1);
    }

    // All that are independent of each other: the neighbours are not, and nobody works for himself.
    let inputs = [example("wordcount/inputs") + ":/inputs", "outputs:/outputs".to_owned()];
    let job = blocked.submit(&[
        "wasm",
        "run",
        &example("wordcount/wordcount.wasm"),
        "-i",
        &inputs[0],
        "-o",
        &inputs[1],
        "--executions",
        "5",
        "--agreement",
        "5",
    ]);
    let described = blocked.finished(&job);
    assert_eq!(described["State"], "Completed", "{described:#}");
    assert_eq!(described["Verification"]["Agreed"], 5, "{described:#}");
    assert_eq!(executions(&described).len(), 5, "{described:#}");

    let folder = |name: &str| internet.dir().join(name).display().to_string();
    let got = blocked.run(&["job", "get", &job, &folder("job")]);
    assert!(got.status.success(), "{}", text(&got));
    let expected = std::fs::read(internet.dir().join("job/stdout")).expect("it has printed");
    assert!(!expected.is_empty());
    let result = described["Result"]["Hash"].as_str().expect("it has a result");
    for node in all {
        let name = format!("got-{}", node.id);
        let got = node.run(&["blob", "get", result, &folder(&name)]);
        assert!(got.status.success(), "{}", text(&got));
        assert_eq!(std::fs::read(internet.dir().join(name).join("stdout")).expect("it is there"), expected);
    }
    wait_until_direct(&preserving, &doubled);
    wait_until_direct(&told, &neighbour);
    let path = path_to(&preserving, &blocked).expect("they are connected");
    assert_eq!(path["Relayed"], true);
    assert!(path["SentBytes"].as_u64() > Some(0) && path["SentBytes"] == path["SentByRelayBytes"], "{path:#}");
    // The inputs of its workers went through the relay, and their neighbours' hellos did not.
    let of_inputs = std::fs::metadata(example("wordcount/wordcount.wasm")).expect("it is there").len();
    let passed = |node: &Daemon, what: &str| node.json(&["node", "info"])["Passed"][what].as_u64().expect("counted");
    assert!(passed(&blocked, "SentByRelay") > of_inputs && passed(&blocked, "SentDirectly") == 0);
    assert!(passed(&told, "SentDirectly") > 0);
}
