//! The docker engine of this machine, and images for tests: shared by the tests of the executor and those of a node.

#![allow(unreachable_pub, reason = "a test binary has no users")]

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// An image of busybox that is made if it is not there, with changes as in a Dockerfile; none where no engine runs,
/// which is said, and fails where everything must be there (`SHOAL_REQUIRE_ALL`).
pub fn image(name: &str, changes: &[&str]) -> Option<String> {
    let name = format!("shoal-test/{name}:1");
    match make(&name, changes) {
        Ok(()) => Some(name),
        Err(why) => {
            assert!(std::env::var_os("SHOAL_REQUIRE_ALL").is_none(), "required, but {why}");
            let _ = writeln!(std::io::stderr(), "skipped: {why}");
            None
        }
    }
}

fn make(name: &str, changes: &[&str]) -> Result<(), String> {
    if docker(&["version"]).is_none() {
        return Err("no docker engine answers (apt-get install docker.io, then start dockerd)".into());
    }
    if docker(&["image", "inspect", name]).is_some() {
        return Ok(());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/docker-hello/image.sh");
    let made = Command::new(script).arg(name).args(changes).status().map_err(|error| error.to_string())?;
    if made.success() { Ok(()) } else { Err("the test image cannot be made (apt-get install busybox-static)".into()) }
}

/// What a command of docker prints, if it succeeds.
pub fn docker(arguments: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The containers that carry a label.
pub fn containers(label: &str) -> Vec<String> {
    let listed = docker(&["ps", "-aq", "--filter", &format!("label={label}")]).expect("the engine lists containers");
    listed.lines().map(str::to_owned).collect()
}
