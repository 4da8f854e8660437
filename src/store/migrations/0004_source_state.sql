-- What a later run needs to tell whether a source is still the one that was loaded, and what changed since.
--
-- `source_commit`: a digest of the commit that made the version, of a Delta table. `source_record`: which files there
-- were, of Parquet files without a log (its form is that of `source/parquet/record.rs`).
ALTER TABLE {control}.generations ADD COLUMN source_commit text, ADD COLUMN source_record bytea;
