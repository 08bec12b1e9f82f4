//! Plain HTTP: a request is written anew, and so is its answer, each with a length that nobody can read twice.

use http_body_util::Either;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::{HeaderMap, Request, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;

use super::target::{Host, Target};
use super::{Answer, MAX_HEAD_BYTES, MAX_HEADERS, Proxy, Refusal};

/// Headers that are for the next hop only, beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Passes a request on, on a connection of its own, and gives back what comes.
pub(super) async fn forward(proxy: &Proxy, request: Request<Incoming>, target: &Target) -> Result<Answer, Refusal> {
    let stream = proxy.connect(target).await?;
    let failed = |error: hyper::Error| Refusal::Unreachable(error.to_string());
    let mut client = http1::Builder::new();
    client.max_buf_size(2 * MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // It ends with what it is for: the request's answer, read to its end or dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a container's host broke off");
        }
    });
    let answer = sender.send_request(rewritten(request, target)?).await.map_err(failed)?;
    let (mut head, body) = answer.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::Unreachable("it changes to a protocol that nobody asked for".into()));
    }
    strip(&mut head.headers);
    head.version = Version::HTTP_11;
    Ok(Answer::from_parts(head, Either::Left(body)))
}

/// The request as it goes to the host itself.
fn rewritten(request: Request<Incoming>, target: &Target) -> Result<Request<Incoming>, Refusal> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = path.parse::<Uri>().map_err(|_| Refusal::Malformed("the address has no path"))?;
    head.version = Version::HTTP_11;
    strip(&mut head.headers);
    // It was answered by us.
    head.headers.remove(EXPECT);
    head.headers.insert(HOST, host(target)?);
    Ok(Request::from_parts(head, body))
}

fn host(target: &Target) -> Result<HeaderValue, Refusal> {
    let text = match (target.port, &target.host) {
        (80, Host::Name(name)) => name.clone(),
        _ => target.to_string(),
    };
    HeaderValue::try_from(text).map_err(|_| Refusal::Malformed("the address has no host"))
}

/// Removes what is for one hop only.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_one_hop_stays_there() {
        let mut headers = HeaderMap::new();
        for name in ["connection", "x-secret", "keep-alive", "te", "upgrade", "proxy-authorization", "accept"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x-secret, close"));
        }
        strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
