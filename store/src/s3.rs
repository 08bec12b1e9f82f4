//! S3, and services that speak its language: connections with the right credentials, and what errors mean.
//!
//! A connection is made for each use, so that credentials that were changed meanwhile are seen; what is costly in it,
//! the client for HTTP, is made once, by the first use. A node that never uses S3 has nothing of it in memory.

mod error;

#[cfg(test)]
pub(crate) mod fake;

use std::sync::OnceLock;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::imds;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::region::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, ProvideCredentials, Region, RequestChecksumCalculation, SharedCredentialsProvider,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use reqwest::Url;
use shoal_protocol::address::is_public;

pub(crate) use error::innermost;

use crate::sources::{DataError, NotPublic, literal};

/// How often a request is made that fails for a reason that may pass.
pub(crate) const MAX_ATTEMPTS: u32 = 3;
/// How long credentials may take to be found, wherever they come from.
const CREDENTIALS: Duration = Duration::from_secs(15);
/// How long the metadata service of a cloud may take, which is asked last: most machines are in no cloud.
const METADATA: Duration = Duration::from_secs(1);
/// The region of buckets when nobody says another.
const DEFAULT_REGION: &str = "us-east-1";
/// What encrypts: the same as everywhere in a node.
const TLS: Provider = Provider::Rustls(CryptoMode::Ring);
/// Where credentials belong.
const WHERE_CREDENTIALS_BELONG: &str =
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the node, or write ~/.aws/credentials";

/// A bucket and where it is. Empty texts mean that nobody said so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) region: &'a str,
    pub(crate) endpoint: &'a str,
}

/// How long a service may be silent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Until a connection is made.
    pub(crate) connect: Duration,
    /// Until it answers a request without much of a body.
    pub(crate) answer: Duration,
    /// Until a request has succeeded, with all its retries.
    pub(crate) operation: Duration,
    /// In the midst of a body.
    pub(crate) stall: Duration,
}

/// Makes connections.
#[derive(Debug, Default)]
pub(crate) struct Connector {
    http: OnceLock<SharedHttpClient>,
    public_http: OnceLock<SharedHttpClient>,
    limits: Limits,
    keys: Keys,
}

/// Whose credentials are used.
#[derive(Debug, Default)]
enum Keys {
    /// Those of the node's owner, wherever the machine has them.
    #[default]
    OfMachine,
    #[cfg(test)]
    Given(aws_sdk_s3::config::Credentials),
}

/// Access to one bucket.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) bucket: String,
    /// The region that it is looked for in.
    pub(crate) region: String,
    /// The service, as people may see it; none for Amazon's own.
    pub(crate) endpoint: Option<String>,
    /// Whether requests are signed.
    pub(crate) signed: bool,
    pub(crate) limits: Limits,
}

impl Connector {
    /// Connects with the credentials of the node's owner, wherever the machine has them. Without any, requests are
    /// not signed: public buckets are open to everybody.
    pub(crate) async fn connect(&self, place: &Place<'_>) -> Result<Connection, DataError> {
        let endpoint = endpoint(place)?;
        let given = (!place.region.is_empty()).then(|| Region::new(place.region.to_owned()));
        let region = RegionProviderChain::first_try(given)
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .or_else(Region::new(DEFAULT_REGION))
            .region()
            .await
            .unwrap_or(Region::new(DEFAULT_REGION));
        let credentials = self.credentials(place, &region).await?;
        let mut loader = aws_config::defaults(behaviour()).http_client(self.http()).region(region.clone());
        if let Some(endpoint) = &endpoint {
            loader = loader.endpoint_url(endpoint.as_str());
        }
        let signed = credentials.is_some();
        let loader = match credentials {
            Some(credentials) => loader.credentials_provider(credentials),
            None => loader.no_credentials(),
        };
        let config = aws_sdk_s3::config::Builder::from(&loader.load().await);
        // What the environment names as endpoint is no service of Amazon's either.
        let other = endpoint.is_some() || ENDPOINT_VARIABLES.iter().any(|name| std::env::var_os(name).is_some());
        Ok(self.connection(place, config.force_path_style(other), &region, endpoint, signed))
    }

    /// Connects as anybody could, for a job of another peer: neither credentials nor settings of the owner are used,
    /// and addresses that are not public are reached only if the operator allows it.
    pub(crate) fn connect_anonymously(&self, place: &Place<'_>, private: bool) -> Result<Connection, DataError> {
        let endpoint = endpoint(place)?;
        if !private
            && let Some(url) = &endpoint
            && let Some(address) = literal(url).filter(|address| !is_public(*address))
        {
            let host = url.host_str().unwrap_or_default().to_owned();
            let thing = format!("the endpoint of bucket {}", place.bucket);
            let remedy = "name a public service, or submit the job on a node of your own";
            return Err(DataError::new(thing, NotPublic { host, address }.to_string(), remedy));
        }
        let region = Region::new(if place.region.is_empty() { DEFAULT_REGION } else { place.region }.to_owned());
        let http = if private { self.http() } else { self.public_http() };
        let mut config = Builder::new().behavior_version(behaviour()).http_client(http).region(region.clone());
        config.set_endpoint_url(endpoint.as_ref().map(Url::to_string));
        let config = config.force_path_style(endpoint.is_some());
        Ok(self.connection(place, config, &region, endpoint, false))
    }

