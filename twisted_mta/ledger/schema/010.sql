-- What a message has on one way alone: who its sender is there (a forwarded message
-- has a return address of ours), and header fields. NULL: what it has anyway.

ALTER TABLE hop ADD COLUMN sender TEXT;
ALTER TABLE hop ADD COLUMN prefix BLOB;

-- Whom nothing is sent to any more, by all senders or by one account.
CREATE TABLE suppressed (
    address_key TEXT NOT NULL,           -- mail.suppressed
    scope       TEXT NOT NULL,           -- Address.key of an account; empty: all
    address     TEXT NOT NULL,           -- as it is shown
    reason      TEXT NOT NULL,           -- hard_bounce, complaint, manual
    source      TEXT NOT NULL,           -- what was said, by whom
    added_at    DOUBLE PRECISION NOT NULL,
    until       DOUBLE PRECISION,        -- NULL: until it is taken off
    PRIMARY KEY (address_key, scope)
) /* clustered */;
CREATE INDEX suppressed_until ON suppressed (until);

-- Refusals that are counted before an address is suppressed.
CREATE TABLE hard_bounce (
    address_key TEXT NOT NULL,
    at          DOUBLE PRECISION NOT NULL,
    queued_id   BIGINT NOT NULL,         -- each message counts once
    PRIMARY KEY (address_key, queued_id)
) /* clustered */;
CREATE INDEX hard_bounce_at ON hard_bounce (at);

-- What the servers of relayed domains said of an address.
CREATE TABLE callout (
    address_key TEXT PRIMARY KEY,
    good        INTEGER NOT NULL,
    asked_at    DOUBLE PRECISION NOT NULL,
    said        TEXT NOT NULL
) /* clustered */;
CREATE INDEX callout_asked ON callout (good, asked_at);
