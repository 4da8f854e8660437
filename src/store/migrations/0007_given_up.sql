-- Whether the run began to change the table in place and had to load it anew after all: the next ones do not try again
-- at once.
ALTER TABLE {control}.runs ADD COLUMN gave_up boolean NOT NULL DEFAULT false;
