//! An internet of network namespaces: public hosts on one wire, and homes behind routers that translate addresses.
//! Only root can make one; all of it is gone when it is dropped, also after a panic.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::support::{Daemon, skipped, text};

/// Where a relay listens.
const RELAY_LISTEN: &str = "0.0.0.0:3340";
/// Where it does on a host that has IPv6 alone.
const RELAY_LISTEN_V6: &str = "[::]:3340";

/// What all are connected to, as the kernel names it.
const WIRE: &str = "wire";
/// What those are connected to that were cut off together.
const ISLAND: &str = "island";

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

/// Where a machine is, which decides its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On the wire.
    Public,
    /// On the wire, where it has no address but one of IPv6.
    PublicV6,
    /// In the home of that number.
    Home(u8),
}

/// The whole of it. Public addresses are `45.67.N.1`, or `2a01:N::1`, each in a network of its own as far as anybody
/// can tell.
pub struct Internet {
    name: String,
    made: Cell<u8>,
    // Dropped last: nodes keep their data there.
    dir: TempDir,
}

/// A router and the hosts behind it.
pub struct Home<'a> {
    internet: &'a Internet,
    /// The router.
    router: Host<'a>,
    number: u8,
}

/// A machine.
pub struct Host<'a> {
    internet: &'a Internet,
    /// Its namespace.
    pub namespace: String,
    place: Place,
    /// Its interface there.
    interface: &'static str,
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
        for wire in [WIRE, ISLAND] {
            internet.ip(&internet.wire(), &format!("link add {wire} type bridge"));
            internet.ip(&internet.wire(), &format!("link set {wire} up"));
        }
        Some(internet)
    }

    /// A host that everybody can reach.
    pub fn host(&self) -> Host<'_> {
        self.machine("eth0", Place::Public, &self.wire(), WIRE).0
    }

    /// The same with IPv6 alone. None where the kernel has none, which is said.
    pub fn host_v6(&self) -> Option<Host<'_>> {
        if !Path::new("/proc/net/if_inet6").exists() {
            skipped("this kernel has no IPv6");
            return None;
        }
        Some(self.machine("eth0", Place::PublicV6, &self.wire(), WIRE).0)
    }

    /// A router on the wire.
    pub fn home(&self, nat: Nat) -> Home<'_> {
        let (router, number) = self.machine("wan0", Place::Public, &self.wire(), WIRE);
        Home::new(router, number, nat)
    }

    /// A machine that is connected with a bridge in another namespace, and its number.
    fn machine(&self, interface: &'static str, place: Place, at: &str, bridge: &str) -> (Host<'_>, u8) {
        let number = self.number();
        let namespace = format!("{}-{number}", self.name);
        let socket = socket(&namespace);
        run(&["ip", "netns", "add", &namespace]);
        self.ip(&namespace, "link set lo up");
        self.ip(&namespace, &format!("link add {interface} type veth peer name {socket} netns {at}"));
        self.ip(at, &format!("link set {socket} master {bridge}"));
        self.ip(at, &format!("link set {socket} up"));
        let machine = Host { internet: self, namespace, place, interface };
        machine.address(number);
        (machine, number)
    }

    /// Cuts these off together from all others, or ends that.
    pub fn part(&self, machines: &[&Host<'_>], is_apart: bool) {
        let wire = if is_apart { ISLAND } else { WIRE };
        for machine in machines {
            self.ip(&self.wire(), &format!("link set {} master {wire}", socket(&machine.namespace)));
        }
    }

    /// A number that nothing else here has.
    fn number(&self) -> u8 {
        self.made.set(self.made.get() + 1);
        self.made.get()
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
    fn new(router: Host<'a>, number: u8, nat: Nat) -> Self {
        let (internet, name) = (router.internet, &router.namespace);
        internet.ip(name, "link add lan type bridge");
        internet.ip(name, &format!("addr add 192.168.{number}.1/24 dev lan"));
        internet.ip(name, "link set lan up");
        run(&["ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        let random = if nat == Nat::Symmetric { " --random-fully" } else { "" };
        internet.iptables(name, &format!("-t nat -A POSTROUTING -o wan0 -j MASQUERADE{random}"));
        if nat == Nat::UdpBlocked {
            internet.iptables(name, "-A FORWARD -i lan -o wan0 -p udp -j DROP");
        }
        // Nothing comes in that was not asked for.
        internet.iptables(name, "-A FORWARD -i wan0 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT");
        internet.iptables(name, "-A FORWARD -i wan0 -j DROP");
        // Nor does the router answer: what it let in would have taken the port that its host is about to use.
        internet.iptables(name, "-A INPUT -i wan0 -j DROP");
        Self { internet, router, number }
    }

    /// A host in this home.
    pub fn host(&self) -> Host<'a> {
        self.internet.machine("eth0", Place::Home(self.number), &self.router.namespace, "lan").0
    }

    /// A router behind this one.
    pub fn home(&self, nat: Nat) -> Home<'a> {
        let (router, number) = self.internet.machine("wan0", Place::Home(self.number), &self.router.namespace, "lan");
        Home::new(router, number, nat)
    }

    /// What connects this home with the world.
    pub fn router(&self) -> &Host<'a> {
        &self.router
    }

    /// Pulls the plug of the whole home, or puts it in again.
    pub fn connect(&self, is_connected: bool) {
        let state = if is_connected { "up" } else { "down" };
        self.internet.ip(&self.router.namespace, &format!("link set wan0 {state}"));
    }

    /// Starts the router anew: it has forgotten all connections, and gets another address from outside.
    pub fn reboot(&self) {
        // Linux forgets what it has translated for an interface when that goes down.
        self.connect(false);
        self.router.move_on();
    }
}

