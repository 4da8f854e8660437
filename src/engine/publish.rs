//! The publish: one short transaction that moves rows, views, watermarks, run records and publish numbers of all members
//! together.

use std::time::{Duration, Instant};

use rand::Rng as _;

use crate::destination::Shown;
use crate::domain::{Code, Error, Generation, Result, RunOutcome, RunState, TableSchema, spell_duration};
use crate::observe::{Event, Stage};
use crate::postgres::{Doing, Session};
use crate::store::PublishRow;

use super::Engine;
use super::run::{Member, Prepared, Stopped, Work};

/// How long a publish waits for the lock of a view before it lets the readers behind it pass: below `deadlock_timeout`,
/// since a waiting ACCESS EXCLUSIVE stops every later reader.
pub(super) const LOCK_WAIT: Duration = Duration::from_millis(200);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A generation that the view is to show.
pub(super) struct Publication {
    pub(super) schema: TableSchema,
    /// The columns that are published now.
    pub(super) replaces: Option<TableSchema>,
    pub(super) generation: Generation,
    pub(super) source_version: String,
    /// The run that has looked at the source, if it has.
    pub(super) checked_by: Option<i64>,
}

impl Work {
    /// Whether readers see something of it.
    pub(super) fn is_seen(&self) -> bool {
        matches!(self, Work::Merge(..) | Work::Publish(_))
    }

    /// What the view is to show, where that changes: the generation, its columns, and those that are published now.
    fn to_show(&self) -> Option<(Generation, &TableSchema, Option<&TableSchema>)> {
        match self {
            Work::Publish(new) => Some((new.generation, &new.schema, new.replaces.as_ref())),
            Work::Merge(decided, _) if decided.extends() => {
                let live = decided.live.as_ref()?;
                Some((live.generation, decided.schema(), Some(&live.schema)))
            }
            Work::Merge(..) | Work::Keep(_) | Work::Confirm => None,
        }
    }
}

