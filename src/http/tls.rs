//! TLS of a listener: its certificate and key, which are read again when their files change.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::domain::{Code, Error, Result, TlsFiles};

/// How often the files are looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// What accepts TLS 1.2 and 1.3 with these files. Both versions of HTTP are offered.
///
/// # Errors
/// [`Code::ApiTls`] where a file cannot be read, holds something else, or the two do not belong together.
pub(super) fn config(files: TlsFiles) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificate = Renewed::load(files, Arc::clone(&provider))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("the TLS provider lacks TLS 1.2 and 1.3").because(error))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A certificate that follows its files.
#[derive(Debug)]
struct Renewed {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    key: Arc<CertifiedKey>,
    /// When the files were changed last, as of the last look.
    changed: Changed,
    looked: Instant,
}

/// When the certificate and the key were changed.
type Changed = [Option<SystemTime>; 2];

impl Renewed {
    fn load(files: TlsFiles, provider: Arc<CryptoProvider>) -> Result<Renewed> {
        let changed = changed(&files);
        let key = Arc::new(read(&files, &provider)?);
        Ok(Renewed { files, provider, state: Mutex::new(State { key, changed, looked: Instant::now() }) })
    }

    /// The certificate, read again where the files have changed. One that cannot be used leaves the former in its place:
    /// it is half written, or wrong.
    fn current(&self) -> Arc<CertifiedKey> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK {
            state.looked = Instant::now();
            let changed = changed(&self.files);
            if changed != state.changed {
                state.changed = changed;
                match read(&self.files, &self.provider) {
                    Ok(key) => {
                        state.key = Arc::new(key);
                        tracing::info!("the TLS certificate was read again");
                    }
                    Err(error) => tracing::warn!(%error, "the new TLS certificate cannot be used; the former stays"),
                }
            }
        }
        Arc::clone(&state.key)
    }
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn changed(files: &TlsFiles) -> Changed {
    let of = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    [of(&files.certificate), of(&files.key)]
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey> {
    let bytes = |path: &Path| {
        fs::read(path).map_err(|error| {
            unusable(path, &error.to_string(), "check the path and that this user may read the file").because(error)
        })
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(&files.certificate)?).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
        let hint = "`api.tls.certificate` names a PEM file with the certificate, and those that it was signed by";
        unusable(&files.certificate, "no certificates in PEM form", hint)
    })?;
    let key = PrivateKeyDer::from_pem_slice(&bytes(&files.key)?).map_err(|error| {
        let hint = "`api.tls.key` names a PEM file with a key that is not encrypted";
        unusable(&files.key, "no usable private key in PEM form", hint).because(error)
    })?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        unusable(&files.certificate, &error.to_string(), "check that certificate and key belong together")
            .because(error)
    })
}

fn unusable(path: &Path, why: &str, hint: &'static str) -> Error {
    Error::new(Code::ApiTls, format!("{}: {why}", path.display())).hint(hint)
}
