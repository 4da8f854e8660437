//! Back to an earlier state: a kept generation where one stands exactly there, else a new load of that version.

use tokio_util::sync::CancellationToken;

use crate::domain::{Code, Error, Generation, Pipeline, Result, RowCounts, RunMode, RunOutcome, SourcePin};
use crate::observe::Event;
use crate::postgres::Session;
use crate::store::LoadedGeneration;

use super::fingerprint::fingerprint;
use super::publish::Publication;
use super::run::{Member, Prepared, Work};
use super::{Engine, SyncRequest, Trigger};

/// Why a rolled-back pipeline does not run by its schedule.
const PAUSED: &str = "rolled back; `lakegate resume` lets it run again";
/// More generations than anybody keeps.
const LOOKED_AT: i64 = 1000;

impl Engine {
    /// Publishes an earlier state of a table and pauses its pipeline: the generation `to`, the version `to_version` of
    /// the source, or, with neither, the generation that was live before the present one. Other tables of its group stay
    /// as they are, and are paused with it.
    ///
    /// # Errors
    /// [`Code::NothingPublished`]; [`Code::GenerationNotFound`] when nothing of the kind is kept; whatever stops the load of
    /// an old version.
    pub async fn rollback(
        &self,
        pipeline: &Pipeline,
        to: Option<Generation>,
        to_version: Option<u64>,
        cancel: &CancellationToken,
    ) -> Result<RunOutcome> {
        let session = self.control_session().await?;
        let live = self.control.published(&*session, &pipeline.name).await?.map(|published| published.generation);
        if live.is_none() {
            return Err(Error::new(Code::NothingPublished, format!("`{}` has never been published", pipeline.name))
                .hint(format!("load it: lakegate sync {}", pipeline.name)));
        }
        let kept: Vec<LoadedGeneration> = self
            .control
            .generations(&*session, &pipeline.name, LOOKED_AT)
            .await?
            .into_iter()
            .filter(|generation| generation.retired_at.is_none() && generation.published_at.is_some())
            .collect();
        let fingerprint = fingerprint(pipeline);
        let table_id = kept.iter().find(|one| Some(one.generation) == live).and_then(|one| one.source.table_id.clone());
        let stands_at = |one: &&LoadedGeneration, version: u64| {
            one.source.version == version.to_string()
                && one.source.table_id == table_id
                && one.fingerprint == fingerprint
        };
        let found = match (to, to_version) {
            (Some(number), _) => kept.iter().find(|generation| generation.generation == number),
            (None, Some(version)) => kept.iter().find(|generation| stands_at(generation, version)),
            (None, None) => kept
                .iter()
                .filter(|generation| Some(generation.generation) != live)
                .max_by_key(|generation| generation.superseded_at),
        };
        // A person has chosen this state: what the checks say of it is written down and stops nothing.
        let request = SyncRequest {
            trigger: Trigger::Rollback,
            ignore_checks: true,
            pause: Some(PAUSED),
            ..SyncRequest::manual()
        };
        let request = match (found, to_version) {
            (Some(kept), _) => {
                SyncRequest { republish: Some((kept.generation, kept.source.version.clone())), ..request }
            }
            (None, Some(version)) => SyncRequest { at: Some(SourcePin::Version(version)), full: true, ..request },
            (None, None) => return Err(not_kept(pipeline, to, &kept)),
        };
        drop(session);
        Ok(self.sync(pipeline, &request, cancel).await?)
    }

    /// Prepares to publish a kept generation again.
    pub(super) async fn republish(
        &self,
        session: &Session,
        member: Member<'_>,
        (generation, version): (Generation, String),
    ) -> Result<Prepared> {
        let Member { pipeline, held, .. } = member;
        let name = &pipeline.name;
        let kept = self.control.generation(&**session, generation).await?;
        let Some(kept) = kept.filter(|kept| kept.retired_at.is_none()) else {
            return Err(not_kept(pipeline, Some(generation), &[]));
        };
        if kept.source.version != version {
            // A refresh in place was faster than this rollback.
            let detail = format!(
                "generation {generation} of `{name}` stands at version {} by now, no longer at {version}",
                kept.source.version
            );
            return Err(Error::new(Code::GenerationNotFound, detail)
                .hint(format!("load that version: lakegate rollback {name} --to-version {version}")));
        }
        let reason = format!("rolled back to generation {generation}");
        self.observer.observe(name, &Event::Planned { mode: RunMode::Snapshot, reason: &reason });
        self.destination.preflight(session, name, &kept.schema, &pipeline.grants, true).await?;
        let outcome = RunOutcome {
            source_version: Some(version.clone()),
            generation: Some(generation),
            rows: RowCounts { inserted: kept.rows.unsigned_abs(), ..RowCounts::default() },
            ..RunOutcome::begun(name, held.run, RunMode::Snapshot, reason)
        };
        let live = self.control.live_generation(&**session, name).await?;
        let publication = Publication {
            schema: kept.schema,
            replaces: live.map(|live| live.schema),
            generation,
            source_version: version,
            checked_by: None,
        };
        Ok(Prepared { outcome, work: Work::Publish(Box::new(publication)) })
    }
}

fn not_kept(pipeline: &Pipeline, wanted: Option<Generation>, kept: &[LoadedGeneration]) -> Error {
    let detail = match wanted {
        Some(generation) => format!("generation {generation} of `{}` is not kept", pipeline.name),
        None => format!("no generation of `{}` but the live one is kept", pipeline.name),
    };
    let list: Vec<String> = kept
        .iter()
        .map(|generation| format!("{} (version {})", generation.generation, generation.source.version))
        .collect();
    let hint = if list.is_empty() {
        "name a version of the source with --to-version, and raise `retain` to keep more generations".to_owned()
    } else {
        format!("kept are: {}; or name a version of the source with --to-version", list.join(", "))
    };
    Error::new(Code::GenerationNotFound, detail).hint(hint)
}
