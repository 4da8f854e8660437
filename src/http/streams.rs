//! The streams of one connection: whether its client takes what it asked for, and whether it asks for anything.
//!
//! Over HTTP/1, what a client does not take waits in the socket, and what it does not ask the HTTP library notices. Over HTTP/2 it
//! may close the window of each stream (RFC 9113, section 5.2) and go on answering PINGs: nothing is written then, so that nobody
//! waits for the socket, while answers are held in memory and the connection keeps its place.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::Version;
use hyper::body::{Frame, SizeHint};
use slab::Slab;
use tokio::time::{Instant, sleep, sleep_until};

/// The most bytes of an answer that are handed on in one piece: how finely it is seen whether they are taken.
const PIECE: usize = 64 << 10;

/// What is known of a connection's requests and answers.
#[derive(Debug, Default)]
pub(super) struct Streams {
    spoken: AtomicBool,
    /// Those of HTTP/2.
    many: Mutex<Option<Many>>,
}

#[derive(Debug)]
struct Many {
    /// For each stream that is open, since when its client has taken nothing; `None` = there is nothing to take.
    waiting: Slab<Option<Instant>>,
    /// Since when none is open, or none was.
    idle: Instant,
}

impl Streams {
    /// Notes that a request has come. `None` = its answer need not be watched.
    pub(super) fn open(self: &Arc<Self>, version: Version) -> Option<Stream> {
        self.spoken.store(true, Ordering::Relaxed);
        if version != Version::HTTP_2 {
            return None;
        }
        let mut many = self.many();
        let many = many.get_or_insert_with(|| Many { waiting: Slab::new(), idle: Instant::now() });
        Some(Stream { streams: Arc::clone(self), number: many.waiting.insert(None) })
    }

    /// Ends when nothing has been asked for `idle`, be it for the first time, or a client has taken nothing of an answer for
    /// `stall`. What comes before the first request's head (which of the HTTP versions it is) has no timeout otherwise; once it is
    /// HTTP/1, others see to it.
    pub(super) async fn deserted(&self, idle: Duration, stall: Duration) {
        sleep(idle).await;
        if !self.spoken.load(Ordering::Relaxed) {
            return;
        }
        while let Some(end) = self.end(idle, stall) {
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
        std::future::pending().await
    }

    /// When the connection is to end unless something happens before; `None` = that is for others to say.
    fn end(&self, idle: Duration, stall: Duration) -> Option<Instant> {
        let many = self.many();
        let many = many.as_ref()?;
        if many.waiting.is_empty() {
            return Some(many.idle + idle);
        }
        let since = many.waiting.iter().filter_map(|(_, since)| *since).min();
        Some(since.unwrap_or_else(Instant::now) + stall)
    }

    fn many(&self) -> MutexGuard<'_, Option<Many>> {
        self.many.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream of HTTP/2, from its request to the last byte of its answer.
#[derive(Debug)]
pub(super) struct Stream {
    streams: Arc<Streams>,
    number: usize,
}

impl Stream {
    /// Watches an answer until all of it is taken.
    pub(super) fn watch(self, body: Body) -> Body {
        self.note(Some(Instant::now()));
        Body::new(Watched { body, piece: Bytes::new(), stream: Arc::new(self) })
    }

    fn note(&self, waiting: Option<Instant>) {
        let mut many = self.streams.many();
        if let Some(stream) = many.as_mut().and_then(|many| many.waiting.get_mut(self.number)) {
            *stream = waiting;
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(many) = self.streams.many().as_mut() {
            many.waiting.try_remove(self.number);
            many.idle = Instant::now();
        }
    }
}

/// An answer in pieces.
struct Watched {
    body: Body,
    /// What is left of what the body gave last.
    piece: Bytes,
    stream: Arc<Stream>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.piece.is_empty() {
            self.stream.note(None);
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => self.piece = bytes,
                Some(Ok(Err(frame))) => return Poll::Ready(Some(Ok(frame))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let some = self.piece.len().min(PIECE);
        let bytes = self.piece.split_to(some);
        self.stream.note(Some(Instant::now()));
        let untaken = Untaken { bytes, stream: Arc::clone(&self.stream) };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(untaken)))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (left, body) = (self.piece.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + left);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + left);
        }
        hint
    }
}

/// A piece that the connection holds until its client lets it go out.
struct Untaken {
    bytes: Bytes,
    stream: Arc<Stream>,
}

impl AsRef<[u8]> for Untaken {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        self.stream.note(Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use http_body_util::BodyExt as _;

    use super::*;

    /// Since when the stream that has waited for longest does.
    fn waiting(streams: &Streams) -> Option<Instant> {
        let second = Duration::from_secs(1);
        let since = streams.end(Duration::MAX, second).unwrap() - second;
        let open = streams.many();
        let known = open.as_ref().unwrap().waiting.iter().any(|(_, at)| *at == Some(since));
        known.then_some(since)
    }

    fn http2(streams: &Arc<Streams>, body: Body) -> Body {
        streams.open(Version::HTTP_2).unwrap().watch(body)
    }

    #[tokio::test]
    async fn every_piece_that_is_taken_gives_time_for_the_next() {
        let streams = Arc::new(Streams::default());
        let mut body = http2(&streams, Body::from(vec![7; 3 * PIECE + 1]));
        assert_eq!(body.size_hint().exact(), Some(3 * PIECE as u64 + 1));
        let mut seen = vec![waiting(&streams)];
        let mut taken = Vec::new();
        while let Some(piece) = body.frame().await {
            seen.push(waiting(&streams));
            taken.extend_from_slice(piece.unwrap().data_ref().unwrap());
            seen.push(waiting(&streams));
        }
        assert_eq!(taken, vec![7; 3 * PIECE + 1]);
        assert!(seen.iter().all(Option::is_some) && seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
    }

    #[tokio::test]
    async fn what_is_taken_of_other_answers_does_not_count_for_one_that_is_not() {
        let streams = Arc::new(Streams::default());
        let mut body = http2(&streams, Body::from("one"));
        let piece = body.frame().await.unwrap().unwrap();
        drop(body);
        let since = waiting(&streams);
        let other = http2(&streams, Body::from("another"));
        assert_eq!(other.collect().await.unwrap().to_bytes(), "another");
        assert_eq!(waiting(&streams), since);
        drop(piece);
        assert!(streams.many().as_ref().unwrap().waiting.is_empty());
    }

    #[tokio::test]
    async fn nobody_is_blamed_for_what_is_not_there_to_be_taken() {
        let streams = Arc::new(Streams::default());
        let making = streams.open(Version::HTTP_2).unwrap();
        assert_eq!(waiting(&streams), None);
        let mut body = making.watch(Body::from_stream(futures::stream::pending::<Result<Bytes, axum::Error>>()));
        assert!(waiting(&streams).is_some());
        assert!(poll!(body.frame()).is_pending());
        assert_eq!(waiting(&streams), None);
    }

    #[test]
    fn who_asks_over_http_1_is_for_others_to_watch() {
        let streams = Arc::new(Streams::default());
        assert!(streams.open(Version::HTTP_11).is_none());
        assert_eq!(streams.end(Duration::ZERO, Duration::ZERO), None);
        assert!(streams.spoken.load(Ordering::Relaxed));
    }
}
