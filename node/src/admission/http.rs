//! A probe that is a URL: the job is posted to it, the status of the answer is the answer.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;

use super::{MAX_ANSWER_BYTES, Verdict, words};

/// What Bacalhau's probes answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    should_bid: Option<bool>,
    reason: String,
}

/// Asks a URL about a job.
pub(super) async fn ask(client: &Client, url: &Url, document: &str) -> Verdict {
    let request = client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(document.to_owned());
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Verdict::Fails(plain(&error)),
    };
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_json = kind.starts_with("application/json");
    match beginning(response).await {
        Ok(body) => judge(status, is_json, &body),
        Err(error) => Verdict::Fails(plain(&error)),
    }
}

/// One byte more than an answer may have shows that it has too many.
async fn beginning(mut response: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        let room = MAX_ANSWER_BYTES + 1 - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if body.len() > MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(body)
}

fn judge(status: StatusCode, is_json: bool, body: &[u8]) -> Verdict {
    let answer = || serde_json::from_slice::<Answer>(body).unwrap_or_default();
    let code = status.as_u16();
    match code {
        200..=299 if is_json && !body.is_empty() => match serde_json::from_slice::<serde_json::Value>(body) {
            Ok(_) if answer().should_bid == Some(false) => {
                Verdict::refuses(words(answer().reason.as_bytes()), || "it should not bid".to_owned())
            }
            Ok(_) => Verdict::Accepts,
            Err(_) => Verdict::Fails(format!("its answer is no JSON of at most {MAX_ANSWER_BYTES} bytes")),
        },
        200..=299 => Verdict::Accepts,
        400..=499 if is_json => Verdict::refuses(words(answer().reason.as_bytes()), || format!("answer {code}")),
        // A page is for other readers.
        400..=499 if body.trim_ascii_start().starts_with(b"<") => Verdict::Refuses(format!("answer {code}")),
        400..=499 => Verdict::refuses(words(body), || format!("answer {code}")),
        300..=399 => Verdict::Fails(format!("it answers {code}, and redirects are not followed")),
        _ => Verdict::Fails(format!("it answers {code}")),
    }
}

/// What is wrong, down to its cause, without the URL.
fn plain(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_the_answer_and_the_text_the_reason() {
        let refuses = |why: &str| Verdict::Refuses(why.into());
        let no = r#"{"ShouldBid": false, "Reason": "too dear"}"#;
        let table = [
            (200, false, "", Verdict::Accepts),
            (204, true, "", Verdict::Accepts),
            (200, false, "no", Verdict::Accepts),
            (200, true, r#"{"ShouldBid": true}"#, Verdict::Accepts),
            (200, true, "[1]", Verdict::Accepts),
            (200, true, no, refuses("too dear")),
            (200, true, r#"{"ShouldBid": false}"#, refuses("it should not bid")),
            (403, true, no, refuses("too dear")),
            (403, false, "not\nyou", refuses("not you")),
            (403, false, "", refuses("answer 403")),
            (404, false, " <html>Not found</html>", refuses("answer 404")),
        ];
        for (status, is_json, body, expected) in table {
            let verdict = judge(StatusCode::from_u16(status).unwrap(), is_json, body.as_bytes());
            assert_eq!(verdict, expected, "{status} {body}");
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let endless = vec![b'"'; MAX_ANSWER_BYTES + 1];
        for (status, is_json, body) in
            [(302, false, &b""[..]), (500, false, b"x"), (200, true, b"{"), (200, true, &endless)]
        {
            let verdict = judge(StatusCode::from_u16(status).unwrap(), is_json, body);
            assert!(matches!(verdict, Verdict::Fails(_)), "{status}: {verdict:?}");
        }
    }
}
