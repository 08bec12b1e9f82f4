//! TLS of relays: what a relay shows, and why nobody asks who signed it.
//!
//! What a relay carries is encrypted and authenticated from end to end with the peers' own keys, and a relay proves
//! with its node's key whose it is. So TLS to it hides from others on the path who talks through it, and no more, and a
//! certificate that nobody signed does for that: a relay at home has no other. Who can put themselves in the middle can
//! do what a relay can do anyway: see keys, sizes and times, and drop packets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use iroh::tls::CaTlsConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};

/// Why a relay has no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be used.
    #[error("{0}: {1}; it should hold PEM, as `openssl` and ACME clients write it")]
    File(PathBuf, String),
    /// The two do not belong together, or no server could use them.
    #[error("the relay's certificate cannot be used: {0}")]
    Unusable(String),
}

/// What a relay shows that has a certificate.
pub(super) fn given(certificate: &Path, key: &Path) -> Result<ServerConfig, CertificateError> {
    let wrong = |path: &Path, reason: String| CertificateError::File(path.to_owned(), reason);
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| wrong(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "there is no certificate in it".into()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    server(chain, key)
}

/// What address discovery shows, which needs TLS and has nothing to hide.
pub(super) fn self_signed() -> Result<ServerConfig, CertificateError> {
    let made = rcgen::generate_simple_self_signed(["relay".to_owned()]);
    let made = made.map_err(|error| CertificateError::Unusable(error.to_string()))?;
    let key = PrivateKeyDer::try_from(made.key_pair.serialize_der());
    server(vec![made.cert.der().clone()], key.map_err(|error| CertificateError::Unusable(error.to_owned()))?)
}

fn server(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, CertificateError> {
    let unusable = |error: rustls::Error| CertificateError::Unusable(error.to_string());
    let versions = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    versions.map_err(unusable)?.with_no_client_auth().with_single_cert(chain, key).map_err(unusable)
}

/// What nodes ask of relays.
pub(in crate::network) fn any_certificate() -> CaTlsConfig {
    CaTlsConfig::custom_server_cert_verifier(Arc::new(|provider| Ok(Arc::new(AnyCertificate::new(&provider)))))
}

/// The same for probes.
pub(super) fn client() -> Result<ClientConfig, rustls::Error> {
    let verifier = Arc::new(AnyCertificate::new(&provider()));
    let versions = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    Ok(versions?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Takes any certificate, and checks that the other side has its key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl AnyCertificate {
    fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
