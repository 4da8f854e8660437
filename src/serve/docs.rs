//! A page to read what the API promises and to try requests: three files of our own, which need nothing from elsewhere.

use std::sync::LazyLock;

use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;

use super::content::Content;

static PAGE: LazyLock<Content> =
    LazyLock::new(|| Content::new("text/html; charset=utf-8", include_str!("docs/index.html")));
static STYLE: LazyLock<Content> =
    LazyLock::new(|| Content::new("text/css; charset=utf-8", include_str!("docs/page.css")));
static SCRIPT: LazyLock<Content> =
    LazyLock::new(|| Content::new("text/javascript; charset=utf-8", include_str!("docs/page.js")));

/// Nothing but our own files runs, is shown or is asked, and no other page may put this one into a frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'",
);

/// The page.
pub(super) async fn page(headers: HeaderMap) -> Response {
    reply(&PAGE, &headers).await
}

/// Its style.
pub(super) async fn style(headers: HeaderMap) -> Response {
    reply(&STYLE, &headers).await
}

/// Its script.
pub(super) async fn script(headers: HeaderMap) -> Response {
    reply(&SCRIPT, &headers).await
}

async fn reply(content: &Content, headers: &HeaderMap) -> Response {
    let mut response = content.reply(headers).await;
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
    response
}
