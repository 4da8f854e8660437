//! `lakegate.yaml` → the settings of a [`Project`](crate::domain::Project).

use std::net::SocketAddr;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value as Json, json};

use super::json_schema::text_schema;
use super::pipeline::Defaults;
use super::reader::{At, Reader, Setting};
use super::secret;
use super::section::section;
use super::settings::{self, Names, Origins, Period, SECOND, Share, Size, Whole, Words};
use super::yaml::Node;
use crate::domain::{Alerts, ApiSettings, Auth, Code, Limits, Schemas, TlsFiles};

section! {
    /// A Lakegate project: the settings of the whole.
    ProjectFile, "`lakegate.yaml`" {
        /// The project's id, which keeps two projects apart that share a database.
        project: ProjectId,
        /// The Postgres URL: `env:NAME`, `file:PATH`, or a URL whose password is a `${VAR}`. Without it Lakegate runs a
        /// Postgres of its own in `.lakegate/`.
        postgres: PostgresUrl,
        /// The schemas that the project owns in Postgres.
        schemas: SchemaKeys,
        /// The folder of the pipeline files, relative to the project.
        pipelines: Folder = "pipelines",
        /// The read API.
        api: ApiKeys,
        /// The admin API, which `lakegate up` serves; `lakegate serve` has its metrics there.
        admin: AdminKeys,
        /// Who may use the APIs: whoever shows a credential, or with `none` anybody. Unless declared, anybody, on loopback alone.
        auth: Auth,
        /// Whom to tell when a pipeline fails, is late or has recovered; nobody unless declared.
        alerts: AlertKeys,
        /// Bounds on what one process may use.
        limits: LimitKeys,
        /// Keys of pipelines that hold wherever a pipeline does not declare them itself.
        defaults: Defaults,
    }
    required []
    later []
}

section! {
    /// The schemas that the project owns in Postgres, all different.
    SchemaKeys, "`schemas`" {
        /// Holds the published views.
        published: SchemaName = "lake",
        /// Holds the generations, which are the tables behind the views.
        data: SchemaName = "lakegate_data",
        /// Holds the control tables.
        control: SchemaName = "lakegate",
    }
    required []
    later []
}

section! {
    /// The read API.
    ApiKeys, "`api`" {
        /// The address and port to listen on; port 0 takes a free one.
        listen: Listen = "127.0.0.1:8080",
        /// Host names accepted in the `Host` header besides the address itself and the loopback names.
        hosts: Names,
        /// The files for TLS; without it HTTP is spoken in the open.
        tls: TlsKeys,
        /// Origins like `https://app.example.com` whose web pages may read, or `*` for any; those of no other origin unless
        /// declared.
        cors: Origins,
        /// The share of requests that the access log on standard output has a line of: 1 = of each, 0.01 = of one in a
        /// hundred, 0 = of those alone that failed by a fault of the server. Without it there is no log.
        access_log: Share,
    }
    required []
    later []
}

section! {
    /// Files in PEM form, relative to the project. When they change, they are read again.
    TlsKeys, "`tls`" {
        /// The certificate, followed by those that it was signed by.
        certificate: Words,
        /// Its key, not encrypted.
        key: Words,
    }
    required [certificate, key]
    later []
}

section! {
    /// The admin API, which `lakegate up` serves; `lakegate serve` has its metrics there.
    AdminKeys, "`admin`" {
        /// The address and port to listen on; port 0 takes a free one.
        listen: Listen = "127.0.0.1:8081",
        /// Host names accepted in the `Host` header besides the address itself and the loopback names.
        hosts: Names,
    }
    required []
    later []
}

section! {
    /// Whom to tell when a pipeline fails, is late or has recovered.
    AlertKeys, "`alerts`" {
        /// The http or https URL that alerts are posted to: a URL, or `env:NAME` or `file:PATH`, as which a URL with
        /// credentials has to be written.
        webhook: WebhookUrl,
    }
    required [webhook]
    later []
}

