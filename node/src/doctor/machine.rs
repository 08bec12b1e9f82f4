//! What this machine gives a node: a data directory, a key, room, a port, an engine of containers.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use shoal_store::data_dir::DataDir;
use shoal_store::identity;

use crate::views::doctor::{Check, Finding};

/// Free room below which a node soon cannot save its state, in bytes.
const FULL_BYTES: u64 = 256 << 20;
/// Free room below which ordinary jobs are refused, in bytes.
const NEARLY_FULL_BYTES: u64 = 2 << 30;
/// How long an engine may take to accept a connection.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether the data directory can be written, or made.
pub(crate) fn data_dir(dir: &Path) -> Finding {
    let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(dir);
    let shown = dir.display();
    match tempfile::tempfile_in(existing) {
        Ok(_) if existing == dir => Finding::ok(Check::DataDir, format!("{shown} can be written")),
        Ok(_) => Finding::ok(Check::DataDir, format!("{shown} is not there yet, and can be made")),
        Err(error) => Finding::wrong(
            Check::DataDir,
            format!("{} cannot be written: {error}", existing.display()),
            "a node saves every step before it says it, and cannot run without",
            format!("give this user the folder (`chown -R $USER {shown}`), or name another with --data-dir"),
        ),
    }
}

/// Whether the key is there and nobody else's to read.
pub(crate) fn identity(dir: &Path) -> Finding {
    let path = DataDir::new(dir).identity_key();
    match identity::load_if_there(&path) {
        Ok(Some(key)) => Finding::ok(Check::Identity, format!("the node is {}", identity::peer_id(&key))),
        Ok(None) => Finding::ok(Check::Identity, "there is no key yet: the first start makes one"),
        Err(error) => Finding::wrong(
            Check::Identity,
            error.to_string(),
            "whoever has the key is the node, for all others",
            "do what the message says; a node does not start with such a key",
        ),
    }
}

/// Whether the disk of the data directory has room.
pub(crate) fn disk(dir: &Path) -> Option<Finding> {
    let existing = dir.ancestors().find(|path| path.exists())?;
    let disk = rustix::fs::statvfs(existing).ok()?;
    Some(room(disk.f_bavail.saturating_mul(disk.f_frsize), dir))
}

fn room(free: u64, dir: &Path) -> Finding {
    let what = format!("{} free on the disk of {}", size(free), dir.display());
    let remedy = "remove what nobody needs (`shoal blob gc`, `shoal blob du` shows what is kept), lower `--max-disk`, or \
                  move the data directory to a larger disk";
    match free {
        free if free < FULL_BYTES => Finding::wrong(
            Check::Disk,
            format!("the disk is full: only {what}"),
            "jobs are refused, and a node that cannot save its state stops",
            remedy,
        ),
        free if free < NEARLY_FULL_BYTES => Finding::note(
            Check::Disk,
            format!("the disk is nearly full: only {what}"),
            "jobs whose inputs and outputs do not fit are refused",
            remedy,
        ),
        _ => Finding::ok(Check::Disk, what),
    }
}

/// Whether the node's UDP port is free; only to be asked while the node does not run.
pub(crate) fn port(listen: SocketAddr) -> Option<Finding> {
    let error = UdpSocket::bind(listen).err()?;
    Some(Finding::wrong(
        Check::Udp,
        format!("cannot listen on {listen}: {error}"),
        "the node does not start without its port",
        "stop the program that has it, or choose another port with `--listen`",
    ))
}

/// Whether anybody listens where the engine should be.
pub(crate) fn engine(host: &str) -> Option<String> {
    let reached = match host.split_once("://") {
        Some(("unix", path)) => UnixStream::connect(path).map(drop),
        Some((_, address)) => connect(address),
        None => return Some(format!("{host:?} is no address of an engine")),
    };
    reached.err().map(|error| format!("{host}: {error}"))
}

fn connect(address: &str) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for socket in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket, ENGINE_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether the engine that the operator wants is there; `trouble` says why not.
pub(crate) fn docker(trouble: Option<String>) -> Finding {
    match trouble {
        None => Finding::ok(Check::Docker, "the docker engine answers"),
        Some(trouble) => Finding::wrong(
            Check::Docker,
            format!("the docker engine cannot be used: {trouble}"),
            "this node offers `docker` in its settings, and takes no job with a container",
            "start the engine and let this user talk to it (group `docker`), name another with `--docker-host`, or \
             leave `docker` out of `--executors`",
        ),
    }
}

fn size(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::doctor::State;

    #[test]
    fn a_disk_is_full_before_nothing_is_left() {
        let state = |free| room(free, Path::new("/data")).state;
        assert_eq!([0, 100 << 20, 1 << 30, 9 << 30].map(state), [State::Wrong, State::Wrong, State::Note, State::Ok]);
        assert!(room(1 << 30, Path::new("/data")).what.contains("1.0 GiB free on the disk of /data"));
    }

    #[test]
    fn a_port_that_somebody_has_is_named() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert!(port(address).is_some_and(|finding| finding.what.contains(&address.to_string())));
        drop(taken);
        assert_eq!(port(address), None);
    }

    #[test]
    fn an_engine_that_is_not_there_is_named_with_the_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("tcp://{}", listener.local_addr().unwrap());
        assert_eq!(engine(&host), None);
        drop(listener);
        assert!(engine(&host).is_some_and(|trouble| trouble.contains(&host)));
        assert!(engine("unix:///nowhere/docker.sock").is_some_and(|trouble| trouble.contains("/nowhere/docker.sock")));
        assert_eq!(docker(engine("here")).state, State::Wrong);
    }
}
