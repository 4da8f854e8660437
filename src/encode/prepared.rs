//! Batches whose columns stand as the table wants them: selected, cast, and free of dictionaries and runs.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;

use super::bad_row::{CellFault, Faults};
use super::cast::Conversion;
use super::mapping::Mapping;
use super::variant;
use crate::domain::{Error, Result};

/// A batch in the columns of the table. Made once, then encoded and hashed: the encoder and the hasher each read
/// these same values, so that a checksum says nothing about how they were made.
#[derive(Debug)]
pub struct PreparedBatch {
    pub(super) rows: usize,
    pub(super) columns: Vec<ArrayRef>,
    /// The same columns before they were cast, for messages.
    pub(super) originals: Vec<ArrayRef>,
    /// Values that have no counterpart in the declared type.
    pub(super) faults: Vec<CellFault>,
}

impl PreparedBatch {
    /// How many rows there are, bad ones included.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }
}

impl Mapping {
    /// Brings a batch of the source into the columns of the table.
    ///
    /// # Errors
    /// [`crate::domain::Code::Internal`] where the batch has other columns than those planned for;
    /// [`crate::domain::Code::SourceCorrupt`] where a variant cannot be decoded.
    pub fn prepare(&self, batch: &RecordBatch) -> Result<PreparedBatch> {
        let mut faults = Faults::default();
        let mut columns = Vec::with_capacity(self.columns.len());
        let mut originals = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter().enumerate() {
            let fields = batch.schema_ref().fields();
            let found = fields.get(column.source).filter(|field| field.name() == column.field.name());
            if found.is_none() {
                let detail = format!("a batch lacks the column `{}` at {}", column.field.name(), column.source);
                return Err(Error::internal(detail));
            }
            let array = plain(batch.column(column.source))?;
            originals.push(Arc::clone(&array));
            faults.enter(Some(index));
            columns.push(match &column.conversion {
                Conversion::None => array,
                Conversion::Variant => variant::to_json(&array, &mut faults)?,
                Conversion::Cast(cast) => cast.apply(&array, &mut faults)?,
            });
        }
        Ok(PreparedBatch { rows: batch.num_rows(), columns, originals, faults: faults.take() })
    }
}

/// The same values without dictionary or run-end encoding. Strings and binaries become views, so that values shared by
/// many rows are not copied for each.
pub(super) fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    let to = match array.data_type() {
        DataType::Dictionary(_, values) => match values.as_ref() {
            DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
            DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
            other => other.clone(),
        },
        DataType::RunEndEncoded(_, values) => values.data_type().clone(),
        _ => return Ok(Arc::clone(array)),
    };
    let unpacked = arrow_cast::cast(array.as_ref(), &to).map_err(|error| {
        Error::internal(format!("cannot unpack an array of type {}", array.data_type())).because(error)
    })?;
    plain(&unpacked)
}
