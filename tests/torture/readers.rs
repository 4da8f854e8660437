//! Readers that never rest: through the view and over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lakegate::postgres::{Connector, Purpose, Session};
use serde_json::Value;
use tokio_postgres::error::SqlState;

use super::known::{Known, PARTS, Seen};
use crate::support::http::{self, Reply};

/// All rows as one value, read in one statement.
pub(super) const ALL_ROWS: &str = "SELECT coalesce(json_agg(t ORDER BY id), '[]')::text FROM lake.items t";
/// The pause of a reader between two questions.
const PAUSE: Duration = Duration::from_millis(25);

/// What readers know of the world around them.
#[derive(Default)]
pub(super) struct Around {
    pub(super) known: Known,
    /// How often Postgres has died.
    pub(super) crashes: AtomicU64,
    /// Whether the read API may be cut off from Postgres now.
    pub(super) is_cut_off: AtomicBool,
    /// Answers that were whole states.
    pub(super) answers: AtomicU64,
}

/// Reads through the view, in a statement alone and in transactions that begin before they look.
pub(super) async fn reads_the_view(connector: Connector, around: Arc<Around>) {
    let mut seen = Seen::default();
    loop {
        let crashes = around.crashes.load(Ordering::Relaxed);
        let Ok(session) = connector.connect(Purpose::Control, "tests").await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while let Err(error) = reads_twice(&session, &around, &mut seen).await {
            let is_missing = matches!(error.code(), Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME));
            if is_missing && !seen.anything() {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            assert_ne!(crashes, around.crashes.load(Ordering::Relaxed), "a reader of the view fails: {error:?}");
            break;
        }
    }
}

/// Goes on until something fails.
async fn reads_twice(session: &Session, around: &Around, seen: &mut Seen) -> Result<(), tokio_postgres::Error> {
    loop {
        let rows = session.query_one(ALL_ROWS, &[]).await?;
        see(around, seen, rows.get(0));
        session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await?;
        tokio::time::sleep(PAUSE).await;
        match session.query_one(ALL_ROWS, &[]).await {
            Ok(rows) => see(around, seen, rows.get(0)),
            // Told to run again: the load is younger than the transaction.
            Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {}
            Err(error) => {
                let _ = session.batch_execute("ROLLBACK").await;
                return Err(error);
            }
        }
        session.batch_execute("ROLLBACK").await?;
    }
}

fn see(around: &Around, seen: &mut Seen, rows: &str) {
    let rows: Vec<Value> = serde_json::from_str(rows).unwrap();
    around.known.see(seen, &rows, None);
    around.answers.fetch_add(1, Ordering::Relaxed);
}

/// Reads whole parts of the table and single rows over HTTP.
pub(super) async fn reads_over_http(address: SocketAddr, around: Arc<Around>) {
    let mut seen = Seen::default();
    for id in (0..).map(|number: i64| number * 7 % 500) {
        let part = PARTS[(id % 3) as usize];
        if let Some((page, version)) = answer(address, &page_of(part), &around, &seen).await {
            assert_eq!(page.status, 200, "{page:?}");
            around.known.see_version(&mut seen, version, page.data().as_array().unwrap(), part);
        }
        let path = format!("/v1/items/{}/{id}", in_path(part));
        if let Some((row, version)) = answer(address, &path, &around, &seen).await {
            let found = (row.status == 200).then(|| row.data()[0].take());
            around.known.see_row(&mut seen, version, id, found.as_ref());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The page of a part, as a path.
pub(super) fn page_of(part: &str) -> String {
    format!("/v1/items/{}?limit=1000", in_path(part))
}

fn in_path(part: &str) -> String {
    part.replace(' ', "%20")
}

/// An answer and the version that it says it is of; `None` where there is nothing yet, or Postgres cannot be reached.
async fn answer(address: SocketAddr, path: &str, around: &Around, seen: &Seen) -> Option<(Reply, u64)> {
    let was_cut_off = around.is_cut_off.load(Ordering::Relaxed);
    let reply = http::get(address, path).await;
    let is_cut_off = was_cut_off || around.is_cut_off.load(Ordering::Relaxed);
    match (reply.status, reply.header("Lakegate-Version")) {
        (200 | 404, Some(version)) => {
            let version = version.parse().unwrap();
            around.answers.fetch_add(1, Ordering::Relaxed);
            Some((reply, version))
        }
        (503, _) if is_cut_off || !seen.anything() => None,
        (404, None) if !seen.anything() => None,
        _ => panic!("{path} is answered with {reply:?}"),
    }
}
