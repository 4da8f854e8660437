//! What stands before the router: requests for rows by whole keys, which are most of all, are answered here. Where what is asked
//! for is at hand, that takes no future and no routing; all else goes on to the routes.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Either};
use tower::Service;

use super::accept::Encoding;
use super::compress::MIN_BYTES;
use super::metrics::Operation;
use super::reader::Reader;
use super::reply;
use super::router::{ROOT, counted, note_caller, question, rows};
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
        match at_hand(&self.reader, &request) {
            Some(response) => Either::Left(ready(Ok(passed.mark(response)))),
            None => Either::Right(asked(Arc::clone(&self.reader), request, passed).boxed()),
        }
    }
}

/// Whether this is the path of a table and at least one part of a key.
fn names_a_key(path: &str) -> bool {
    let parts = path.strip_prefix(ROOT).and_then(|rest| rest.split_once('/'));
    parts.is_some_and(|(_, key)| !key.is_empty() && key != "_batch")
}

/// The answer that needs nobody else.
fn at_hand(reader: &Reader, request: &Request) -> Option<Response> {
    let began = Instant::now();
    let headers = request.headers();
    let caller = reader.admit(headers).ok()?;
    let (path, query) = (request.uri().path().strip_prefix(ROOT)?, request.uri().query());
    // What is compressed takes its time.
    let most = if Encoding::of(headers).is_some() { MIN_BYTES } else { usize::MAX };
    let answer = reader.at_hand(&question(path, query, headers).ok()?, &caller, most)?;
    let table = answer.table.clone();
    let response = reply::at_once(answer, headers, reader.unsent());
    note_caller(&caller, request.extensions());
    Some(counted(response, table.as_deref(), Operation::Row, began, request.extensions()))
}

async fn asked(reader: Arc<Reader>, request: Request, passed: Passed) -> Result<Response, Infallible> {
    let (head, _) = request.into_parts();
    Ok(passed.mark(rows(&reader, &head).await))
}
