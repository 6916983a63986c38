-- What the notifier must tell whom, and how far it has read. No personal data in the clear.

-- The next offset to read. Moved in the same transaction as what was read is applied.
CREATE TABLE notifier.checkpoint (
    topic     text    NOT NULL,
    partition integer NOT NULL,
    position  bigint  NOT NULL CHECK (position >= 0),
    PRIMARY KEY (topic, partition)
);

-- Fold of topic users: how to reach somebody. Personal data is sealed with the user's own key.
CREATE TABLE notifier.contact (
    user_id      uuid PRIMARY KEY,
    email        bytea,
    name         bytea,
    phone        bytea,
    locale       text,
    order_emails boolean,
    order_sms    boolean,
    erased       boolean NOT NULL,
    CHECK (CASE WHEN erased
        THEN num_nonnulls(email, name, phone, locale, order_emails, order_sms) = 0
        ELSE num_nulls(email, name, locale, order_emails, order_sms) = 0 END)
);

-- Fold of topic orders: totals of the orders that further texts may be about.
CREATE TABLE notifier.order_total (
    order_id    uuid PRIMARY KEY,
    currency    text   NOT NULL,
    total_minor bigint NOT NULL
);

-- One row per event, channel and recipient, for ever: what was sent is not sent again by a replay.
CREATE TABLE notifier.ledger (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id           uuid        NOT NULL,
    channel            text        NOT NULL CHECK (channel IN ('email', 'sms')),
    recipient          uuid        NOT NULL,
    occasion           jsonb       NOT NULL,
    status             text        NOT NULL DEFAULT 'due'
                       CHECK (status IN ('due', 'sending', 'sent', 'skipped', 'dead')),
    due_at             timestamptz NOT NULL DEFAULT now(),
    lease_until        timestamptz,
    claims             integer     NOT NULL DEFAULT 0,
    attempts           integer     NOT NULL DEFAULT 0,
    unknown_outcomes   integer     NOT NULL DEFAULT 0,
    deferrals          integer     NOT NULL DEFAULT 0,
    reason             text,
    provider_reference text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ledger_once UNIQUE (event_id, channel, recipient),
    CHECK ((status = 'sending') = (lease_until IS NOT NULL)),
    CHECK (status <> 'dead' OR reason IS NOT NULL)
);
CREATE INDEX ledger_due ON notifier.ledger (channel, due_at) WHERE status = 'due';
CREATE INDEX ledger_sending ON notifier.ledger (channel, lease_until) WHERE status = 'sending';
CREATE INDEX ledger_dead ON notifier.ledger (id) WHERE status = 'dead';

-- Records that could not be read and were passed over, with the reason.
CREATE TABLE notifier.set_aside (
    topic        text        NOT NULL,
    partition    integer     NOT NULL,
    "offset"     bigint      NOT NULL,
    reason       text        NOT NULL,
    set_aside_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, "offset")
);
