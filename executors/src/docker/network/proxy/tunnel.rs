//! TLS to a host that is allowed: unread, but for the name that its first message asks for.
//!
//! A server that stands for many names could be asked for one that is not allowed. So what passes must begin with TLS
//! whose server name is the host that CONNECT named. What is asked within, nobody can read here: a `Host` of somebody
//! else behind the same server, or a name that is encrypted (ECH), is that server's to refuse.

use hyper::Request;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::server::Acceptor;
use shoal_protocol::task::network::host_name;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::meter::Metered;
use super::target::{Host, Target};
use super::{HEAD_WAIT, Proxy, Refusal};

/// The first message of TLS, in bytes: one of today has some two thousand.
const MAX_HELLO_BYTES: usize = 32 << 10;
/// What is read at once, in bytes.
const PIECE_BYTES: usize = 4 << 10;

/// A connection on its way from asking to passing on.
pub(super) struct Tunnel {
    target: Target,
    upgrade: OnUpgrade,
    stream: Metered<TcpStream>,
}

/// What TLS began with.
#[derive(Debug)]
struct Hello {
    bytes: Vec<u8>,
    name: Option<String>,
}

impl Tunnel {
    /// Connects to the target.
    pub(super) async fn open(proxy: &Proxy, request: Request<Incoming>, target: Target) -> Result<Self, Refusal> {
        let stream = proxy.connect(&target).await?;
        Ok(Self { target, upgrade: hyper::upgrade::on(request), stream })
    }

    /// Passes everything on, in both directions, until either side ends.
    pub(super) async fn run(self, proxy: &Proxy) {
        let Self { target, upgrade, mut stream } = self;
        let Ok(client) = upgrade.await else { return };
        let mut client = TokioIo::new(client);
        let hello = tokio::time::timeout(HEAD_WAIT, hello(&mut client)).await.unwrap_or(Err(Refusal::NoTls));
        let hello = match hello.and_then(|hello| hello.checked(&target)) {
            Ok(hello) => hello,
            Err(refusal) => return proxy.traffic.notes().refused(&format!("CONNECT {target}"), &refusal),
        };
        let passed = async {
            stream.write_all(&hello).await?;
            tokio::io::copy_bidirectional(&mut client, &mut stream).await
        };
        if let Err(error) = passed.await {
            tracing::debug!(%target, %error, "a container's tunnel ended");
        }
    }
}

impl Hello {
    fn checked(self, target: &Target) -> Result<Vec<u8>, Refusal> {
        match (&target.host, self.name.as_deref().map(host_name)) {
            (Host::Name(host), Some(name)) if *host == name => Ok(self.bytes),
            // Addresses are not asked for by name.
            (Host::Address(_), None) => Ok(self.bytes),
            (_, name) => Err(Refusal::OtherName(name.unwrap_or_else(|| "no host".into()))),
        }
    }
}

/// Reads the first message of TLS.
async fn hello(client: &mut (impl AsyncRead + Unpin)) -> Result<Hello, Refusal> {
    let (mut acceptor, mut bytes, mut piece) = (Acceptor::default(), Vec::new(), [0; PIECE_BYTES]);
    while bytes.len() < MAX_HELLO_BYTES {
        let read = client.read(&mut piece).await.map_err(|_| Refusal::NoTls)?;
        let mut unread = &piece[..read];
        bytes.extend_from_slice(unread);
        while !unread.is_empty() {
            let taken = acceptor.read_tls(&mut unread).map_err(|_| Refusal::NoTls)?;
            if let Some(accepted) = acceptor.accept().map_err(|_| Refusal::NoTls)? {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Ok(Hello { bytes, name });
            }
            if taken == 0 {
                return Err(Refusal::NoTls);
            }
        }
        if read == 0 {
            break;
        }
    }
    Err(Refusal::NoTls)
}
