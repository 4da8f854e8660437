//! Content that is the same for everybody until it changes: its tag and its compressed forms are made once.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::accept::{Encoding, Format};
use super::compress::compress;
use super::reply::{REVALIDATE, encoding, entity_tag, matches, weak};

/// Bytes of one type.
#[derive(Debug)]
pub(super) struct Content {
    kind: HeaderValue,
    plain: Bytes,
    tag: HeaderValue,
    /// By encoding; `None` where compressing failed.
    compressed: [OnceCell<Option<Bytes>>; Encoding::ALL.len()],
}

impl Content {
    pub(super) fn new(kind: &'static str, bytes: impl Into<Bytes>) -> Self {
        let plain = bytes.into();
        let tag = entity_tag(Format::Json, &plain);
        Content { kind: HeaderValue::from_static(kind), plain, tag, compressed: Default::default() }
    }

    /// Whether these are its bytes.
    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        self.plain == bytes
    }

    /// The response to a request for it; 304 where the client has it.
    pub(super) async fn reply(&self, request: &HeaderMap) -> Response {
        let (mut response, mut tag) = (Response::new(Body::empty()), self.tag.clone());
        let encoding = encoding(self.plain.len(), request);
        if matches(request, self.tag.as_bytes()) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            if encoding.is_some() {
                tag = weak(&tag);
            }
        } else {
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, self.kind.clone());
            let mut bytes = self.plain.clone();
            if let Some(encoding) = encoding
                && let Some(small) = self.compressed(encoding).await
            {
                bytes = small;
                tag = weak(&tag);
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
            }
            *response.body_mut() = Body::from(bytes);
        }
        let headers = response.headers_mut();
        headers.insert(ETAG, tag);
        headers.insert(CACHE_CONTROL, REVALIDATE);
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }

    async fn compressed(&self, encoding: Encoding) -> Option<Bytes> {
        let form = self.compressed.get(encoding as usize)?;
        form.get_or_init(|| async { compress(&self.plain, encoding).await.map(Bytes::from) }).await.clone()
    }
}
