//! Who may use the APIs, and what a credential says of whoever shows it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

/// Who may use the APIs.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Not declared: anybody, but on loopback only.
    #[default]
    Unset,
    /// `auth: none` is written out: anybody, anywhere.
    None,
    /// Whoever shows one of these credentials.
    Required(Credentials),
}

impl Auth {
    /// The secret that tokens are signed with, where there is one.
    #[must_use]
    pub fn signing_secret(&self) -> Option<&SecretString> {
        match self {
            Auth::Required(Credentials { jwt: Some(JwtSettings { keys: JwtKeys::Secret(secret), .. }), .. }) => {
                Some(secret)
            }
            _ => None,
        }
    }
}

/// Which kinds of credentials are taken; one at least.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// API keys, which `lakegate keys create` makes.
    pub keys: bool,
    /// Tokens, which the read API takes.
    pub jwt: Option<JwtSettings>,
}

/// Which tokens (JSON Web Tokens, RFC 7519) are taken.
#[derive(Debug, Clone)]
pub struct JwtSettings {
    /// What the claim `iss` has to be.
    pub issuer: String,
    /// Of these the claim `aud` has to have one; at least one.
    pub audience: Vec<String>,
    /// What they are signed with.
    pub keys: JwtKeys,
    /// By how much the clocks of the issuer and of this machine may differ.
    pub clock_skew: Duration,
    /// The claim that holds roles: its name, or a JSON pointer (RFC 6901) where it begins with `/`.
    pub roles: String,
}

/// What tokens are signed with.
#[derive(Debug, Clone)]
pub enum JwtKeys {
    /// A secret that the issuer shares, of 32 bytes at least: HS256.
    Secret(SecretString),
    /// A key set (RFC 7517) at an address that nobody on the way can change: RS256, ES256, `EdDSA`.
    Url(Url),
    /// A key set in a file.
    File(PathBuf),
}

/// The role that the admin API asks for.
pub const ADMIN_ROLE: &str = "admin";

/// Whoever asks: what his credential says of him.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// May see whatever is served, as the operator may who has the database itself.
    everything: bool,
    /// Tells him from all others, as far as a credential does, and is no secret: `key ID` or `sub SUBJECT`.
    name: Option<String>,
    /// The names of his roles.
    pub roles: Vec<String>,
    /// What else is known of him, by name: attributes of a key, or claims of a token.
    pub attributes: BTreeMap<String, String>,
}

impl Caller {
    /// Somebody with roles and attributes; with none of them, somebody of whom nothing is known.
    #[must_use]
    pub fn new(roles: Vec<String>, attributes: BTreeMap<String, String>) -> Self {
        Caller { everything: false, name: None, roles, attributes }
    }

    /// The same with a name, which no other credential's bearer has.
    #[must_use]
    pub fn named(self, name: String) -> Self {
        Caller { name: Some(name), ..self }
    }

    /// What tells him from all others; `None` where nobody is asked for a credential.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The operator at the command line.
    #[must_use]
    pub fn operator() -> Self {
        Caller { everything: true, ..Caller::default() }
    }

    /// Whether roles and row filters do not bind him.
    #[must_use]
    pub fn sees_everything(&self) -> bool {
        self.everything
    }

    /// Whether he has a role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }
}
