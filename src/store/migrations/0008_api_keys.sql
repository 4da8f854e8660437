-- Keys of the APIs. Of a secret, which has 256 random bits, its SHA-256 alone is kept: nobody can find the secret by it.
CREATE TABLE {control}.api_keys (
    id           text PRIMARY KEY COLLATE "C" CHECK (id ~ '^[0-9a-f]{12}$'),
    name         text NOT NULL,
    secret_hash  bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    roles        text[] NOT NULL DEFAULT '{}',
    attributes   jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);

-- How many times the keys have changed, for servers to look at each second.
CREATE TABLE {control}.auth_epoch (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch    bigint NOT NULL
);
INSERT INTO {control}.auth_epoch (epoch) VALUES (1);

-- Whoever changes a key, by hand too, moves the epoch and tells the servers, which listen on the schema's name.
CREATE FUNCTION {control}.move_auth_epoch() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {control}.auth_epoch SET epoch = epoch + 1;
    PERFORM pg_catalog.pg_notify(TG_TABLE_SCHEMA, 'keys');
    RETURN NULL;
END
$$;
CREATE TRIGGER keys_have_changed
    AFTER INSERT OR DELETE OR UPDATE OF id, secret_hash, roles, attributes, expires_at, revoked_at
    ON {control}.api_keys FOR EACH STATEMENT EXECUTE FUNCTION {control}.move_auth_epoch();

-- Notes that keys were used, each once a minute at most. All that a replica may change. It waits for nobody: what is being
-- changed is left out, until the next time.
CREATE FUNCTION {control}.note_key_use(used text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
    UPDATE {control}.api_keys k SET last_used_at = clock_timestamp()
    FROM (SELECT id FROM {control}.api_keys
          WHERE id = ANY (used) AND (last_used_at IS NULL OR last_used_at <= clock_timestamp() - interval '1 minute')
          ORDER BY id FOR UPDATE SKIP LOCKED) due
    WHERE k.id = due.id
$$;
REVOKE ALL ON FUNCTION {control}.note_key_use(text[]) FROM PUBLIC;
