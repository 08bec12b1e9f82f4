//! The proxy over real sockets of loopback, with names and public addresses that the test decides.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::*;

/// An address that the test says is inside somebody's network.
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DISK: u64 = 1 << 20;

#[derive(Debug)]
struct Book(BTreeMap<&'static str, Vec<IpAddr>>);

#[async_trait]
impl Names for Book {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.0.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A proxy, a host behind it that answers with the head of what it was asked, and what the job's log is told.
struct Bench {
    proxy: SocketAddr,
    port: u16,
    notes: mpsc::Receiver<String>,
    _tasks: JoinSet<()>,
}

impl Bench {
    async fn new(domains: &[&str]) -> Self {
        let host = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let (port, proxy) = (host.local_addr().unwrap().port(), listener.local_addr().unwrap());
        let named = |addresses: &[IpAddr]| addresses.to_vec();
        let book = Book(BTreeMap::from([
            ("example.org", named(&[LOOPBACK])),
            ("a.example.net", named(&[LOOPBACK])),
            ("example.net", named(&[LOOPBACK])),
            ("xn--bcher-kva.example", named(&[LOOPBACK])),
            ("evil.example", named(&[LOOPBACK])),
            ("inside.example", named(&[INSIDE])),
            ("both.example", named(&[INSIDE, LOOPBACK])),
            ("closed.example", named(&[LOOPBACK])),
        ]));
        let (notes, lines) = notes();
        let domains = domains.iter().map(|&domain| domain.to_owned()).collect();
        let served = Proxy::new(domains, Arc::new(book), |address| address != INSIDE, DISK, notes);
        let mut tasks = JoinSet::new();
        tasks.spawn(served.serve(listener));
        tasks.spawn(echo(host));
        Self { proxy, port, notes: lines, _tasks: tasks }
    }

    /// Sends these bytes; returns all that comes back until the other side closes.
    async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.proxy).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // The other side may close before it has read everything.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Asks for `/` of a host at the test's port.
    async fn get(&self, host: &str) -> String {
        let port = self.port;
        self.send(format!("GET http://{host}:{port}/a?b=c HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes()).await
    }

    /// Opens a tunnel, sends `bytes` through it, and returns what comes back behind the proxy's own answer.
    async fn tunnel(&self, host: &str, bytes: &[u8]) -> String {
        let request = format!("CONNECT {host}:{} HTTP/1.1\r\n\r\n", self.port);
        let mut stream = TcpStream::connect(self.proxy).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        if !head.starts_with("HTTP/1.1 200") {
            return head;
        }
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn note(&mut self) -> String {
        self.notes.try_recv().unwrap_or_default()
    }
}

/// Answers each connection with the head of what it is asked, or with a redirect; and TLS with what it was sent.
async fn echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await? == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            if head.starts_with('\u{16}') {
                return stream.write_all(b"passed").await;
            }
            let (status, body) = match () {
                () if head.starts_with("GET /elsewhere ") => {
                    ("302 Found\r\nLocation: http://evil.example/", String::new())
                }
                () if head.starts_with("GET /much ") => ("200 OK", "x".repeat(2 << 20)),
                () if head.starts_with("GET /switch ") => ("101 Switching Protocols\r\nUpgrade: x", String::new()),
                () => ("200 OK\r\nConnection: x-mine\r\nX-Mine: 1", head),
            };
            stream
                .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
                .await
        });
    }
}

/// The first message of TLS to a server of this name.
fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn status(answer: &str) -> &str {
    answer.split_whitespace().nth(1).unwrap_or_default()
}

#[tokio::test]
async fn only_listed_hosts_are_asked_however_they_are_spelled() {
    let listed = ["example.org", ".example.net", "xn--bcher-kva.example", "127.0.0.1", "::1"];
    let mut bench = Bench::new(&listed).await;
    let asked = [
        "example.org",
        "EXAMPLE.Org",
        "example.org.",
        "a.example.net",
        "example.net",
        "xn--bcher-kva.example",
        "127.0.0.1",
    ];
    for host in asked {
        let answer = bench.get(host).await;
        assert_eq!(status(&answer), "200", "{host}: {answer}");
    }
    let port = bench.port;
    for host in ["evil.example", "a.example.org", "127.0.0.2", "[::2]", "2130706433", "0x7f000001", "localhost"] {
        let answer = bench.get(host).await;
        assert_eq!(status(&answer), "403", "{host}: {answer}");
        let expected = format!("shoal: refused GET {host}:{port}: not one of the job's domains\n");
        assert_eq!(bench.note(), expected);
    }
    // Listed, and nobody is there.
    let answer = bench.get("[::1]").await;
    assert_eq!(status(&answer), "502", "{answer}");
    let unknown = Bench::new(&["unknown.example"]).await.get("unknown.example").await;
    assert!(status(&unknown) == "502" && unknown.contains("its name has no address"), "{unknown}");
}

