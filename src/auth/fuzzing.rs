//! What holds of credentials that anybody may show, for fuzzing and for the tests of what fuzzing has found.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};

use super::bearer::bearer;
use super::token;
use crate::domain::Code;

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

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn what_fuzzing_begins_with_and_has_found_holds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/credential");
        let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
        assert!(!seeds.is_empty());
        for seed in seeds {
            super::credential(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
