//! Machines that get another address, and routers that start anew, while a job runs: nothing is lost by it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::internet::{Home, Host, Internet, Nat};
use super::path_to;
use crate::support::{Daemon, executions, slow_module, until};

/// Rounds of the program that runs meanwhile: it has to take longer than a lost worker is waited for.
const ROUNDS: u32 = 16;

/// A requester and the three workers that its job needs.
struct Mesh<'a> {
    requester: Daemon,
    workers: Vec<Daemon>,
    internet: &'a Internet,
}

impl<'a> Mesh<'a> {
    fn start(internet: &'a Internet, relay: &Daemon, requester: &Host<'_>, workers: &[&Host<'_>]) -> Self {
        let join = [relay.ticket.as_str()];
        let workers: Vec<Daemon> = workers.iter().map(|host| host.node(&join, &[])).collect();
        let requester = requester.node(&join, &["--executors", "none"]);
        requester.connected(workers.len() + 1);
        Self { requester, workers, internet }
    }

    /// Has every worker run a program, does `what` in the middle, and expects that each run counts.
    fn run(&self, what: impl FnOnce()) {
        let module = slow_module(&self.internet.dir(), ROUNDS);
        let agreement = self.workers.len().to_string();
        let options = ["--executions", &agreement, "--agreement", &agreement];
        let job = self.requester.submit(&[&["wasm", "run", &module], &options[..]].concat());
        until("all workers run", || {
            let described = self.requester.describe(&job);
            let running = executions(&described).into_iter().filter(|execution| execution["State"] == "Running");
            (running.count() == self.workers.len()).then_some(())
        });
        what();
        self.ran_once(&self.requester.finished(&job));
    }

    fn ran_once(&self, described: &Value) {
        assert_eq!(described["State"], "Completed", "{described:#}");
        assert_eq!(described["Verification"]["Agreed"], self.workers.len(), "{described:#}");
        let ran: Vec<Value> = executions(described);
        assert_eq!(ran.len(), self.workers.len(), "nothing is run twice that need not be: {described:#}");
        let workers: BTreeSet<&str> = ran.iter().filter_map(|execution| execution["PeerID"].as_str()).collect();
        assert_eq!(workers, self.workers.iter().map(|worker| worker.id.as_str()).collect());
    }
}

#[test]
fn a_job_goes_on_when_its_workers_and_its_requester_get_other_addresses() {
    let Some(internet) = Internet::new() else { return };
    let relay = internet.host().relay(&[], &[]);
    let (requester, public) = (internet.host(), internet.host());
    let [home, symmetric] = [Nat::PortPreserving, Nat::Symmetric].map(|nat| internet.home(nat).host());
    let hosts = [&public, &home, &symmetric];
    let mesh = Mesh::start(&internet, &relay, &requester, &hosts);
    mesh.run(|| hosts.into_iter().chain([&requester]).for_each(Host::move_on));
}

#[test]
fn a_laptop_that_sleeps_and_wakes_elsewhere_keeps_its_job() {
    let Some(internet) = Internet::new() else { return };
    let relay = internet.host().relay(&[], &[]);
    let [laptop, one, two, three] = [0, 1, 2, 3].map(|_| internet.home(Nat::PortPreserving).host());
    let mesh = Mesh::start(&internet, &relay, &laptop, &[&one, &two, &three]);
    mesh.run(|| {
        mesh.requester.halt(true);
        let knows = |worker: &Daemon| path_to(worker, &mesh.requester).is_some();
        until("all have given it up", || (!mesh.workers.iter().any(knows)).then_some(()));
        laptop.move_on();
        mesh.requester.halt(false);
    });
}

#[test]
fn a_job_goes_on_when_routers_start_anew() {
    let Some(internet) = Internet::new() else { return };
    let relay = internet.host().relay(&[], &[]);
    let homes =
        [Nat::PortPreserving, Nat::PortPreserving, Nat::Symmetric, Nat::UdpBlocked].map(|nat| internet.home(nat));
    let hosts = [0, 1, 2, 3].map(|home| homes[home].host());
    let mesh = Mesh::start(&internet, &relay, &hosts[0], &[&hosts[1], &hosts[2], &hosts[3]]);
    mesh.run(|| homes.iter().for_each(Home::reboot));
}
