//! What becomes of bad rows during a load (`on_bad_row`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::domain::{Code, Error, OnBadRow, Result, TableName};
use crate::encode::{BadRow, BadRows};
use crate::postgres::Session;
use crate::store::{Control, RejectedRow};

/// Rows that may wait to be written down.
const WAITING: usize = 256;
/// Rows written down by one statement.
const BATCH: usize = 500;

/// The policy of one load, shared by its encoders.
#[derive(Clone)]
pub(super) struct Rejects {
    policy: OnBadRow,
    run: i64,
    count: Arc<AtomicU64>,
    rows: mpsc::Sender<RejectedRow>,
}

/// The other end: writes rejected rows down as they come.
pub(super) struct RejectWriter {
    rows: mpsc::Receiver<RejectedRow>,
}

impl Rejects {
    pub(super) fn new(policy: OnBadRow, run: i64) -> (Rejects, RejectWriter) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let rejects = Rejects { policy, run, count: Arc::new(AtomicU64::new(0)), rows: sender };
        (rejects, RejectWriter { rows: receiver })
    }

    /// How many rows are left out, for after the encoders are gone.
    pub(super) fn count(&self) -> RejectCount {
        RejectCount(Arc::clone(&self.count))
    }
}

/// How many rows have been left out so far.
pub(super) struct RejectCount(Arc<AtomicU64>);

impl RejectCount {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl BadRows for Rejects {
    fn reject(&mut self, row: BadRow) -> Result<()> {
        let OnBadRow::Reject { max_rows } = self.policy else { return Err(row.into_error()) };
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count > max_rows {
            let last = row.into_error();
            return Err(Error::new(
                Code::TooManyRejected,
                format!("more rows cannot be stored than `max_rows: {max_rows}` allows; the last one: {}", last.detail()),
            )
            .hint("`lakegate rejected NAME` lists the others; mend the source or raise `on_bad_row: {reject: {max_rows: …}}`"));
        }
        let key =
            row.key.into_iter().map(|(name, value)| (name, value.map_or(Value::Null, |text| shown(&text).into())));
        let key: Map<String, Value> = key.collect();
        let rejected = RejectedRow {
            run: self.run,
            key: Value::Object(key),
            column: row.column,
            code: row.code.to_string(),
            reason: shown(&row.reason),
            rejected_at: None,
        };
        // The writer is gone only when it has failed, and says itself why.
        let gone = |_| Error::new(Code::ConnectionLost, "rejected rows cannot be written down");
        self.rows.blocking_send(rejected).map_err(gone)
    }
}

/// Leaves bad rows out, as the load did.
pub(super) struct LeaveOut;

impl BadRows for LeaveOut {
    fn reject(&mut self, _row: BadRow) -> Result<()> {
        Ok(())
    }
}

/// Text as Postgres can keep it: the sign for NUL in place of the character.
fn shown(text: &str) -> String {
    text.replace('\0', "\u{2400}")
}

impl RejectWriter {
    /// Writes rows down until all encoders are done, in a session that is made for the first of them.
    pub(super) async fn run(
        mut self,
        control: &Control,
        connect: impl AsyncFnOnce() -> Result<Session>,
        pipeline: &TableName,
    ) -> Result<()> {
        let (mut ordinal, mut batch) = (1, Vec::new());
        if self.rows.recv_many(&mut batch, BATCH).await == 0 {
            return Ok(());
        }
        let session = connect().await?;
        while !batch.is_empty() {
            control.record_rejected(&*session, pipeline, &batch, ordinal).await?;
            ordinal += batch.len() as i64;
            batch.clear();
            self.rows.recv_many(&mut batch, BATCH).await;
        }
        Ok(())
    }
}
