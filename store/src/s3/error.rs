//! What an error of S3 means to a person: the thing, the reason, and what to do.
//!
//! A service's own text is repeated only where it is no answer to credentials, cut short and without control
//! characters: it is a stranger's.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::{Connection, WHERE_CREDENTIALS_BELONG};
use crate::sources::DataError;

/// The header by which a service says where a bucket really is.
const REGION_HEADER: &str = "x-amz-bucket-region";
/// The most of a service's own text that is repeated, in characters.
const MAX_TEXT: usize = 200;

impl Connection {
    /// Says why a request for `key` failed.
    pub(crate) fn explain<E>(&self, key: &str, error: &SdkError<E, HttpResponse>) -> DataError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let thing = self.uri(key);
        match error {
            SdkError::ServiceError(refusal) => {
                let response = refusal.raw();
                let code = refusal.err().code().unwrap_or_default();
                self.explain_refusal(key, response, code, refusal.err().message().unwrap_or_default())
            }
            SdkError::TimeoutError(_) => DataError::new(thing, self.silence(), self.reach()),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                DataError::new(thing, self.silence(), self.reach())
            }
            SdkError::DispatchFailure(failure) => {
                let why = failure.as_connector_error().map_or_else(String::new, |error| innermost(error));
                DataError::new(thing, format!("{} cannot be reached: {why}", self.service()), self.reach())
            }
            SdkError::ConstructionFailure(_) => {
                let reason = format!("cannot be asked for: {}", innermost(error));
                DataError::new(thing, reason, "correct the bucket's name, key, region or endpoint")
            }
            _ => {
                let reason = format!("{} answers, but not as S3 does: {}", self.service(), clipped(&innermost(error)));
                DataError::new(thing, reason, "check the endpoint")
            }
        }
    }

    fn explain_refusal(&self, key: &str, response: &HttpResponse, code: &str, message: &str) -> DataError {
        let (object, bucket) = (self.uri(key), format!("bucket {}", self.bucket));
        let status = response.status().as_u16();
        match (code, status) {
            ("NoSuchBucket", _) => {
                let reason = format!("is not on {}", self.service());
                DataError::new(bucket, reason, "check the bucket's name and the endpoint")
            }
            ("NoSuchVersion", _) => DataError::new(object, "has no such version", "check VersionID, or leave it out"),
            ("PreconditionFailed", _) | (_, 412) => {
                DataError::new(object, "was changed while it was read", "submit the job again when nobody writes there")
            }
            ("InvalidAccessKeyId", _) => {
                let reason = format!("{} does not know the access key of this node", self.service());
                DataError::new(object, reason, format!("correct the credentials: {WHERE_CREDENTIALS_BELONG}"))
            }
            ("SignatureDoesNotMatch", _) => {
                let reason = format!("{} finds the signature wrong: the secret key does not fit", self.service());
                DataError::new(object, reason, format!("correct the credentials: {WHERE_CREDENTIALS_BELONG}"))
            }
            ("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired", _) => {
                DataError::new(object, "the session of the credentials has ended", "renew the credentials of the node")
            }
            ("RequestTimeTooSkewed" | "RequestExpired", _) => {
                let reason = format!("the clocks of this machine and of {} differ too much", self.service());
                DataError::new(object, reason, "set this machine's clock")
            }
            (
                "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException",
                _,
            )
            | (_, 301 | 307) => self.explain_region(bucket, response, message),
            ("SlowDown" | "ServiceUnavailable" | "TooManyRequests", _) | (_, 429 | 503) => {
                DataError::new(object, format!("{} is overloaded", self.service()), "try again later")
            }
            ("AccessDenied" | "AllAccessDisabled", _) | (_, 401 | 403) => self.explain_denial(object),
            ("NoSuchKey" | "NotFound", _) | (_, 404) => {
                DataError::new(object, "is not there", "check the key; a prefix ends with / or *")
            }
            _ => {
                let said = [code, message].map(clipped).join(" ");
                let reason = format!("{} refuses with status {status}: {}", self.service(), said.trim());
                DataError::new(object, reason, "check bucket, key, region and endpoint")
            }
        }
    }

    fn explain_denial(&self, object: String) -> DataError {
        if self.signed {
            return DataError::new(object, "access is denied", "let the node's credentials read and write there");
        }
        let reason = "access is denied: the node has no credentials, and the bucket is not public";
        DataError::new(object, reason, WHERE_CREDENTIALS_BELONG)
    }

    fn explain_region(&self, bucket: String, response: &HttpResponse, message: &str) -> DataError {
        // Older services say it in their text only: "the region 'a' is wrong; expecting 'b'".
        let told = message.split_once("expecting '").and_then(|(_, rest)| rest.split('\'').next());
        let found = response.headers().get(REGION_HEADER).or(told).map(clipped);
        let reason = format!("is not in region {}", self.region);
        match found.filter(|found| !found.is_empty() && *found != self.region) {
            Some(found) => DataError::new(bucket, reason, format!("it is in {found}: set Region (opt=region={found})")),
            None => DataError::new(bucket, reason, "set Region (opt=region=…) to the bucket's region"),
        }
    }

    fn silence(&self) -> String {
        format!("{} did not answer within {} s", self.service(), self.limits.operation.as_secs())
    }

    /// The service, as people may see it.
    pub(crate) fn service(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| format!("S3 in {}", self.region))
    }

    fn reach(&self) -> &'static str {
        match self.endpoint {
            Some(_) => "check the endpoint, and that its service runs and can be reached from this machine",
            None => "check the region, and that this machine can reach the internet",
        }
    }
}

/// What is behind an error of several layers: the first cause is what a person can act on.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn clipped(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_TEXT).collect()
}
