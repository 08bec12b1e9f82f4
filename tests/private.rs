//! A private mesh, from its making to the end of a membership.

use std::path::Path;

use serde_json::Value;

use crate::support::{Daemon, example, executions, module, refused, run, text, until};

/// The node that holds the key of a new mesh called `home`.
fn founder(dir: &Path) -> Daemon {
    let made = run(dir, &["mesh", "create", "home"]);
    assert!(made.status.success(), "{}", text(&made));
    Daemon::start(dir, &["--mesh", "home"])
}

fn invitation(node: &Daemon, options: &[&str]) -> String {
    let invited = node.json(&[&["mesh", "invite"], options].concat());
    invited["Ticket"].as_str().unwrap().to_owned()
}

/// Joins with an invitation that a file holds, as a secret should be handed over.
fn join(dir: &Path, invitation: &str) -> Daemon {
    let file = dir.with_extension("ticket");
    std::fs::write(&file, format!("# into home\n{invitation}\n")).unwrap();
    Daemon::start(dir, &["--join", file.to_str().unwrap()])
}

#[test]
fn a_job_is_verified_among_members_and_the_revoked_have_no_part_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let first = founder(&path("first"));
    let ticket = invitation(&first, &["--uses", "3"]);
    let members: Vec<Daemon> = ["second", "third", "fourth"].iter().map(|name| join(&path(name), &ticket)).collect();
    for member in &members {
        member.connected(3);
    }

    let job = members[0].json(&["job", "run", &example("wordcount/job.yaml")]);
    assert_eq!(job["State"], "Completed", "{job:#}");
    assert_eq!(job["Verification"]["Verified"], true);

    // Afterwards the name alone is enough.
    let [second, third, fourth] = <[Daemon; 3]>::try_from(members).ok().unwrap();
    drop(second);
    let second = Daemon::start(&path("second"), &["--mesh", "home"]);
    second.connected(3);

    let mesh = first.json(&["mesh", "show"]);
    assert_eq!(mesh["Members"].as_array().unwrap().len(), 4, "{mesh:#}");
    assert_eq!(mesh["Invitations"][0]["State"], "used up");
    let revoked = first.run(&["mesh", "revoke", &fourth.id]);
    assert!(revoked.status.success(), "{}", text(&revoked));
    until("the revoked node is alone", || {
        fourth.json(&["peer", "list"]).as_array().is_some_and(Vec::is_empty).then_some(())
    });
    let shown = third.json(&["mesh", "show"]);
    assert_eq!(shown["Revoked"][0]["PeerID"], fourth.id.as_str());

    let blob = dir.path().join("blob.txt");
    std::fs::write(&blob, "for members").unwrap();
    let added = third.json(&["blob", "add", blob.to_str().unwrap()]);
    let hash = added["Hash"].as_str().unwrap();
    let got = fourth.run(&["blob", "get", hash, path("got").to_str().unwrap()]);
    assert_eq!(got.status.code(), Some(2), "{}", text(&got));
    let nothing = module(dir.path(), "nothing.wasm", "(module (func (export \"_start\")))");
    let job = second.json(&["wasm", "run", &nothing, "--executions", "2", "--agreement", "2"]);
    assert_eq!(job["State"], "Completed", "{job:#}");
    let mut workers = executions(&job).into_iter();
    assert!(workers.all(|execution| execution["PeerID"] != fourth.id.as_str()), "{job:#}");

    // It stays out, and so does whoever comes with a used invitation.
    drop(fourth);
    let alone = Daemon::start(&path("fourth"), &["--mesh", "home"]);
    assert_eq!(alone.json(&["peer", "list"]), Value::Array(vec![]));
    let late = run(&path("late"), &["node", "--listen", "127.0.0.1:0", "--join", &ticket]);
    refused(&late, &["home", "used up", "ask for another"]);
}

#[test]
fn strangers_and_wrong_tickets_are_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let first = founder(&path("first"));
    let start =
        |name: &str, options: &[&str]| run(&path(name), &[&["node", "--listen", "127.0.0.1:0"], options].concat());
    refused(&start("stranger", &["--join", &first.ticket]), &["\"home\" is private", "shoal mesh invite"]);

    let ticket = invitation(&first, &[]);
    let shown = first.json(&["mesh", "show"]);
    let id = shown["Invitations"][0]["ID"].as_str().unwrap();
    assert!(first.run(&["mesh", "uninvite", id]).status.success());
    refused(&start("late", &["--join", &ticket]), &["withdrawn"]);

    // A mesh of the same name is another one.
    let other = run(&path("other"), &["mesh", "create", "home"]);
    assert!(other.status.success(), "{}", text(&other));
    refused(&start("other", &["--join", &first.ticket]), &["another mesh that is called \"home\""]);

    refused(&run(&path("first"), &["mesh", "create", "home"]), &["home", "already"]);
    refused(&run(&path("none"), &["mesh", "create", "../home"]), &["../home", "no name"]);
    refused(&run(&path("none"), &["mesh", "create", "public"]), &["\"public\"", "choose another name"]);
    refused(&run(&path("none"), &["mesh", "show"]), &["shoal mesh create"]);
    refused(&first.run(&["mesh", "revoke", "zz"]), &["zz", "64 hex digits"]);
    refused(&first.run(&["mesh", "revoke", &first.id]), &["holds the mesh's key"]);
    refused(&first.run(&["mesh", "invite", "--uses", "0"]), &["1 to 1000"]);
    refused(&first.run(&["mesh", "invite", "--expires", "0s"]), &["up to 365 days"]);
    let public = Daemon::start(&path("public"), &[]);
    refused(&public.run(&["mesh", "invite"]), &["public mesh"]);
}

#[test]
fn nothing_secret_is_shown_or_logged() {
    let dir = tempfile::tempdir().unwrap();
    let first = founder(&dir.path().join("first"));
    let ticket = invitation(&first, &[]);
    let second = join(&dir.path().join("second"), &ticket);
    second.connected(1);
    let key = std::fs::read_to_string(dir.path().join("first/meshes/home/key")).unwrap();
    let (secret, config) = (&ticket[ticket.len() - 40..], second.json(&["config", "show"]).to_string());
    for shown in [first.log(), second.log(), config, first.json(&["mesh", "show"]).to_string()] {
        assert!(!shown.contains(key.trim()) && !shown.contains(secret), "{shown}");
    }
}

#[test]
fn a_ticket_has_an_end_and_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    let first = Daemon::start(&dir.path().join("first"), &[]);
    let shown = first.run(&["ticket", "--expires", "1s", "--qr"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    let (code, ticket) = shown.trim_end().rsplit_once('\n').unwrap();
    assert!(code.lines().count() > 20 && code.contains('█'), "{shown}");
    let nothing = module(dir.path(), "nothing.wasm", "(module (func (export \"_start\")))");
    until("the ticket has expired", || {
        let joined = run(&dir.path().join("late"), &["wasm", "run", &nothing, "--join", ticket]);
        String::from_utf8_lossy(&joined.stderr).contains("expired at").then_some(())
    });
    let address = first.json(&["node", "info"])["Multiaddrs"][0].as_str().unwrap().to_owned();
    let second = Daemon::start(&dir.path().join("second"), &["--join", &address]);
    second.connected(1);
}
