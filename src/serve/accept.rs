//! Whether a client takes what we have: JSON.

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};

use crate::domain::{Code, Error, Result};

/// # Errors
/// [`Code::NotAcceptable`] when the `Accept` header leaves out `application/json`.
pub(super) fn json(headers: &HeaderMap) -> Result<()> {
    let mut asked = false;
    let mut best = (0, false);
    for range in headers.get_all(ACCEPT).iter().flat_map(|value| value.to_str().unwrap_or_default().split(',')) {
        asked |= !range.trim().is_empty();
        let specificity = specificity(range);
        if specificity > best.0 {
            best = (specificity, !is_refused(range));
        }
    }
    if !asked || best.1 {
        return Ok(());
    }
    Err(Error::new(Code::NotAcceptable, "the answer is JSON").hint("send `Accept: application/json`, or none"))
}

/// Whether a body says that it is JSON.
///
/// # Errors
/// [`Code::MediaTypeRefused`] for any other type, or none.
pub(super) fn body_is_json(headers: &HeaderMap) -> Result<()> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let media = types.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    if specificity(media) == 3 && !media.contains("q=") && types.next().is_none() {
        return Ok(());
    }
    Err(Error::new(Code::MediaTypeRefused, "the body must be JSON").hint("send `Content-Type: application/json`"))
}

/// How closely a media range names plain JSON; 0 = not at all. The closest one decides.
fn specificity(range: &str) -> u8 {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let plain = parts.all(|parameter| {
        let parameter = parameter.to_ascii_lowercase().replace(['"', ' '], "");
        parameter.starts_with("q=") || parameter == "charset=utf-8"
    });
    match media.as_str() {
        "application/json" if plain => 3,
        "application/*" if plain => 2,
        "*/*" if plain => 1,
        _ => 0,
    }
}

/// Whether the range has the weight 0: `q=0`, `q=0.000`.
fn is_refused(range: &str) -> bool {
    let weight = range.split(';').skip(1).find_map(|parameter| parameter.trim().strip_prefix("q="));
    weight.is_some_and(|weight| weight.trim().parse() == Ok(0.0_f32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn json_is_taken_where_the_closest_range_allows_it() {
        for (accept, taken) in [
            ("application/json", true),
            ("*/*", true),
            ("", true),
            ("text/html, application/*;q=0.5", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/csv", false),
            ("application/json;q=0, */*", false),
            ("application/json; numbers=string", false),
            ("text/csv;q=1, application/json;q=0.0", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
            assert_eq!(json(&headers).is_ok(), taken, "{accept}");
        }
        assert!(json(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn a_body_is_json_if_it_says_so() {
        for (value, taken) in [
            ("application/json", true),
            ("application/json; charset=UTF-8", true),
            ("application/json; charset=latin1", false),
            ("application/json; numbers=string", false),
            ("application/json;q=1", false),
            ("application/*", false),
            ("text/json", false),
            ("text/plain", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
            assert_eq!(body_is_json(&headers).is_ok(), taken, "{value}");
        }
        assert!(body_is_json(&HeaderMap::new()).is_err());
    }
}
