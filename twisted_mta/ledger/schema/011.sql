-- What became of messages, for a while after they are done with: a row for each that
-- was accepted, and one for each thing that happened to it. Their keys grow with time,
-- so that "since" is a range of the key, and no other index is paid for where mail is
-- accepted.

CREATE TABLE history (
    id          BIGINT PRIMARY KEY,      -- Envelope.id, the queue id
    received_at DOUBLE PRECISION NOT NULL,
    size        BIGINT NOT NULL,         -- prefix and content
    sender      TEXT NOT NULL,           -- empty: the null sender
    protocol    TEXT NOT NULL,           -- from here on: Origin
    host        TEXT NOT NULL,
    port        BIGINT NOT NULL,
    helo        TEXT NOT NULL,
    tls         TEXT NOT NULL,
    login       TEXT NOT NULL,
    listener    TEXT NOT NULL,
    recipients  TEXT NOT NULL,           -- as they were given, a line each
    mailboxes   TEXT NOT NULL,           -- of those, who has it here
    queued      TEXT NOT NULL            -- and whom it waited for in the queue
);

CREATE TABLE event (
    message_id  BIGINT NOT NULL,
    id          BIGINT NOT NULL,
    at          DOUBLE PRECISION NOT NULL,
    kind        TEXT NOT NULL,           -- mail.history.Kind
    who         TEXT NOT NULL,           -- the operator; empty: the server
    recipient   TEXT NOT NULL,           -- empty: all of them
    agent       TEXT NOT NULL,
    next_hop    TEXT NOT NULL,
    remote      TEXT NOT NULL,
    tls         TEXT NOT NULL,
    status      TEXT NOT NULL,
    text        TEXT NOT NULL,
    uncertain   INTEGER NOT NULL,        -- the next server may have it all the same
    PRIMARY KEY (message_id, id)
) /* clustered */;

-- Who submitted what waits, and since when a row is leased.
ALTER TABLE queued ADD COLUMN login TEXT NOT NULL DEFAULT '';
ALTER TABLE hop ADD COLUMN leased_at DOUBLE PRECISION NOT NULL DEFAULT 0;

-- hop.held is 0: it is tried when it is due; 1: an operator, a route, a policy or a
-- rule holds it; 2: its next hop is frozen.
CREATE TABLE frozen (
    next_hop    TEXT PRIMARY KEY,
    since       DOUBLE PRECISION NOT NULL,
    who         TEXT NOT NULL,
    reason      TEXT NOT NULL
) /* clustered */;
CREATE INDEX hop_next_hop ON hop (next_hop, queued_id);

-- What is held when it is accepted.
CREATE TABLE hold_rule (
    id          BIGINT PRIMARY KEY,
    added_at    DOUBLE PRECISION NOT NULL,
    who         TEXT NOT NULL,
    reason      TEXT NOT NULL,
    filter      TEXT NOT NULL            -- mail.filter.Filter, as JSON
);
