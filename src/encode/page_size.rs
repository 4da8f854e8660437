//! Whether a row fits on a page, once its long values have been moved out.

use crate::domain::{Column, ColumnType, ScalarType};

/// The room that rows take on a page: long values are moved out of the row, short and fixed ones are not.
#[derive(Debug)]
pub(super) struct PageSize {
    columns: Vec<ColumnType>,
}

impl PageSize {
    /// `MaxHeapTupleSize`: the room for a row on an empty page of 8 KiB.
    pub(super) const MAX: usize = 8_160;
    /// With fewer columns than this, every row fits: no column takes more than 32 bytes, gaps included.
    const SAFE_COLUMNS: usize = 250;
    /// A longer value is moved out.
    const INLINE: usize = 24;
    const HEADER: usize = 24;

    /// `None` where every row fits.
    pub(super) fn of(columns: &[Column]) -> Option<Self> {
        (columns.len() > Self::SAFE_COLUMNS)
            .then(|| PageSize { columns: columns.iter().map(|column| column.ty).collect() })
    }

    /// What every row takes: its header and its bits for nulls.
    pub(super) fn fixed(&self) -> usize {
        Self::HEADER + self.columns.len().div_ceil(8) + 8
    }

    /// The most that a field may take, by the bytes of its value on the wire; 0 bytes may be null.
    pub(super) fn of_field(&self, index: usize, bytes: usize) -> usize {
        let Some(ColumnType::Scalar(scalar)) = self.columns.get(index) else { return Self::INLINE + 7 };
        match scalar {
            ScalarType::Text | ScalarType::Bytea if bytes == 0 => 1,
            ScalarType::Text | ScalarType::Bytea => (bytes + 1).min(Self::INLINE),
            // On the wire a numeric has 8 bytes besides its digits, in the row 3.
            ScalarType::Numeric { .. } => bytes.min(Self::INLINE),
            _ if bytes == 0 => 0,
            ScalarType::Boolean | ScalarType::Uuid => bytes,
            ScalarType::Int16 => bytes + 1,
            ScalarType::Int32 | ScalarType::Float32 | ScalarType::Date => bytes + 3,
            _ => bytes + 7,
        }
    }
}
