//! Cancelling a run, in whichever process it goes on.

use serde::Serialize;

use crate::domain::{Code, Error, Result, RunState, TableName};

use super::Engine;

/// A run that was asked to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CancelledRun {
    /// The table that it is of.
    pub pipeline: TableName,
    /// The run.
    pub run: i64,
    /// How it ended, or `running` where that was not waited for.
    pub state: String,
}

impl Engine {
    /// Asks the run under way of a pipeline to end, and with it the whole run of its group. `by` says who asks.
    ///
    /// The process that runs it notices within a second or two, ends what works for the run, and publishes nothing.
    ///
    /// # Errors
    /// [`Code::NoRunUnderWay`]; [`Code::UnknownPipeline`] where there is no run and no such pipeline either.
    pub async fn ask_cancel(&self, name: &TableName, by: &str) -> Result<CancelledRun> {
        let session = self.control_session().await?;
        let Some(run) = self.control.leased_run(&*session, name).await? else {
            self.pipeline(name.as_str())?;
            return Err(Error::new(Code::NoRunUnderWay, format!("no run of `{name}` is under way"))
                .hint(format!("see what ran: lakegate runs {name}; to keep it from running: lakegate pause {name}")));
        };
        if !self.control.ask_cancel(&*session, run, by).await? {
            return Err(Error::new(Code::NoRunUnderWay, format!("run {run} of `{name}` has ended already"))
                .hint(format!("see how: lakegate runs {name}; to undo a publish: lakegate rollback {name}")));
        }
        Ok(CancelledRun { pipeline: name.clone(), run, state: RunState::Running.as_str().to_owned() })
    }

    /// Waits until a run that was asked to end has ended.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn await_cancelled(&self, asked: CancelledRun) -> Result<CancelledRun> {
        let session = self.control_session().await?;
        let record = self.end_of(&session, &asked.pipeline, asked.run).await?;
        // One whose process hangs or has died is marked by the next run.
        let state = record.map_or_else(|| RunState::Cancelled.as_str().to_owned(), |record| record.state);
        Ok(CancelledRun { state, ..asked })
    }
}
