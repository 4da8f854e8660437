//! From an answer to an HTTP response: status, headers, entity tag.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use twox_hash::XxHash3_128;

use super::accept::{Encoding, Format};
use super::compress::{MIN_BYTES, compress};
use super::envelope;
use super::rate::RATE_LIMIT;
use super::reader::Answer;
use super::rows;
use super::unsent::Unsent;
use crate::auth::challenge;
use crate::domain::{Code, Error, Result};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What an answer depends on besides its URL.
const VARIES: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding, Authorization");

/// The cursor of the next page, where the format has no place for it.
const NEXT: HeaderName = HeaderName::from_static("lakegate-next");

/// How many keys of a batch have no row, where the format has no place for that.
const MISSING: HeaderName = HeaderName::from_static("lakegate-missing");

/// Marks what comes from the cache while Postgres does not answer.
pub(super) const STALE: HeaderName = HeaderName::from_static("lakegate-stale");

/// A client may keep an answer, but asks each time whether it still holds.
pub(super) const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// The response to a question that is asked by GET or HEAD; 304 where the client has this very content.
pub(super) async fn tagged(answer: Answer, request: &HeaderMap, unsent: &Unsent) -> Response {
    let tagged = Tagged::of(&answer, request);
    match tagged {
        Some(tagged) if tagged.is_known => tagged.not_modified(&answer, request),
        Some(tagged) => tagged.mark(untagged(answer, request, unsent).await),
        None => untagged(answer, request, unsent).await,
    }
}

/// The same where the body is not compressed, see [`encoding_of`].
pub(super) fn at_once(answer: Answer, request: &HeaderMap, unsent: &Unsent) -> Response {
    let tagged = Tagged::of(&answer, request);
    match tagged {
        Some(tagged) if tagged.is_known => tagged.not_modified(&answer, request),
        Some(tagged) => tagged.mark(respond(answer, |bytes, _| unsent.hold(bytes))),
        None => respond(answer, |bytes, _| unsent.hold(bytes)),
    }
}

/// What an answer with rows says of its content.
struct Tagged {
    tag: HeaderValue,
    cache_control: HeaderValue,
    /// Whether the client has it.
    is_known: bool,
}

impl Tagged {
    fn of(answer: &Answer, request: &HeaderMap) -> Option<Tagged> {
        let body = answer.body.as_ref().ok()?;
        let tag = entity_tag(body.format, &body.bytes);
        let ttl = answer.table.as_ref().filter(|_| !answer.stale).and_then(|table| table.cache_control.clone());
        let is_known = matches(request, tag.as_bytes());
        Some(Tagged { tag, cache_control: ttl.unwrap_or(REVALIDATE), is_known })
    }

    fn not_modified(mut self, answer: &Answer, request: &HeaderMap) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        // The tag of the answer that would have been sent otherwise.
        if answer.body.as_ref().is_ok_and(|body| encoding(body.bytes.len(), request).is_some()) {
            self.tag = weak(&self.tag);
        }
        *response.headers_mut() = about(answer);
        if let Ok(body) = &answer.body {
            about_body(body, response.headers_mut());
        }
        self.put_on(response)
    }

    fn mark(mut self, response: Response) -> Response {
        if response.status() != StatusCode::OK {
            return response;
        }
        if response.headers().contains_key(CONTENT_ENCODING) {
            self.tag = weak(&self.tag);
        }
        self.put_on(response)
    }

    fn put_on(self, mut response: Response) -> Response {
        response.headers_mut().insert(ETAG, self.tag);
        response.headers_mut().insert(CACHE_CONTROL, self.cache_control);
        response
    }
}

/// The response to a question, with what the table says of itself.
pub(super) async fn untagged(mut answer: Answer, request: &HeaderMap, unsent: &Unsent) -> Response {
    let small = match &mut answer.body {
        Ok(body) => match encoding(body.bytes.len(), request) {
            Some(encoding) => compressed(std::mem::take(&mut body.bytes), encoding, unsent).await.map(Some),
            None => Ok(None),
        },
        Err(_) => Ok(None),
    };
    match small {
        Ok(None) => respond(answer, |bytes, _| unsent.hold(bytes)),
        Ok(Some((bytes, encoding))) => respond(answer, |_, headers| {
            if let Some(encoding) = encoding {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
            }
            Ok(bytes)
        }),
        Err(error) => respond(Answer { body: Err(error), ..answer }, |_, _| Ok(Bytes::new())),
    }
}

/// The response whose body is made of the answer's bytes.
fn respond(answer: Answer, body_of: impl FnOnce(Vec<u8>, &mut HeaderMap) -> Result<Bytes>) -> Response {
    let mut headers = about(&answer);
    let mut body = match answer.body {
        Ok(body) => body,
        Err(error) => return refusal_about(&error, headers),
    };
    match body_of(std::mem::take(&mut body.bytes), &mut headers) {
        Ok(bytes) => {
            headers.insert(CONTENT_TYPE, body.format.content_type());
            about_body(&body, &mut headers);
            let mut response = Response::new(Body::from(bytes));
            *response.headers_mut() = headers;
            response
        }
        Err(error) => refusal_about(&error, headers),
    }
}

fn refusal_about(error: &Error, head: HeaderMap) -> Response {
    let mut response = refusal(error);
    response.headers_mut().extend(head);
    response
}

