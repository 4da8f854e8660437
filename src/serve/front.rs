//! What stands before the router: requests for rows by whole keys, which are most of all, are answered here. Where what is asked
//! for is at hand, that takes no future and no routing; where it is not, the key joins the queue at once, and what waits is small.
//! All else goes on to the routes.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::Response;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Either};
use tower::Service;

use super::metrics::Operation;
use super::reader::{Answer, Known, Reader};
use super::reply;
use super::request::Question;
use super::router::{ROOT, counted, note_caller, question, rows, rows_of};
use crate::domain::Caller;
use crate::http::{Gate, Passed};

/// Answers what it can and routes the rest.
#[derive(Clone)]
pub(super) struct Front {
    reader: Arc<Reader>,
    gate: Arc<Gate>,
    routes: Router,
}

impl Front {
    /// Before routes that stand behind the same gate.
    pub(super) fn new(reader: Arc<Reader>, gate: Arc<Gate>, routes: Router) -> Self {
        Front { reader, gate, routes }
    }
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if request.method() != Method::GET || !names_a_key(request.uri().path()) {
            return Either::Right(self.routes.call(request).boxed());
        }
        let passed = match self.gate.admit(&request) {
            Ok(passed) => passed,
            Err(refusal) => return Either::Left(ready(Ok(*refusal))),
        };
        let (head, _) = request.into_parts();
        let began = Instant::now();
        match at_once(&self.reader, &head, began) {
            AtOnce::Answer(response) => Either::Left(ready(Ok(passed.mark(response)))),
            AtOnce::Known(caller, known) => {
                let reader = Arc::clone(&self.reader);
                Either::Right(known_later(reader, head, passed, began, caller, known).boxed())
            }
            AtOnce::Nothing => Either::Right(asked(Arc::clone(&self.reader), head, passed, began).boxed()),
        }
    }
}

/// Whether this is the path of a table and at least one part of a key.
fn names_a_key(path: &str) -> bool {
    let parts = path.strip_prefix(ROOT).and_then(|rest| rest.split_once('/'));
    parts.is_some_and(|(_, key)| !key.is_empty() && key != "_batch")
}

/// What becomes of a request at once.
enum AtOnce {
    /// The answer needs nobody else.
    Answer(Response),
    /// The row is on its way, or the answer takes its time to be compressed.
    Known(Arc<Caller>, Known),
    /// It has to be asked as usual.
    Nothing,
}

fn at_once(reader: &Reader, head: &Parts, began: Instant) -> AtOnce {
    let Some((caller, question)) = usual(reader, head) else { return AtOnce::Nothing };
    match reader.at_once(question, &caller) {
        Some(Known::Answer(answer)) if reply::encoding_of(&answer, &head.headers).is_none() => {
            AtOnce::Answer(answered(reader, answer, &caller, head, began))
        }
        Some(known) => AtOnce::Known(caller, known),
        None => AtOnce::Nothing,
    }
}

/// Who asks what, where there is nothing wrong with it.
fn usual(reader: &Reader, head: &Parts) -> Option<(Arc<Caller>, Question)> {
    let caller = reader.admit(&head.headers).ok()?;
    let path = head.uri.path().strip_prefix(ROOT)?;
    Some((caller, question(path, head.uri.query(), &head.headers).ok()?))
}

fn answered(reader: &Reader, answer: Answer, caller: &Caller, head: &Parts, began: Instant) -> Response {
    let table = answer.table.clone();
    let response = reply::at_once(answer, &head.headers, reader.unsent());
    note_caller(caller, &head.extensions);
    counted(response, table.as_deref(), Operation::Row, began, &head.extensions)
}

/// The answer once the row is there.
async fn known_later(
    reader: Arc<Reader>,
    head: Parts,
    passed: Passed,
    began: Instant,
    caller: Arc<Caller>,
    known: Known,
) -> Result<Response, Infallible> {
    let answer = match known {
        Known::Answer(answer) => answer,
        Known::Joined(row) => match reader.joined(row, &caller, began).await {
            Some(answer) => answer,
            // Something else was published meanwhile. Boxed, since it is rare and large.
            None => return Box::pin(asked(reader, head, passed, began)).await,
        },
    };
    if reply::encoding_of(&answer, &head.headers).is_none() {
        return Ok(passed.mark(answered(&reader, answer, &caller, &head, began)));
    }
    note_caller(&caller, &head.extensions);
    let response = Box::pin(rows_of(&reader, answer, Operation::Row, &head, began)).await;
    Ok(passed.mark(response))
}

async fn asked(reader: Arc<Reader>, head: Parts, passed: Passed, began: Instant) -> Result<Response, Infallible> {
    Ok(passed.mark(rows(&reader, &head, began).await))
}
