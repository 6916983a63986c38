-- What follows from facts about users: sessions end, tokens are cut off, keys of erased users are destroyed.

-- A session remembers which version of its user it was begun with, and the credential that opened it.
ALTER TABLE identity.session_families
    ADD COLUMN user_version  bigint NOT NULL DEFAULT 1,
    ADD COLUMN credential_id uuid;
UPDATE identity.session_families AS family SET credential_id = credential.credential_id
    FROM identity.credentials AS credential WHERE credential.user_id = family.user_id;
DELETE FROM identity.session_families WHERE credential_id IS NULL;
ALTER TABLE identity.session_families
    ALTER COLUMN user_version DROP DEFAULT,
    ALTER COLUMN credential_id SET NOT NULL;

-- The row of the password before, which goes when the log says that this one counts.
ALTER TABLE identity.credentials ADD COLUMN replaces uuid;

CREATE TABLE identity.token_cutoffs (
    user_id      uuid PRIMARY KEY,
    user_version bigint      NOT NULL,
    cut_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE identity.token_cutoffs IS 'Access tokens signed for an earlier version of the user no longer count. Every service reads the rows of the last 20 minutes.';
CREATE INDEX token_cutoffs_cut_at ON identity.token_cutoffs (cut_at);

CREATE TABLE identity.followed (
    partition integer PRIMARY KEY,
    position  bigint NOT NULL CHECK (position >= 0)
);
COMMENT ON TABLE identity.followed IS 'The next offset of topic users whose consequences are not drawn yet. Moved together with what they are.';
