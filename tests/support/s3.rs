//! An S3-compatible server in the test's own process, over a local folder.

use std::collections::BTreeMap;
use std::path::Path;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use lakegate::domain::StorageOptions;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running server; each folder below its root is a bucket. It ends when dropped.
pub(crate) struct S3Server {
    /// `http://127.0.0.1:PORT`
    pub(crate) endpoint: String,
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
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    // A client that hangs up is no failure of the server.
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        S3Server { endpoint, task }
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
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
