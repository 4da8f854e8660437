//! Asking a run to end, in whichever process it goes on.

use tokio_postgres::GenericClient;

use crate::domain::{Code, Error, Result};
use crate::postgres::{Doing, OneTrip};

use super::Control;

impl Control {
    /// Asks a run to end; `by` says who asks, for people. False where the run has ended.
    ///
    /// Waits for a publish that is being committed. Once this has returned true, the run publishes nothing any more.
    pub async fn ask_cancel(&self, client: &impl GenericClient, run: i64, by: &str) -> Result<bool> {
        let asked = client
            .affected(
                &self.sql(
                    "UPDATE {control}.runs SET cancel_asked_by = coalesce(cancel_asked_by, $2), \
                         cancel_asked_at = coalesce(cancel_asked_at, clock_timestamp()) \
                     WHERE run = $1 AND state IN ('running', 'waiting')",
                ),
                &[&run, &by],
            )
            .await
            .doing("ask the run to end")?;
        Ok(asked == 1)
    }
}

/// The error of a run that somebody has asked to end: "the run of `items` was cancelled by …".
#[must_use]
pub fn cancelled_by(run: &str, by: &str) -> Error {
    Error::new(Code::CancelledOnRequest, format!("{run} was cancelled by {by}"))
        .hint("what was published before is untouched; `lakegate sync` runs it again, its schedule with its next tick or when its source moves")
}
