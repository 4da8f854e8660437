//! Which way a refresh goes, and why: the first of these that fits.
//!
//! 1. A snapshot, where nothing is published, a full load is asked for, the source is another table, the definition has
//!    changed, or the pipeline has no other way.
//! 2. Nothing, where the source stands where it stood, or has only moved rows between its files.
//! 3. The rows that came, where rows only came.
//! 4. The rows that differ, where the source's history tells which may, and they are few; for some refreshes after it
//!    turned out that they are many, changes of that size are not read.
//! 5. A snapshot.

use std::sync::Arc;

use crate::domain::{Code, Error, Mode, OnDuplicateKey, Pipeline, Result, RunMode};
use crate::source::{Changes, OTHER_HISTORY, Source};
use crate::store::LoadedGeneration;

use crate::transform::RowWise;

use super::changed::Changed;
use super::columns::Taken;
use super::{SyncRequest, schema_change};

/// How many times the bytes of the whole source its changes may have to be read in place. Files that are rewritten are
/// read before and after, and comparing them costs much less than storing them.
const READ_MAX: u64 = 3;
/// Changes of fewer bytes than that are always read.
const READ_ALWAYS: u64 = 1 << 20;
/// So many refreshes after one whose changes turned out to be too many, as large ones are not read to find out again: an
/// attempt costs about two thirds of a load.
pub(super) const LOADS_WITHOUT_A_TRY: i64 = 3;
/// How many times the rows of the table may be added to it; beyond, building its indexes anew costs less.
const GROWTH_MAX: u64 = 1;

/// What is published, and how it stands to what is to be.
pub(super) struct Published<'a> {
    pub(super) live: &'a LoadedGeneration,
    /// Whether it was loaded under the same definition.
    pub(super) same_definition: bool,
    /// Whether the view is there and can be replaced.
    pub(super) view_stands: bool,
    /// Changes of how many bytes have lately turned out to be too many to be applied in place.
    pub(super) given_up_bytes: Option<u64>,
}

/// A way and its reason.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) mode: RunMode,
    pub(super) reason: String,
    /// What to apply in place.
    pub(super) changes: Option<Arc<Changed>>,
}

impl Choice {
    fn new(mode: RunMode, reason: impl Into<String>) -> Choice {
        Choice { mode, reason: reason.into(), changes: None }
    }
}

/// Chooses the way.
///
/// # Errors
/// [`Code::NotIncremental`] where only a snapshot would do and the pipeline wants none; those of the source's history.
pub(super) async fn choose(
    pipeline: &Pipeline,
    published: Option<&Published<'_>>,
    source: &Arc<Source>,
    taken: &Taken,
    request: &SyncRequest,
) -> Result<Choice> {
    let Some(published) = published else {
        return Ok(Choice::new(RunMode::Snapshot, "the table has never been loaded"));
    };
    if request.full {
        return Ok(Choice::new(RunMode::Snapshot, "a full load was asked for"));
    }
    let choice = follow(pipeline, published, source, taken).await?;
    if choice.mode == RunMode::Snapshot && pipeline.mode == Mode::Incremental {
        return Err(not_incremental(pipeline, &choice.reason));
    }
    Ok(choice)
}

/// The refusal of a pipeline that wants no snapshot.
pub(super) fn not_incremental(pipeline: &Pipeline, reason: &str) -> Error {
    Error::new(Code::NotIncremental, format!("`{}`: {reason}", pipeline.name)).hint(format!(
        "load it anew once: lakegate sync {} --full; or let Lakegate do so by itself: mode: auto",
        pipeline.name
    ))
}

async fn follow(pipeline: &Pipeline, published: &Published<'_>, source: &Arc<Source>, taken: &Taken) -> Result<Choice> {
    let Published { live, same_definition, view_stands, given_up_bytes } = *published;
    let version = source.version();
    let extends = taken.in_place.as_ref().is_some_and(|schema| *schema != live.schema);
    let snapshot = |reason: &str| Ok(Choice::new(RunMode::Snapshot, reason));
    if live.source.table_id != version.table_id {
        return snapshot("the source is another table than the one that was loaded");
    }
    if !same_definition {
        return snapshot("the pipeline's definition has changed");
    }
    if !view_stands {
        return snapshot("the published view has to be made anew");
    }
    let moved = format!("the source moved from version {} to {}", live.source.version, version.version);
    let because = |why: &str| Ok(Choice::new(RunMode::Snapshot, format!("{moved}; {why}")));
    let followed = taken.in_place.as_ref().map(|schema| schema_change::followed(&live.schema, schema));
    if live.source.version == version.version {
        if !live.source.is_same_state(version) {
            return snapshot(OTHER_HISTORY);
        }
        if followed.is_none_or(|columns| !columns.added.is_empty()) {
            return snapshot("the columns that are taken have changed");
        }
        if extends {
            return Ok(Choice::new(RunMode::Merge, "what is declared of the columns has changed"));
        }
        return Ok(Choice::new(RunMode::Noop, format!("the source is still at version {}", version.version)));
    }
    if pipeline.mode == Mode::Snapshot {
        return snapshot(&moved);
    }
    let Some(followed) = followed else { return because("the columns of the source have changed") };
    // What a transform reads is its own affair.
    let followed = pipeline.transform.is_none().then_some(followed);
    let changes = match source.changes_since(&live.source, followed).await? {
        Changes::None if extends => {
            return Ok(Choice::new(RunMode::Merge, format!("{moved}: other columns, and no change of data")));
        }
        Changes::None => return Ok(Choice::new(RunMode::Noop, format!("{moved} without a change of data"))),
        Changes::Unknown(why) => return because(&why),
        Changes::Rows(changes) => changes,
    };
    let changes = match &pipeline.transform {
        None => Changed::new(changes, None),
        Some(sql) => match RowWise::plan(source, sql).await? {
            Some(transform) => Changed::new(changes, Some(transform)),
            None => return because("the transform does not go row by row"),
        },
    };
    let whole = source.size();
    let size = changes.size();
    if changes.only_added() {
        let rows = live.rows.unsigned_abs();
        if size.rows.is_some_and(|added| added > rows.saturating_mul(GROWTH_MAX).max(100_000)) {
            return because("more rows were added than were there");
        }
    } else if size.bytes > whole.bytes.max(live_bytes(live)).saturating_mul(READ_MAX).max(READ_ALWAYS) {
        return because("its changes are larger than the table");
    } else if pipeline.mode == Mode::Auto
        && size.bytes > READ_ALWAYS
        && given_up_bytes.is_some_and(|bytes| size.bytes >= bytes / 2)
    {
        return because("too many rows differed when changes like these were last read");
    }
    // A row that comes may replace an older one.
    let only_added = changes.only_added() && pipeline.on_duplicate_key == OnDuplicateKey::Fail;
    let mode = if only_added { RunMode::Append } else { RunMode::Merge };
    let reason = format!("{moved}: {}", changes.summary());
    Ok(Choice { mode, reason, changes: Some(Arc::new(changes)) })
}

/// What the rows that are there may take in the lake at least: a source that lost most of its rows is small.
fn live_bytes(live: &LoadedGeneration) -> u64 {
    const LEAST_PER_ROW: u64 = 8;
    live.rows.unsigned_abs() * LEAST_PER_ROW
}
