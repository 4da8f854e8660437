-- Who has asked for the run to be cancelled, and when. Whoever runs it looks for this while the run is on; the
-- transaction of its publish looks once more, at a row that it has locked.
ALTER TABLE {control}.runs ADD COLUMN cancel_asked_by text, ADD COLUMN cancel_asked_at timestamptz;
