//! `kill -9` at many moments: nothing is lost, nothing is done twice.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Daemon, Mesh, executions, slow_module, until};

#[test]
fn a_worker_killed_in_the_middle_of_a_run_is_replaced() {
    let mut mesh = Mesh::start(5);
    let module = slow_module(mesh.dir.path(), 8);
    let job = mesh.nodes[0].submit(&["wasm", "run", &module]);
    let running = mesh.nodes[0].execution_in(&job, "Running");
    let victim = mesh.index_of(&running["PeerID"]);
    mesh.nodes[victim].kill();
    let described = mesh.nodes[0].finished(&job);
    assert_eq!(described["State"], "Completed", "{described:#}");
    assert_eq!(described["Verification"]["Verified"], true);
    let lost = executions(&described).into_iter().find(|e| e["ExecutionID"] == running["ExecutionID"]).unwrap();
    assert_eq!(lost["State"], "Failed", "{lost:#}");
}

#[test]
fn a_worker_that_comes_back_says_that_its_run_was_cut_off() {
    let mut mesh = Mesh::start(4);
    let module = slow_module(mesh.dir.path(), 8);
    let job = mesh.nodes[0].submit(&["wasm", "run", &module]);
    let running = mesh.nodes[0].execution_in(&job, "Running");
    let victim = mesh.index_of(&running["PeerID"]);
    let again = mesh.nodes.remove(victim).restart();
    mesh.nodes.push(again);
    let described = mesh.nodes[0].finished(&job);
    assert_eq!(described["State"], "Completed", "{described:#}");
}

#[test]
fn a_requester_killed_while_others_run_takes_their_answers_when_it_is_back() {
    let mut mesh = Mesh::start(4);
    let module = slow_module(mesh.dir.path(), 8);
    let job = mesh.nodes[0].submit(&["wasm", "run", &module]);
    mesh.nodes[0].execution_in(&job, "Running");
    let requester = mesh.nodes.remove(0).restart();
    let described = requester.finished(&job);
    completed_once(&described);
}

/// A release build cannot be told when to die.
#[cfg(debug_assertions)]
mod at_every_step {
    use super::*;

    macro_rules! killed_after {
        ($($name:ident: $step:literal),* $(,)?) => {$(
            #[test]
            fn $name() {
                killed_after($step);
            }
        )*};
    }

    killed_after! {
        submit: "Submit",
        announce: "Announce",
        bid: "Bid",
        award: "Award",
        commit: "Commit",
        reveal: "Reveal",
        verify: "Verify",
        result: "Result",
        end: "End",
    }

    #[test]
    fn a_result_that_was_here_is_not_fetched_again() {
        let mut mesh = Mesh::start(4);
        let requester = killed_by("die-collecting", &mesh);
        // Nobody is left from whom it could be fetched.
        mesh.nodes.iter_mut().for_each(Daemon::kill);
        let requester = requester.restart();
        completed_once(&requester.finished(&only_job(&requester)));
    }

    /// The requester saves a step, and is gone before it could say anything of it.
    fn killed_after(step: &str) {
        let mesh = Mesh::start(4);
        let requester = killed_by(&format!("die-after-{step}"), &mesh).restart();
        completed_once(&requester.finished(&only_job(&requester)));
    }

    /// A requester that joined `mesh`, submitted a job, and died as `switch` says.
    fn killed_by(switch: &str, mesh: &Mesh) -> Daemon {
        let dir = mesh.dir.path().join("requester");
        let join = ["--join", &mesh.nodes[0].ticket];
        let mut requester = Daemon::start_with(&dir, &join, &[("SHOAL_TEST_MISBEHAVE", switch)]);
        requester.connected(4);
        let module = slow_module(mesh.dir.path(), 1);
        // The command may lose its node before it has an answer: that is the test.
        drop(requester.run(&["wasm", "run", &module, "--detach"]));
        requester.wait_for_death();
        requester
    }

    fn only_job(requester: &Daemon) -> String {
        until("the job is known again", || {
            let jobs = requester.json(&["job", "list"]);
            Some(jobs.as_array()?.first()?["JobID"].as_str()?.to_owned())
        })
    }
}

/// Completed, verified, and no worker was given the partition twice; no more executions than the specification allows.
fn completed_once(described: &Value) {
    assert_eq!(described["State"], "Completed", "{described:#}");
    assert_eq!(described["Verification"]["Verified"], true, "{described:#}");
    let mut workers = BTreeMap::<String, u32>::new();
    for execution in executions(described) {
        *workers.entry(execution["PeerID"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    assert!(workers.values().all(|times| *times == 1), "{described:#}");
    assert!(workers.len() <= 3, "three executions were asked for: {described:#}");
}
