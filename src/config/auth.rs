//! `auth`: which credentials the APIs take.

use std::net::IpAddr;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value as Json, json};
use url::{Host, Url};

use super::json_schema::{text_schema, words};
use super::reader::{Reader, Setting, SettingPath};
use super::secret;
use super::section::section;
use super::settings::{self, KeyColumns, Period, SECOND, Words};
use super::yaml::{Node, Value};
use crate::domain::{Auth, Code, Credentials, JwtKeys, JwtSettings};

/// The fewest bytes of a secret that signs tokens: as many as the hash has (RFC 7518, section 3.2).
const MIN_SECRET: usize = 32;

section! {
    /// Which credentials the APIs take.
    AuthKeys, "`auth`" {
        /// Whether they take API keys, which `lakegate keys create` makes.
        keys: bool = false,
        /// Which tokens (JSON Web Tokens) the read API takes; none unless declared.
        jwt: JwtSection,
    }
    required []
    later []
}

section! {
    /// Which tokens the read API takes. Either `jwks` or `secret` says how they are signed.
    JwtSection, "`jwt`" {
        /// Who makes them: what their claim `iss` has to be.
        issuer: Words,
        /// What they are for: a name, or several of which their claim `aud` has to have one.
        audience: KeyColumns,
        /// The key set of the issuer: a URL, or a file relative to the project. It is read again from time to time.
        jwks: KeySetPlace,
        /// The secret that they are signed with (HS256): `env:NAME` or `file:PATH`, of 32 bytes or more.
        secret: SigningSecret,
        /// By how much the clocks of the issuer and of this machine may differ.
        clock_skew: Period<0, { 600 * SECOND }> = "30s",
        /// The claim that holds roles, by its name or as a JSON pointer like `/realm_access/roles`.
        roles: Words = "roles",
    }
    required [issuer, audience]
    later []
}

impl Setting for Auth {
    const COLLECTION: bool = true;

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if let Value::Map(_) = &node.value {
            let problems = reader.problems.len();
            let auth = AuthKeys::read(node, reader)?;
            let keys = auth.keys.is_some_and(|keys| keys.value);
            let jwt = match auth.jwt {
                None => None,
                Some(jwt) => Some(tokens(jwt.value, node, reader)?),
            };
            if keys || jwt.is_some() || reader.problems.len() > problems {
                return Some(Auth::Required(Credentials { keys, jwt }));
            }
            let hint = "write `keys: true`, or declare `jwt`; for anybody to be let in, write `auth: none`";
            return reader.invalid(&node.place, "no credential is taken", hint);
        }
        settings::word(node, reader, &["none"], &[], Some("{keys: true}")).map(|_| Auth::None)
    }

    fn schema() -> Json {
        let none = words(&[("none", "Anybody, wherever the API listens.")]);
        json!({"anyOf": [none, AuthKeys::schema()]})
    }

    fn paths() -> Vec<SettingPath> {
        AuthKeys::paths()
    }
}

fn tokens(jwt: JwtSection, node: &Node, reader: &mut Reader<'_>) -> Option<JwtSettings> {
    let jwt = jwt.preset(reader);
    let keys = match (jwt.jwks, jwt.secret) {
        (Some(jwks), None) => jwks.value.0,
        (None, Some(secret)) => JwtKeys::Secret(secret.value.0),
        (Some(_), Some(secret)) => {
            let hint = "keep `jwks` where the issuer publishes its keys, and `secret` where it shares one";
            return reader.invalid(&secret.place, "`jwks` and `secret` are both declared", hint);
        }
        (None, None) => {
            let hint = "declare `jwks` with the URL of the issuer's keys, or `secret`";
            return reader.invalid(&node.place, "`jwt` does not say how tokens are signed", hint);
        }
    };
    Some(JwtSettings {
        issuer: jwt.issuer?.value.0,
        audience: jwt.audience?.value.0,
        keys,
        clock_skew: jwt.clock_skew?.value.0,
        roles: jwt.roles?.value.0,
    })
}

/// Where a key set stands.
#[derive(Debug, Clone)]
pub(super) struct KeySetPlace(JwtKeys);

impl Setting for KeySetPlace {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a URL or a file")?;
        if secret::shows_credentials(&text.visible) {
            let hint = "the keys of an issuer are public: use a URL without credentials".to_owned();
            return reader.refuse(Code::SecretInTheOpen, &node.place, "credentials stand in the file", Some(hint));
        }
        if !text.text.contains("://") {
            let path = settings::text(node, reader, "a URL or a file")?;
            return Some(KeySetPlace(JwtKeys::File(reader.dir.join(Path::new(&path)))));
        }
        match Url::parse(&text.text).ok().filter(is_safe) {
            Some(url) => Some(KeySetPlace(JwtKeys::Url(url))),
            None => {
                let hint = "write `https://host/path`; `http` is taken on loopback alone";
                reader.invalid(&node.place, &format!("{} is not a URL of a key set", text.shown()), hint)
            }
        }
    }

    fn schema() -> Json {
        json!({"type": "string", "minLength": 1})
    }
}

/// Whether nobody on the way can change what stands there.
fn is_safe(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => return false,
    };
    url.scheme() == "https" || url.scheme() == "http" && is_loopback
}

/// What tokens are signed with.
#[derive(Debug, Clone)]
pub(super) struct SigningSecret(SecretString);

impl Setting for SigningSecret {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a reference to a secret")?;
        if !secret::is_reference(&text.text) && text.is_literal() {
            let hint = "write it as `env:NAME` or `file:PATH`".to_owned();
            return reader.refuse(Code::SecretInTheOpen, &node.place, "the secret stands in the file", Some(hint));
        }
        let secret = secret::resolve(&text, &node.place, reader)?;
        if secret.expose_secret().len() < MIN_SECRET {
            let detail = format!("the secret has fewer than {MIN_SECRET} bytes");
            return reader.invalid(&node.place, &detail, "make one: openssl rand -base64 48");
        }
        Some(SigningSecret(secret))
    }

    fn schema() -> Json {
        text_schema("^(env:|file:|\\$\\{)")
    }
}
