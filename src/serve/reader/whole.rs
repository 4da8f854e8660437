//! Rows by whole keys: from the cache where it is known to hold, else from Postgres.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::time::{timeout, timeout_at};

use super::{Answer, NO_ROW, Reader, SILENT, Told};
use crate::domain::{Caller, Code, Error, Result};
use crate::observe::part;
use crate::serve::accept::Format;
use crate::serve::batch::Keys;
use crate::serve::cache::{Kept, Look};
use crate::serve::catalog::Found;
use crate::serve::envelope::Next;
use crate::serve::key::Key;
use crate::serve::lookup::{Waiting, unavailable};
use crate::serve::page::{MAX_BATCH_BYTES, too_many_bytes};
use crate::serve::queue::{self, Unanswered};
use crate::serve::rate::Quota;
use crate::serve::request::{BatchQuestion, Question};
use crate::serve::rows::{Body, RowWriter};
use crate::serve::statement::Values;
use crate::serve::table::PublishedTable;
use crate::serve::view::View;

/// How long a lookup may take while Postgres is silent before what is kept is told instead.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most bytes of a batch's answer: as JSON, and with rows that are asked for twice, it is more than what Postgres
/// sends.
const MAX_ANSWER_BYTES: usize = 2 * MAX_BATCH_BYTES;

/// What is known at once of a question for a row.
pub(in crate::serve) enum Known {
    /// The whole answer.
    Answer(Answer),
    /// That the row has to be read: whoever asks waits for it.
    Joined(JoinedRow),
}

/// A question for a row that is on its way.
pub(in crate::serve) struct JoinedRow {
    table: Arc<PublishedTable>,
    question: Question,
    row: Waiting,
}

impl Reader {
    /// What is known at once of a question for one row of a table without limits. `None` = it has to be asked as usual.
    pub(in crate::serve) fn at_once(&self, question: Question, caller: &Caller) -> Option<Known> {
        let is_usual = question.limit.is_none() && question.cursor.is_none() && question.follow.is_none();
        if !is_usual || question.max_staleness.is_some() || !question.format.is_made_of_json() || self.catalog.is_deaf()
        {
            return None;
        }
        let Found::Table(table) = self.catalog.look_up(&question.table, caller) else { return None };
        if question.key.len() != table.key.len() || table.policy.rate_limit.is_some() {
            return None;
        }
        let key = Key::parse(&table.key, &question.key).ok()?;
        let view = View::of(&table, caller)?;
        let columns = view.project(&table, question.columns.as_deref()).ok()?;
        match self.look(&table, &view, &key) {
            Look::Kept(row) => {
                let body = told(&table, &view, row, columns.as_deref(), question.format);
                table.metrics.looked(1, 0);
                drop(columns);
                drop(view);
                Some(Known::Answer(Answer { table: Some(table), body, stale: false, quota: Quota::default() }))
            }
            Look::Ask { heard } if heard > table.publish_no => None,
            Look::Ask { .. } => {
                table.metrics.looked(0, 1);
                let joined = self.lookups.join(&table, key);
                drop(columns);
                drop(view);
                Some(match joined {
                    Ok(row) => Known::Joined(JoinedRow { table, question, row }),
                    Err(error) => Known::Answer(Answer::refusal(Some(table), error)),
                })
            }
        }
    }

    /// The answer once the row is there, to somebody who began to ask at this moment. `None` = something else was published
    /// meanwhile: it has to be asked as usual.
    pub(in crate::serve) async fn joined(&self, joined: JoinedRow, caller: &Caller, began: Instant) -> Option<Answer> {
        let JoinedRow { table, question, row } = joined;
        let _part = part("ask for a row");
        let row = match timeout_at(self.deadline(began), row.answer()).await {
            Ok(Ok(row)) => row,
            Ok(Err(Unanswered::Failed(error))) => return Some(Answer::refusal(Some(table), error)),
            Ok(Err(Unanswered::Moved)) => return None,
            Err(_) => return Some(Answer::refusal(Some(table), unavailable(SILENT))),
        };
        let view = View::of(&table, caller)?;
        let columns = view.project(&table, question.columns.as_deref()).ok()?;
        let body = told(&table, &view, row, columns.as_deref(), question.format);
        drop(columns);
        drop(view);
        Some(Answer { table: Some(table), body, stale: false, quota: Quota::default() })
    }

