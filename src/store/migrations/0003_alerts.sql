-- Retries and alerts.

-- A hash of the pipeline's definition that a run was made under: what was refused under one is tried again under another.
ALTER TABLE {control}.runs ADD COLUMN definition text;

-- What was last told of a pipeline to those who watch it. Whoever notices a change moves the number from the one that he
-- has read to the next, so that of several processes one tells it, and one that is behind tells nothing.
CREATE TABLE {control}.alerts (
    name      text PRIMARY KEY COLLATE "C",
    standing  text NOT NULL CHECK (standing IN ('ok', 'failing', 'late')),
    since     timestamptz NOT NULL,
    change_no bigint NOT NULL
);

-- Alerts that have not been delivered yet. `due_at` is also the claim of the process that delivers one: until then
-- nobody else does.
CREATE TABLE {control}.alert_messages (
    message bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id      text NOT NULL,
    name    text NOT NULL COLLATE "C",
    body    text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    tries   integer NOT NULL DEFAULT 0
);
