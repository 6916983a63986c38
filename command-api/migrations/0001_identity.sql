-- What must not stand in the log: password hashes, sessions, and the keys that personal data is sealed with.

CREATE TABLE identity.credentials (
    credential_id uuid PRIMARY KEY,
    user_id       uuid        NOT NULL,
    password_hash text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE identity.credentials IS 'Password hashes. Rows never change: an event in the log names the row that counts.';
CREATE INDEX credentials_user_id ON identity.credentials (user_id);

CREATE TABLE identity.sessions (
    refresh_token_hash bytea PRIMARY KEY CHECK (octet_length(refresh_token_hash) = 32),
    family_id          uuid        NOT NULL,
    user_id            uuid        NOT NULL,
    issued_at          timestamptz NOT NULL DEFAULT now(),
    expires_at         timestamptz NOT NULL,
    family_expires_at  timestamptz NOT NULL,
    used_at            timestamptz
);
COMMENT ON TABLE identity.sessions IS 'Refresh tokens, as SHA-256. One login begins a family; each token is used once.';
CREATE INDEX sessions_family_id ON identity.sessions (family_id);
CREATE INDEX sessions_user_id ON identity.sessions (user_id);
CREATE INDEX sessions_family_expires_at ON identity.sessions (family_expires_at);

CREATE TABLE identity.data_keys (
    user_id     uuid PRIMARY KEY,
    wrapped_key bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE identity.data_keys IS 'Data keys, wrapped. Deleting a row erases its user: nothing sealed with the key can be read any more.';