/// The bytes that are sent, which count until they are; `None` = they are sent as they were.
async fn compressed(bytes: Vec<u8>, encoding: Encoding, unsent: &Unsent) -> Result<(Bytes, Option<Encoding>)> {
    let whole = unsent.hold(bytes)?;
    let Some(small) = compress(&whole, encoding).await else { return Ok((whole, None)) };
    // There is room: the whole is let go for it.
    drop(whole);
    Ok((unsent.hold(small)?, Some(encoding)))
}

/// How an answer is compressed; `None` = not at all.
pub(super) fn encoding_of(answer: &Answer, request: &HeaderMap) -> Option<Encoding> {
    answer.body.as_ref().ok().and_then(|body| encoding(body.bytes.len(), request))
}

/// How an answer of so many bytes is compressed; `None` = not at all.
pub(super) fn encoding(bytes: usize, request: &HeaderMap) -> Option<Encoding> {
    Encoding::of(request).filter(|_| bytes >= MIN_BYTES)
}

/// What every answer says, whatever it is about.
pub(super) fn of_every_answer() -> HeaderMap {
    HeaderMap::from_iter([(CACHE_CONTROL, REVALIDATE), (VARY, VARIES)])
}

/// What an answer says of itself and its table.
fn about(answer: &Answer) -> HeaderMap {
    // Copied whole, which costs much less than putting in one header after the other.
    let mut headers = answer.table.as_ref().map_or_else(of_every_answer, |table| table.about.clone());
    if answer.stale {
        headers.insert(STALE, HeaderValue::from_static("true"));
    }
    if let Some(left) = &answer.quota.left {
        headers.insert(RATE_LIMIT, left.clone());
    }
    if let Some(seconds) = answer.quota.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    headers
}

/// What an answer with rows says besides them.
fn about_body(body: &rows::Body, headers: &mut HeaderMap) {
    if let Some(next) = body.next.as_ref().and_then(|next| HeaderValue::from_str(next).ok()) {
        headers.insert(NEXT, next);
    }
    if body.missing > 0 {
        headers.insert(MISSING, body.missing.into());
    }
}

/// The tag of the same content in other bytes.
pub(super) fn weak(tag: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).unwrap_or(HeaderValue::from_static("W/none"))
}

/// The response to a request that gets nothing but an error.
pub(super) fn refusal(error: &Error) -> Response {
    let code = envelope::public_code(error);
    if code == Code::Internal {
        tracing::error!(%error, "a request could not be answered");
    }
    let mut response = json(envelope::problem(error));
    let status = status(code);
    *response.status_mut() = status;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let Some(challenge) = challenge(code) {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

/// A response of 200 with JSON.
pub(super) fn json(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// The status of an answer with this error.
pub(super) fn status(code: Code) -> StatusCode {
    match code {
        Code::TableNotFound | Code::RowNotFound | Code::NoSuchRoute => StatusCode::NOT_FOUND,
        Code::BadKey | Code::UnknownColumn | Code::BadParameter | Code::BadBody => StatusCode::BAD_REQUEST,
        Code::CredentialMissing | Code::CredentialWrong | Code::CredentialExpired | Code::CredentialRevoked => {
            StatusCode::UNAUTHORIZED
        }
        Code::StaleCursor => StatusCode::CONFLICT,
        Code::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        Code::HostRefused => StatusCode::MISDIRECTED_REQUEST,
        Code::Unavailable | Code::Overloaded | Code::TooStale => StatusCode::SERVICE_UNAVAILABLE,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::MediaTypeRefused => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A hash of the content. The same content has the same tag on every replica of one build; another build may hash
/// otherwise, which costs its clients one full answer.
pub(super) fn entity_tag(format: Format, body: &[u8]) -> HeaderValue {
    let hash = XxHash3_128::oneshot_with_seed(format as u64, body);
    let quoted = format!("\"{hash:032x}\"");
    HeaderValue::from_str(&quoted).unwrap_or(HeaderValue::from_static("none"))
}

/// Whether `If-None-Match` names this tag; weak tags compare equal to strong ones here.
pub(super) fn matches(request: &HeaderMap, tag: &[u8]) -> bool {
    let values =
        request.get_all(IF_NONE_MATCH).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    values.map(<[u8]>::trim_ascii).any(|known| known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_tag_is_found_in_any_spelling() {
        let tag = entity_tag(Format::Json, b"body");
        let tag = tag.to_str().unwrap();
        for (value, known) in [
            (tag.to_owned(), true),
            (format!("W/{tag}"), true),
            (format!("\"x\", {tag}"), true),
            ("*".to_owned(), true),
            ("\"x\"".to_owned(), false),
            (String::new(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(&value).unwrap());
            assert_eq!(matches(&headers, tag.as_bytes()), known, "{value}");
        }
    }

    #[test]
    fn every_code_of_the_read_api_has_a_status_of_its_own() {
        let startup_only = [Code::PortTaken];
        for code in Code::ALL.iter().filter(|code| (6000..7000).contains(&code.number())) {
            let is_defect = status(*code) == StatusCode::INTERNAL_SERVER_ERROR;
            assert_eq!(is_defect, startup_only.contains(code), "{code}");
        }
    }
}
