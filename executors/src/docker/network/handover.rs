//! How a listening socket gets out of a network that nothing leads to.
//!
//! The holder of the network ([`serve`]) is this program in a container of its own. It listens on its loopback and
//! hands the socket to the node over a Unix socket in a folder that both see: what arrives there then is accepted by
//! the node, in which it is a socket like any other. The holder passes on nothing, and only stays so that the network
//! does.

use std::fs::Permissions;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use tokio::io::Interest;

/// Where a program finds the node, in a network that has nothing else.
pub(super) const LISTEN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3_128);
/// Where the holder finds the folder of the meeting.
pub(super) const MEETING_DIR: &str = "/meeting";
/// The Unix socket in it.
const SOCKET: &str = "node";

/// A folder where a node waits for a holder.
pub(super) struct Meeting {
    listener: UnixListener,
    /// What the holder is to see of it: nothing but the socket.
    pub(super) dir: PathBuf,
}

impl Meeting {
    /// Waits in a new folder within `parent`, which nobody else can enter.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        let dir = parent.join("meeting");
        std::fs::DirBuilder::new().mode(0o700).create(parent)?;
        std::fs::create_dir(&dir)?;
        let (_handle, path) = short(&dir)?;
        let listener = UnixListener::bind(path)?;
        // The holder is another user.
        std::fs::set_permissions(&dir, Permissions::from_mode(0o711))?;
        std::fs::set_permissions(dir.join(SOCKET), Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, dir })
    }

    /// The socket that the holder hands over.
    pub(super) async fn receive(self) -> io::Result<tokio::net::TcpListener> {
        let (stream, _) = tokio::net::UnixListener::from_std(self.listener)?.accept().await?;
        let received = stream.async_io(Interest::READABLE, || receive(&stream)).await?;
        let listener = checked(received)?;
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    }
}

/// The socket's path by a handle of its folder: the address of a Unix socket cannot be as long as a path.
fn short(dir: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let handle = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd()).into();
    Ok((handle, path))
}

/// Holds a network until somebody ends the container: what the holder's program does.
pub fn serve() -> ExitCode {
    match hand_over(Path::new(MEETING_DIR)) {
        Ok(_listening) => loop {
            std::thread::park();
        },
        Err(error) => {
            eprintln!("no network is held: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hand_over(dir: &Path) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(LISTEN)?;
    let node = UnixStream::connect(dir.join(SOCKET))?;
    send(&node, &listener)?;
    Ok(listener)
}

fn send(node: &UnixStream, listener: &TcpListener) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let handles = [listener.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&handles));
    // A handle travels with at least one byte.
    rustix::net::sendmsg(node, &[IoSlice::new(b"!")], &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive(stream: &impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let (mut control, mut byte) = (RecvAncillaryBuffer::new(&mut space), [0]);
    rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let handle = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut handles) => handles.next(),
        _ => None,
    });
    handle.ok_or_else(|| io::Error::other("the holder of the network handed nothing over"))
}

/// Whether it is a socket that listens where it should.
fn checked(handle: OwnedFd) -> io::Result<TcpListener> {
    let listens = rustix::net::sockopt::socket_acceptconn(&handle)?;
    let listener = TcpListener::from(handle);
    if listens && listener.local_addr()? == LISTEN.into() {
        Ok(listener)
    } else {
        Err(io::Error::other("the holder of the network handed something else over"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn handed(socket: impl FnOnce(&UnixStream) + Send + 'static) -> io::Result<tokio::net::TcpListener> {
        let dir = tempfile::tempdir().unwrap();
        // Longer than the address of a Unix socket may be.
        let parent = dir.path().join("d".repeat(200));
        let meeting = Meeting::new(&parent).unwrap();
        let path = meeting.dir.clone();
        let holder = std::thread::spawn(move || {
            let (_handle, path) = short(&path).unwrap();
            socket(&UnixStream::connect(path).unwrap());
        });
        let received = meeting.receive().await;
        holder.join().unwrap();
        received
    }

    #[tokio::test]
    async fn only_a_socket_that_listens_where_programs_look_is_taken() {
        let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let error = handed(move |node| send(node, &elsewhere).unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("something else"), "{error}");
        let nothing = handed(|node| {
            rustix::io::write(node, b"!").unwrap();
        });
        let error = nothing.await.unwrap_err().to_string();
        assert!(error.contains("nothing over"), "{error}");
    }
}
