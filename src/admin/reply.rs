//! From a record or an error to an HTTP response.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use crate::auth::challenge;
use crate::domain::{Blame, Code, Error, Retry};
use crate::engine::ErrorRecord;

/// How a handler ends when not well.
#[derive(Debug)]
pub(super) struct Refusal(Error);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        refusal(&self.0)
    }
}

/// What a handler returns.
pub(super) type Answer = Result<Response, Refusal>;

/// `{"error": {code, title, detail, hint}}` with the status that goes with the code.
///
/// Who may use this API may read the log of the process, too: errors are told as they are there.
pub(super) fn refusal(error: &Error) -> Response {
    let status = status(error.code());
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(%error, "a request to the admin API could not be answered");
    }
    let mut response = record(status, &json!({ "error": ErrorRecord::from(error) }));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let Some(challenge) = challenge(error.code()) {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

/// A record, 200.
pub(super) fn ok(value: &impl Serialize) -> Response {
    record(StatusCode::OK, value)
}

/// A record of what was made, 201.
pub(super) fn made(value: &impl Serialize) -> Response {
    record(StatusCode::CREATED, value)
}

/// `{"data": […]}`, 200.
pub(super) fn list(rows: &[impl Serialize]) -> Response {
    ok(&json!({ "data": rows }))
}

/// `{"data": […]}` of what has been begun, 202.
pub(super) fn begun(rows: &[impl Serialize]) -> Response {
    record(StatusCode::ACCEPTED, &json!({ "data": rows }))
}

fn record(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => response(status, HeaderValue::from_static("application/json"), body),
        Err(error) => {
            tracing::error!(%error, "a record does not serialise");
            response(StatusCode::INTERNAL_SERVER_ERROR, HeaderValue::from_static("application/json"), "{}")
        }
    }
}

/// Any body. Nothing of this API is kept by anybody.
pub(super) fn response(status: StatusCode, media: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The status of an error: of what the request asks for, then of what can be tried again, then of what a person has to mend
/// in the project, its sources or Postgres.
fn status(code: Code) -> StatusCode {
    match code {
        Code::UnknownPipeline | Code::NoSuchRun | Code::NoSuchRoute | Code::NoSuchKey | Code::GenerationNotFound => {
            StatusCode::NOT_FOUND
        }
        Code::CredentialMissing | Code::CredentialWrong | Code::CredentialExpired | Code::CredentialRevoked => {
            StatusCode::UNAUTHORIZED
        }
        Code::BadParameter | Code::InvalidBody => StatusCode::BAD_REQUEST,
        Code::HeaderMissing | Code::NotAdmin => StatusCode::FORBIDDEN,
        Code::HostRefused => StatusCode::MISDIRECTED_REQUEST,
        Code::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::NoRunUnderWay | Code::RunInProgress | Code::NothingPublished => StatusCode::CONFLICT,
        code if code.blame() == Blame::Defect => StatusCode::INTERNAL_SERVER_ERROR,
        code if code.retry() == Retry::Later => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_defect_is_an_internal_error() {
        for code in Code::ALL {
            let is_defect = code.blame() == Blame::Defect;
            assert_eq!(status(*code) == StatusCode::INTERNAL_SERVER_ERROR, is_defect, "{code}");
        }
        assert_eq!(status(Code::PostgresUnreachable), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(Code::KeyColumnMissing), StatusCode::UNPROCESSABLE_ENTITY);
    }
}
