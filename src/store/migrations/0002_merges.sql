-- Refreshes in place: how many rows were read and found as they are published.
ALTER TABLE {control}.runs ADD COLUMN rows_unchanged bigint NOT NULL DEFAULT 0;
