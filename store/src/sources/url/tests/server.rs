//! A server for HTTP that answers as a test says, well or badly.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Pause between two drops of a dripping answer: shorter than what counts as silence.
const DRIP: Duration = Duration::from_millis(10);

/// What a client that wants TLS sends first.
const TLS_HANDSHAKE: u8 = 22;

/// What is sent, and what happens then.
#[derive(Clone)]
pub(in crate::sources) struct Answer {
    bytes: Vec<u8>,
    end: End,
}

#[derive(Clone)]
enum End {
    Close,
    Hang,
    Repeat(Vec<u8>, Duration),
}

/// The first lines of an answer.
pub(in crate::sources) fn head(status: u16, header: &str, length: usize) -> String {
    format!("HTTP/1.1 {status} Said\r\n{header}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
}

/// A file as a good server sends it.
pub(in crate::sources) fn file(header: &str, bytes: &[u8]) -> Answer {
    Answer::of(head(200, header, bytes.len())).and(bytes)
}

impl Answer {
    pub(in crate::sources) fn of(text: impl Into<String>) -> Self {
        Self { bytes: text.into().into_bytes(), end: End::Close }
    }

    pub(in crate::sources) fn and(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Sends only so much of a body of `whole` bytes.
    pub(in crate::sources) fn cut(mut self, at: usize, whole: usize) -> Self {
        self.bytes.truncate(self.bytes.len() - whole + at);
        self
    }

    /// Then says nothing more.
    pub(in crate::sources) fn hanging(self) -> Self {
        Self { end: End::Hang, ..self }
    }

    /// Then sends this for ever.
    pub(super) fn endlessly(self, piece: &[u8]) -> Self {
        Self { end: End::Repeat(piece.into(), Duration::ZERO), ..self }
    }

    /// Then sends this for ever, slowly.
    pub(super) fn dripping(self, piece: &[u8]) -> Self {
        Self { end: End::Repeat(piece.into(), DRIP), ..self }
    }

    async fn send(self, stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(&self.bytes).await?;
        match self.end {
            End::Close => stream.shutdown().await,
            End::Hang => std::future::pending().await,
            End::Repeat(piece, pause) => loop {
                stream.write_all(&piece).await?;
                tokio::time::sleep(pause).await;
            },
        }
    }
}

/// A running server, until dropped.
pub(in crate::sources) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts one; `answer` gets the number of a request and its text.
    pub(in crate::sources) async fn start(
        address: IpAddr,
        answer: impl Fn(usize, &str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_on(SocketAddr::new(address, 0), answer).await
    }

    pub(super) async fn start_on(
        address: SocketAddr,
        answer: impl Fn(usize, &str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (heard, answer) = (Arc::clone(&requests), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (heard, answer) = (Arc::clone(&heard), Arc::clone(&answer));
                tokio::spawn(async move {
                    let Some(request) = read_head(&mut stream).await else { return };
                    let answer = {
                        let mut heard = heard.lock().unwrap();
                        heard.push(request.clone());
                        answer(heard.len() - 1, &request)
                    };
                    let _ = answer.send(&mut stream).await;
                });
            }
        });
        Self { address, requests, task }
    }

    pub(in crate::sources) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its URL under a name.
    pub(super) fn url_at(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    pub(in crate::sources) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How often it was asked.
    pub(in crate::sources) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub(in crate::sources) fn request(&self, number: usize) -> String {
        self.requests.lock().unwrap()[number].clone()
    }

    /// Stops it and tells the port where nobody listens any more.
    pub(super) fn stop(self) -> u16 {
        self.port()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A request's lines; it has no body. A client that wants TLS is not waited for.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = vec![stream.read_u8().await.ok()?];
    if head[0] == TLS_HANDSHAKE {
        return Some("not HTTP".into());
    }
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
