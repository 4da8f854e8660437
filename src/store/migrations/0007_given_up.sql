-- How many bytes of changes the run read to find that more rows differ than are changed in place; null where it did not
-- come to that. The next runs do not read as much again at once.
ALTER TABLE {control}.runs ADD COLUMN given_up_bytes bigint;
