//! Transforms that make of each row of the source one row or none, whatever the other rows are: such a transform can be
//! applied to changed rows alone.
//!
//! A plan is row-wise where it is a chain of projections and filters over one scan, and every function in it always
//! gives the same result for the same arguments: then the result for a set of rows is the sum of the results for each.

use std::fmt;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::filter::{filter_record_batch, prep_null_mask_filter};
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result as PlanResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::DataFrame;

use crate::domain::Result;
use crate::source::Source;

use super::{context_over, failed, query};

/// The rows that a row-wise transform makes of some rows.
#[derive(Debug)]
pub struct Computed {
    /// The rows, with the columns of the transform's result.
    pub batch: RecordBatch,
    /// Which of the given rows each was made of, ascending; `None` = all of them, in their order.
    pub made_of: Option<Vec<usize>>,
}

impl Computed {
    /// Which of the given rows a row was made of.
    #[must_use]
    pub fn origin(&self, row: usize) -> usize {
        self.made_of.as_ref().map_or(row, |rows| rows.get(row).copied().unwrap_or(row))
    }
}

/// A row-wise transform, ready to be applied.
pub struct RowWise {
    columns: Vec<String>,
    /// Columns of the scan that the first step sees: none, where the transform needs no column at all.
    seen: Vec<usize>,
    steps: Vec<Step>,
}

impl fmt::Debug for RowWise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowWise").field("columns", &self.columns).finish_non_exhaustive()
    }
}

enum Step {
    /// Keeps the rows for which it is true.
    Keep(Arc<dyn PhysicalExpr>),
    /// Computes columns.
    Compute(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
}

impl RowWise {
    /// Plans `sql` over `source`; `None` where it is not row-wise.
    ///
    /// # Errors
    /// [`crate::domain::Code::TransformFailed`] when the SQL does not fit the source.
    pub async fn plan(source: &Arc<Source>, sql: &str) -> Result<Option<RowWise>> {
        let (context, _) = context_over(Arc::clone(source), 1, 0)?;
        let frame = query(&context, sql).await?;
        RowWise::of(frame, source).map_err(failed)
    }

    fn of(frame: DataFrame, source: &Source) -> PlanResult<Option<RowWise>> {
        let (state, plan) = frame.into_parts();
        if !is_deterministic(&plan)? {
            return Ok(None);
        }
        let plan = state.optimize(&plan)?;
        let mut steps = Vec::new();
        let Some(scan) = chain(&state, &plan, &mut steps)? else { return Ok(None) };
        let fields = source.schema().fields();
        let seen: Vec<usize> = scan.projection.clone().unwrap_or_else(|| (0..fields.len()).collect());
        let names = |indexes: &[usize]| -> Vec<String> {
            indexes.iter().filter_map(|&index| fields.get(index)).map(|field| field.name().clone()).collect()
        };
        // A scan needs a column to count rows by.
        let columns = if seen.is_empty() { names(&[0]) } else { names(&seen) };
        Ok(Some(RowWise { columns, seen: (0..seen.len()).collect(), steps }))
    }

    /// The columns of the source that [`RowWise::apply`] needs, in that order.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Applies the transform to rows whose first columns are those that it needs.
    ///
    /// # Errors
    /// [`crate::domain::Code::TransformFailed`] where a value cannot be computed.
    pub fn apply(&self, rows: &RecordBatch) -> Result<Computed> {
        self.try_apply(rows).map_err(failed)
    }

    fn try_apply(&self, rows: &RecordBatch) -> PlanResult<Computed> {
        let mut batch = rows.project(&self.seen)?;
        let mut made_of: Option<Vec<usize>> = None;
        for step in &self.steps {
            match step {
                Step::Keep(condition) => {
                    let kept = condition.evaluate(&batch)?.into_array(batch.num_rows())?;
                    let kept = kept
                        .as_boolean_opt()
                        .ok_or_else(|| DataFusionError::Internal("a filter that is neither true nor false".into()))?;
                    let kept = if kept.null_count() > 0 { prep_null_mask_filter(kept) } else { kept.clone() };
                    let rows = kept.values().set_indices();
                    made_of = Some(match &made_of {
                        None => rows.collect(),
                        Some(before) => rows.filter_map(|row| before.get(row).copied()).collect(),
                    });
                    batch = filter_record_batch(&batch, &kept)?;
                }
                Step::Compute(columns, schema) => {
                    let rows = batch.num_rows();
                    let columns = columns.iter().map(|column| column.evaluate(&batch)?.into_array(rows));
                    let columns = columns.collect::<PlanResult<Vec<_>>>()?;
                    let count = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
                    batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &count)?;
                }
            }
        }
        Ok(Computed { batch, made_of })
    }
}

/// Adds the steps from the scan up to the plan's end, and returns the scan; `None` where anything else is on the way.
fn chain<'p>(state: &SessionState, plan: &'p LogicalPlan, steps: &mut Vec<Step>) -> PlanResult<Option<&'p TableScan>> {
    match plan {
        LogicalPlan::TableScan(scan) => Ok((scan.filters.is_empty() && scan.fetch.is_none()).then_some(scan)),
        LogicalPlan::SubqueryAlias(alias) => chain(state, &alias.input, steps),
        LogicalPlan::Filter(filter) => {
            let Some(scan) = chain(state, &filter.input, steps)? else { return Ok(None) };
            steps.push(Step::Keep(state.create_physical_expr(filter.predicate.clone(), filter.input.schema())?));
            Ok(Some(scan))
        }
        LogicalPlan::Projection(projection) => {
            let Some(scan) = chain(state, &projection.input, steps)? else { return Ok(None) };
            let input = projection.input.schema();
            let columns = projection.expr.iter().map(|column| state.create_physical_expr(column.clone(), input));
            let schema = Arc::clone(projection.schema.inner());
            steps.push(Step::Compute(columns.collect::<PlanResult<_>>()?, schema));
            Ok(Some(scan))
        }
        _ => Ok(None),
    }
}

/// Whether all functions always give the same result for the same arguments, and nothing asks other queries. Asked of
/// the plan as written: planning puts the time of day, for example, in as a constant.
fn is_deterministic(plan: &LogicalPlan) -> PlanResult<bool> {
    let mut deterministic = true;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                deterministic &= match part {
                    Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Immutable,
                    Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => false,
                    _ => true,
                };
                Ok(if deterministic { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })
    })?;
    Ok(deterministic)
}
