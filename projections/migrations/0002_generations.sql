-- Which generations there are and were; numbers are never used twice. What 0001 made stays as it is for programs that know
-- nothing else; they serve their generation until they end.
CREATE TABLE generations (
    model text NOT NULL,
    generation integer NOT NULL,
    -- Of the fold that fills it, as the program counts them.
    version integer NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    -- Set when another generation took its place: until then one can go back to it.
    kept_since timestamptz,
    kept_until timestamptz,
    dropped_at timestamptz,
    PRIMARY KEY (model, generation)
);

-- The live generation of each version of the fold, so that programs of two versions can serve side by side.
CREATE TABLE live_generations (
    model text NOT NULL,
    version integer NOT NULL,
    generation integer NOT NULL,
    live_since timestamptz NOT NULL DEFAULT now(),
    -- When a program of this version last said that it serves it.
    followed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, version)
);

INSERT INTO generations (model, generation, version) SELECT model, live_generation, 1 FROM read_models;
INSERT INTO generations (model, generation, version, dropped_at)
    SELECT model, last_generation, 1, now() FROM read_models ON CONFLICT DO NOTHING;
INSERT INTO live_generations (model, version, generation) SELECT model, 1, live_generation FROM read_models;
