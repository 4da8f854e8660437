//! Tokens: JSON Web Tokens (RFC 7519), signed by the issuer that the project trusts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use chrono::{DateTime, Utc};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation, decode, decode_header};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::key_set::KeySet;
use crate::domain::{Caller, Code, Error, JwtSettings, Result};

#[cfg(test)]
mod tests;

/// How long a key set is trusted that cannot be read again. After that nobody knows whether the issuer has taken back a
/// key.
const TRUSTED: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes that verified tokens may take: a signature costs more time than looking it up.
const VERIFIED_BYTES: u64 = 16 << 20;

/// Tokens of this size are expected, in bytes.
const USUAL_TOKEN: u64 = 1 << 10;

/// The most roles of a token that are heeded.
const MAX_ROLES: usize = 1_000;

/// Verifies tokens.
pub(super) struct Tokens {
    settings: JwtSettings,
    /// `None` = the keys have never been read.
    trusted: ArcSwapOption<Trusted>,
    /// Before when keys are not asked for again because of an unknown one, in milliseconds since 1970.
    settled: AtomicI64,
    /// Somebody has shown a token by a key that is not known.
    unknown: Notify,
}

/// A key set, and what was verified by it.
struct Trusted {
    keys: KeySet,
    /// When it was read; `None` = it does not grow old.
    read_at: Option<DateTime<Utc>>,
    verified: Cache<TokenHash, Verified, ByBytes>,
}

type TokenHash = [u8; 32];

/// A token whose signature and claims are right.
#[derive(Debug, Clone)]
struct Verified {
    caller: Arc<Caller>,
    /// From when on it is taken, and before when, in seconds since 1970.
    from: f64,
    until: f64,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<TokenHash, Verified> for ByBytes {
    fn weight(&self, _: &TokenHash, verified: &Verified) -> u64 {
        // What was read of a token is about as large as the token.
        256 + verified.bytes as u64
    }
}

impl Trusted {
    fn new(keys: KeySet, read_at: Option<DateTime<Utc>>) -> Self {
        let verified = Cache::with_weighter((VERIFIED_BYTES / USUAL_TOKEN) as usize, VERIFIED_BYTES, ByBytes);
        Trusted { keys, read_at, verified }
    }
}

impl Tokens {
    /// Verifies tokens as the project says, once it has keys.
    pub(super) fn new(settings: JwtSettings) -> Self {
        Tokens { settings, trusted: ArcSwapOption::empty(), settled: AtomicI64::new(0), unknown: Notify::new() }
    }

    pub(super) fn settings(&self) -> &JwtSettings {
        &self.settings
    }

    /// Trusts these keys from now on, and no others. Those that grow old were `read_at` that time.
    pub(super) fn trust(&self, keys: KeySet, read_at: Option<DateTime<Utc>>) {
        self.trusted.store(Some(Arc::new(Trusted::new(keys, read_at))));
    }

    /// That the keys have been asked for, with whatever outcome, and are not to be again before this time because of an
    /// unknown one.
    pub(super) fn settled(&self, until: DateTime<Utc>) {
        self.settled.store(until.timestamp_millis(), Ordering::Relaxed);
    }

    /// Ends when somebody shows a token by a key that is not known.
    pub(super) async fn unknown(&self) {
        self.unknown.notified().await;
    }

    /// Whoever shows this token.
    ///
    /// # Errors
    /// [`Code::CredentialWrong`], [`Code::CredentialExpired`]; [`Code::Unavailable`] where the keys are not known, or are
    /// being read anew because of it.
    pub(super) fn check(&self, token: &str, now: DateTime<Utc>) -> Result<Arc<Caller>> {
        let trusted = self.trusted.load();
        let trusted = trusted.as_deref().ok_or_else(unknown_yet)?;
        if trusted.read_at.is_some_and(|at| now > at + TRUSTED) {
            return Err(unknown_yet());
        }
        let hash: TokenHash = Sha256::digest(token).into();
        let verified = match trusted.verified.get(&hash) {
            Some(verified) => verified,
            None => {
                let verified = self.verify(trusted, token, now)?;
                trusted.verified.insert(hash, verified.clone());
                verified
            }
        };
        let now = now.timestamp_millis() as f64 / 1_000.0;
        if now >= verified.until {
            return Err(
                Error::new(Code::CredentialExpired, "this token has expired").hint("ask its issuer for another one")
            );
        }
        if now < verified.from {
            return Err(wrong("the token does not hold yet"));
        }
        Ok(verified.caller)
    }

