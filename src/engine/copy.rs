//! The copy: workers that read, encode and hash, each with a COPY of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::try_join;
use tokio_util::task::AbortOnDropHandle;

use crate::destination::{CopyInput, CopyStream, CopyTarget};
use crate::domain::{Code, Error, Generation, OnBadRow, Pipeline, Result};
use crate::encode::{Checksum, Coverage, Mapping, RowEncoder, RowHasher, copy_header, copy_trailer};
use crate::observe::{Event, Progress};
use crate::postgres::{Purpose, Session};

use super::Engine;
use super::held::Held;
use super::plan::Decided;
use super::reading::{Batches, ReadControl, Reading, read};
use super::rejects::Rejects;

/// How often observers hear how far a copy is.
const TICK: Duration = Duration::from_millis(250);
/// The most streams of one load: beyond this, Postgres spends its time on the locks of the one table.
const STREAMS_MAX: usize = 8;
/// The compressed bytes for which another connection is worth its making.
const BYTES_PER_STREAM: u64 = 1 << 20;

/// What is to be copied.
pub(super) struct CopyJob<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) reading: Reading,
    /// One for each of its workers.
    pub(super) sessions: Vec<Session>,
    pub(super) target: CopyTarget,
    pub(super) coverage: Coverage,
    /// Rows, where that is known before.
    pub(super) rows_total: Option<u64>,
}

/// What a copy did.
#[derive(Default)]
pub(super) struct Copied {
    /// Rows that the source yielded.
    pub(super) rows_read: u64,
    /// Rows that Postgres stored, by the tags of its COPYs.
    pub(super) rows_stored: u64,
    /// Rows left out.
    pub(super) rows_rejected: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_copied: u64,
    /// Over the rows that were sent, computed from the Arrow values.
    pub(super) checksum: Checksum,
}

/// Running counts of all workers.
#[derive(Default)]
struct Sent {
    rows_read: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Engine {
    /// How many workers read, encode and copy a source of this many bytes at a time.
    pub(super) fn streams(&self, bytes: u64) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let worth_it = usize::try_from(bytes / BYTES_PER_STREAM).unwrap_or(usize::MAX).saturating_add(1);
        cores.min(worth_it).min(STREAMS_MAX).min(self.project.limits.connections as usize).max(1)
    }

    /// Makes the table of a generation and copies all rows of the source into it; returns the sessions, too, which are free
    /// again.
    pub(super) async fn copy(
        &self,
        session: &Session,
        pipeline: &Pipeline,
        decided: &Decided,
        generation: Generation,
        held: &Held,
        coverage: Coverage,
    ) -> Result<(Copied, Vec<Session>)> {
        let (name, schema, transform) = (&pipeline.name, decided.schema(), pipeline.transform.as_deref());
        let streams = self.streams(decided.source.size().bytes);
        let creating = self.destination.create_table(&**session, name, generation, schema);
        let opening = async {
            let reading = read(&decided.source, transform, &decided.mapping, streams, self.run_budget()).await?;
            let sessions = self.sessions_for(held, "lakegate copy", reading.workers.len()).await?;
            Ok((reading, sessions))
        };
        let ((), (reading, sessions)) = try_join!(creating, opening)?;
        let target = self.destination.generation_rows(name, generation, schema);
        let job = CopyJob { pipeline, reading, sessions, target, coverage, rows_total: decided.plan.rows };
        self.copy_rows(job, pipeline.on_bad_row, held).await
    }

    /// Connects so many times, and notes that these sessions work for the run.
    pub(super) async fn sessions_for(&self, held: &Held, name: &str, count: usize) -> Result<Vec<Session>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let connect = |_| self.connector.connect(Purpose::Sync, name);
        let sessions = try_join_all((0..count).map(connect)).await?;
        let backends: Vec<i32> = sessions.iter().map(Session::backend_pid).collect();
        self.control.note_backends(&**held.session, &held.lease, held.run, &backends).await?;
        Ok(sessions)
    }

    /// Copies what is read into a table and checks every count against every other; returns the sessions, too, which are free
    /// again.
    pub(super) async fn copy_rows(
        &self,
        job: CopyJob<'_>,
        on_bad_row: OnBadRow,
        held: &Held,
    ) -> Result<(Copied, Vec<Session>)> {
        let CopyJob { pipeline, mut reading, sessions, target, coverage, rows_total } = job;
        let (rejects, writer) = Rejects::new(on_bad_row, held.run);
        let sent = Arc::new(Sent::default());
        let mut open = Vec::new();
        let working = FuturesUnordered::new();
        let workers = std::mem::take(&mut reading.workers);
        for (batches, session) in workers.into_iter().zip(sessions) {
            let (input, stream) = target.open(&session).await?;
            let worker = Worker {
                batches,
                mapping: Arc::clone(&reading.mapping),
                sent_mapping: reading.sent.clone(),
                coverage,
                rejects: rejects.clone(),
                input,
                sent: Arc::clone(&sent),
            };
            working.push(spawn_blocking(move || worker.run()));
            open.push((session, stream));
        }
        let rejected = rejects.count();
        drop(rejects);
        let _progress = self.report_progress(pipeline, rows_total, &sent);
        let writing = writer.run(&self.control, async || self.control_session().await, &pipeline.name);
        let (worked, written) = tokio::join!(join_workers(working, &reading.control), async {
            writing.await.inspect_err(|_| reading.control.stop())
        });
        let stored = finish(open).await;
        // Rejected rows that cannot be written down stop the workers, which then know nothing of the cause.
        written?;
        let checksum = first_cause(worked, &stored)?;
        let (rows_stored, sessions) = stored?;
        let copied = Copied {
            rows_read: sent.rows_read.load(Ordering::Relaxed),
            rows_stored,
            rows_rejected: rejected.get(),
            bytes_read: reading.control.bytes_read(),
            bytes_copied: sent.bytes.load(Ordering::Relaxed),
            checksum,
        };
        check_counts(&copied, sent.rows.load(Ordering::Relaxed), reading.rows_expected())?;
        Ok((copied, sessions))
    }

    /// Tells the observer how far the copy is until the returned handle is dropped.
    fn report_progress(&self, pipeline: &Pipeline, rows_total: Option<u64>, sent: &Arc<Sent>) -> AbortOnDropHandle<()> {
        let (observer, name, sent) = (Arc::clone(&self.observer), pipeline.name.clone(), Arc::clone(sent));
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                let progress = Progress {
                    rows: sent.rows_read.load(Ordering::Relaxed),
                    rows_total,
                    bytes_copied: sent.bytes.load(Ordering::Relaxed),
                };
                observer.observe(&name, &Event::Copying(progress));
            }
        }))
    }
}

