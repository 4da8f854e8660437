//! What a person has said of a pipeline since it was declared.

use tokio_postgres::GenericClient;

use crate::domain::{Result, TableName};
use crate::postgres::{Doing, OneTrip};

use super::Control;

/// The stored state of a pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PipelineState {
    /// Whether its schedule is stopped.
    pub paused: bool,
    /// Why, for people.
    pub reason: Option<String>,
}

impl Control {
    /// The state of one pipeline; the default where none is stored.
    pub async fn pipeline_state(&self, client: &impl GenericClient, name: &TableName) -> Result<PipelineState> {
        let row = client
            .opt_row(
                &self.sql("SELECT paused, paused_reason FROM {control}.pipelines WHERE name = $1"),
                &[&name.as_str()],
            )
            .await
            .doing("read the pipeline's state")?;
        Ok(row.map_or_else(PipelineState::default, |row| PipelineState { paused: row.get(0), reason: row.get(1) }))
    }

    /// Whether the schedule of any of these pipelines is stopped.
    pub async fn any_paused(&self, client: &impl GenericClient, names: &[&str]) -> Result<bool> {
        let row = client
            .one_row(
                &self.sql("SELECT EXISTS (SELECT FROM {control}.pipelines WHERE name = ANY ($1) AND paused)"),
                &[&names],
            )
            .await
            .doing("read the pipelines' state")?;
        Ok(row.get(0))
    }

    /// Stops or resumes the schedule of a pipeline.
    pub async fn set_paused(&self, client: &impl GenericClient, name: &TableName, reason: Option<&str>) -> Result<()> {
        client
            .affected(
                &self.sql(
                    "INSERT INTO {control}.pipelines (name, paused, paused_reason) VALUES ($1, $2, $3) \
                     ON CONFLICT (name) DO UPDATE SET paused = excluded.paused, paused_reason = excluded.paused_reason",
                ),
                &[&name.as_str(), &reason.is_some(), &reason],
            )
            .await
            .doing("store the pipeline's state")?;
        Ok(())
    }
}