    fn verify(&self, trusted: &Trusted, token: &str, now: DateTime<Utc>) -> Result<Verified> {
        let header = decode_header(token).map_err(|_| wrong(NOT_KNOWN))?;
        let Some((key, algorithm)) = trusted.keys.find(&header) else {
            return Err(self.no_key(trusted, &header, now));
        };
        if header.crit.is_some() {
            // RFC 7515, section 4.1.11: what must be understood and is not makes a token invalid.
            return Err(wrong("the token asks for extensions that are not understood"));
        }
        let mut rules = Validation::new(algorithm);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.set_issuer(&[&self.settings.issuer]);
        rules.set_audience(&self.settings.audience);
        // When a token holds is looked at each time it is shown.
        rules.validate_exp = false;
        let claims = decode::<Value>(token, key, &rules).map_err(|error| refused(error.kind()))?.claims;
        self.read(&claims, token.len()).ok_or_else(|| wrong("the token's claims are not understood"))
    }

    /// What the claims say; `None` where one is not what it has to be.
    fn read(&self, claims: &Value, bytes: usize) -> Option<Verified> {
        let time = |name: &str| claims.get(name).map(Value::as_f64);
        let skew = self.settings.clock_skew.as_secs_f64();
        let until = time("exp")?? + skew;
        let from = match time("nbf") {
            Some(from) => from? - skew,
            None => f64::NEG_INFINITY,
        };
        // The library takes a list of issuers too, which no issuer writes (RFC 7519, section 4.1.1).
        claims.get("iss")?.as_str()?;
        let subject = claims.get("sub")?.as_str()?;
        let caller = Caller::new(roles(claims, &self.settings.roles), attributes(claims));
        Some(Verified { caller: Arc::new(caller.named(format!("sub {subject}"))), from, until, bytes })
    }

    /// What to say of a token that no key fits. Issuers change their keys, so the set is read again, but not for every
    /// token that somebody makes up.
    fn no_key(&self, trusted: &Trusted, header: &Header, now: DateTime<Utc>) -> Error {
        let is_settled = now.timestamp_millis() < self.settled.load(Ordering::Relaxed);
        if header.kid.is_none() || trusted.read_at.is_none() || is_settled {
            return wrong(NOT_KNOWN);
        }
        self.unknown.notify_one();
        unknown_yet()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("settings", &self.settings).finish_non_exhaustive()
    }
}

const NOT_KNOWN: &str = "the credential is not known";

/// The roles that stand in a claim: a list, or words between spaces as `scope` has them (RFC 8693, section 4.2).
fn roles(claims: &Value, claim: &str) -> Vec<String> {
    let found = if claim.starts_with('/') { claims.pointer(claim) } else { claims.get(claim) };
    let roles: Vec<&str> = match found {
        Some(Value::String(words)) => words.split_ascii_whitespace().collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    roles.into_iter().take(MAX_ROLES).map(str::to_owned).collect()
}

/// The claims that rows can be bound to: texts, whole numbers, true and false.
fn attributes(claims: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        // A number with a fraction is not what its issuer wrote once it has been read.
        _ => None,
    };
    let claims = claims.as_object().into_iter().flatten();
    claims.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

/// What is said of a token whose form or signature is not right says nothing of why; of one that the issuer has signed it
/// does.
fn refused(kind: &ErrorKind) -> Error {
    match kind {
        ErrorKind::InvalidIssuer => wrong("the token is of another issuer"),
        ErrorKind::InvalidAudience => wrong("the token is for another audience"),
        ErrorKind::MissingRequiredClaim(claim) => wrong(&format!("the token has no claim `{claim}` that can be read")),
        _ => wrong(NOT_KNOWN),
    }
}

fn wrong(detail: &str) -> Error {
    Error::new(Code::CredentialWrong, detail)
        .hint("check that all of it was sent, unchanged, and that it is for this API")
}

fn unknown_yet() -> Error {
    Error::new(Code::Unavailable, "credentials cannot be checked yet").hint("try again in a moment")
}