/// One reader, encoder and COPY.
struct Worker {
    batches: Batches,
    mapping: Arc<Mapping>,
    /// Of what is sent, where that is less than what is hashed.
    sent_mapping: Option<Arc<Mapping>>,
    coverage: Coverage,
    rejects: Rejects,
    input: CopyInput,
    sent: Arc<Sent>,
}

impl Worker {
    /// Works until its batches end. Blocks.
    ///
    /// # Errors
    /// [`Code::ConnectionLost`] when the COPY ended first: its stream says why.
    fn run(self) -> Result<Checksum> {
        let Worker { mut batches, mapping, sent_mapping, coverage, mut rejects, input, sent } = self;
        let mut encoder = RowEncoder::new(sent_mapping.as_deref().unwrap_or(&mapping));
        let mut hasher = RowHasher::new(&mapping, coverage);
        let mut push = |chunk: Bytes| {
            sent.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            if input.push(chunk) { Ok(()) } else { Err(Error::new(Code::ConnectionLost, "the COPY has ended")) }
        };
        push(copy_header())?;
        while let Some(batch) = batches.next()? {
            let prepared = mapping.prepare(&batch)?;
            let encoded = match &sent_mapping {
                Some(sent) => encoder.encode(&sent.prepare(&batch)?, &mut rejects, &mut push)?,
                None => encoder.encode(&prepared, &mut rejects, &mut push)?,
            };
            hasher.update(&prepared, &encoded.rejected)?;
            sent.rows_read.fetch_add(prepared.rows() as u64, Ordering::Relaxed);
            sent.rows.fetch_add(encoded.rows, Ordering::Relaxed);
            fail::fail_point!(crate::failpoint::DURING_COPY);
        }
        encoder.finish(&mut push)?;
        push(copy_trailer())?;
        input.end();
        Ok(hasher.finish())
    }
}

/// Waits for all workers. What stops one of them stops the others: the load has failed.
pub(super) async fn join_workers(
    mut working: FuturesUnordered<JoinHandle<Result<Checksum>>>,
    control: &ReadControl,
) -> Vec<Result<Checksum>> {
    let mut worked = Vec::new();
    while let Some(joined) = working.next().await {
        let result = joined.unwrap_or_else(|error| Err(Error::internal("an encoder stopped").because(error)));
        if result.is_err() {
            control.stop();
        }
        worked.push(result);
    }
    worked
}

/// Waits for all COPYs: the rows that Postgres stored and the sessions, or the first failure.
async fn finish(open: Vec<(Session, CopyStream)>) -> Result<(u64, Vec<Session>)> {
    let (mut rows, mut sessions) = (0, Vec::with_capacity(open.len()));
    let mut failure = None;
    for (session, stream) in open {
        sessions.push(session);
        match stream.finish().await {
            Ok(stored) => rows += stored,
            Err(error) => {
                // An encoder that stopped takes its COPY along; whatever else broke is the cause.
                let is_cause = error.code() != Code::Internal;
                failure = Some(failure.filter(|_| !is_cause).unwrap_or(error));
            }
        }
    }
    failure.map_or(Ok((rows, sessions)), Err)
}

/// The checksum over all workers, or what stopped them. A worker that fails stops the others and its own COPY, and a
/// COPY that fails stops its worker: what merely followed is not reported.
pub(super) fn first_cause<T>(worked: Vec<Result<Checksum>>, stored: &Result<T>) -> Result<Checksum> {
    let mut sum = Checksum::default();
    let mut followed = None;
    for result in worked {
        match result {
            Ok(checksum) => sum.add(&checksum),
            Err(error) if matches!(error.code(), Code::Cancelled | Code::ConnectionLost) => followed = Some(error),
            Err(error) => return Err(error),
        }
    }
    match followed {
        Some(error) if stored.is_ok() => Err(error),
        _ => Ok(sum),
    }
}

fn check_counts(copied: &Copied, rows_sent: u64, rows_expected: Option<u64>) -> Result<()> {
    let Copied { rows_read, rows_stored, rows_rejected, .. } = *copied;
    let expected = rows_expected.unwrap_or(rows_read);
    if rows_read == expected && rows_sent == rows_stored && rows_read == rows_stored + rows_rejected {
        return Ok(());
    }
    Err(Error::new(
        Code::CountMismatch,
        format!(
            "the source has {expected} rows, {rows_read} were read, {rows_rejected} rejected, {rows_sent} sent, and \
             Postgres counted {rows_stored}"
        ),
    )
    .hint("nothing was published; please report this with the table's features (`lakegate preview`)"))
}
