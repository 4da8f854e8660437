-- Taking all keys away at once moves the epoch, too.
CREATE TRIGGER keys_were_emptied
    AFTER TRUNCATE ON {control}.api_keys FOR EACH STATEMENT EXECUTE FUNCTION {control}.move_auth_epoch();
