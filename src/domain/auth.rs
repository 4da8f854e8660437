//! Who may use the APIs, and what a credential says of whoever shows it.

use std::collections::BTreeMap;

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

/// Which kinds of credentials are taken; one at least.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// API keys, which `lakegate keys create` makes.
    pub keys: bool,
}

/// The role that the admin API asks for.
pub const ADMIN_ROLE: &str = "admin";

/// Whoever asks: what his credential says of him.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// May see whatever is served, as the operator may who has the database itself.
    everything: bool,
    /// The names of his roles.
    pub roles: Vec<String>,
    /// What else is known of him, by name: attributes of a key.
    pub attributes: BTreeMap<String, String>,
}

impl Caller {
    /// Somebody with roles and attributes; with none of them, somebody of whom nothing is known.
    #[must_use]
    pub fn new(roles: Vec<String>, attributes: BTreeMap<String, String>) -> Self {
        Caller { everything: false, roles, attributes }
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
