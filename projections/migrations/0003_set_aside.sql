-- Records of the log that an operator has set aside; every generation of the model steps over them.
CREATE TABLE set_aside (
    model text NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    -- The version that the stream lacks from then on, and the one before it; NULL where it is of no stream of the model's.
    stream uuid,
    after_version bigint,
    version bigint,
    -- Why it could not be applied, and why it was set aside.
    error text NOT NULL,
    reason text NOT NULL,
    operator text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (model, partition, position)
);
