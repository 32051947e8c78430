-- +goose Up

-- What owners have used of a scaling group with a fair share: slot-seconds, decayed up to a time. Written by the group's scheduler now and
-- then, read when another takes over. (Rows of ended kernels don't say when they began to run, and old ones are deleted.)
CREATE TABLE backendai_actors.past_uses (
    scaling_group text NOT NULL,
    access_key    text NOT NULL,
    slot_seconds  jsonb NOT NULL,
    at            timestamptz NOT NULL,
    PRIMARY KEY (scaling_group, access_key)
);

-- +goose Down
DROP TABLE backendai_actors.past_uses;