section! {
    /// Bounds on what one process may use.
    LimitKeys, "`limits`" {
        /// Bytes that all readers and encoders may hold at a time. Where the dictionaries of many columns do not fit, fewer
        /// workers read a table.
        memory: Size<{ 1 << 20 }> = "256MiB",
        /// Bytes that the read API may keep of rows it has read; 0 = it keeps none.
        cache_memory: Size<0> = "256MiB",
        /// Connections to Postgres for lookups; the COPYs of a sync take as many again at most, and a few more do its bookkeeping.
        connections: Whole<2, 1_000> = 8,
        /// The most rows of one page, whatever a pipeline says.
        page_max: Whole<1, { u32::MAX as u64 }> = 1_000,
        /// The most keys of one batch.
        batch_keys_max: Whole<1, 100_000> = 1_000,
        /// The longest a lookup may take in Postgres, at most 10 seconds.
        statement_timeout: Period<1, { 10 * SECOND }> = "10s",
        /// The most syncs at a time.
        concurrent_runs: Whole<1, 1_000> = 2,
    }
    required []
    later []
}

/// The project's settings, complete.
pub(super) struct ProjectSettings {
    pub id: Option<String>,
    pub postgres: Option<SecretString>,
    pub schemas: Schemas,
    pub api: ApiSettings,
    pub admin: ApiSettings,
    pub auth: Auth,
    pub alerts: Option<Alerts>,
    pub limits: Limits,
}

/// Completes what the file declares; `None` after reporting what is wrong.
pub(super) fn settle(file: ProjectFile, reader: &mut Reader<'_>) -> Option<ProjectSettings> {
    let (api, admin, limits) = (file.api?.value, file.admin?.value, file.limits?.value);
    let schemas = schemas(file.schemas?.value, reader)?;
    Some(ProjectSettings {
        id: file.project.map(|id| id.value.0),
        postgres: file.postgres.map(|url| url.value.0),
        schemas,
        api: ApiSettings {
            listen: api.listen?.value.0,
            hosts: api.hosts.map(|hosts| hosts.value.0).unwrap_or_default(),
            tls: api.tls.and_then(|tls| tls_files(tls.value, reader.dir)),
            cors: api.cors.map(|origins| origins.value.0).unwrap_or_default(),
            access_log: api.access_log.map(|share| share.value.0),
        },
        admin: ApiSettings {
            listen: admin.listen?.value.0,
            hosts: admin.hosts.map(|hosts| hosts.value.0).unwrap_or_default(),
            tls: None,
            cors: Vec::new(),
            access_log: None,
        },
        auth: file.auth.map_or(Auth::Unset, |auth| auth.value),
        alerts: file.alerts.and_then(|alerts| alerts.value.webhook).map(|url| Alerts { webhook: url.value.0 }),
        limits: Limits {
            memory: limits.memory?.value.0,
            cache_memory: limits.cache_memory?.value.0,
            connections: limits.connections?.value.0 as u32,
            page_max: limits.page_max?.value.0 as u32,
            batch_keys_max: limits.batch_keys_max?.value.0 as u32,
            statement_timeout: limits.statement_timeout?.value.0,
            concurrent_runs: limits.concurrent_runs?.value.0 as u32,
        },
    })
}

fn tls_files(keys: TlsKeys, dir: &Path) -> Option<TlsFiles> {
    Some(TlsFiles { certificate: dir.join(keys.certificate?.value.0), key: dir.join(keys.key?.value.0) })
}

/// The longest name of a control schema, in bytes: that of the project's roles is six longer, and names in Postgres end at 63.
const CONTROL_MAX: usize = 57;

/// The schemas, which must differ: the later one that is declared is reported.
fn schemas(keys: SchemaKeys, reader: &mut Reader<'_>) -> Option<Schemas> {
    let (published, data, control) = (keys.published?, keys.data?, keys.control?);
    let pairs = [
        ("published", &published, "data", &data),
        ("published", &published, "control", &control),
        ("data", &data, "control", &control),
    ];
    let mut usable = true;
    for (one, first, other, second) in pairs {
        if first.value.0 == second.value.0 {
            usable = false;
            let place = if second.place.is_known() { &second.place } else { &first.place };
            let detail = format!("`schemas.{one}` and `schemas.{other}` are both `{}`", first.value.0);
            reader.invalid::<()>(place, &detail, "give each schema a name of its own");
        }
    }
    if control.value.0.len() > CONTROL_MAX {
        usable = false;
        let detail = format!("`schemas.control` has {} letters", control.value.0.len());
        let hint =
            format!("use {CONTROL_MAX} at most: the project's roles are named `<control>_owner` and `<control>_api`");
        reader.invalid::<()>(&control.place, &detail, &hint);
    }
    let name = |schema: At<SchemaName>| schema.value.0;
    usable.then(|| Schemas { published: name(published), data: name(data), control: name(control) })
}

