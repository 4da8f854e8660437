//! Connection strings: the URL form and the `key=value` form of libpq, with its meaning of `sslmode`.
//!
//! The driver parses neither `verify-ca`, `verify-full` nor `sslrootcert`, so both forms are taken apart here; what is
//! not about certificates is handed to the driver key by key. No error repeats a value of the string: any part of it
//! may turn out to be a piece of a password.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode as DriverSslMode};

use super::tls::{ClientCertificate, Roots, SslMode, TlsOptions};
use crate::domain::{Code, Error, Result};

/// How long connecting may take where the string does not say: `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Keys that the driver understands as libpq does.
const DRIVER_KEYS: &[&str] = &[
    "user",
    "password",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "options",
    "application_name",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
    "sslnegotiation",
];

/// Where to connect, as whom and how.
pub(super) struct Target {
    /// For the driver; contains the password, so it is never printed.
    pub(super) config: Config,
    /// What TLS has to prove.
    pub(super) tls: TlsOptions,
    /// The bound on connecting to one host, login included.
    pub(super) timeout: Duration,
}

/// Takes a connection string apart.
///
/// # Errors
/// [`Code::InvalidUrl`], never with any value of the string.
pub(super) fn parse(text: &SecretString) -> Result<Target> {
    let text = text.expose_secret().trim();
    let options = match text.split_once("://") {
        Some(("postgres" | "postgresql", rest)) => url_form(rest)?,
        Some((scheme, _)) if !scheme.contains(['=', ' ']) => {
            return Err(invalid("a Postgres URL begins with postgres:// or postgresql://"));
        }
        _ if text.contains('=') => key_value_form(text)?,
        _ => return Err(invalid("this is neither a URL nor a list of key=value pairs")),
    };
    target(options)
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::new(Code::InvalidUrl, detail).hint(
        "write postgres://user:password@host:5432/database?sslmode=require, with special characters percent-encoded",
    )
}

type Options = BTreeMap<String, String>;

/// `user:password@host:port,host:port/database?key=value&…`, what follows the scheme.
fn url_form(rest: &str) -> Result<Options> {
    let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = before_query.split_once('/').unwrap_or((before_query, ""));
    if !authority.contains('@') && rest.contains('@') {
        return Err(invalid("an `@` stands behind a `/` or `?`: the password seems to contain such a character")
            .hint("percent-encode special characters of the password: / is %2F, ? is %3F, @ is %40, % is %25"));
    }
    let (login, hosts) = authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));

    let mut options = Options::new();
    if let Some(login) = login {
        let (user, password) = login.split_once(':').map_or((login, None), |(user, word)| (user, Some(word)));
        if !user.is_empty() {
            options.insert("user".to_owned(), decode(user)?);
        }
        if let Some(password) = password {
            options.insert("password".to_owned(), decode(password)?);
        }
    }
    insert_hosts(&mut options, hosts)?;
    if !database.is_empty() {
        options.insert("dbname".to_owned(), decode(database)?);
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| invalid("an option in the URL has no `=`"))?;
        options.insert(decode(key)?, decode(value)?);
    }
    Ok(options)
}

/// `host:port,[v6]:port,…`
fn insert_hosts(options: &mut Options, hosts: &str) -> Result<()> {
    if hosts.is_empty() {
        return Ok(());
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = if let Some(v6) = host.strip_prefix('[') {
            let (name, rest) = v6.split_once(']').ok_or_else(|| invalid("an IPv6 address lacks its `]`"))?;
            (name, rest.strip_prefix(':'))
        } else {
            host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)))
        };
        names.push(decode(name)?);
        ports.push(port.unwrap_or_default().to_owned());
    }
    options.insert("host".to_owned(), names.join(","));
    if ports.iter().any(|port| !port.is_empty()) {
        options.insert("port".to_owned(), ports.join(","));
    }
    Ok(())
}

fn decode(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| invalid("a percent-encoded part is not UTF-8"))?.into_owned())
}

/// `key=value key='quoted value' …`, where a backslash makes the next character plain.
fn key_value_form(text: &str) -> Result<Options> {
    let mut options = Options::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(options);
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') {
            return Err(invalid("a key in the list of key=value pairs has no `=`"));
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.extend(chars.next()),
                Some('\'') if quoted => break,
                None if quoted => return Err(invalid("a quoted value lacks its closing quote")),
                None => break,
                Some(c) if c.is_whitespace() && !quoted => break,
                Some(c) => value.push(c),
            }
        }
        options.insert(key, value);
    }
}

