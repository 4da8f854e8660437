//! TLS against a real server with certificates of our own making, by the `openssl` program.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use lakegate::domain::{Code, Error};
use lakegate::postgres::{Connector, Purpose, Session};
use secrecy::SecretString;

use crate::support::openssl::openssl;
use crate::support::postgres::{TestCluster, scratch};

/// A server with TLS whose certificate is for `db.test` alone, and the files around it.
struct TlsServer {
    cluster: TestCluster,
    folder: PathBuf,
}

impl TlsServer {
    fn shared() -> &'static TlsServer {
        static SHARED: OnceLock<TlsServer> = OnceLock::new();
        SHARED.get_or_init(|| {
            let folder = scratch().keep();
            make_certificates(&folder);
            let settings = [("ssl", "on"), ("ssl_ca_file", "ca.pem")];
            let cluster = TestCluster::start("tls", &settings, |data| {
                for name in ["server.crt", "server.key", "ca.pem"] {
                    fs::copy(folder.join(name), data.join(name)).expect("a certificate");
                }
                let hba = "local all all trust\n\
                           hostssl postgres by_certificate 127.0.0.1/32 cert\n\
                           hostnossl template1 all 127.0.0.1/32 reject\n\
                           host all all 127.0.0.1/32 scram-sha-256\n";
                fs::write(data.join("pg_hba.conf"), hba).expect("pg_hba.conf");
            });
            TlsServer { cluster, folder }
        })
    }

    /// The server's URL with further options; `{}` stands for the folder of the certificates.
    fn url(&self, database: &str, options: &str) -> String {
        format!("{}?{}", self.cluster.url(database), options.replace("{}", &self.folder.display().to_string()))
    }

    async fn connect(&self, options: &str) -> Result<Session, Error> {
        connect(&self.url("postgres", options)).await
    }
}

async fn connect(url: &str) -> Result<Session, Error> {
    let connector = Connector::from_url(&SecretString::from(url))?;
    connector.connect(Purpose::Sync, "lakegate tls").await
}

/// An authority, a certificate by it for the host `db.test`, one for the user `by_certificate`, and another authority
/// that has signed nothing here.
fn make_certificates(folder: &Path) {
    for authority in ["ca", "other"] {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"
            ),
        );
    }
    fs::write(folder.join("server.ext"), "subjectAltName=DNS:db.test\nbasicConstraints=CA:FALSE\n").unwrap();
    fs::write(folder.join("client.ext"), "basicConstraints=CA:FALSE\n").unwrap();
    for (name, subject) in [("server", "db.test"), ("client", "by_certificate")] {
        openssl(folder, &format!("req -newkey rsa:2048 -nodes -subj /CN={subject} -keyout {name}.key -out {name}.csr"));
        let sign = format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2");
        openssl(folder, &format!("{sign} -extfile {name}.ext -out {name}.crt"));
    }
}

async fn server() -> &'static TlsServer {
    tokio::task::spawn_blocking(TlsServer::shared).await.expect("the server with TLS")
}

async fn is_encrypted(session: &Session) -> bool {
    let row = session.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await;
    row.unwrap().get(0)
}

#[tokio::test]
async fn what_each_sslmode_accepts() {
    let server = server().await;
    let accepted = [
        ("sslmode=disable", false),
        ("sslmode=prefer", true),
        ("", true),
        ("sslmode=require", true),
        ("sslmode=require&sslrootcert={}/ca.pem", true),
        ("sslmode=verify-ca&sslrootcert={}/ca.pem", true),
        ("sslmode=verify-full&sslrootcert={}/ca.pem&host=db.test&hostaddr=127.0.0.1", true),
    ];
    for (options, encrypted) in accepted {
        let session = server.connect(options).await.unwrap_or_else(|error| panic!("{options}: {error}"));
        assert_eq!(is_encrypted(&session).await, encrypted, "{options}");
    }
    let refused = [
        ("sslmode=verify-ca&sslrootcert={}/other.pem", "sslrootcert="),
        ("sslmode=require&sslrootcert={}/other.pem", "sslrootcert="),
        ("sslmode=verify-full&sslrootcert={}/ca.pem", "sslmode=verify-ca"),
        ("sslmode=verify-full&sslrootcert={}/ca.pem&host=localhost&hostaddr=127.0.0.1", "sslmode=verify-ca"),
        ("sslmode=verify-full&sslrootcert={}/other.pem&host=db.test&hostaddr=127.0.0.1", "sslrootcert="),
        ("sslmode=verify-ca&sslrootcert={}/server.key", "BEGIN CERTIFICATE"),
    ];
    for (options, hint) in refused {
        let error = server.connect(options).await.err().unwrap_or_else(|| panic!("{options}: connected"));
        assert_eq!(error.code(), Code::PostgresTls, "{options}: {error}");
        assert!(error.advice().unwrap().contains(hint), "{options}: {error} {:?}", error.advice());
    }
}

#[tokio::test]
async fn a_self_signed_server_certificate_can_be_trusted_for_itself() {
    let folder = scratch();
    let made = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=self.test -addext subjectAltName=DNS:self.test \
                -keyout server.key -out server.crt";
    openssl(folder.path(), made);
    let files = folder.path().to_owned();
    let cluster = tokio::task::spawn_blocking(move || {
        TestCluster::start("selfsigned", &[("ssl", "on")], |data| {
            for name in ["server.crt", "server.key"] {
                fs::copy(files.join(name), data.join(name)).expect("a certificate");
            }
        })
    });
    let url = cluster.await.unwrap();
    let root = folder.path().join("server.crt");
    let with = |options: &str| format!("{}?sslrootcert={}&{options}", url.url("postgres"), root.display());
    connect(&with("sslmode=verify-full&host=self.test&hostaddr=127.0.0.1")).await.unwrap();
    connect(&with("sslmode=verify-ca")).await.unwrap();
    let error = connect(&with("sslmode=verify-full")).await.err().expect("another name");
    assert_eq!(error.code(), Code::PostgresTls, "{error}");
    tokio::task::spawn_blocking(move || drop(url)).await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_logs_in() {
    let server = server().await;
    let socket = server.cluster.socket_url("postgres");
    connect(&socket).await.unwrap().batch_execute("CREATE ROLE by_certificate LOGIN").await.unwrap();
    let url = format!(
        "postgres://by_certificate@127.0.0.1:{}/postgres?sslmode=require&sslcert={dir}/client.crt&sslkey={dir}/client.key",
        server.cluster.port(),
        dir = server.folder.display()
    );
    assert!(is_encrypted(&connect(&url).await.unwrap()).await);
    let error = connect(&url.replace("client.key", "other.key")).await.err().expect("a key of another certificate");
    assert_eq!(error.code(), Code::PostgresTls, "{error}");
}

#[tokio::test]
async fn a_server_that_wants_encryption_says_so() {
    let server = server().await;
    let error = connect(&server.url("template1", "sslmode=disable")).await.err().expect("a rejection");
    assert_eq!(error.code(), Code::PostgresAuth, "{error}");
    assert!(error.advice().unwrap().contains("sslmode"), "{:?}", error.advice());
}
