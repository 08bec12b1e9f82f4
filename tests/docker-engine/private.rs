//! An engine of a test's own, which it may stop and kill: the one of the machine belongs to everybody.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::{skipped, until};

/// A docker engine that ends with the test.
pub struct Engine {
    dir: TempDir,
    daemon: Child,
}

impl Engine {
    /// Starts one that has `image`, which the machine's engine has; none where only root may, which is said.
    pub fn start(image: &str) -> Option<Self> {
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0");
        if !is_root || Command::new("dockerd").arg("--version").output().is_err() {
            skipped("only root can start an engine, with dockerd");
            return None;
        }
        // Sockets have short paths.
        let dir = tempfile::Builder::new().prefix("shoal-e").tempdir_in("/tmp").expect("a directory can be made");
        let engine = Self { daemon: spawn(dir.path()), dir };
        engine.answers();
        let load = format!("docker save {image} | docker -H {} load", engine.host());
        let loaded = Command::new("sh").args(["-c", &load]).stdout(Stdio::null()).status();
        assert!(loaded.expect("a shell starts").success(), "the engine takes the image: {}", engine.log());
        Some(engine)
    }

    /// Where it is.
    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("sock").display())
    }

    /// What a command of docker prints, if it succeeds.
    pub fn docker(&self, arguments: &[&str]) -> Option<String> {
        crate::docker::engine::docker(&[&["-H", &self.host()], arguments].concat())
    }

    /// `kill -9`. Its containers go on.
    pub fn kill(&mut self) {
        self.daemon.kill().expect("it can be killed");
        self.daemon.wait().expect("it is gone");
    }

    /// Asks it to stop, which ends its containers.
    pub fn stop(&mut self) {
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        self.daemon.wait().expect("it is gone");
    }

    /// Starts it again, when it has been killed or stopped.
    pub fn restart(&mut self) {
        self.daemon = spawn(self.dir.path());
        self.answers();
    }

    fn answers(&self) {
        until("the engine answers", || self.docker(&["version"]).map(drop));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(log(self.dir.path())).unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // One that was killed has left its containers to another.
        if matches!(self.daemon.try_wait(), Ok(Some(_))) {
            self.restart();
        }
        self.stop();
        // A crash leaves it mounted.
        let data = self.dir.path().join("data");
        let _ = Command::new("umount").arg("-l").arg(data).stderr(Stdio::null()).status();
    }
}

fn spawn(dir: &Path) -> Child {
    // Of a crash, when they name processes that are others by now.
    for pid in ["pid", "exec/containerd/containerd.pid"] {
        let _ = std::fs::remove_file(dir.join(pid));
    }
    let at = |name: &str| dir.join(name).display().to_string();
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log(dir)).expect("a log can be made");
    // With a network of its own: without a bridge an engine removes that of the machine.
    Command::new("unshare")
        .args(["--net", "--", "dockerd"])
        .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
        .args(["--host", &format!("unix://{}", at("sock")), "--bridge=none", "--iptables=false"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("dockerd starts where docker is")
}

fn log(dir: &Path) -> PathBuf {
    dir.join("log")
}
