-- Whose intent a notification serves, and where it stands in a trace: what is sent minutes later still belongs to it.
ALTER TABLE notifier.ledger
    ADD COLUMN correlation_id uuid,
    ADD COLUMN traceparent    text;
