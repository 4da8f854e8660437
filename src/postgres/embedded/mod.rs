//! The embedded server: a PostgreSQL of the project's own, run from the binaries that the machine has.
//!
//! Everything lies in `<project>/.lakegate/postgres`: the data directory, the port, the password, the server's log and
//! two lock files. The server outlives the process that started it as long as others of the same project use it:
//!
//! - Every user holds `users.lock` shared. Whoever releases it tries to have it exclusively; who gets it is the last
//!   one out and stops the server.
//! - Starting, adopting and stopping happen under `start.lock`, exclusively.
//! - The kernel frees both locks when a process dies, however it dies. A server left running is found through its
//!   `postmaster.pid` and adopted by the next process.
//!
//! The server listens on a socket inside its data directory, which only its account may enter and which therefore asks
//! for no password, and on 127.0.0.1 with a password, for SQL readers. Lakegate itself uses the socket, or TCP where
//! the path is too long for one.
//!
//! Postgres refuses to run as root. Started by root, the server runs under an unprivileged account that owns the data
//! directory, but which may not be able to get there, for example below `/root`. So it never walks there: the
//! directory is opened by us and passed on, and the server knows it as `/proc/self/fd/N`. This needs neither
//! capabilities, which containers drop and which would let the server read everybody's files, nor a data directory
//! outside the project, which would be left behind when the project is moved or deleted.

mod account;
mod binaries;
mod cluster;
mod folder;
mod initdb;
mod postmaster;
mod settings;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;

pub use self::binaries::{Binaries, BinarySearch};
pub(super) use self::cluster::Cluster;
use super::connect::Connector;
use crate::domain::{Error, Result};

/// The superuser that owns the cluster.
const USER: &str = "lakegate";

/// The database that Lakegate uses.
const DATABASE: &str = "postgres";

/// A share in the project's server, which runs as long as anybody has one.
///
/// Dropping it without [`EmbeddedServer::release`] gives the share back too, but does not wait for the server to end.
pub struct EmbeddedServer {
    cluster: Arc<Cluster>,
    /// `users.lock`, held shared; `None` once given back.
    users: Option<File>,
}

impl EmbeddedServer {
    /// Makes the project's server if it has none, starts it if it does not run, and takes a share in it.
    ///
    /// # Errors
    /// [`BinariesMissing`](crate::domain::Code::BinariesMissing) when no server of a fitting version is installed;
    /// [`EmbeddedServer`](crate::domain::Code::EmbeddedServer) when it does not start, with the end of its log;
    /// [`UnreadableFile`](crate::domain::Code::UnreadableFile) when the folder cannot be written.
    pub async fn start(project_dir: &Path, search: &BinarySearch) -> Result<EmbeddedServer> {
        let (project_dir, search) = (project_dir.to_owned(), search.clone());
        // Made where the work is done: if nobody waits for it any more, it is dropped there, and the share with it.
        blocking(move || {
            let (cluster, users) = cluster::start(&project_dir, &search)?;
            Ok(EmbeddedServer { cluster: Arc::new(cluster), users: Some(users) })
        })
        .await
    }

    /// Makes sessions on the server. Once the share is given back, it makes no new ones.
    ///
    /// # Errors
    /// None in practice; a defect in the TLS library would show here.
    pub fn connector(&self) -> Result<Connector> {
        Connector::embedded(Arc::clone(&self.cluster))
    }

    /// Where the server keeps its data.
    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.cluster.data_directory()
    }

    /// The URL for SQL readers on this machine; contains the password.
    pub fn url_for_people(&self) -> SecretString {
        self.cluster.url_for_people()
    }

    /// Gives the share back. The last one out stops the server and waits until it has written everything.
    ///
    /// # Errors
    /// [`EmbeddedServer`](crate::domain::Code::EmbeddedServer) when the server takes too long to stop; it goes on
    /// stopping by itself.
    pub async fn release(mut self) -> Result<()> {
        let Some(users) = self.users.take() else { return Ok(()) };
        let cluster = Arc::clone(&self.cluster);
        blocking(move || cluster.release(&users)).await
    }
}

impl Drop for EmbeddedServer {
    fn drop(&mut self) {
        if let Some(users) = self.users.take() {
            self.cluster.release_without_waiting(&users);
        }
    }
}

/// Runs what blocks (locks, files, programs) off the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::internal(format!("the task that runs the embedded Postgres died: {error}"))))
}
