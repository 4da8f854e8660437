-- What the checks said that a person had a run ignore; null where nothing was to be ignored.
ALTER TABLE {control}.runs ADD COLUMN checks_overridden text[];
-- The checks that all rows of a generation have passed, in a canonical text; null where that is not known. A refresh in
-- place under the same checks need not look at the rows that stay.
ALTER TABLE {control}.generations ADD COLUMN checks text;
