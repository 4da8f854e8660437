//! Which columns a refresh takes: those that the pipeline's rules make of the source's, less what the table does not
//! promise (its [`Contract`]) or does not take (`on_schema_change`).

use std::sync::Arc;

use futures::FutureExt as _;

use crate::domain::{Code, Contract, Error, OnSchemaChange, Pipeline, Result, TableName, TableSchema};
use crate::encode::{Mapping, plan_columns};
use crate::postgres::Session;
use crate::source::Source;
use crate::store::LoadedGeneration;
use crate::transform::Transform;

use super::Engine;
use super::fingerprint::fingerprint;
use super::schema_change::{self, SchemaChange};

/// What is taken of a source.
pub(super) struct Taken {
    /// The columns as a load would make them.
    pub(super) mapping: Mapping,
    /// The columns that the live generation would have if it were changed in place; `None` where only a load helps.
    pub(super) in_place: Option<TableSchema>,
    /// What it changes of the published columns.
    pub(super) change: SchemaChange,
    /// What a person should know of columns that are left out.
    pub(super) warnings: Vec<String>,
}

impl Engine {
    /// The columns that the pipeline's rules make of the source's or of the transform's.
    pub(super) async fn map_columns(&self, pipeline: &Pipeline, source: &Arc<Source>) -> Result<Mapping> {
        let schema = match &pipeline.transform {
            None => Arc::clone(source.schema()),
            // Boxed: else the compiler looks for what is not Send through all of DataFusion, from every task of ours.
            Some(sql) => Transform::plan(Arc::clone(source), sql, 1, self.run_budget()).boxed().await?.schema(),
        };
        plan_columns(&schema, &pipeline.columns, &pipeline.primary_key)
    }

    /// The columns that a refresh takes, in the order of those that are published.
    ///
    /// # Errors
    /// [`Code::ContractBroken`] where the source does not fit what the table promises, [`Code::SchemaChanged`] where
    /// `on_schema_change` does not let a change through; those of [`plan_columns`] and of the transform.
    pub(super) async fn take_columns(
        &self,
        pipeline: &Pipeline,
        source: &Arc<Source>,
        live: Option<&LoadedGeneration>,
    ) -> Result<Taken> {
        let mut mapping = self.map_columns(pipeline, source).await?;
        let mut warnings = Vec::new();
        if let Some(contract) = &pipeline.contract {
            let left_out = keep_promise(&pipeline.name, contract, &mut mapping)?;
            let why = |name| format!("the source's column `{name}` is left out: {} lacks it", contract.file.display());
            warnings.extend(left_out.into_iter().map(why));
        }
        let mut change = SchemaChange::default();
        let mut in_place = None;
        if let Some(live) = live {
            // A changed definition may ask for more columns, and so may a promise: then they are not the source's news.
            let asked = live.fingerprint != fingerprint(pipeline) || pipeline.contract.is_some();
            if pipeline.on_schema_change == OnSchemaChange::Ignore && !asked {
                let left_out = mapping.retain(|name| live.schema.position(name).is_some());
                let why = |name| format!("the source's new column `{name}` is left out (`on_schema_change: ignore`)");
                warnings.extend(left_out.into_iter().map(why));
            }
            mapping.reorder(&schema_change::keep_order(&live.schema, &mapping.schema.columns));
            change = schema_change::compare(&live.schema, &mapping.schema);
            schema_change::check(&pipeline.name, &change, pipeline.on_schema_change, !asked)?;
            in_place = schema_change::extend(&live.schema, &mapping.schema);
        }
        Ok(Taken { mapping, in_place, change, warnings })
    }

    /// Whether a refresh of the same state of the source would take the columns that are published. They may be others
    /// only where the pipeline has been declared otherwise since the last run that succeeded; else the source is not
    /// opened.
    pub(super) async fn takes_same_columns(
        &self,
        session: &Session,
        pipeline: &Pipeline,
        definition: &str,
        live: &LoadedGeneration,
    ) -> Result<bool> {
        if self.control.last_definition(&**session, &pipeline.name).await?.as_deref() == Some(definition) {
            return Ok(true);
        }
        let source = self.open_source(pipeline, None, None).await?;
        let taken = self.take_columns(pipeline, &source, Some(live)).await?;
        Ok(taken.in_place.is_some_and(|schema| schema == live.schema))
    }

    /// The columns that the source has now for a table that promises nothing: what a pin would promise.
    ///
    /// # Errors
    /// As a plan's.
    pub async fn columns_to_pin(&self, pipeline: &Pipeline) -> Result<TableSchema> {
        let session = self.control_session().await?;
        let live = if self.prepared { self.control.live_generation(&*session, &pipeline.name).await? } else { None };
        let source = self.open_source(pipeline, None, None).await?;
        let mut mapping = self.map_columns(pipeline, &source).await?;
        if let Some(live) = live {
            mapping.reorder(&schema_change::keep_order(&live.schema, &mapping.schema.columns));
        }
        Ok(mapping.schema)
    }
}

/// Brings a mapping to what the table promises. Returns the columns that are left out.
fn keep_promise(name: &TableName, contract: &Contract, mapping: &mut Mapping) -> Result<Vec<String>> {
    let left_out = mapping.retain(|column| contract.column(column).is_some());
    let mut broken = Vec::new();
    let mut order = Vec::with_capacity(contract.columns.len());
    for pinned in &contract.columns {
        let column = &pinned.name;
        let Some(at) = mapping.schema.position(column) else {
            broken.push(format!("`{column}`, which the source lacks"));
            continue;
        };
        order.push(at);
        let is_key = mapping.schema.key.contains(&at);
        let Some(found) = mapping.schema.columns.get_mut(at) else { continue };
        if found.ty != pinned.ty {
            broken.push(format!("`{column}` as {}, the source has {}", pinned.ty, found.ty));
        }
        if found.nullable && !pinned.nullable {
            broken.push(format!("`{column}` as not null, which the source does not declare"));
        }
        // What is promised stays so if the source declares more.
        found.nullable = pinned.nullable && !is_key;
    }
    if broken.is_empty() {
        mapping.reorder(&order);
        return Ok(left_out);
    }
    let detail = format!("`{name}`: {} pins {}", contract.file.display(), broken.join("; and "));
    Err(Error::new(Code::ContractBroken, detail).hint(format!(
        "bring the source back, map it with `columns` or `transform`, or change the promise: lakegate pin {name}"
    )))
}
