//! Groups: pipelines that run and are published together.

use serde::Serialize;

use crate::domain::{Code, Error, Pipeline, Result, TableName};
use crate::postgres::Session;

use super::Engine;

impl Engine {
    /// The pipelines that run with this one, itself among them, by name: those of its group, or it alone.
    #[must_use]
    pub fn members<'a>(&'a self, pipeline: &'a Pipeline) -> Vec<&'a Pipeline> {
        if pipeline.group.is_none() {
            return vec![pipeline];
        }
        // The project's pipelines stand in the order of their names.
        self.project.pipelines.iter().filter(|other| other.group == pipeline.group).collect()
    }

    /// The other pipelines of a pipeline's group.
    pub(super) fn others<'a>(&'a self, pipeline: &'a Pipeline) -> impl Iterator<Item = &'a Pipeline> {
        self.members(pipeline).into_iter().filter(|other| other.name != pipeline.name)
    }

    /// These pipelines, put together with those of them that run with them, in the order given.
    #[must_use]
    pub fn together<'a>(&self, pipelines: &[&'a Pipeline]) -> Vec<Vec<&'a Pipeline>> {
        let mut runs: Vec<Vec<&'a Pipeline>> = Vec::new();
        for pipeline in pipelines {
            let same = |run: &&mut Vec<&Pipeline>| run.iter().any(|other| other.group == pipeline.group);
            match runs.iter_mut().find(same).filter(|_| pipeline.group.is_some()) {
                Some(run) => run.push(pipeline),
                None => runs.push(vec![pipeline]),
            }
        }
        runs
    }

    /// Whether the schedule of a pipeline is stopped: its own, or that of another one of its group.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn is_paused(&self, session: &Session, pipeline: &Pipeline) -> Result<bool> {
        let names: Vec<&str> = self.members(pipeline).iter().map(|member| member.name.as_str()).collect();
        self.control.any_paused(&**session, &names).await
    }

    /// Stops the schedule of a pipeline and its group for this reason, or lets it go on. Returns what is so of each now.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn set_paused(&self, pipeline: &Pipeline, reason: Option<&str>) -> Result<Vec<Paused>> {
        let session = self.control_session().await?;
        let mut changed = Vec::new();
        for member in self.members(pipeline) {
            self.control.set_paused(&*session, &member.name, reason).await?;
            changed.push(Paused { pipeline: member.name.clone(), paused: reason.is_some() });
        }
        Ok(changed)
    }
}

/// Whether a pipeline's schedule is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paused {
    /// The pipeline.
    pub pipeline: TableName,
    /// Whether it is.
    pub paused: bool,
}

/// The run of these pipelines, for people.
pub(super) fn run_of(pipelines: &[&Pipeline]) -> String {
    match pipelines {
        [one] => format!("the run of `{}`", one.name),
        [one, ..] => {
            let group = one.group.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("the run of the group `{group}`")
        }
        [] => "the run of nothing".to_owned(),
    }
}

/// Why a member was not published that could have been.
pub(super) fn not_published(member: &Pipeline, cause: &Pipeline, error: &Error) -> Error {
    let group = member.group.as_ref().map(ToString::to_string).unwrap_or_default();
    let detail =
        format!("`{}` was not published because `{}` of its group `{group}` failed: {error}", member.name, cause.name);
    Error::new(Code::GroupNotPublished, detail)
        .hint(format!("see to `{}`; the tables of a group are published together or not at all", cause.name))
}
