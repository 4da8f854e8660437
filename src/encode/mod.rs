//! Arrow batches as rows of a binary COPY, and hashes of the same rows to prove that they arrived.
//!
//! ```text
//! plan_columns → Mapping → prepare → PreparedBatch ┬→ RowEncoder → bytes for COPY
//!                                                  └→ RowHasher  → Checksum   (compared with verify_sql)
//! ```
//!
//! No I/O: everything is a function of the values. The encoder and the hasher read the same prepared values, each by code
//! of its own. So the checksum proves the encoding and the way to the table; it does not see an error of `prepare`
//! (declared casts, dictionaries, the JSON of variants), which both sides would share.

mod array;
mod bad_row;
mod cast;
mod column_hash;
mod column_type;
mod exact_decimal;
mod field;
mod hash_sql;
mod json;
mod json_text;
mod json_time;
mod jsonb_text;
mod mapping;
mod numeric;
mod page_size;
mod postgres_hash;
mod prepared;
mod row_encoder;
mod row_hash;
mod temporal;
#[cfg(test)]
mod tests;
mod text_value;
mod typed_array;
mod variant;
mod writer;

pub use bad_row::{BadRow, BadRows, FailOnBadRow};
pub use column_type::VARIANT_METADATA_KEY;
pub use hash_sql::{column_hash_sql, hash_sql, key_hash_sql, verify_sql};
pub use mapping::{Mapping, plan_columns};
pub use prepared::PreparedBatch;
pub use row_encoder::{EncodedRows, RowEncoder, copy_header, copy_trailer};
pub use row_hash::{Checksum, ColumnHasher, Coverage, RowHasher, SAMPLE_DIVISOR};
