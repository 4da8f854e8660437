//! An S3-compatible server in the test's own process, over a local folder.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use lakegate::domain::{ParquetSource, SourceSpec, StorageOptions};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// How the names of objects end that are asked for without an answer.
type Hangs = Arc<Mutex<Option<String>>>;

/// A running server; each folder below its root is a bucket. It ends when dropped.
pub(crate) struct S3Server {
    /// `http://127.0.0.1:PORT`
    pub(crate) endpoint: String,
    address: SocketAddr,
    service: S3Service,
    hangs: Hangs,
    task: JoinHandle<()>,
}

impl S3Server {
    /// The one access key that is accepted.
    pub(crate) const ACCESS_KEY: &'static str = "lakegate-test";
    /// Its secret.
    pub(crate) const SECRET_KEY: &'static str = "lakegate-test-secret";

    /// Starts a server on a free port.
    pub(crate) async fn start(root: &Path) -> S3Server {
        let mut service = S3ServiceBuilder::new(FileSystem::new(root).unwrap());
        service.set_auth(SimpleAuth::from_single(Self::ACCESS_KEY, Self::SECRET_KEY));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hangs = Hangs::default();
        let task = serve(listener, service.clone(), Arc::clone(&hangs));
        S3Server { endpoint: format!("http://{address}"), address, service, hangs, task }
    }

    /// Stops answering and listening, as a server does that dies.
    pub(crate) async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Starts it again at the same address.
    pub(crate) async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.task = serve(listener, self.service.clone(), Arc::clone(&self.hangs));
    }

    /// Takes requests for objects whose names end so and never answers them, from now on.
    pub(crate) fn hang_at(&self, suffix: &str) {
        *self.hangs.lock().unwrap() = Some(suffix.to_owned());
    }

    /// The environment of a client with the right key.
    pub(crate) fn env(&self) -> BTreeMap<String, String> {
        let pairs = [
            ("AWS_ACCESS_KEY_ID", Self::ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", Self::SECRET_KEY),
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_REGION", "us-east-1"),
        ];
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    /// The same as options of a source.
    pub(crate) fn options(&self) -> StorageOptions {
        self.env().into_iter().map(|(key, value)| (key.to_lowercase(), SecretString::from(value))).collect()
    }

    /// Parquet files of its.
    pub(crate) fn parquet(&self, uri: &str) -> SourceSpec {
        let (uri, options) = (uri.to_owned(), self.options());
        SourceSpec::Parquet(ParquetSource { uri, hive_partitioning: true, options })
    }
}

/// Its connections end with the task.
fn serve(listener: TcpListener, service: S3Service, hangs: Hangs) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let (service, hangs) = (service.clone(), Arc::clone(&hangs));
            connections.spawn(async move {
                let answer = service_fn(move |request: Request<Incoming>| {
                    let (service, hangs) = (service.clone(), Arc::clone(&hangs));
                    async move {
                        let hangs =
                            hangs.lock().unwrap().as_ref().is_some_and(|end| request.uri().path().ends_with(end));
                        if hangs {
                            std::future::pending::<()>().await;
                        }
                        Service::call(&service, request).await
                    }
                });
                // A client that hangs up is no failure of the server.
                let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answer).await;
            });
        }
    })
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
