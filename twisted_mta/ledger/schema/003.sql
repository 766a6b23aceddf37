-- What the sender asks to be told of a recipient (RFC 3461), as JSON; empty: the usual.

ALTER TABLE recipient ADD COLUMN notification TEXT NOT NULL DEFAULT '';