    /// What is kept of a key and may be told whoever asks.
    fn look(&self, table: &PublishedTable, view: &View<'_>, key: &Key) -> Look {
        match self.cache.look(table, key) {
            Look::Kept(row) if !view.tells(&row) => Look::Ask { heard: table.publish_no },
            look => look,
        }
    }

    /// A row, from the cache where it is known to hold; whether it is told although nobody knows. It may be somebody else's.
    pub(super) async fn row(
        &self,
        table: &Arc<PublishedTable>,
        view: &View<'_>,
        key: Key,
    ) -> Result<(Kept, bool), Unanswered> {
        let deaf = self.catalog.is_deaf();
        let look = self.look(table, view, &key);
        let hit = u64::from(matches!(look, Look::Kept(_)));
        table.metrics.looked(hit, 1 - hit);
        match look {
            Look::Kept(row) if !deaf => return Ok((row, false)),
            Look::Ask { heard } if heard > table.publish_no => return Err(Unanswered::Moved),
            Look::Kept(_) if deaf => {}
            _ => {
                let _part = part("ask for a row");
                return Ok((self.lookups.ask(table, key).await?, false));
            }
        }
        // What is kept may be old, and is better than nothing.
        let error = match timeout(PATIENCE, self.lookups.ask(table, key.clone())).await {
            Ok(Ok(row)) => return Ok((row, false)),
            Ok(Err(Unanswered::Failed(error))) => Unanswered::Failed(error),
            Ok(Err(Unanswered::Moved)) => return Err(Unanswered::Moved),
            Err(_) => Unanswered::Failed(unavailable(SILENT)),
        };
        match self.look(table, view, &key) {
            Look::Kept(row) => Ok((row, true)),
            Look::Ask { .. } => Err(error),
        }
    }

    /// All rows are of the table's state at hand: whatever reads another one gives [`Unanswered::Moved`]. What was
    /// asked in parts and moved is asked again in one statement.
    pub(super) async fn batch(
        &self,
        table: &Arc<PublishedTable>,
        view: &View<'_>,
        question: &BatchQuestion,
        again: bool,
    ) -> Result<Told, Unanswered> {
        let columns = view.project(table, question.columns.as_deref())?;
        let keys = Keys::of(question, table)?;
        let mut writer = RowWriter::new(table, columns.as_deref(), question.format)?;
        self.is_latest(table)?;
        if !question.format.is_made_of_json() {
            let rows = self.pages.find(table, &keys.distinct, view).await?;
            write_batch(&keys, &rows, &mut writer, |writer, row| writer.row(Values::new(row, table)?))?;
            return Ok(writer.finish(Next::NoPage)?.into());
        }
        let (mut rows, stale) = self.rows(table, view, &keys.distinct, again).await?;
        for row in &mut rows {
            row.take_if(|row| !view.admits(row));
        }
        if rows.iter().flatten().map(|row| row.len()).sum::<usize>() > MAX_BATCH_BYTES {
            return Err(too_many_bytes().into());
        }
        write_batch(&keys, &rows, &mut writer, |writer, row| {
            writer.json_row(row);
            Ok(())
        })?;
        Ok(Told { body: writer.finish(Next::NoPage), stale })
    }

