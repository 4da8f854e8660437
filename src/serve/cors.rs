//! Which web pages of other origins may read (Fetch standard, CORS protocol).

use std::time::Duration;

use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

/// How long a browser may keep what it was told.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// Headers of requests that pages may set.
const ALLOWED: [HeaderName; 6] = [
    ACCEPT,
    AUTHORIZATION,
    CONTENT_TYPE,
    IF_NONE_MATCH,
    HeaderName::from_static("lakegate-max-staleness"),
    HeaderName::from_static("x-request-id"),
];

/// Headers of answers that pages may read.
const EXPOSED: [HeaderName; 14] = [
    ETAG,
    LINK,
    RETRY_AFTER,
    HeaderName::from_static("deprecation"),
    HeaderName::from_static("lakegate-generation"),
    HeaderName::from_static("lakegate-missing"),
    HeaderName::from_static("lakegate-next"),
    HeaderName::from_static("lakegate-stale"),
    HeaderName::from_static("lakegate-synced-at"),
    HeaderName::from_static("lakegate-version"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("sunset"),
    HeaderName::from_static("x-request-id"),
];

/// Lets pages of these origins read, or those of any where `*` is among them; `None` where there are none. Credentials are
/// sent by pages that have them, never by browsers on their own: there are no cookies.
pub(super) fn layer(origins: &[String]) -> Option<CorsLayer> {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers(ALLOWED)
        .expose_headers(EXPOSED)
        .max_age(KEPT);
    match origins {
        [] => None,
        all if all.iter().any(|origin| origin == "*") => Some(layer.allow_origin(Any)),
        all => {
            let values = all.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
            Some(layer.allow_origin(AllowOrigin::list(values)))
        }
    }
}
