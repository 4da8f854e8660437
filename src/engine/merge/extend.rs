//! A live generation that gets further columns: they are there before rows are merged, and are seen with the publish.

use crate::domain::{Code, Pipeline, Result, RunState};
use crate::postgres::Session;

use super::super::Engine;
use super::super::copy::Copied;
use super::super::plan::Decided;
use super::super::publish::{LOCK_WAIT, Wait};
use super::super::run::{Member, Work};
use super::Staged;

impl Engine {
    /// Gives the live generation the columns that are planned, as soon as no reader holds it for long.
    ///
    /// # Errors
    /// [`Code::PublishTimeout`] where readers hold it until `publish_timeout` is over, and others of the server.
    pub(super) async fn extend(&self, session: &mut Session, member: Member<'_>, decided: &Decided) -> Result<()> {
        let (name, live) = (&member.pipeline.name, decided.live()?);
        let mut wait = Wait::begin(&[member]);
        let mut has_waited = false;
        loop {
            let extended = self
                .destination
                .extend(session, name, live.generation, &live.schema, decided.schema(), LOCK_WAIT)
                .await;
            match extended {
                Err(error) if error.code() == Code::LockNotAvailable => {
                    self.wait_for_lock(session, &[member], member, &mut wait, error).await?;
                    has_waited = true;
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        if has_waited {
            self.control.record_state(&**session, member.held.run, RunState::Running).await?;
        }
        fail::fail_point!(crate::failpoint::AFTER_EXTEND);
        Ok(())
    }

    /// The work of a member whose columns change and whose rows do not.
    pub(super) async fn extend_alone(
        &self,
        session: &mut Session,
        pipeline: &Pipeline,
        decided: Box<Decided>,
    ) -> Result<Work> {
        let (generation, schema) = (decided.live()?.generation, decided.schema());
        let latest = pipeline.on_duplicate_key.latest_by().and_then(|column| schema.position(column));
        self.destination.prepare_staging(session, generation, schema, latest).await?;
        let staged = Staged { coming: Copied::default(), going: 0, going_sum: None };
        Ok(Work::Merge(decided, Box::new(staged)))
    }
}