/// Gives every option its meaning.
fn target(mut options: Options) -> Result<Target> {
    let tls = tls_options(&mut options)?;
    // Kerberos encryption is never used; a URL that merely says so is fine.
    if let Some(mode) = options.remove("gssencmode")
        && mode == "require"
    {
        return Err(invalid("gssencmode=require: encryption by Kerberos is not available").hint("use sslmode instead"));
    }
    if options.get("host").is_none_or(String::is_empty) {
        // A certificate is checked against the host's name: an address is one too.
        let host = options.get("hostaddr").cloned().unwrap_or_else(|| "localhost".to_owned());
        options.insert("host".to_owned(), host);
    }

    let mut dsn = String::new();
    for (key, value) in &options {
        if !DRIVER_KEYS.contains(&key.as_str()) {
            return Err(unknown_option(key));
        }
        let escaped = value.replace('\\', r"\\").replace('\'', r"\'");
        let _ = write!(dsn, "{key}='{escaped}' ");
    }
    let mut config: Config = dsn.parse().map_err(|error: tokio_postgres::Error| {
        // The driver's complaint is either `invalid value for option` with the key alone, or may quote the string.
        let complaint = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let named = DRIVER_KEYS.iter().find(|key| complaint == format!("invalid value for option `{key}`"));
        named.map_or_else(
            || invalid("the connection string is malformed"),
            |key| invalid(format!("`{key}` has a value that is not possible")),
        )
    })?;
    let all_unix = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    config.ssl_mode(match tls.mode {
        _ if all_unix => DriverSslMode::Disable,
        SslMode::Disable => DriverSslMode::Disable,
        SslMode::Prefer => DriverSslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => DriverSslMode::Require,
    });
    keep_alive(&mut config, &options);
    let timeout = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
    config.connect_timeout(timeout);
    Ok(Target { config, tls, timeout })
}

/// Keys are repeated in errors only when they look like one: a malformed URL may put a piece of a password here.
fn unknown_option(key: &str) -> Error {
    let harmless = key.len() <= 24 && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let detail = if harmless { format!("unknown option `{key}`") } else { "unknown option".to_owned() };
    invalid(detail).hint(format!(
        "known are sslmode, sslrootcert, sslcert, sslkey, {}; special characters of a password are percent-encoded",
        DRIVER_KEYS.join(", ")
    ))
}

/// Finds out about a dead peer within a minute, where the string does not say otherwise. The system's default is two
/// hours.
fn keep_alive(config: &mut Config, options: &Options) {
    if !options.contains_key("keepalives_idle") {
        config.keepalives_idle(Duration::from_secs(30));
    }
    if !options.contains_key("keepalives_interval") {
        config.keepalives_interval(Duration::from_secs(10));
    }
    if !options.contains_key("keepalives_retries") {
        config.keepalives_retries(3);
    }
}

/// Takes `sslmode`, `sslrootcert`, `sslcert` and `sslkey` out of the options.
fn tls_options(options: &mut Options) -> Result<TlsOptions> {
    let roots = match options.remove("sslrootcert") {
        None => None,
        Some(path) if path.is_empty() => None,
        Some(system) if system == "system" => Some(Roots::System),
        Some(path) => Some(Roots::File(PathBuf::from(path))),
    };
    let stated = options.remove("sslmode");
    let mode = match stated.as_deref() {
        // As in libpq, `sslrootcert=system` asks for the full check.
        None if roots == Some(Roots::System) => SslMode::VerifyFull,
        None | Some("prefer") => SslMode::Prefer,
        Some("disable") => SslMode::Disable,
        // As in libpq, a root certificate is not given for nothing.
        Some("require") if matches!(roots, Some(Roots::File(_))) => SslMode::VerifyCa,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        Some(_) => {
            return Err(invalid("sslmode has a value that is not possible")
                .hint("sslmode is one of disable, prefer, require, verify-ca, verify-full"));
        }
    };
    if roots == Some(Roots::System) && mode != SslMode::VerifyFull {
        return Err(invalid("sslrootcert=system needs sslmode=verify-full").hint(
            "anybody can get a certificate from a public authority: only with the host's name does it prove anything",
        ));
    }
    let client = match (options.remove("sslcert"), options.remove("sslkey")) {
        (Some(certificate), Some(key)) => {
            Some(ClientCertificate { certificate: PathBuf::from(certificate), key: PathBuf::from(key) })
        }
        (None, None) => None,
        _ => return Err(invalid("sslcert and sslkey go together").hint("give both or neither")),
    };
    Ok(TlsOptions { mode, roots: roots.unwrap_or(Roots::System), client })
}

#[cfg(test)]
mod tests;
