-- Which generation of a read model is live. One row per model that lives in Postgres; the rows themselves
-- are in tables of their own, users_g<generation>, which the program makes and drops.
CREATE TABLE read_models (
    model text PRIMARY KEY,
    live_generation integer NOT NULL,
    last_generation integer NOT NULL,
    live_since timestamptz NOT NULL DEFAULT now(),
    CHECK (live_generation <= last_generation)
);

-- The next offset to read, per generation and partition; written in the transaction that writes the rows.
CREATE TABLE checkpoints (
    model text NOT NULL,
    generation integer NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (model, generation, partition)
);