impl Host<'_> {
    /// Gives it another address, and no longer the one that it had.
    pub fn move_on(&self) {
        self.internet.ip(&self.namespace, &format!("addr flush dev {}", self.interface));
        self.address(self.internet.number());
    }

    /// Loses some of what comes in from now on. An error if the kernel cannot do that.
    pub fn lose(&self, share: f64) -> Result<(), String> {
        let rule = format!("-A INPUT -i {} -m statistic --mode random --probability {share} -j DROP", self.interface);
        let rule: Vec<&str> = rule.split(' ').collect();
        try_run(&[&["ip", "netns", "exec", &self.namespace, "iptables", "-w"], &rule[..]].concat())
    }

    fn address(&self, number: u8) {
        let (internet, name, interface) = (self.internet, &self.namespace, self.interface);
        let address = match self.place {
            Place::Public => format!("45.67.{number}.1/16"),
            // Nobody else has it, and that need not be looked into.
            Place::PublicV6 => format!("2a01:{number}::1/16 nodad"),
            Place::Home(home) => format!("192.168.{home}.{}/24", number + 1),
        };
        internet.ip(name, &format!("addr add {address} dev {interface}"));
        internet.ip(name, &format!("link set {interface} up"));
        if let Place::Home(home) = self.place {
            internet.ip(name, &format!("route add default via 192.168.{home}.1"));
        }
    }

    /// Runs a node here, which joins with these tickets.
    pub fn node(&self, join: &[&str], options: &[&str]) -> Daemon {
        let joins = join.iter().flat_map(|ticket| ["--join", ticket]);
        let arguments: Vec<&str> = ["node"].into_iter().chain(joins).chain(options.iter().copied()).collect();
        Daemon::start_in(&self.namespace, &self.dir(), &arguments)
    }

    /// Runs a relay here.
    pub fn relay(&self, join: &[&str], options: &[&str]) -> Daemon {
        let joins = join.iter().flat_map(|ticket| ["--join", ticket]);
        let listen = if self.place == Place::PublicV6 { RELAY_LISTEN_V6 } else { RELAY_LISTEN };
        let arguments = ["relay", "--listen", listen].into_iter().chain(joins).chain(options.iter().copied());
        Daemon::start_in(&self.namespace, &self.dir(), &arguments.collect::<Vec<_>>())
    }

    /// Where the data of its node is.
    pub fn dir(&self) -> PathBuf {
        self.internet.dir().join(&self.namespace)
    }
}

/// Where a machine is plugged in, in the namespace that it is connected to.
fn socket(namespace: &str) -> String {
    format!("to{}", namespace.rsplit('-').next().unwrap_or_default())
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
