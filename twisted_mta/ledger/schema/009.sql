-- What was accepted, as long as it is not known that its client knows: if he sends the
-- same again, he is told that it was. Rows are few: one for each client that has not
-- said anything since, and for each that never will.

CREATE TABLE accepted (
    fingerprint BLOB NOT NULL,           -- of client, envelope and content
    id          BIGINT NOT NULL,         -- Envelope.id when it was sent
    message     BIGINT NOT NULL,         -- that by which it was accepted: the same, or
                                         -- an earlier one's
    owner       TEXT NOT NULL,           -- the process that waits for the client to go
                                         -- on; empty: the client has gone
    at          DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (fingerprint, id)
) /* clustered */;
