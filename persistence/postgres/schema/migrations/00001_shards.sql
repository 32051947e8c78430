-- +goose Up

-- Who may act: a shard's epoch rises whenever the shard changes hands, and every
-- transaction of an actor checks it.
CREATE TABLE backendai_actors.shards (
    shard    integer PRIMARY KEY CHECK (shard >= 0),
    epoch    bigint NOT NULL DEFAULT 0,
    owner    text,
    taken_at timestamptz
);

-- Facts that hold for the whole cluster and are fixed at its first start.
CREATE TABLE backendai_actors.cluster (
    key   text PRIMARY KEY,
    value text NOT NULL
);

-- +goose Down
DROP TABLE backendai_actors.cluster;
DROP TABLE backendai_actors.shards;
