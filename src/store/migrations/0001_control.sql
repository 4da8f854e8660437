-- The control schema. `{control}` is the quoted name of the schema; the migration runs inside one transaction.
--
-- What readers rely on: `published` changes last in every transaction that changes what a reader sees, `generations`
-- gets the row of a load after the load has committed and before its publish begins (the published view's guard
-- depends on that), and `tables` describes what is published now.

CREATE TABLE {control}.project (
    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    project        text NOT NULL,
    schema_version integer NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);

-- Numbers of generations, never used again.
CREATE SEQUENCE {control}.generation_numbers AS bigint;

-- What a person has said of a pipeline since, and what became of its last run.
CREATE TABLE {control}.pipelines (
    name          text PRIMARY KEY COLLATE "C",
    paused        boolean NOT NULL DEFAULT false,
    paused_reason text,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE {control}.runs (
    run               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline          text NOT NULL COLLATE "C",
    state             text NOT NULL CHECK (state IN ('running', 'waiting', 'succeeded', 'skipped', 'failed', 'cancelled')),
    mode              text CHECK (mode IN ('snapshot', 'append', 'merge', 'noop')),
    reason            text,
    trigger           text NOT NULL,
    source_version    text,
    table_id          text,
    generation        bigint,
    publish_no        bigint,
    started_at        timestamptz NOT NULL DEFAULT now(),
    finished_at       timestamptz,
    rows_read         bigint NOT NULL DEFAULT 0,
    rows_inserted     bigint NOT NULL DEFAULT 0,
    rows_updated      bigint NOT NULL DEFAULT 0,
    rows_deleted      bigint NOT NULL DEFAULT 0,
    rows_rejected     bigint NOT NULL DEFAULT 0,
    rows_deduplicated bigint NOT NULL DEFAULT 0,
    bytes_read        bigint NOT NULL DEFAULT 0,
    bytes_copied      bigint NOT NULL DEFAULT 0,
    checksum          text,
    coverage          double precision,
    seconds           jsonb,
    error             jsonb,
    cleaned           boolean NOT NULL DEFAULT false -- the table of a run that came to nothing has been dropped
);
CREATE INDEX runs_by_pipeline ON {control}.runs (pipeline, run DESC);
CREATE INDEX runs_open ON {control}.runs (pipeline) WHERE state IN ('running', 'waiting');
-- Every generation number that a run has drawn is written and committed here before the generation's table is made, so
-- that a table without a live run behind it is known to be a leftover.
CREATE INDEX runs_by_generation ON {control}.runs (generation) WHERE generation IS NOT NULL;

-- Loaded generations. The row appears only after the load has committed: a snapshot that sees the row sees all rows of
-- the table.
CREATE TABLE {control}.generations (
    generation     bigint PRIMARY KEY,
    pipeline       text NOT NULL COLLATE "C",
    run            bigint NOT NULL,
    source_version text NOT NULL,
    table_id       text,
    fingerprint    text NOT NULL,
    columns        jsonb NOT NULL,
    rows           bigint NOT NULL,
    checksum       text,
    coverage       double precision NOT NULL,
    loaded_at      timestamptz NOT NULL DEFAULT now(),
    published_at   timestamptz,
    superseded_at  timestamptz,
    retired_at     timestamptz
);
CREATE INDEX generations_by_pipeline ON {control}.generations (pipeline, generation DESC);

-- What a reader sees now, one row a published table.
CREATE TABLE {control}.published (
    name           text PRIMARY KEY COLLATE "C",
    generation     bigint NOT NULL,
    publish_no     bigint NOT NULL,
    source_version text NOT NULL,
    published_at   timestamptz NOT NULL,
    checked_at     timestamptz NOT NULL
);

-- How it is read: the published columns and key (see `TableSchema` in the source) and the serve policy
-- (`ServePolicy`), replaced by each publish.
CREATE TABLE {control}.tables (
    name       text PRIMARY KEY COLLATE "C",
    generation bigint NOT NULL,
    schema     jsonb NOT NULL,
    policy     jsonb NOT NULL
);

-- Keys changed in place by one publish; `key_hashes` null = all. Generations replaced whole need no row.
CREATE TABLE {control}.changed_keys (
    name       text NOT NULL COLLATE "C",
    publish_no bigint NOT NULL,
    key_hashes bigint[],
    PRIMARY KEY (name, publish_no)
);

-- Who runs a pipeline. The holder also has the session advisory lock of the pipeline on the connection that renews
-- the lease, so that the death of the holder shows at once.
CREATE TABLE {control}.leases (
    pipeline     text PRIMARY KEY COLLATE "C",
    token        uuid NOT NULL,
    run          bigint,
    holder       text NOT NULL,
    backend_pids integer[] NOT NULL DEFAULT '{}',
    acquired_at  timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL
);

CREATE TABLE {control}.rejected_rows (
    run         bigint NOT NULL,
    pipeline    text NOT NULL COLLATE "C",
    ordinal     bigint NOT NULL,
    key         jsonb NOT NULL,
    column_name text,
    code        text NOT NULL,
    reason      text NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run, ordinal)
);

-- Raised by a published view when its transaction's snapshot is older than the load it would read.
CREATE FUNCTION {control}.snapshot_too_old() RETURNS boolean
LANGUAGE plpgsql PARALLEL SAFE STABLE AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'serialization_failure',
        MESSAGE = 'this transaction began before the table was refreshed',
        HINT = 'Run the transaction again.';
END
$$;
-- The view's condition runs with the rights of whoever reads the view, whatever default privileges there are.
GRANT EXECUTE ON FUNCTION {control}.snapshot_too_old() TO PUBLIC;
