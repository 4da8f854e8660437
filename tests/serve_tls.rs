//! The read API with TLS: real certificates by the `openssl` program, a real client.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use lakegate::domain::{Code, TlsFiles};
use lakegate::serve::{ServeSettings, serve};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::serve_http::{orders, until};
use crate::support::openssl::openssl;
use crate::support::postgres::TestDatabase;
use crate::support::published::{Publisher, Running, settings};

/// A certificate for `localhost` that signs itself, and its key.
fn make_certificate(folder: &Path, name: &str) {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost \
             -addext basicConstraints=critical,CA:FALSE -days 2 \
             -keyout {name}.key -out {name}.pem"
        ),
    );
}

fn with_tls(folder: &Path) -> ServeSettings {
    let mut settings = settings();
    settings.api.tls = Some(TlsFiles { certificate: folder.join("api.pem"), key: folder.join("api.key") });
    settings
}

/// Asks for a path by a client that trusts one certificate alone; the status line and the protocol that was agreed on.
async fn ask(addr: SocketAddr, trusted: &Path, protocols: &[&str], path: &str) -> Result<(String, String), String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let mut config =
        builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(addr).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
        .map_err(|error| error.to_string())?;
    let agreed = String::from_utf8_lossy(stream.get_ref().1.alpn_protocol().unwrap_or_default()).into_owned();
    if agreed == "h2" {
        return Ok((String::new(), agreed));
    }
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.map_err(|error| error.to_string())?;
    Ok((reply.lines().next().unwrap_or_default().to_owned(), agreed))
}

#[tokio::test]
async fn rows_are_served_over_tls_with_either_version_of_http() {
    let folder = TempDir::new().unwrap();
    make_certificate(folder.path(), "api");
    make_certificate(folder.path(), "other");
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    let (table, rows) = orders();
    publisher.publish(&table, "17", rows).await;
    let running = Running::start(with_tls(folder.path()), database.connector()).await;
    let (addr, trusted) = (running.server.addr, folder.path().join("api.pem"));
    let ok = "HTTP/1.1 200 OK".to_owned();
    assert_eq!(ask(addr, &trusted, &["http/1.1"], "/v1/orders/1").await, Ok((ok.clone(), "http/1.1".to_owned())));
    assert_eq!(ask(addr, &trusted, &[], "/v1/orders/1").await, Ok((ok, String::new())));
    assert_eq!(ask(addr, &trusted, &["h2", "http/1.1"], "/").await.unwrap().1, "h2");
    let doubted = ask(addr, &folder.path().join("other.pem"), &[], "/v1/orders/1").await.unwrap_err();
    assert!(doubted.contains("certificate"), "{doubted}");
}

#[tokio::test]
async fn a_certificate_that_is_renewed_is_shown_without_a_restart() {
    let folder = TempDir::new().unwrap();
    make_certificate(folder.path(), "api");
    make_certificate(folder.path(), "new");
    let database = TestDatabase::new().await;
    let running = Running::start(with_tls(folder.path()), database.connector()).await;
    let at = |name: &str| folder.path().join(name);
    let is_trusted = async |name: &str| ask(running.server.addr, &at(name), &[], "/livez").await.is_ok();
    fs::copy(at("api.pem"), at("first.pem")).unwrap();
    // Half of it: the certificate without its key. The former stays.
    fs::copy(at("new.pem"), at("api.pem")).unwrap();
    assert!(is_trusted("first.pem").await);
    fs::copy(at("new.key"), at("api.key")).unwrap();
    until(async || is_trusted("new.pem").await).await;
    assert!(!is_trusted("first.pem").await);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    let database = TestDatabase::new().await;
    let refusal = async || {
        let started = serve(with_tls(folder.path()), &database.connector(), CancellationToken::new()).await;
        started.err().map(|error| (error.code(), error.detail().to_owned()))
    };
    let (code, detail) = refusal().await.unwrap();
    assert!(code == Code::ApiTls && detail.contains("api.pem: No such file"), "{detail}");
    make_certificate(folder.path(), "api");
    make_certificate(folder.path(), "other");
    fs::copy(folder.path().join("other.key"), folder.path().join("api.key")).unwrap();
    let (code, detail) = refusal().await.unwrap();
    assert!(code == Code::ApiTls && detail.contains("api.pem"), "{detail}");
    fs::write(folder.path().join("api.key"), "no key").unwrap();
    let (code, detail) = refusal().await.unwrap();
    assert!(code == Code::ApiTls && detail.contains("api.key: no usable private key"), "{detail}");
}

#[tokio::test]
async fn http_in_the_open_gets_no_answer_from_a_port_with_tls() {
    let folder = TempDir::new().unwrap();
    make_certificate(folder.path(), "api");
    let database = TestDatabase::new().await;
    let running = Running::start(with_tls(folder.path()), database.connector()).await;
    let mut stream = TcpStream::connect(running.server.addr).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    assert!(!reply.starts_with(b"HTTP"), "{reply:?}");
}
