//! Clients that ask and check: at full speed at first, at a set pace afterwards.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::questions::{Memory, Question};
use super::tally::count;
use super::{Server, Soak};
use crate::support::http::{Connection, Reply};

/// How much of what it has missed a client that fell behind catches up with.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Asks one server until the end.
pub(super) async fn asks(soak: &Soak, number: usize) {
    let mut random = StdRng::seed_from_u64(soak.seed ^ (number as u64) << 8);
    let server = soak.server(number);
    let mut connection = Connection::open(server.address).await.unwrap();
    let (mut memory, mut next) = (Memory::Nothing, Instant::now());
    loop {
        let pace = Duration::from_micros(soak.pace.load(Ordering::Relaxed));
        if soak.pause_until(next).await {
            return;
        }
        let now = Instant::now();
        next = (next + pace).max(now.checked_sub(CATCH_UP).unwrap_or(now));
        let question = Question::draw(&mut random, memory);
        let asked = Asked::now(server);
        let (method, url, body) = (question.method(), question.url(), question.body());
        let credential = soak.credential();
        let headers = [&question.headers(), &[("Authorization", credential.as_str())][..]].concat();
        let reply = connection.ask(method, &url, &headers, &body).await;
        let reply = reply.unwrap_or_else(|error| panic!("{} {url}: {error}", server.name));
        soak.tally.took(asked.at.elapsed());
        memory = soak.checked(&asked, question, &reply);
    }
}

/// When somebody asked, and what had been heard by then.
pub(super) struct Asked<'a> {
    server: &'a Server,
    pub(super) at: Instant,
    /// The version of an answer that somebody else has got already.
    heard: u64,
}

impl Asked<'_> {
    pub(super) fn now(server: &Server) -> Asked<'_> {
        Asked { server, at: Instant::now(), heard: server.seen.load(Ordering::Relaxed) }
    }
}

impl Soak {
    /// Checks an answer, which must be there unless Postgres was not; what may be asked next.
    pub(super) fn checked(&self, asked: &Asked<'_>, question: Question, reply: &Reply) -> Memory {
        let name = asked.server.name;
        if reply.status == 503 && reply.header("Retry-After").is_some() && self.weather.was_bad(asked.at) {
            count(&self.tally.unavailable);
            return Memory::Nothing;
        }
        if reply.status == 409 && question.may_be_stale() {
            count(&self.tally.stale_cursors);
            return Memory::Nothing;
        }
        let version = reply.header("Lakegate-Version").and_then(|version| version.parse::<u64>().ok());
        let (200 | 304 | 404, Some(version)) = (reply.status, version) else {
            panic!("{name} answers {question:?} with {reply:?}, {:?} after it was asked", asked.at.elapsed());
        };
        assert!(version >= asked.heard, "{name} goes back to version {version}, {} was seen before", asked.heard);
        let memory = question.check(reply, version);
        asked.server.seen.fetch_max(version, Ordering::Relaxed);
        self.tally.saw(version);
        if reply.status == 304 {
            count(&self.tally.unchanged);
        }
        if reply.header("Lakegate-Stale").is_some() {
            count(&self.tally.marked);
        }
        memory
    }
}
