//! What every request passes besides the gate: where other machines can reach the API, a credential; bounds on how many are
//! answered at a time and for how long; and, where it may change something, what shows that no foreign web page sent it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::auth::Doorkeeper;
use crate::domain::{Code, Error, Result, spell_duration};

use super::reply;

/// The header that whatever may change something has to bear, with any value. A web page can send it to another site only
/// if that site allows it beforehand, which this one never does.
const HEADER: &str = "lakegate-request";

/// Requests that are answered at a time: each may take a connection of Postgres.
const AT_ONCE: usize = 8;

/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// How long an answer may take. A plan that asks a slow store takes longest.
const ANSWER: Duration = Duration::from_secs(60);

/// Who stands there.
#[derive(Clone)]
pub(super) struct Guard {
    /// The turns of requests.
    turns: Arc<Semaphore>,
    /// Who tells by credentials, where they are asked for.
    doorkeeper: Option<Arc<Doorkeeper>>,
}

impl Guard {
    /// For an API that listens there.
    pub(super) fn new(addr: SocketAddr, doorkeeper: Arc<Doorkeeper>) -> Self {
        let asks = doorkeeper.asks() && !addr.ip().is_loopback();
        Guard { turns: Arc::new(Semaphore::new(AT_ONCE)), doorkeeper: asks.then_some(doorkeeper) }
    }

    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<()> {
        if let Some(doorkeeper) = &self.doorkeeper {
            doorkeeper.admit_admin(headers)?;
        }
        check(method, headers)
    }
}

/// The middleware.
pub(super) async fn pass(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if let Err(error) = guard.check(request.method(), request.headers()) {
        return reply::refusal(&error);
    }
    let Guard { turns, .. } = guard;
    let Ok(Ok(turn)) = timeout(TURN, turns.acquire_owned()).await else {
        let detail = format!("more than {AT_ONCE} requests are being answered");
        return reply::refusal(&Error::new(Code::Overloaded, detail).hint("try again"));
    };
    let changes = !is_looking(request.method());
    let answer = async move {
        let answer = timeout(ANSWER, next.run(request)).await;
        drop(turn);
        answer.unwrap_or_else(|_| reply::refusal(&no_answer()))
    };
    if !changes {
        return answer.await;
    }
    // What was asked for is done even where nobody waits for the answer any more, and not half of it.
    tokio::spawn(answer)
        .await
        .unwrap_or_else(|error| reply::refusal(&Error::internal("an answer could not be made").because(error)))
}

fn no_answer() -> Error {
    Error::new(Code::NoAnswer, format!("there was no answer within {}", spell_duration(ANSWER)))
        .hint("Postgres or the store of the source does not answer: `lakegate doctor` asks both")
}

fn is_looking(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn check(method: &Method, headers: &HeaderMap) -> Result<()> {
    // Browsers say where a request comes from; a page from elsewhere could keep all places taken with pictures.
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Err(Error::new(Code::HeaderMissing, "the request comes from a foreign web page")
            .hint("ask from a program, or from a page of the same site"));
    }
    if is_looking(method) {
        return Ok(());
    }
    if !headers.contains_key(HEADER) {
        return Err(Error::new(Code::HeaderMissing, "the request has no header `Lakegate-Request`").hint(
            "send `Lakegate-Request: 1` with whatever changes something; it shows that no foreign web page did",
        ));
    }
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Error::new(Code::NotJson, "the request's `Content-Type` is not `application/json`")
            .hint("send `Content-Type: application/json`, without a body too"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn what_may_change_something_shows_that_no_web_page_sent_it() {
        let refused = |method: Method, header: bool, media: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
            if header {
                headers.insert(HEADER, HeaderValue::from_static(""));
            }
            check(&method, &headers).err().map(|error| error.code())
        };
        assert_eq!(refused(Method::GET, false, "text/plain"), None);
        assert_eq!(refused(Method::POST, false, "application/json"), Some(Code::HeaderMissing));
        assert_eq!(refused(Method::OPTIONS, false, ""), Some(Code::HeaderMissing));
        for media in ["", "text/plain", "application/json+x", "multipart/form-data"] {
            assert_eq!(refused(Method::POST, true, media), Some(Code::NotJson), "{media}");
        }
        for media in ["application/json", "Application/JSON; charset=utf-8"] {
            assert_eq!(refused(Method::POST, true, media), None, "{media}");
        }
    }
}