    async fn credentials(
        &self,
        place: &Place<'_>,
        region: &Region,
    ) -> Result<Option<SharedCredentialsProvider>, DataError> {
        match &self.keys {
            Keys::OfMachine => {}
            #[cfg(test)]
            Keys::Given(keys) => return Ok(Some(SharedCredentialsProvider::new(keys.clone()))),
        }
        let config = ProviderConfig::without_region().with_http_client(self.http()).with_region(Some(region.clone()));
        let metadata = imds::Client::builder()
            .configure(&config)
            .connect_timeout(METADATA)
            .read_timeout(METADATA)
            .max_attempts(1)
            .build();
        let chain = DefaultCredentialsChain::builder().region(region.clone()).configure(config).imds_client(metadata);
        let provider = SharedCredentialsProvider::new(chain.build().await);
        let unusable = |reason: String| {
            let remedy = "correct the credentials of the node, or remove them to read public buckets without";
            DataError::new(format!("credentials for s3://{}", place.bucket), reason, remedy)
        };
        match tokio::time::timeout(CREDENTIALS, provider.provide_credentials()).await {
            Ok(Ok(_)) => Ok(Some(provider)),
            Ok(Err(CredentialsError::CredentialsNotLoaded(_))) => Ok(None),
            Ok(Err(error)) if is_of_metadata(&error) => Ok(None),
            Ok(Err(error)) => Err(unusable(innermost(&error))),
            Err(_) => Err(unusable(format!("were not found within {} s", CREDENTIALS.as_secs()))),
        }
    }

    fn connection(
        &self,
        place: &Place<'_>,
        config: Builder,
        region: &Region,
        endpoint: Option<Url>,
        signed: bool,
    ) -> Connection {
        let limits = self.limits;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(limits.connect)
            .read_timeout(limits.answer)
            .operation_attempt_timeout(limits.answer)
            .operation_timeout(limits.operation)
            .build();
        let config = config
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
            .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(limits.stall).build())
            // Services of others know no other checksums than those that are asked for.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .allow_no_auth();
        Connection {
            client: Client::from_conf(config.build()),
            bucket: place.bucket.to_owned(),
            region: region.to_string(),
            endpoint: endpoint.map(|url| url.as_str().trim_end_matches('/').to_owned()),
            signed,
            limits,
        }
    }

    /// Connects with made-up credentials, and without patience.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let second = Duration::from_secs(1);
        let limits = Limits { connect: second, answer: second, operation: 10 * second, stall: second };
        let keys = aws_sdk_s3::config::Credentials::new("known-key", "hidden-secret", None, None, "test");
        Self { limits, keys: Keys::Given(keys), ..Self::default() }
    }

    /// The client for HTTP, which all connections share. Building it reads the certificates that the machine trusts.
    fn http(&self) -> SharedHttpClient {
        self.http.get_or_init(|| aws_smithy_http_client::Builder::new().tls_provider(TLS).build_https()).clone()
    }

    /// The same, for what must not be found inside somebody's network.
    fn public_http(&self) -> SharedHttpClient {
        self.public_http
            .get_or_init(|| aws_smithy_http_client::Builder::new().tls_provider(TLS).build_with_resolver(PublicNames))
            .clone()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(15),
            operation: Duration::from_secs(45),
            stall: Duration::from_secs(20),
        }
    }
}

impl Connection {
    /// An object or a prefix, as people and `-i` write it.
    pub(crate) fn uri(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }
}

/// Whether it is the cloud's metadata service that gives no credentials. That is asked last, when nobody has written
/// any: a service that refuses, as on machines without a role, has none for us.
fn is_of_metadata(error: &CredentialsError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<imds::client::error::ImdsError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What the SDK takes an endpoint from when nobody gives one.
const ENDPOINT_VARIABLES: [&str; 2] = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"];

/// Names that lead to public addresses only. What the connection gets is what was checked.
#[derive(Debug, Clone)]
struct PublicNames;

impl ResolveDns for PublicNames {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = tokio::net::lookup_host((name, 0)).await.map_err(ResolveDnsError::new)?;
            let (public, private): (Vec<_>, Vec<_>) =
                found.map(|address| address.ip()).partition(|address| is_public(*address));
            match private.first() {
                Some(&address) if public.is_empty() => {
                    Err(ResolveDnsError::new(NotPublic { host: name.to_owned(), address }))
                }
                _ => Ok(public),
            }
        })
    }
}

fn behaviour() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// Reads an endpoint. Its errors do not repeat it when there may be a password in it.
fn endpoint(place: &Place<'_>) -> Result<Option<Url>, DataError> {
    if place.endpoint.is_empty() {
        return Ok(None);
    }
    let wrong = |reason: String| {
        let thing = format!("the endpoint of bucket {}", place.bucket);
        DataError::new(thing, reason, "write a URL like http://192.0.2.7:9000, without a path or password")
    };
    let url = Url::parse(place.endpoint).map_err(|error| wrong(format!("is no URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("has credentials in it, which job files must not have".into()));
    }
    match url.scheme() {
        "http" | "https" if url.query().is_none() && url.fragment().is_none() => Ok(Some(url)),
        "http" | "https" => Err(wrong("has more than a host and a path".into())),
        scheme => Err(wrong(format!("has the scheme '{scheme}'"))),
    }
}