/// The id of a project.
#[derive(Debug, Clone)]
pub(super) struct ProjectId(String);

impl Setting for ProjectId {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let id = settings::text(node, reader, "an id")?;
        if id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            return Some(ProjectId(id));
        }
        reader.invalid(&node.place, "this cannot be a project's id", "use 1 to 64 letters, digits, `-` and `_`")
    }

    fn schema() -> Json {
        text_schema("^[A-Za-z0-9_-]{1,64}$")
    }
}

/// The Postgres URL, which may hold a password.
#[derive(Debug, Clone)]
pub(super) struct PostgresUrl(SecretString);

impl Setting for PostgresUrl {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "the URL of a Postgres")?;
        if secret::shows_password(&text.visible) {
            let hint = "write the password as `${VAR}`, or the whole URL as `env:NAME` or `file:PATH`".to_owned();
            return reader.refuse(Code::SecretInTheOpen, &node.place, "the password stands in the file", Some(hint));
        }
        let url = secret::resolve(&text, &node.place, reader)?;
        if ["postgres://", "postgresql://"].iter().any(|scheme| url.expose_secret().starts_with(scheme)) {
            return Some(PostgresUrl(url));
        }
        let hint = "write `postgres://user@host:5432/database`, `env:NAME` or `file:PATH`";
        reader.invalid(&node.place, "the value is not a URL that begins with `postgres://`", hint)
    }

    fn schema() -> Json {
        text_schema("^(postgres(ql)?://|env:|file:)")
    }
}

/// The URL that alerts are posted to, which may hold credentials.
#[derive(Debug, Clone)]
pub(super) struct WebhookUrl(SecretString);

impl Setting for WebhookUrl {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a URL")?;
        if secret::shows_credentials(&text.visible) {
            let hint = "write the whole URL as `env:NAME` or `file:PATH`, or the secret in it as `${VAR}`".to_owned();
            return reader.refuse(Code::SecretInTheOpen, &node.place, "credentials stand in the file", Some(hint));
        }
        let url = secret::resolve(&text, &node.place, reader)?;
        let parsed = url::Url::parse(url.expose_secret()).ok();
        if parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            return Some(WebhookUrl(url));
        }
        let hint = "write `https://host/path`, `env:NAME` or `file:PATH`";
        reader.invalid(&node.place, "the value is not a URL that begins with `https://` or `http://`", hint)
    }

    fn schema() -> Json {
        text_schema("^(https?://|env:|file:)")
    }
}

/// The name of a schema in Postgres.
#[derive(Debug, Clone)]
pub(super) struct SchemaName(String);

impl Setting for SchemaName {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "the name of a schema")?;
        let name = text.text.as_str();
        let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !(starts && rest && name.len() <= 63) {
            let detail = format!("{} cannot name a schema", text.shown());
            let hint = "use 1 to 63 lower-case letters, digits and underscores, not beginning with a digit";
            return reader.invalid(&node.place, &detail, hint);
        }
        if name.starts_with("pg_") || name == "information_schema" {
            let detail = format!("{} belongs to Postgres itself", text.shown());
            return reader.invalid(&node.place, &detail, "choose another name");
        }
        Some(SchemaName(text.text))
    }

    fn schema() -> Json {
        text_schema("^[a-z_][a-z0-9_]{0,62}$")
    }
}

/// The folder of the pipeline files.
#[derive(Debug, Clone)]
pub(super) struct Folder(pub String);

impl Setting for Folder {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let folder = settings::text(node, reader, "a folder")?;
        if folder.contains("://") {
            return reader.not_built(&node.place, "an object-store prefix for `pipelines`", "use a folder");
        }
        Some(Folder(folder))
    }

    fn schema() -> Json {
        json!({"type": "string", "minLength": 1})
    }
}

/// An address and a port to listen on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listen(SocketAddr);

impl Setting for Listen {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "an address and a port")?;
        match text.text.parse() {
            Ok(address) => Some(Listen(address)),
            Err(_) => {
                let detail = format!("{} is not an IP address with a port", text.shown());
                reader.invalid(&node.place, &detail, "write `127.0.0.1:8080`, `\"[::1]:8080\"` or `0.0.0.0:8080`")
            }
        }
    }

    fn schema() -> Json {
        text_schema(":[0-9]{1,5}$")
    }
}
