-- Who took a message, or may have taken it: the last provider of whom either is known. NULL for what was sent before
-- there was more than one, and for what nobody took.
ALTER TABLE notifier.ledger ADD COLUMN provider text;
