//! Whether a client takes what we have: JSON.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

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
}
