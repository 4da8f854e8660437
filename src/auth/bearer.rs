//! What stands in `Authorization`.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use crate::domain::{Code, Error, Result};

/// The token of `Authorization: Bearer TOKEN`.
///
/// # Errors
/// [`Code::CredentialMissing`] without the header; [`Code::CredentialWrong`] where there are several, or it has another form.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        let missing = Error::new(Code::CredentialMissing, "the request bears no credential");
        return Err(missing.hint("send `Authorization: Bearer …` with an API key or a token"));
    };
    let token = value.to_str().ok().and_then(token);
    token.filter(|_| values.next().is_none()).ok_or_else(|| {
        Error::new(Code::CredentialWrong, "`Authorization` is not `Bearer` with one credential")
            .hint("send `Authorization: Bearer …` with an API key or a token")
    })
}

fn token(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<String, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        bearer(&headers).map(str::to_owned).map_err(|error| error.code())
    }

    #[test]
    fn one_bearer_token_is_taken_and_nothing_else() {
        assert_eq!(read(&[]), Err(Code::CredentialMissing));
        for value in ["Bearer abc", "bearer abc", "BEARER   abc "] {
            assert_eq!(read(&[value]), Ok("abc".to_owned()), "{value}");
        }
        for value in ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearerabc"] {
            assert_eq!(read(&[value]), Err(Code::CredentialWrong), "{value}");
        }
        assert_eq!(read(&["Bearer abc", "Bearer abc"]), Err(Code::CredentialWrong));
    }
}
