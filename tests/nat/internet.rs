//! An internet of network namespaces: public hosts on one wire, and homes behind routers that translate addresses.
//! Only root can make one; all of it is gone when it is dropped, also after a panic.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::support::{Daemon, skipped, text};

/// Where a relay listens.
const RELAY_LISTEN: &str = "0.0.0.0:3340";

/// What a router does to what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// A connection keeps its port, and one mapping serves all destinations: as most homes have it.
    PortPreserving,
    /// Each connection gets a port of its own: nobody can guess where the next comes from.
    Symmetric,
    /// Nothing but TCP goes out.
    UdpBlocked,
}

/// The whole of it. Public addresses are `45.67.N.1`, each in a network of its own as far as anybody can tell.
pub struct Internet {
    name: String,
    made: Cell<u8>,
    // Dropped last: nodes keep their data there.
    dir: TempDir,
}

/// A router and the hosts behind it.
pub struct Home<'a> {
    internet: &'a Internet,
    /// The router's namespace.
    router: String,
    number: u8,
    hosts: Cell<u8>,
}

/// A machine.
pub struct Host<'a> {
    internet: &'a Internet,
    /// Its namespace.
    pub namespace: String,
}

impl Internet {
    /// A wire that nobody is at. None where that cannot be made, which is said.
    pub fn new() -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("shoal-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir().expect("a directory can be made");
        let internet = Self { name, made: Cell::new(0), dir };
        let tried = try_run(&["ip", "netns", "add", &internet.wire()])
            .and_then(|()| try_run(&["ip", "netns", "exec", &internet.wire(), "iptables", "-t", "nat", "-L", "-n"]));
        if let Err(why) = tried {
            skipped(&format!("network namespaces cannot be made here: {why}"));
            return None;
        }
        internet.ip(&internet.wire(), "link add wire type bridge");
        internet.ip(&internet.wire(), "link set wire up");
        Some(internet)
    }

    /// A host that everybody can reach.
    pub fn host(&self) -> Host<'_> {
        let (host, number) = self.machine();
        self.plug(&host, "eth0", &self.wire(), "wire", &format!("45.67.{number}.1/16"));
        Host { internet: self, namespace: host }
    }

    /// A router on the wire.
    pub fn home(&self, nat: Nat) -> Home<'_> {
        let (router, number) = self.machine();
        self.plug(&router, "wan0", &self.wire(), "wire", &format!("45.67.{number}.1/16"));
        Home::new(self, router, number, nat)
    }

    /// A public address of `host`, as its number tells.
    fn machine(&self) -> (String, u8) {
        let number = self.made.get() + 1;
        self.made.set(number);
        let name = format!("{}-{number}", self.name);
        run(&["ip", "netns", "add", &name]);
        self.ip(&name, "link set lo up");
        (name, number)
    }

    /// Connects a machine with a bridge in another namespace.
    fn plug(&self, machine: &str, interface: &str, at: &str, bridge: &str, address: &str) {
        let socket = format!("to{}", machine.rsplit('-').next().unwrap_or_default());
        self.ip(machine, &format!("link add {interface} type veth peer name {socket} netns {at}"));
        self.ip(at, &format!("link set {socket} master {bridge}"));
        self.ip(at, &format!("link set {socket} up"));
        self.ip(machine, &format!("addr add {address} dev {interface}"));
        self.ip(machine, &format!("link set {interface} up"));
    }

    fn wire(&self) -> String {
        format!("{}-wire", self.name)
    }

    fn ip(&self, namespace: &str, arguments: &str) {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        run(&[&["ip", "-n", namespace], &arguments[..]].concat());
    }

    fn iptables(&self, namespace: &str, arguments: &str) {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        run(&[&["ip", "netns", "exec", namespace, "iptables", "-w"], &arguments[..]].concat());
    }

    /// A folder for files of the test.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        let machines = (1..=self.made.get()).map(|number| format!("{}-{number}", self.name));
        for namespace in machines.chain([self.wire()]) {
            // What is not there needs no removing; interfaces go with their namespaces.
            let _ = try_run(&["ip", "netns", "del", &namespace]);
        }
    }
}

