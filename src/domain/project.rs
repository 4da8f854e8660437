//! What a person declares about the project as a whole.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::{Auth, Pipeline};

/// A project, validated: `lakegate.yaml`, all pipeline files and the overriding environment.
#[derive(Debug, Clone)]
pub struct Project {
    /// The project's folder.
    pub dir: PathBuf,
    /// The project's id where the file states it.
    pub id: Option<String>,
    /// The Postgres URL; `None` = the embedded server.
    pub postgres: Option<SecretString>,
    /// The three schemas in Postgres.
    pub schemas: Schemas,
    /// The read API.
    pub api: ApiSettings,
    /// The admin API, which `lakegate up` serves; `lakegate serve` has its metrics there.
    pub admin: ApiSettings,
    /// Who may use the APIs.
    pub auth: Auth,
    /// Whom to tell when a pipeline fails or is late; `None` = nobody.
    pub alerts: Option<Alerts>,
    /// Bounds on what one process may use.
    pub limits: Limits,
    /// All pipelines, by name.
    pub pipelines: Vec<Pipeline>,
}

impl Project {
    /// The settings, by the keys that declare them, that another state of the project has otherwise, pipelines apart. An id
    /// that the other one does not state counts for nothing.
    #[must_use]
    pub fn settings_that_differ(&self, other: &Project) -> Vec<&'static str> {
        let secret = |secret: Option<&SecretString>| secret.map(|secret| secret.expose_secret().to_owned());
        let webhook = |project: &Project| secret(project.alerts.as_ref().map(|alerts| &alerts.webhook));
        // Secrets are not shown by `Debug`.
        let auth = |project: &Project| (format!("{:?}", project.auth), secret(project.auth.signing_secret()));
        let (api, admin, limits) = (&self.api, &self.admin, &self.limits);
        let settings = [
            ("project", other.id.is_some() && self.id != other.id),
            ("postgres", secret(self.postgres.as_ref()) != secret(other.postgres.as_ref())),
            ("schemas", self.schemas != other.schemas),
            ("api.listen", api.listen != other.api.listen),
            ("api.hosts", api.hosts != other.api.hosts),
            ("api.tls", api.tls != other.api.tls),
            ("api.cors", api.cors != other.api.cors),
            ("api.access_log", api.access_log != other.api.access_log),
            ("admin.listen", admin.listen != other.admin.listen),
            ("admin.hosts", admin.hosts != other.admin.hosts),
            ("auth", auth(self) != auth(other)),
            ("alerts", webhook(self) != webhook(other)),
            ("limits", *limits != other.limits),
        ];
        settings.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

/// The schemas that a project owns in Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schemas {
    /// Holds the published views.
    pub published: String,
    /// Holds the generations.
    pub data: String,
    /// Holds the control tables.
    pub control: String,
}

/// The listener of an API.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiSettings {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Host names accepted in the `Host` header besides the address itself and the loopback names.
    pub hosts: Vec<String>,
    /// The files for TLS; `None` = there is none.
    pub tls: Option<TlsFiles>,
    /// The origins whose pages may read; `*` = any.
    pub cors: Vec<String>,
    /// The share of requests, 0 to 1, that the access log has a line of besides those that failed by a fault of the server;
    /// `None` = there is no log.
    pub access_log: Option<f64>,
}

/// What a listener shows for TLS, in PEM form. Files that change are read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those that it was signed by.
    pub certificate: PathBuf,
    /// Its key, which is not encrypted.
    pub key: PathBuf,
}

/// Whom to tell when the standing of a pipeline changes.
#[derive(Debug, Clone)]
pub struct Alerts {
    /// The http or https URL that alerts are posted to. Such URLs often are secrets themselves.
    pub webhook: SecretString,
}

/// Bounds on what one process may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that all readers and encoders of one process may hold at a time.
    pub memory: u64,
    /// Bytes that the read API may keep of rows it has read; 0 = it keeps none.
    pub cache_memory: u64,
    /// Connections to Postgres for lookups; the COPYs of a sync take as many again at most, and a few more do its bookkeeping.
    pub connections: u32,
    /// The most rows of one page, whatever a pipeline says.
    pub page_max: u32,
    /// The most keys of one batch.
    pub batch_keys_max: u32,
    /// The longest a lookup may take in Postgres.
    pub statement_timeout: Duration,
    /// The most syncs at a time in one process.
    pub concurrent_runs: u32,
}
