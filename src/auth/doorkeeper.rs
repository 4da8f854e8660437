//! Whom an API lets in.

use std::sync::Arc;

use axum::http::HeaderMap;
use chrono::Utc;

use super::bearer::bearer;
use super::keyring::Keyring;
use crate::domain::{ADMIN_ROLE, Auth, Caller, Code, Error, Result};

/// Tells by the credential of a request who asks.
#[derive(Debug, Default)]
pub struct Doorkeeper {
    /// API keys, where they are taken.
    keys: Option<Keyring>,
    /// Whoever asks where nobody is asked for a credential.
    anybody: Arc<Caller>,
}

impl Doorkeeper {
    /// As the project says.
    #[must_use]
    pub fn new(auth: &Auth) -> Self {
        let keys = matches!(auth, Auth::Required(credentials) if credentials.keys);
        Doorkeeper { keys: keys.then(Keyring::default), anybody: Arc::default() }
    }

    /// One that takes whoever comes for the operator.
    #[must_use]
    pub fn of_operator() -> Self {
        Doorkeeper { keys: None, anybody: Arc::new(Caller::operator()) }
    }

    /// Whether it asks for a credential.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.keys.is_some()
    }

    /// The API keys, which somebody has to keep up.
    #[must_use]
    pub fn keyring(&self) -> Option<&Keyring> {
        self.keys.as_ref()
    }

    /// Who sends a request with these headers.
    ///
    /// # Errors
    /// [`Code::CredentialMissing`], [`Code::CredentialWrong`], [`Code::CredentialExpired`], [`Code::CredentialRevoked`];
    /// [`Code::Unavailable`] where it cannot be told.
    pub fn admit(&self, headers: &HeaderMap) -> Result<Arc<Caller>> {
        match &self.keys {
            None => Ok(Arc::clone(&self.anybody)),
            Some(keys) => keys.check(bearer(headers)?, Utc::now()),
        }
    }

    /// Lets those in alone who may administer: API keys with that role.
    ///
    /// # Errors
    /// Those of [`Doorkeeper::admit`]; [`Code::NotAdmin`].
    pub fn admit_admin(&self, headers: &HeaderMap) -> Result<()> {
        if self.admit(headers)?.has_role(ADMIN_ROLE) {
            return Ok(());
        }
        Err(Error::new(Code::NotAdmin, format!("the admin API takes API keys with the role `{ADMIN_ROLE}` alone"))
            .hint(format!("make one: lakegate keys create NAME --role {ADMIN_ROLE}")))
    }
}

/// The value of `WWW-Authenticate` in an answer with this error; `None` where it is not about a credential.
#[must_use]
pub fn challenge(code: Code) -> Option<&'static str> {
    match code {
        Code::CredentialMissing => Some("Bearer"),
        Code::CredentialWrong | Code::CredentialExpired | Code::CredentialRevoked => {
            Some("Bearer error=\"invalid_token\"")
        }
        _ => None,
    }
}
