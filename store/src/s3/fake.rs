//! A service for tests that answers as it is told, also in ways that a real one never would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a client asks for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What it gets.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// How many bytes are announced, when that is a lie.
    pub(crate) length: Option<usize>,
    /// Never ends the body.
    pub(crate) stalls: bool,
}

/// A running service, until dropped.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                // A client that hangs up is nobody's error.
                tokio::spawn(async move { serve(stream, &log, &*answer).await });
            }
        });
        Self { endpoint, asked, task }
    }

    /// What was asked so far, as `METHOD /path`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.all().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }

    /// The same, with headers and bodies.
    pub(crate) fn all(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// What was asked with credentials.
    pub(crate) fn signed(&self) -> Vec<Asked> {
        self.all().into_iter().filter(|asked| asked.headers.contains_key("authorization")).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Answer {
    /// An object with an entity tag.
    pub(crate) fn object(body: &str, etag: &str) -> Self {
        let headers = vec![("etag", format!("\"{etag}\""))];
        Self { status: 200, headers, body: body.into(), ..Self::default() }
    }

    /// A refusal with S3's body.
    pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Self {
        let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        Self { status, body: body.into(), ..Self::default() }
    }

    /// A listing of keys, each with its entity tag and size; more follow after `next`.
    pub(crate) fn listing(objects: &[(&str, &str, usize)], next: Option<&str>) -> Self {
        let object = |(key, etag, size): &(&str, &str, usize)| {
            format!("<Contents><Key>{key}</Key><ETag>\"{etag}\"</ETag><Size>{size}</Size></Contents>")
        };
        let objects: String = objects.iter().map(object).collect();
        let next = next.map(|next| format!("<NextContinuationToken>{next}</NextContinuationToken>"));
        let (truncated, next) = (next.is_some(), next.unwrap_or_default());
        let body =
            format!("<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{next}{objects}</ListBucketResult>");
        Self { status: 200, body: body.into(), ..Self::default() }
    }
}

async fn serve(stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &(dyn Fn(&Asked) -> Answer + Send + Sync)) {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = read(&mut stream).await {
        log.lock().unwrap().push(asked.clone());
        let answer = answer(&asked);
        let length = answer.length.unwrap_or(answer.body.len());
        let mut head = format!("HTTP/1.1 {} x\r\ncontent-length: {length}\r\n", answer.status);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let body: &[u8] = if asked.method == "HEAD" { &[] } else { &answer.body };
        if stream.write_all(&[head.as_bytes(), body].concat()).await.is_err() {
            return;
        }
        if answer.stalls {
            std::future::pending::<()>().await;
        }
        if length != answer.body.len() {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked { method, path, headers, body })
}
