//! What holds of credentials that anybody may show, for fuzzing and for the tests of what fuzzing has found.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use chrono::DateTime;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::Value;

use super::bearer::bearer;
use super::jwt::Tokens;
use super::key_set::KeySet;
use super::token;
use crate::domain::{Code, JwtKeys, JwtSettings};

/// What stands in `Authorization`: one credential after `Bearer` is taken as it is, and as an API key only what is spelled
/// like one.
///
/// # Panics
/// Where something of this does not hold.
pub fn credential(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let mut headers = HeaderMap::new();
    headers.append(AUTHORIZATION, value.clone());
    let token = match bearer(&headers) {
        Ok(token) => token.to_owned(),
        Err(error) => return assert_eq!(error.code(), Code::CredentialWrong),
    };
    assert!(!token.is_empty() && token.trim() == token);
    if let Some((id, secret)) = token::read(&token) {
        let again = [token::PREFIX.as_bytes(), &id, b"_", secret.as_bytes()].concat();
        assert_eq!(again, token.as_bytes(), "another spelling of an API key");
        assert_eq!(token::key_id(&String::from_utf8_lossy(&id)), Some(id));
    }
    // One that follows another is not looked at.
    headers.append(AUTHORIZATION, value);
    assert!(bearer(&headers).is_err());
}

const ISSUER: &str = "https://issuer";
const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

/// A token: what nobody has signed is never taken. Whatever claims the issuer signs, those are taken alone that are his, have a
/// subject, which names the caller, and hold now. And a key set is read, or is not.
///
/// # Panics
/// Where something of this does not hold.
pub fn jwt(data: &[u8]) {
    let _ = KeySet::read(data);
    let tokens = Tokens::new(JwtSettings {
        issuer: ISSUER.to_owned(),
        audience: vec!["rows".to_owned()],
        keys: JwtKeys::File(PathBuf::new()),
        clock_skew: Duration::ZERO,
        roles: "roles".to_owned(),
    });
    tokens.trust(KeySet::of_secret(SECRET), None);
    let now = DateTime::UNIX_EPOCH;
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(tokens.check(text, now).is_err(), "nobody has signed this");
    }
    let Ok(claims) = serde_json::from_slice::<Value>(data) else { return };
    let Ok(token) = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)) else { return };
    if let Ok(caller) = tokens.check(&token, now) {
        assert_eq!(claims["iss"], ISSUER);
        assert!(claims["exp"].as_f64().is_some_and(|exp| exp > 0.0), "it holds no more");
        assert_eq!(caller.name(), claims["sub"].as_str().map(|subject| format!("sub {subject}")).as_deref());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn what_fuzzing_begins_with_and_has_found_holds() {
        for (name, holds) in [("credential", super::credential as fn(&[u8])), ("jwt", super::jwt)] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
            assert!(!seeds.is_empty());
            for seed in seeds {
                holds(&std::fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }
}
