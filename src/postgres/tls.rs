//! TLS to Postgres: what each `sslmode` proves, with rustls.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::domain::{Code, Error, Result};

/// `sslmode`, with libpq's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server can. Proves nothing; the default.
    Prefer,
    /// Encrypted, whoever answers: safe from listeners, not from an impostor. Together with `sslrootcert` it is
    /// `verify-ca`.
    Require,
    /// Encrypted, and the certificate comes from a trusted authority.
    VerifyCa,
    /// As `verify-ca`, and the certificate is for the host named in the URL.
    VerifyFull,
}

/// Which authorities are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// Those of the operating system.
    System,
    /// The PEM certificates in this file, and no others.
    File(PathBuf),
}

/// What the client shows the server.
#[derive(Debug, Clone)]
pub(super) struct ClientCertificate {
    /// PEM: the certificate, then any that it is signed by.
    pub(super) certificate: PathBuf,
    /// PEM, not encrypted.
    pub(super) key: PathBuf,
}

/// What a connection string says of TLS.
#[derive(Debug, Clone)]
pub(super) struct TlsOptions {
    pub(super) mode: SslMode,
    pub(super) roots: Roots,
    pub(super) client: Option<ClientCertificate>,
}

/// The driver's TLS connector. The cryptography is named here and never left to a default of the process: several
/// providers are linked in, and without a default rustls panics.
///
/// # Errors
/// [`Code::PostgresTls`] when a certificate or key cannot be read or used.
pub(super) fn connector(options: &TlsOptions) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier {
        algorithms: provider.signature_verification_algorithms,
        trust: match options.mode {
            SslMode::Disable | SslMode::Prefer | SslMode::Require => None,
            SslMode::VerifyCa => Some(Trust::load(&options.roots, false)?),
            SslMode::VerifyFull => Some(Trust::load(&options.roots, true)?),
        },
    };
    let mut config = client_config(provider, verifier, options.client.as_ref())?;
    // Needed by servers from 17 on where `sslnegotiation=direct`; others ignore it.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

fn client_config(
    provider: Arc<CryptoProvider>,
    verifier: Verifier,
    client: Option<&ClientCertificate>,
) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("the TLS provider lacks TLS 1.2 and 1.3").because(error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some(client) = client else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(&client.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&client.key)?).map_err(|error| {
        Error::new(Code::PostgresTls, format!("{}: no usable private key in PEM form", client.key.display()))
            .hint("sslkey names a PEM file with a key that is not encrypted")
            .because(error)
    })?;
    builder.with_client_auth_cert(chain, key).map_err(|error| {
        Error::new(Code::PostgresTls, format!("{}: {error}", client.certificate.display()))
            .hint("check that sslcert and sslkey belong together")
            .because(error)
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        Error::new(Code::PostgresTls, format!("{}: {error}", path.display()))
            .hint("check the path and that this user may read the file")
            .because(error)
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Error::new(Code::PostgresTls, format!("{}: no certificates in PEM form", path.display()))
            .hint("the file must hold `-----BEGIN CERTIFICATE-----` blocks")),
    }
}

/// Whom to believe.
#[derive(Debug)]
struct Trust {
    anchors: RootCertStore,
    /// The anchors as they stand in `sslrootcert`; empty for those of the system.
    pinned: Vec<CertificateDer<'static>>,
    /// Whether the certificate has to be for the host asked for.
    hostname: bool,
}

impl Trust {
    fn load(roots: &Roots, hostname: bool) -> Result<Trust> {
        let mut anchors = RootCertStore::empty();
        let pinned = match roots {
            Roots::System => {
                anchors.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Vec::new()
            }
            Roots::File(path) => {
                let pinned = certificates(path)?;
                anchors.add_parsable_certificates(pinned.iter().cloned());
                pinned
            }
        };
        if anchors.is_empty() {
            return Err(Error::new(Code::PostgresTls, "no trusted certificate authority was found")
                .hint("install the system's ca-certificates, or name a file: sslrootcert=/path/to/ca.pem"));
        }
        Ok(Trust { anchors, pinned, hostname })
    }
}

/// Checks the server's certificate as far as the `sslmode` asks. That the server holds the certificate's key is
/// checked in every mode.
#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    /// `None` believes anybody.
    trust: Option<Trust>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(trust) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let chain = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &trust.anchors,
            intermediates,
            now,
            self.algorithms.all,
        );
        match chain {
            // The self-signed certificates that many servers have are authorities as well, which a chain must not end
            // in. Given as `sslrootcert`, such a certificate is trusted for itself; its dates have been checked before
            // this error.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                if other.to_string() == "CaUsedAsEndEntity" && trust.pinned.contains(end_entity) => {}
            other => other?,
        }
        if trust.hostname {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
