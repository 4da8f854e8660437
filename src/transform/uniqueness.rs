//! Which columns of a source tell its rows apart.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{Array as _, RecordBatch};
use arrow_schema::DataType;
use datafusion::functions_aggregate::expr_fn::{approx_distinct, count};
use datafusion::prelude::{DataFrame, Expr, ident, lit};

use crate::domain::{Error, Result};
use crate::source::Source;

use super::{SourceScans, failed, frame_over};

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnCounts {
    /// Rows in which it is not null.
    pub present: u64,
    /// About how many different values it has, within a few percent.
    pub distinct: u64,
}

/// Counts the rows of a source, and the values of some of its columns, in one reading that holds about `budget` bytes.
pub async fn count_values(source: &Arc<Source>, columns: &[&str], budget: u64) -> Result<(u64, Vec<ColumnCounts>)> {
    let (frame, scans) = frame_over(source, budget).await?;
    let mut wanted = vec![count(lit(1)).alias("rows")];
    for (index, column) in columns.iter().enumerate() {
        wanted.push(count(ident(*column)).alias(format!("present {index}")));
        wanted.push(approx_distinct(ident(*column)).alias(format!("distinct {index}")));
    }
    let frame = frame.aggregate(Vec::new(), wanted).map_err(failed)?;
    let counts = single_row(frame, scans).await?;
    let (rows, columns) = counts.split_first().ok_or_else(|| Error::internal("an aggregate without a column"))?;
    let counts = columns.chunks_exact(2).map(|pair| ColumnCounts { present: pair[0], distinct: pair[1] }).collect();
    Ok((*rows, counts))
}

/// Whether no two rows of a source agree in all of these columns. Holds about `budget` bytes and spills beyond that.
pub async fn is_unique(source: &Arc<Source>, columns: &[&str], budget: u64) -> Result<bool> {
    let (frame, scans) = frame_over(source, budget).await?;
    let by: Vec<Expr> = columns.iter().map(|column| ident(*column)).collect();
    let repeated = frame
        .aggregate(by, vec![count(lit(1)).alias("rows with this key")])
        .and_then(|frame| frame.filter(ident("rows with this key").gt(lit(1))))
        .and_then(|frame| frame.limit(0, Some(1)))
        .and_then(|frame| frame.aggregate(Vec::new(), vec![count(lit(1)).alias("repeated")]))
        .map_err(failed)?;
    Ok(single_row(repeated, scans).await?.first() == Some(&0))
}

/// The one row of whole numbers that an aggregate yields; the scans stop when it is there.
async fn single_row(frame: DataFrame, scans: SourceScans) -> Result<Vec<u64>> {
    let batches = frame.collect().await.map_err(failed)?;
    drop(scans);
    let batch = batches.iter().find(|batch| batch.num_rows() > 0);
    number_columns(batch.ok_or_else(|| Error::internal("an aggregate without a row"))?)
}

fn number_columns(batch: &RecordBatch) -> Result<Vec<u64>> {
    let number = |column: &arrow_array::ArrayRef| match column.data_type() {
        DataType::Int64 if !column.is_empty() => Ok(column.as_primitive::<Int64Type>().value(0).unsigned_abs()),
        DataType::UInt64 if !column.is_empty() => Ok(column.as_primitive::<UInt64Type>().value(0)),
        other => Err(Error::internal(format!("a count of type {other}"))),
    };
    batch.columns().iter().map(number).collect()
}