impl<'a> Home<'a> {
    fn new(internet: &'a Internet, router: String, number: u8, nat: Nat) -> Self {
        internet.ip(&router, "link add lan type bridge");
        internet.ip(&router, &format!("addr add 192.168.{number}.1/24 dev lan"));
        internet.ip(&router, "link set lan up");
        run(&["ip", "netns", "exec", &router, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        let random = if nat == Nat::Symmetric { " --random-fully" } else { "" };
        internet.iptables(&router, &format!("-t nat -A POSTROUTING -o wan0 -j MASQUERADE{random}"));
        if nat == Nat::UdpBlocked {
            internet.iptables(&router, "-A FORWARD -i lan -o wan0 -p udp -j DROP");
        }
        // Nothing comes in that was not asked for.
        internet.iptables(&router, "-A FORWARD -i wan0 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT");
        internet.iptables(&router, "-A FORWARD -i wan0 -j DROP");
        // Nor does the router answer: what it let in would have taken the port that its host is about to use.
        internet.iptables(&router, "-A INPUT -i wan0 -j DROP");
        Self { internet, router, number, hosts: Cell::new(1) }
    }

    /// A host in this home.
    pub fn host(&self) -> Host<'a> {
        let (host, _) = self.internet.machine();
        let address = self.next_address();
        self.internet.plug(&host, "eth0", &self.router, "lan", &format!("{address}/24"));
        self.internet.ip(&host, &format!("route add default via 192.168.{}.1", self.number));
        Host { internet: self.internet, namespace: host }
    }

    /// A router behind this one.
    pub fn home(&self, nat: Nat) -> Home<'a> {
        let (router, number) = self.internet.machine();
        let address = self.next_address();
        self.internet.plug(&router, "wan0", &self.router, "lan", &format!("{address}/24"));
        self.internet.ip(&router, &format!("route add default via 192.168.{}.1", self.number));
        Home::new(self.internet, router, number, nat)
    }

    /// Pulls the plug of the whole home, or puts it in again.
    pub fn connect(&self, is_connected: bool) {
        self.internet.ip(&self.router, &format!("link set wan0 {}", if is_connected { "up" } else { "down" }));
    }

    fn next_address(&self) -> String {
        let number = self.hosts.get() + 1;
        self.hosts.set(number);
        format!("192.168.{}.{number}", self.number)
    }
}

impl Host<'_> {
    /// Runs a node here, which joins with these tickets.
    pub fn node(&self, join: &[&str], options: &[&str]) -> Daemon {
        let joins = join.iter().flat_map(|ticket| ["--join", ticket]);
        let arguments: Vec<&str> = ["node"].into_iter().chain(joins).chain(options.iter().copied()).collect();
        Daemon::start_in(&self.namespace, &self.dir(), &arguments)
    }

    /// Runs a relay here.
    pub fn relay(&self, join: &[&str], options: &[&str]) -> Daemon {
        let joins = join.iter().flat_map(|ticket| ["--join", ticket]);
        let arguments = ["relay", "--listen", RELAY_LISTEN].into_iter().chain(joins).chain(options.iter().copied());
        Daemon::start_in(&self.namespace, &self.dir(), &arguments.collect::<Vec<_>>())
    }

    /// Where the data of its node is.
    pub fn dir(&self) -> PathBuf {
        self.internet.dir().join(&self.namespace)
    }
}

fn run(words: &[&str]) {
    if let Err(why) = try_run(words) {
        panic!("{words:?}: {why}");
    }
}

fn try_run(words: &[&str]) -> Result<(), String> {
    let run = Command::new(words[0]).args(&words[1..]).output();
    let output: Output = run.map_err(|error| format!("{}: {error}", words[0]))?;
    if output.status.success() { Ok(()) } else { Err(text(&output)) }
}
