//! Whom an API lets in.

use std::sync::Arc;

use axum::http::HeaderMap;
use chrono::Utc;
use tokio_util::sync::CancellationToken;

use super::bearer::bearer;
use super::jwt::Tokens;
use super::key_source::Pace;
use super::keyring::Keyring;
use super::token;
use crate::domain::{ADMIN_ROLE, Auth, Caller, Code, Error, Result};

/// Tells by the credential of a request who asks.
#[derive(Debug, Default)]
pub struct Doorkeeper {
    /// API keys, where they are taken.
    keys: Option<Keyring>,
    /// Tokens, where they are taken.
    tokens: Option<Tokens>,
    /// Whoever asks where nobody is asked for a credential.
    anybody: Arc<Caller>,
}

impl Doorkeeper {
    /// As the project says.
    #[must_use]
    pub fn new(auth: &Auth) -> Self {
        let Auth::Required(credentials) = auth else { return Doorkeeper::default() };
        Doorkeeper {
            keys: credentials.keys.then(Keyring::default),
            tokens: credentials.jwt.clone().map(Tokens::new),
            anybody: Arc::default(),
        }
    }

    /// One that takes whoever comes for the operator.
    #[must_use]
    pub fn of_operator() -> Self {
        Doorkeeper { anybody: Arc::new(Caller::operator()), ..Doorkeeper::default() }
    }

    /// Whether it asks for a credential.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.keys.is_some() || self.tokens.is_some()
    }

    /// The API keys, which somebody has to keep up.
    #[must_use]
    pub fn keyring(&self) -> Option<&Keyring> {
        self.keys.as_ref()
    }

    /// Keeps up what tokens are verified by, until `shutdown`; ends at once where nothing changes.
    pub async fn follow_issuer(&self, shutdown: &CancellationToken) {
        if let Some(tokens) = &self.tokens {
            tokens.follow(Pace::USUAL, shutdown).await;
        }
    }

    /// Who sends a request with these headers.
    ///
    /// # Errors
    /// [`Code::CredentialMissing`], [`Code::CredentialWrong`], [`Code::CredentialExpired`], [`Code::CredentialRevoked`];
    /// [`Code::Unavailable`] where it cannot be told.
    pub fn admit(&self, headers: &HeaderMap) -> Result<Arc<Caller>> {
        match (&self.keys, &self.tokens) {
            (None, None) => Ok(Arc::clone(&self.anybody)),
            (Some(keys), None) => keys.check(bearer(headers)?, Utc::now()),
            (None, Some(tokens)) => tokens.check(bearer(headers)?, Utc::now()),
            (Some(keys), Some(tokens)) => match bearer(headers)? {
                // No token begins like this: its first part is JSON in base64url.
                key if key.starts_with(token::PREFIX) => keys.check(key, Utc::now()),
                token => tokens.check(token, Utc::now()),
            },
        }
    }

    /// Whether a request comes from somebody who may administer: with an API key that has the role for it. Roles that an
    /// issuer hands out are its own affair.
    #[must_use]
    pub fn is_admin(&self, headers: &HeaderMap) -> bool {
        self.admit_admin(headers).is_ok()
    }

    /// Lets those in alone who may administer: API keys with that role.
    ///
    /// # Errors
    /// Those of [`Doorkeeper::admit`]; [`Code::NotAdmin`].
    pub fn admit_admin(&self, headers: &HeaderMap) -> Result<()> {
        let caller = match &self.keys {
            Some(keys) => keys.check(bearer(headers)?, Utc::now())?,
            None => Arc::clone(&self.anybody),
        };
        if caller.has_role(ADMIN_ROLE) {
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
