-- A session becomes a row of its own, whose lock decides between a refresh under way and an end at the same time: the
-- token that a refresh adds refers to it, so it is either ended together with the others or never added.

CREATE TABLE identity.session_families (
    family_id  uuid PRIMARY KEY,
    user_id    uuid        NOT NULL,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE identity.session_families IS 'Sessions: each login begins one; deleting the row ends it, with all its refresh tokens.';
CREATE INDEX session_families_user_id ON identity.session_families (user_id);
CREATE INDEX session_families_expires_at ON identity.session_families (expires_at);

INSERT INTO identity.session_families (family_id, user_id, expires_at)
SELECT DISTINCT ON (family_id) family_id, user_id, family_expires_at FROM identity.sessions;

ALTER TABLE identity.sessions
    ADD FOREIGN KEY (family_id) REFERENCES identity.session_families ON DELETE CASCADE,
    DROP COLUMN user_id,
    DROP COLUMN family_expires_at;