impl Engine {
    /// Publishes what is prepared, all of it or nothing, trying again until the locks are had or the shortest
    /// `publish_timeout` is over. Changes that prove wrong while they are applied are made up for by a load, where that
    /// helps. The runs are finished in the same transaction, and their outcomes afterwards.
    pub(super) async fn publish(
        &self,
        session: &mut Session,
        members: &[Member<'_>],
        prepared: &mut [Prepared],
    ) -> Result<(), Stopped> {
        for (member, prepared) in members.iter().zip(prepared.iter()) {
            if prepared.work.is_seen() {
                self.observer.observe(&member.pipeline.name, &Event::Entered(Stage::Publish));
            }
        }
        let mut wait = Wait::begin(members);
        loop {
            let Err(stopped) = self.try_publish(session, members, prepared, &wait).await else { return Ok(()) };
            let Some(by) = stopped.by else { return Err(stopped) };
            let (Some(member), Some(one)) = (members.get(by), prepared.get_mut(by)) else { return Err(stopped) };
            if stopped.error.code() == Code::LockNotAvailable {
                self.wait_for_lock(session, members, *member, &mut wait, stopped.error)
                    .await
                    .map_err(Stopped::of(by))?;
                continue;
            }
            member.held.end_idle();
            let Prepared { outcome, work } = one;
            let Work::Merge(decided, _) = &work else { return Err(stopped) };
            let error = self.name_clashing_keys(session, *member, decided, stopped.error).await;
            let failed = Prepared { outcome: outcome.clone(), work: std::mem::replace(work, Work::Confirm) };
            let whole = Box::pin(self.load_instead(session, *member, failed, error)).await;
            *one = whole.map_err(Stopped::of(by))?;
            wait = Wait::begin(members);
        }
    }

    async fn try_publish(
        &self,
        session: &mut Session,
        members: &[Member<'_>],
        prepared: &mut [Prepared],
        wait: &Wait,
    ) -> Result<(), Stopped> {
        let doing = "publish";
        let mut transaction = session.transaction().await.doing(doing)?;
        for (at, (member, prepared)) in members.iter().zip(prepared.iter_mut()).enumerate() {
            let changed = Box::pin(self.change(&mut transaction, *member, prepared, wait.started)).await;
            changed.map_err(Stopped::of(at))?;
        }
        self.check_group(&mut transaction, members, prepared).await?;
        // The locks that stop readers come last, so that they are held for the shortest time.
        self.point_views(&transaction, members, prepared, wait.tries).await?;
        fail::fail_point!(crate::failpoint::BEFORE_PUBLISH_COMMIT);
        for (at, member) in members.iter().enumerate() {
            self.control.fence(&transaction, &member.held.lease).await.map_err(Stopped::of(at))?;
        }
        Ok(transaction.commit().await.doing(doing)?)
    }

    /// A member's part of the transaction, save for the view.
    async fn change(
        &self,
        transaction: &mut tokio_postgres::Transaction<'_>,
        member: Member<'_>,
        prepared: &mut Prepared,
        publishing: Instant,
    ) -> Result<()> {
        let name = &member.pipeline.name;
        let Prepared { outcome, work } = prepared;
        match &work {
            Work::Confirm => self.control.note_checked(&*transaction, name).await?,
            Work::Keep(decided) => self.keep(transaction, member, decided, outcome).await?,
            Work::Merge(decided, staged) => self.apply(transaction, member, decided, staged, outcome).await?,
            Work::Publish(publication) => self.record(transaction, member, publication, outcome).await?,
        }
        if work.is_seen() {
            outcome.state = RunState::Succeeded;
            outcome.seconds.publish = publishing.elapsed().as_secs_f64();
        } else {
            outcome.state = RunState::Skipped;
        }
        outcome.seconds.total = member.started.elapsed().as_secs_f64();
        self.control.finish_run(&*transaction, outcome).await?;
        if member.request.pause.is_some() {
            self.control.set_paused(&*transaction, name, member.request.pause).await?;
        }
        Ok(())
    }

    /// Writes down that a generation is published.
    async fn record(
        &self,
        transaction: &tokio_postgres::Transaction<'_>,
        member: Member<'_>,
        publication: &Publication,
        outcome: &mut RunOutcome,
    ) -> Result<()> {
        let row = PublishRow {
            name: &member.pipeline.name,
            generation: publication.generation,
            source_version: &publication.source_version,
            schema: &publication.schema,
            policy: &member.pipeline.serve,
            checked_by: publication.checked_by,
        };
        outcome.publish_no = Some(self.control.record_publish(transaction, &row).await?);
        outcome.generation = Some(publication.generation);
        Ok(())
    }

    /// Points the views at their generations. All locks are taken in one go, in the order of names or, in every second
    /// try, against it: readers who take them the other way round must not keep the publish out for ever.
    async fn point_views(
        &self,
        transaction: &tokio_postgres::Transaction<'_>,
        members: &[Member<'_>],
        prepared: &[Prepared],
        tries: u32,
    ) -> Result<(), Stopped> {
        let mut views = Vec::new();
        for (at, (member, prepared)) in members.iter().zip(prepared).enumerate() {
            let pipeline = member.pipeline;
            let Some((generation, schema, replaces)) = prepared.work.to_show() else { continue };
            let in_group = pipeline.group.is_some();
            let shown = Shown { name: &pipeline.name, generation, schema, in_group };
            let repoint = self.destination.prepare_view(transaction, &shown).await.map_err(Stopped::of(at))?;
            views.push((at, shown, repoint, replaces, pipeline));
        }
        if views.is_empty() {
            return Ok(());
        }
        if tries % 2 == 1 {
            views.reverse();
        }
        self.destination.bound_lock_wait(transaction, LOCK_WAIT).await?;
        for (at, _, repoint, ..) in &views {
            self.destination.point_view(transaction, repoint).await.map_err(Stopped::of(*at))?;
        }
        for (at, shown, repoint, replaces, pipeline) in &views {
            let dressed = self.destination.dress_view(transaction, shown, repoint, *replaces, &pipeline.grants).await;
            dressed.map_err(Stopped::of(*at))?;
        }
        Ok(())
    }

    /// Pauses before the next try, or fails because there have been enough.
    pub(super) async fn wait_for_lock(
        &self,
        session: &Session,
        members: &[Member<'_>],
        member: Member<'_>,
        wait: &mut Wait,
        error: Error,
    ) -> Result<()> {
        member.held.end_idle();
        let name = &member.pipeline.name;
        let blockers = self.destination.view_blockers(&**session, name).await.unwrap_or_default();
        let waited = wait.started.elapsed();
        if waited > wait.longest {
            let longest = spell_duration(wait.longest);
            let detail = format!("`{name}` could not be published within {longest}: {blockers}");
            return Err(Error::new(Code::PublishTimeout, detail)
                .hint("end the sessions that hold the view, or raise `publish_timeout`")
                .because(error));
        }
        for member in members {
            self.control.record_state(&**session, member.held.run, RunState::Waiting).await?;
        }
        self.observer.observe(name, &Event::Waiting { waited, blockers: &blockers });
        let jitter = rand::rng().random_range(0.5..1.5);
        tokio::time::sleep(wait.pause.mul_f64(jitter)).await;
        wait.pause = (wait.pause * 2).min(LONGEST_PAUSE);
        wait.tries += 1;
        Ok(())
    }
}

/// The patience of a publish, or of what is done for it.
pub(super) struct Wait {
    started: Instant,
    /// The shortest `publish_timeout`.
    longest: Duration,
    /// The next pause.
    pause: Duration,
    /// How often it has been tried in vain.
    tries: u32,
}

impl Wait {
    pub(super) fn begin(members: &[Member<'_>]) -> Wait {
        let longest = members.iter().map(|member| member.pipeline.publish_timeout).min().unwrap_or_default();
        Wait { started: Instant::now(), longest, pause: Duration::from_millis(50), tries: 0 }
    }
}
