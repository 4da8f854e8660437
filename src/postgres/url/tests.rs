use std::path::PathBuf;

use super::*;

fn parsed(text: &str) -> Target {
    match parse(&SecretString::from(text)) {
        Ok(target) => target,
        Err(error) => panic!("{text}: {error}"),
    }
}

fn refused(text: &str) -> Error {
    match parse(&SecretString::from(text)) {
        Ok(_) => panic!("{text}: accepted"),
        Err(error) => error,
    }
}

/// user, password, hosts, ports, database
fn summary(text: &str) -> (Option<String>, Option<String>, Vec<String>, Vec<u16>, Option<String>) {
    let config = parsed(text).config;
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    (
        config.get_user().map(str::to_owned),
        config.get_password().map(|word| String::from_utf8_lossy(word).into_owned()),
        hosts.collect(),
        config.get_ports().to_vec(),
        config.get_dbname().map(str::to_owned),
    )
}

#[test]
fn both_forms_are_understood() {
    let full = |user: &str, password: &str, host: &str, port: u16, database: &str| {
        (Some(user.into()), Some(password.into()), vec![host.to_owned()], vec![port], Some(database.into()))
    };
    let table = [
        ("postgres://ann:pw@db.example:6432/lake", full("ann", "pw", "db.example", 6432, "lake")),
        ("postgresql://ann:pw@[::1]:6432/lake", full("ann", "pw", "::1", 6432, "lake")),
        ("postgres://a%40b:p%2Fw%3F%25@h:1/d%20b", full("a@b", "p/w?%", "h", 1, "d b")),
        // Characters that people forget to encode but that leave no doubt.
        ("postgres://ann:p@ss#1%@h:1/db", full("ann", "p@ss#1%", "h", 1, "db")),
        ("postgres://ann:pw@%2Frun%2Fpg:5/db", full("ann", "pw", "/run/pg", 5, "db")),
        ("postgres:///db?host=/run/pg&port=5&user=ann&password=pw", full("ann", "pw", "/run/pg", 5, "db")),
        ("host=/run/pg port=5 user=ann password=pw dbname=db", full("ann", "pw", "/run/pg", 5, "db")),
        (r"host = h port=7 user=ann password='it\'s \\ x' dbname=db", full("ann", r"it's \ x", "h", 7, "db")),
        (r"host=h port=7 user=ann password=a\ b dbname=db", full("ann", "a b", "h", 7, "db")),
    ];
    for (text, expected) in table {
        assert_eq!(summary(text), expected, "{text}");
    }
    let several = summary("postgres://ann@one:1,two:2/db?target_session_attrs=read-write");
    assert_eq!(several.2, ["one", "two"]);
    assert_eq!(several.3, [1, 2]);
    assert_eq!(summary("postgres://ann@/db").2, ["localhost"]);
    assert_eq!(summary("postgres://ann@h/db").1, None);
}

#[test]
fn sslmode_means_what_libpq_means() {
    let file = || Roots::File(PathBuf::from("/ca.pem"));
    let table = [
        ("", SslMode::Prefer, Roots::System),
        ("?sslmode=disable", SslMode::Disable, Roots::System),
        ("?sslmode=prefer", SslMode::Prefer, Roots::System),
        ("?sslmode=require", SslMode::Require, Roots::System),
        ("?sslmode=require&sslrootcert=/ca.pem", SslMode::VerifyCa, file()),
        ("?sslmode=verify-ca&sslrootcert=%2Fca.pem", SslMode::VerifyCa, file()),
        ("?sslmode=verify-full&sslrootcert=/ca.pem", SslMode::VerifyFull, file()),
        ("?sslmode=verify-full", SslMode::VerifyFull, Roots::System),
        ("?sslrootcert=system", SslMode::VerifyFull, Roots::System),
    ];
    for (query, mode, roots) in table {
        let tls = parsed(&format!("postgres://u:p@h/d{query}")).tls;
        assert_eq!((tls.mode, tls.roots), (mode, roots), "{query}");
    }
    assert_eq!(parsed("host=h user=u sslmode=verify-full").tls.mode, SslMode::VerifyFull);
}

#[test]
fn a_socket_is_never_encrypted() {
    let config = parsed("host=/run/pg user=u sslmode=require").config;
    assert_eq!(config.get_ssl_mode(), DriverSslMode::Disable);
}

#[test]
fn connect_timeout_bounds_the_login() {
    assert_eq!(parsed("postgres://u@h/d?connect_timeout=3").timeout, Duration::from_secs(3));
    assert_eq!(parsed("postgres://u@h/d").timeout, CONNECT_TIMEOUT);
}

#[test]
fn what_is_wrong_is_refused_without_repeating_any_value() {
    let table = [
        ("mysql://u:hunter2@h/d", "begins with postgres://"),
        ("hunter2", "neither a URL"),
        ("postgres://u:hun/ter2@h/d", "behind a `/` or `?`"),
        ("postgres://u:hun?ter2=x@h/d", "behind a `/` or `?`"),
        ("postgres://u:hunter2@h:notaport/d", "`port`"),
        ("postgres://u@x:hunter2/d", "`port`"),
        ("postgres://u:hunter2@[::1/d", "IPv6"),
        ("postgres://u:hunter2@h/d?sslmode=hunter2", "sslmode"),
        ("postgres://u:hunter2@h/d?sslrootcert=system&sslmode=require", "verify-full"),
        ("postgres://u:hunter2@h/d?sslcert=/x", "go together"),
        ("postgres://u:hunter2@h/d?schema=public", "unknown option `schema`"),
        ("postgres://u:hunter2@h/d?hunter2=1", "unknown option"),
        ("postgres://u:hunter2@h/d?novalue", "no `=`"),
        ("postgres://u:hunter2%ff@h/d", "UTF-8"),
        ("postgres://u:hunter2@h/d?gssencmode=require", "Kerberos"),
        ("host=h password='hunter2", "closing quote"),
        ("host=h password hunter2", "no `=`"),
        ("postgres://u:hunter2@h/d?hostaddr=hunter2", "`hostaddr`"),
    ];
    for (text, expected) in table {
        let error = refused(text);
        assert_eq!(error.code(), Code::InvalidUrl, "{text}");
        assert!(error.detail().contains(expected), "{text}: {error}");
        let everything = format!("{error} {error:?} {}", error.advice().unwrap_or_default());
        assert!(!everything.contains("hunter2") && !everything.contains("ter2"), "{text}: {everything}");
    }
}

#[test]
fn a_missing_root_certificate_is_named() {
    let tls = parsed("postgres://u@h/d?sslmode=verify-full&sslrootcert=/no/such/ca.pem").tls;
    let error = crate::postgres::tls::connector(&tls).err().unwrap();
    assert_eq!(error.code(), Code::PostgresTls);
    assert!(error.detail().contains("/no/such/ca.pem"), "{error}");
}
