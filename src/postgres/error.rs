//! From what the driver reports to Lakegate's one error type.

use std::error::Error as StdError;

use tokio_postgres::error::{DbError, SqlState};

use crate::domain::{Code, Error};

/// What a driver error means and what to do about it. The driver's error stays as the source, so that [`sqlstate`]
/// still finds its SQLSTATE.
pub fn explain(error: tokio_postgres::Error) -> Error {
    let explained = match error.as_db_error() {
        Some(refusal) => from_server(refusal),
        None => from_driver(&error),
    };
    explained.because(error)
}

/// The SQLSTATE underneath an error, where Postgres gave one.
pub fn sqlstate(error: &Error) -> Option<&SqlState> {
    let mut cause = error.source();
    while let Some(current) = cause {
        if let Some(driver) = current.downcast_ref::<tokio_postgres::Error>() {
            return driver.code();
        }
        cause = current.source();
    }
    None
}

/// What the driver was doing when it failed without an answer of the server. The driver keeps this private; its
/// `Display` is the only way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection could be made.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The login, on our side: no password given, a method we do not have, a server that does not know the password.
    Login,
    /// Options of the URL that contradict each other.
    Options,
    /// An existing connection broke.
    Lost,
    /// Anything else: a parameter that cannot be encoded, a result of another type than asked for.
    Misuse,
}

/// Sorts a driver error that carries no [`DbError`].
pub(super) fn failure(error: &tokio_postgres::Error) -> Failure {
    if error.is_closed() {
        return Failure::Lost;
    }
    match error.to_string().as_str() {
        "error connecting to server" | "timeout waiting for server" => Failure::Connect,
        "error performing TLS handshake" => Failure::Tls,
        "authentication error" => Failure::Login,
        "invalid configuration" if cause(error) == "password missing" => Failure::Login,
        "invalid configuration" => Failure::Options,
        "error communicating with the server" => Failure::Lost,
        _ => Failure::Misuse,
    }
}

fn cause(error: &tokio_postgres::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

fn from_driver(error: &tokio_postgres::Error) -> Error {
    let detail = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    match failure(error) {
        Failure::Connect => Error::new(Code::PostgresUnreachable, detail)
            .hint("check that the server runs and that host and port in the URL are right"),
        Failure::Tls => Error::new(Code::PostgresTls, detail).hint(tls_hint(error)),
        Failure::Login => Error::new(Code::PostgresAuth, detail).hint("check user and password in the URL"),
        Failure::Options => {
            Error::new(Code::InvalidUrl, detail).hint("as many ports as hosts, and an sslmode that goes with the rest")
        }
        Failure::Lost => Error::new(Code::ConnectionLost, detail).hint(LOST),
        Failure::Misuse => Error::internal(detail),
    }
}

/// What to do about a connection that has ended.
pub(super) const LOST: &str = "see the server's log; Lakegate connects again by itself when the work is retried";

fn tls_hint(error: &tokio_postgres::Error) -> &'static str {
    let cause = cause(error);
    if cause.contains("does not support TLS") {
        "the server has TLS switched off: use sslmode=disable in a trusted network, or switch it on"
    } else if cause.contains("UnknownIssuer") || cause.contains("unknown issuer") {
        "name the certificate authority of the server: sslrootcert=/path/to/ca.pem"
    } else if cause.contains("NotValidForName") || cause.contains("not valid for name") {
        "use the host name that stands in the server's certificate, or sslmode=verify-ca"
    } else {
        "check sslmode and sslrootcert in the URL against the server's certificate"
    }
}

/// A refusal of the server, sorted by SQLSTATE.
fn from_server(refusal: &DbError) -> Error {
    let state = refusal.code().code();
    let mut detail = format!("{} (SQLSTATE {state})", refusal.message());
    if let Some(more) = refusal.detail() {
        detail = format!("{detail}; {more}");
    }
    let (code, hint) = classify(state, refusal.message());
    let hint = match (code, refusal.hint()) {
        (Code::PostgresRefused, Some(servers)) => servers,
        _ => hint,
    };
    Error::new(code, detail).hint(hint)
}

fn classify(state: &str, message: &str) -> (Code, &'static str) {
    match state {
        "28P01" => (Code::PostgresAuth, "check user and password in the URL"),
        "28000" => (
            Code::PostgresAuth,
            "check the user in the URL, and that the server's pg_hba.conf lets it in from here with this sslmode",
        ),
        "3D000" => (Code::DatabaseMissing, "create it with CREATE DATABASE, or name another one in the URL"),
        "42501" => (Code::PostgresPrivilege, "`lakegate doctor --grants` prints the GRANTs that are needed"),
        "53100" => (Code::PostgresDiskFull, "free disk space on the server; what is published stays as it is"),
        "53200" => {
            (Code::PostgresRefused, "the server ran out of memory: lower maintenance_work_mem or shared_buffers")
        }
        "53300" => (
            Code::PostgresUnreachable,
            "all connections of the server are taken: lower `limits.connections` or raise max_connections",
        ),
        "55P03" | "40P01" => {
            (Code::LockNotAvailable, "another transaction holds the lock; it is tried again by itself")
        }
        "40001" => (Code::LockNotAvailable, "another transaction changed the same rows; it is tried again by itself"),
        // Two transactions that change the same entry of the catalogue, such as the privileges of a schema.
        "XX000" if message.contains("tuple concurrently") => {
            (Code::LockNotAvailable, "another transaction changed the same object; it is tried again by itself")
        }
        // The only difference between the two causes of 57014 is the text. Servers that write it in another language
        // are taken to mean the timeout: whoever cancels knows it anyway.
        "57014" if message.contains("user request") => {
            (Code::Cancelled, "somebody cancelled the statement; run it again")
        }
        "57014" => (Code::StatementTimeout, "raise `limits.statement_timeout`, or see what the server is busy with"),
        "57P03" => (Code::PostgresUnreachable, "the server is starting up or shutting down; try again in a moment"),
        "25P03" | "57P01" | "57P02" | "57P04" | "57P05" => (
            Code::ConnectionLost,
            "the server ended the connection: it was restarted, or an administrator did so; try again",
        ),
        "25006" => (
            Code::PostgresRefused,
            "the connection is read-only: name the primary in the URL, not a standby (target_session_attrs=read-write)",
        ),
        state if state.starts_with("08") => {
            (Code::ConnectionLost, "check the network between here and the server; try again")
        }
        _ => (Code::PostgresRefused, "the message is the server's own; its log may say more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_map_to_the_code_that_says_who_can_mend_it() {
        let code = |state| classify(state, "").0;
        assert_eq!(code("28P01"), Code::PostgresAuth);
        assert_eq!(code("42501"), Code::PostgresPrivilege);
        assert_eq!(code("53100"), Code::PostgresDiskFull);
        for state in ["55P03", "40P01", "40001"] {
            assert_eq!(code(state), Code::LockNotAvailable, "{state}");
        }
        assert_eq!(code("57P01"), Code::ConnectionLost);
        assert_eq!(code("25P03"), Code::ConnectionLost);
        assert_eq!(code("08006"), Code::ConnectionLost);
        assert_eq!(code("57P03"), Code::PostgresUnreachable);
        assert_eq!(code("3D000"), Code::DatabaseMissing);
        assert_eq!(code("23505"), Code::PostgresRefused);
        assert_eq!(code("57014"), Code::StatementTimeout);
        assert_eq!(classify("57014", "canceling statement due to user request").0, Code::Cancelled);
    }
}