#[tokio::test]
async fn a_listed_name_that_leads_inside_is_not_followed_there() {
    let mut bench = Bench::new(&["inside.example", "both.example", "127.0.0.66"]).await;
    for host in ["inside.example", "127.0.0.66"] {
        let answer = bench.get(host).await;
        assert!(status(&answer) == "403" && answer.contains("127.0.0.66, which is no public address"), "{answer}");
        assert!(bench.note().contains("no public address"));
    }
    assert_eq!(status(&bench.get("both.example").await), "200", "by its other address");
    let tunnel = bench.tunnel("inside.example", &hello("inside.example")).await;
    assert_eq!(status(&tunnel), "403", "{tunnel}");
}

#[tokio::test]
async fn the_host_gets_the_request_anew_and_nothing_that_was_for_the_proxy() {
    let bench = Bench::new(&["example.org"]).await;
    let port = bench.port;
    let request = format!(
        "POST http://Example.ORG:{port}/a?b=c HTTP/1.1\r\nHost: EXAMPLE.org:{port}\r\nProxy-Authorization: secret\r\n\
         Connection: close, X-Hop\r\nX-Hop: 1\r\nUpgrade: h2c\r\nTE: trailers\r\nX-End: 2\r\nContent-Length: 2\r\n\r\nhi"
    );
    let answer = bench.send(request.as_bytes()).await;
    let (head, echoed) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_lowercase().contains("x-mine"), "{answer}");
    let echoed = echoed.to_lowercase();
    assert!(echoed.starts_with("post /a?b=c http/1.1\r\n"), "{echoed}");
    assert!(echoed.contains(&format!("host: example.org:{port}\r\n")) && echoed.contains("x-end: 2"), "{echoed}");
    for word in ["secret", "x-hop", "upgrade", "te:", "connection"] {
        assert!(!echoed.contains(word), "{word}: {echoed}");
    }
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_is_then_a_request_like_any_other() {
    let bench = Bench::new(&["example.org"]).await;
    let url = format!("http://example.org:{}", bench.port);
    let answer = bench.send(format!("GET {url}/elsewhere HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes()).await;
    assert!(status(&answer) == "302" && answer.to_lowercase().contains("location: http://evil.example/"), "{answer}");
    assert_eq!(status(&bench.get("evil.example").await), "403");
    let answer = bench.send(format!("GET {url}/switch HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes()).await;
    assert_eq!(status(&answer), "502", "{answer}");
}

#[tokio::test]
async fn requests_that_others_could_read_in_another_way_are_refused() {
    let bench = Bench::new(&["example.org", "evil.example"]).await;
    let url = format!("http://example.org:{}/", bench.port);
    let host = format!("example.org:{}", bench.port);
    let large = "x".repeat(MAX_HEAD_BYTES);
    let many = "X: 1\r\n".repeat(MAX_HEADERS + 1);
    let table = [
        (format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n"), "400", "more than one Host"),
        (format!("GET {url} HTTP/1.1\r\nHost: evil.example\r\n\r\n"), "400", "not the host of its address"),
        (format!("GET {url} HTTP/1.1\r\nHost: \r\n\r\n"), "400", "not the host of its address"),
        (format!("CONNECT {host} HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"), "400", "not the host of its address"),
        (format!("GET http://u:p@{host}/ HTTP/1.1\r\n\r\n"), "400", "no HOST or HOST:PORT"),
        ("GET http://example.org:/ HTTP/1.1\r\n\r\n".into(), "400", "no HOST or HOST:PORT"),
        ("GET http://example.org:99999/ HTTP/1.1\r\n\r\n".into(), "400", ""),
        ("GET http://example.org.:25/ HTTP/1.1\r\n\r\n".into(), "403", "port 25 is neither"),
        ("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".into(), "400", "this is a proxy"),
        (format!("GET https://{host}/ HTTP/1.1\r\n\r\n"), "400", "ask for HTTPS with CONNECT"),
        (format!("GET ftp://{host}/ HTTP/1.1\r\n\r\n"), "400", "this is a proxy"),
        ("OPTIONS * HTTP/1.1\r\n\r\n".into(), "400", "this is a proxy"),
        ("CONNECT example.org HTTP/1.1\r\n\r\n".into(), "400", ""),
        (format!("GET {url} HTTP/1.1\r\nX: {large}\r\n\r\n"), "431", ""),
        (format!("GET {url} HTTP/1.1\r\n{many}\r\n"), "431", ""),
        (format!("GET {url} HTTP/1.1\r\nX : y\r\n\r\n"), "400", ""),
        (format!("GET {url} HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"), "400", ""),
        ("SSH-2.0-x\r\n\r\n".into(), "400", ""),
    ];
    for (request, expected, words) in table {
        let answer = bench.send(request.as_bytes()).await;
        assert!(status(&answer) == expected && answer.contains(words), "{request:.200}: {answer}");
    }
}

#[tokio::test]
async fn a_length_that_is_told_twice_reaches_nobody_as_it_was() {
    let bench = Bench::new(&["example.org"]).await;
    let request = format!(
        "POST http://example.org:{}/ HTTP/1.1\r\nConnection: close\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\
         \r\n0\r\n\r\nGET http://evil.example/ HTTP/1.1\r\n\r\n",
        bench.port
    );
    let answer = bench.send(request.as_bytes()).await.to_lowercase();
    let refused = status(&answer) == "400";
    assert!(refused || (!answer.contains("content-length: 40") && !answer.contains("evil")), "{answer}");
}

#[tokio::test]
async fn tls_passes_through_if_it_asks_for_the_host_that_was_named() {
    let mut bench = Bench::new(&["example.org", "127.0.0.1"]).await;
    let passed = "passed";
    assert_eq!(bench.tunnel("example.org", &hello("example.org")).await, passed);
    assert_eq!(bench.tunnel("Example.org.", &hello("EXAMPLE.org")).await, passed);
    assert_eq!(bench.tunnel("127.0.0.1", &hello("127.0.0.1")).await, passed);
    assert_eq!(bench.note(), "");
    let port = bench.port;
    let table: [(&str, Vec<u8>, &str); 5] = [
        ("example.org", hello("evil.example"), "the TLS within asks for evil.example"),
        ("example.org", hello("127.0.0.1"), "the TLS within asks for no host"),
        ("127.0.0.1", hello("evil.example"), "the TLS within asks for evil.example"),
        ("example.org", b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_vec(), "only TLS passes through CONNECT"),
        ("example.org", hello("example.org")[..20].to_vec(), "only TLS passes through CONNECT"),
    ];
    for (host, bytes, words) in table {
        assert_eq!(bench.tunnel(host, &bytes).await, "", "{words}");
        assert_eq!(bench.notes.recv().await.unwrap(), format!("shoal: refused CONNECT {host}:{port}: {words}\n"));
    }
    let answer = bench.tunnel("evil.example", &hello("evil.example")).await;
    assert_eq!(status(&answer), "403", "{answer}");
}

#[tokio::test]
async fn what_passes_is_bounded_by_the_jobs_disk() {
    let mut bench = Bench::new(&["example.org"]).await;
    let request = format!("GET http://example.org:{}/much HTTP/1.1\r\nConnection: close\r\n\r\n", bench.port);
    let answer = bench.send(request.as_bytes()).await;
    assert!((answer.len() as u64) < DISK + 1_000, "{}", answer.len());
    assert!(bench.notes.recv().await.unwrap().contains("has reached its Disk"));
    let answer = bench.get("example.org").await;
    assert!(status(&answer) == "403" && answer.contains("has reached its Disk"), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_their_turn() {
    let bench = Bench::new(&["example.org"]).await;
    let mut open = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        open.push(TcpStream::connect(bench.proxy).await.unwrap());
    }
    let mut late = TcpStream::connect(bench.proxy).await.unwrap();
    let request = format!("GET http://example.org:{}/ HTTP/1.1\r\n\r\n", bench.port);
    late.write_all(request.as_bytes()).await.unwrap();
    // One that is served answers and goes on, so all that came before are counted.
    open[MAX_CONNECTIONS - 1].write_all(request.as_bytes()).await.unwrap();
    open[MAX_CONNECTIONS - 1].read_u8().await.unwrap();
    assert!(late.try_read(&mut [0; 1]).is_err(), "it waits");
    drop(open);
    late.read_u8().await.unwrap();
}
