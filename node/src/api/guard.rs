//! Who may use the API: callers that show the token, and never a web page.
//!
//! A page in the owner's browser could reach loopback too. It is kept out three times over: it does not know the
//! token; a browser says `Origin`, which no program of ours does; and a name that was rebound to this address
//! shows in `Host`, where we want an IP address or `localhost`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::MAX_REQUESTS;
use super::error::ApiError;

#[derive(Clone)]
struct Guard {
    token: Arc<str>,
    requests: Arc<Semaphore>,
}

/// The router behind the guard, and unknown paths too.
pub(super) fn guarded(router: Router, token: String) -> Router {
    let guard = Guard { token: token.into(), requests: Arc::new(Semaphore::new(MAX_REQUESTS)) };
    let router = router.fallback(unknown).method_not_allowed_fallback(wrong_method);
    router.layer(middleware::from_fn_with_state(guard, check))
}

async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if let Err(error) = admit(request.headers(), &guard.token) {
        return error.into_response();
    }
    match guard.requests.try_acquire() {
        Ok(_slot) => next.run(request).await,
        Err(_) => ApiError::busy("too many requests at once: try again in a moment").into_response(),
    }
}

fn admit(headers: &HeaderMap, token: &str) -> Result<(), ApiError> {
    if headers.contains_key(header::ORIGIN) {
        let message = "requests with an Origin header are refused: this API is not for web pages";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden_origin", message));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_safe_host(host) {
        let message = format!("host {host:?} is refused: write the API's address as an IP address or localhost");
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden_host", message));
    }
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match shown.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(shown) if same(shown, token) => Ok(()),
        _ => {
            let message = "no valid token: send `Authorization: Bearer …` with the content of api.token in the \
                           node's data directory (--data-dir, or SHOAL_API_TOKEN)";
            Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
        }
    }
}

/// Only names can be rebound; addresses and `localhost` are what they say.
fn is_safe_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// Compares hashes, whose equality takes the same time wherever they differ.
fn same(shown: &str, token: &str) -> bool {
    blake3::hash(shown.as_bytes()) == blake3::hash(token.as_bytes())
}

async fn unknown(request: Request) -> ApiError {
    ApiError::not_found(format!("there is no {} in this API", request.uri().path()))
}

async fn wrong_method(request: Request) -> ApiError {
    let message = format!("{} cannot be used on {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn answer(headers: &[(&str, &str)], path: &str) -> (StatusCode, String) {
        let router = guarded(Router::new().route("/here", get(async || "hello")), "secret".into());
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:4000");
    const TOKEN: (&str, &str) = ("authorization", "Bearer secret");

    #[tokio::test]
    async fn the_token_opens() {
        for host in ["127.0.0.1:4000", "[::1]:4000", "localhost", "LocalHost:1", "192.168.1.5:80"] {
            assert_eq!(answer(&[("host", host), TOKEN], "/here").await, (StatusCode::OK, "hello".into()), "{host}");
        }
    }

    #[tokio::test]
    async fn callers_without_the_token_are_refused_and_told_where_it_is() {
        let wrong = ["Bearer wrong", "Bearer ", "Bearer secret2", "secret", "Basic secret", "bearer"];
        let mut tables = vec![vec![HOST]];
        tables.extend(wrong.map(|value| vec![HOST, ("authorization", value)]));
        for headers in tables {
            let (status, body) = answer(&headers, "/here").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{headers:?}");
            assert!(body.contains(r#""code":"unauthorized""#) && body.contains("api.token"), "{body}");
        }
    }

    #[tokio::test]
    async fn web_pages_are_refused_even_with_the_token() {
        let (status, body) = answer(&[HOST, TOKEN, ("origin", "http://127.0.0.1:4000")], "/here").await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
        for host in ["evil.example:4000", "localhost.evil.example", "", "127.0.0.1.evil.example"] {
            let (status, body) = answer(&[("host", host), TOKEN], "/here").await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{host}");
            assert!(body.contains("forbidden_host"), "{body}");
        }
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_are_errors_in_json() {
        let (status, body) = answer(&[HOST, TOKEN], "/elsewhere").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(body.contains(r#"{"error":{"code":"not_found""#) && body.contains("/elsewhere"), "{body}");
        assert_eq!(answer(&[HOST], "/elsewhere").await.0, StatusCode::UNAUTHORIZED);
    }
}
