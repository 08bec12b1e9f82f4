//! Neighbours on a local network find each other without a ticket: two hosts, each a network namespace, and a cable.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{SHOAL, command, first_line_of, module, skipped, text, until};

/// Cables laid by this process.
static LANS: AtomicU8 = AtomicU8::new(0);

/// Two hosts on one cable, removed when dropped.
struct Lan {
    hosts: [String; 2],
    dir: TempDir,
}

/// A node on one of the hosts, killed when dropped.
struct Neighbour {
    child: Child,
    host: String,
    dir: PathBuf,
    id: String,
}

impl Lan {
    /// Lays the cable, or says why that is not allowed here.
    fn new() -> Result<Self, String> {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let number = LANS.fetch_add(1, Ordering::Relaxed);
        let name = format!("sl{}{}", std::process::id(), char::from(b'a' + number));
        let hosts = ["0", "1"].map(|side| format!("{name}{side}"));
        let lan = Self { hosts, dir };
        let [a, b] = &lan.hosts;
        let cable = [format!("{name}2"), format!("{name}3")];
        ip(&["netns", "add", a])?;
        ip(&["netns", "add", b])?;
        ip(&["link", "add", &cable[0], "netns", a, "type", "veth", "peer", "name", &cable[1], "netns", b])?;
        for (number, (host, end)) in lan.hosts.iter().zip(&cable).enumerate() {
            ip(&["-n", host, "addr", "add", &format!("10.77.0.{}/24", number + 1), "dev", end])?;
            ip(&["-n", host, "link", "set", "lo", "up"])?;
            ip(&["-n", host, "link", "set", end, "up"])?;
            ip(&["-n", host, "route", "add", "224.0.0.0/4", "dev", end])?;
        }
        Ok(lan)
    }

    fn start(&self, host: usize, name: &str, options: &[&str]) -> Neighbour {
        let (host, dir) = (self.hosts[host].clone(), self.dir.path().join(name));
        let log = std::fs::File::create(dir.with_extension("log")).expect("a log can be made");
        let mut child = on(&host, &dir)
            .args(["node", "--listen", "0.0.0.0:0", "--no-port-mapping"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the node starts");
        let line = first_line_of(&mut child).expect("the node is ready");
        let id = line.split_whitespace().next().expect("it says its id").to_owned();
        Neighbour { child, host, dir, id }
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name).with_extension("log")).unwrap_or_default()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        if std::thread::panicking() {
            ["first", "second", "other", "others"].iter().for_each(|name| eprintln!("--- {name}\n{}", self.log(name)));
        }
        for host in &self.hosts {
            let _ = ip(&["netns", "del", host]);
        }
    }
}

impl Neighbour {
    fn run(&self, arguments: &[&str]) -> Output {
        on(&self.host, &self.dir).args(["--format", "json"]).args(arguments).output().expect("the command runs")
    }

    fn peers(&self) -> Vec<String> {
        let listed = self.run(&["peer", "list"]);
        let peers: Value = serde_json::from_slice(&listed.stdout).unwrap_or_else(|_| panic!("{}", text(&listed)));
        let peers = peers.as_array().expect("a list").iter();
        peers.map(|peer| peer["PeerID"].as_str().expect("an id").to_owned()).collect()
    }

    fn knows(&self, other: &Self) {
        until("neighbours have found each other", || self.peers().contains(&other.id).then_some(()));
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command of the binary on one of the hosts.
fn on(host: &str, dir: &Path) -> Command {
    let plain = command(dir);
    let mut command = Command::new("ip");
    command.args(["netns", "exec", host, SHOAL]).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(dir.parent().expect("data directories lie in a test's directory"));
    command
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let ended = Command::new("ip").args(arguments).output().map_err(|error| format!("`ip` cannot be run: {error}"))?;
    if ended.status.success() {
        Ok(())
    } else {
        Err(format!("`ip {}` is not allowed: {}", arguments.join(" "), text(&ended)))
    }
}

#[test]
fn neighbours_of_one_mesh_find_each_other_without_a_ticket() {
    let lan = match Lan::new() {
        Ok(lan) => lan,
        Err(why) => return skipped(&why),
    };
    let first = lan.start(0, "first", &[]);
    let second = lan.start(1, "second", &[]);
    first.knows(&second);
    // Those of another mesh on the same cable find each other too, and nobody else.
    let (other, others) = (lan.start(0, "other", &["--mesh", "lab"]), lan.start(1, "others", &["--mesh", "lab"]));
    other.knows(&others);
    assert_eq!(others.peers(), [other.id.as_str()]);
    assert_eq!(second.peers(), [first.id.as_str()]);
    let nothing = module(lan.dir.path(), "nothing.wasm", "(module (func (export \"_start\")))");
    let ran = first.run(&["wasm", "run", &nothing, "--executions", "1"]);
    assert!(ran.status.success(), "{}", text(&ran));
}

#[test]
fn members_of_a_private_mesh_find_each_other_without_a_ticket_and_strangers_find_strangers() {
    let lan = match Lan::new() {
        Ok(lan) => lan,
        Err(why) => return skipped(&why),
    };
    let path = |name: &str| lan.dir.path().join(name);
    let made = on(&lan.hosts[0], &path("first")).args(["mesh", "create", "home"]).output();
    assert!(made.as_ref().is_ok_and(|made| made.status.success()), "{made:?}");
    let founder = lan.start(0, "first", &["--mesh", "home"]);
    let invited: Value = serde_json::from_slice(&founder.run(&["mesh", "invite"]).stdout).expect("it is invited");
    let member = lan.start(1, "second", &["--join", invited["Ticket"].as_str().expect("by a ticket")]);
    founder.knows(&member);
    drop((founder, member));
    // Whom they met and where is forgotten. That they are members is written elsewhere.
    for name in ["first", "second"] {
        std::fs::remove_file(path(name).join("state.redb")).expect("it was there");
    }

    // Strangers know the name, and are in the public mesh that is called so.
    let strangers = [lan.start(0, "other", &["--mesh", "home"]), lan.start(1, "others", &["--mesh", "home"])];
    let members = [lan.start(0, "first", &["--mesh", "home"]), lan.start(1, "second", &["--mesh", "home"])];
    for [one, other] in [&members, &strangers] {
        one.knows(other);
        other.knows(one);
        assert_eq!((one.peers(), other.peers()), (vec![other.id.clone()], vec![one.id.clone()]));
    }
    let nothing = module(lan.dir.path(), "nothing.wasm", "(module (func (export \"_start\")))");
    let ran = members[0].run(&["wasm", "run", &nothing, "--executions", "1"]);
    assert!(ran.status.success(), "{}", text(&ran));
}

#[test]
fn a_node_that_is_told_not_to_look_for_neighbours_is_found_by_none() {
    let lan = match Lan::new() {
        Ok(lan) => lan,
        Err(why) => return skipped(&why),
    };
    let hidden = lan.start(0, "first", &["--no-mdns"]);
    let (one, two) = (lan.start(0, "other", &[]), lan.start(1, "others", &[]));
    one.knows(&two);
    assert_eq!(one.peers(), [two.id.as_str()]);
    assert!(hidden.peers().is_empty());
}