    /// The rows with these keys, as [`Reader::row`].
    async fn rows(
        &self,
        table: &Arc<PublishedTable>,
        view: &View<'_>,
        keys: &[Key],
        again: bool,
    ) -> Result<(Vec<Kept>, bool), Unanswered> {
        let kept = |looks: Vec<Look>| -> Vec<Option<Kept>> {
            let row = |look| if let Look::Kept(row) = look { Some(row).filter(|row| view.tells(row)) } else { None };
            looks.into_iter().map(row).collect()
        };
        if again {
            return Ok((self.read_rows(table, view, keys, again).await?, false));
        }
        let known = kept(self.cache.look_all(table, keys));
        let hits = known.iter().flatten().count();
        table.metrics.looked(hits as u64, (known.len() - hits) as u64);
        if self.catalog.is_deaf() {
            let whole = known.iter().all(Option::is_some);
            let asked = self.read_rows(table, view, keys, again);
            let asked = if whole { timeout(PATIENCE, asked).await } else { Ok(asked.await) };
            return match asked {
                Ok(Err(Unanswered::Failed(_))) | Err(_) if whole => {
                    let known: Option<Vec<Kept>> = kept(self.cache.look_all(table, keys)).into_iter().collect();
                    known.map(|known| (known, true)).ok_or_else(|| unavailable(SILENT).into())
                }
                Ok(answer) => Ok((answer?, false)),
                Err(_) => Err(unavailable(SILENT).into()),
            };
        }
        let unknown = keys.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(key, _)| key.clone());
        let unknown: Vec<Key> = unknown.collect();
        let mut read = self.read_rows(table, view, &unknown, again).await?.into_iter();
        Ok((known.into_iter().map(|known| known.unwrap_or_else(|| read.next().flatten())).collect(), false))
    }

    /// Reads rows from Postgres: few and small ones as other lookups do; in one statement, which ends where they become too many
    /// bytes, all others and those asked `again`.
    async fn read_rows(
        &self,
        table: &Arc<PublishedTable>,
        view: &View<'_>,
        keys: &[Key],
        again: bool,
    ) -> Result<Vec<Kept>, Unanswered> {
        let few =
            keys.len() <= queue::MAX_KEYS && keys.len() as u64 * table.row_bytes.average() <= queue::MAX_BATCH_BYTES;
        if few && !again {
            let _part = part("ask for rows");
            return try_join_all(keys.iter().map(|key| self.lookups.ask(table, key.clone()))).await;
        }
        let found = self.pages.find(table, keys, view).await?;
        let write = |row: Option<_>| {
            let values = row.as_ref().map(|row| Values::new(row, table)).transpose()?;
            values.map(|values| table.row(values).map(Arc::new)).transpose()
        };
        let rows = found.into_iter().map(write).collect::<Result<Vec<Kept>>>()?;
        // What was not found may be somebody else's.
        let known = keys.iter().zip(rows.iter().cloned()).filter(|(_, row)| row.is_some() || !view.is_filtered());
        self.cache.keep(table, known);
        Ok(rows)
    }
}

/// What is told of a row that was kept or read: it may be somebody else's.
pub(super) fn told(
    table: &PublishedTable,
    view: &View<'_>,
    row: Kept,
    columns: Option<&[usize]>,
    format: Format,
) -> Result<Body> {
    let row = row.filter(|row| view.admits(row)).ok_or_else(|| Error::new(Code::RowNotFound, NO_ROW))?;
    if format == Format::Json {
        return Ok(Body::of_row(&row, columns));
    }
    let mut writer = RowWriter::new(table, columns, format)?;
    writer.json_row(&row);
    writer.finish(Next::NoPage)
}

/// Writes the rows of a batch in the order asked.
fn write_batch<'t, R>(
    keys: &Keys,
    rows: &[Option<R>],
    writer: &mut RowWriter<'t>,
    write: impl Fn(&mut RowWriter<'t>, &R) -> Result<()>,
) -> Result<()> {
    for &number in &keys.places {
        match rows.get(number).and_then(Option::as_ref) {
            Some(row) => write(writer, row)?,
            None => writer.miss(NO_ROW),
        }
        if writer.len() > MAX_ANSWER_BYTES {
            return Err(too_many_bytes());
        }
    }
    Ok(())
}
