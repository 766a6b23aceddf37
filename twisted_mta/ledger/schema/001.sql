-- The first schema. Portable subset: SQLite and PostgreSQL read it alike
-- (BIGINT, TEXT, BLOB is mapped to BYTEA; a clustered table is kept in the order
-- of its key, where the database can do that). Keys of everything an account owns
-- lead with the account, so that an account lives wholly in one place. Times are
-- seconds since the epoch, UTC. Flags of the system are bits: 1 \Seen,
-- 2 \Answered, 4 \Flagged, 8 \Deleted, 16 \Draft; keywords stand beside them,
-- sorted, separated by a space.

CREATE TABLE account (
    id          BIGINT PRIMARY KEY,
    address     TEXT NOT NULL,           -- as it is shown
    address_key TEXT NOT NULL UNIQUE,    -- Address.key
    password    TEXT NOT NULL,           -- argon2id, PHC string format
    created_at  DOUBLE PRECISION NOT NULL,
    modseq      BIGINT NOT NULL,         -- bumped once per transaction
    uidvalidity BIGINT NOT NULL DEFAULT 0  -- the last one given to a mailbox
);

CREATE TABLE alias (
    address_key TEXT NOT NULL,           -- Address.key
    address     TEXT NOT NULL,
    target      TEXT NOT NULL,           -- here or elsewhere
    target_key  TEXT NOT NULL,
    PRIMARY KEY (address_key, target_key)
) /* clustered */;
CREATE INDEX alias_target ON alias (target_key);

CREATE TABLE mailbox (
    account_id  BIGINT NOT NULL,
    id          BIGINT NOT NULL,         -- MAILBOXID
    name        TEXT NOT NULL,
    special_use TEXT NOT NULL,
    uidvalidity BIGINT NOT NULL,
    uidnext     BIGINT NOT NULL,
    recent_uid  BIGINT NOT NULL,         -- \Recent begins here
    modseq      BIGINT NOT NULL,         -- of its last change
    messages    BIGINT NOT NULL,
    unseen      BIGINT NOT NULL,
    size        BIGINT NOT NULL,         -- octets
    PRIMARY KEY (account_id, id),
    UNIQUE (account_id, name)
) /* clustered */;

CREATE TABLE subscription (
    account_id  BIGINT NOT NULL,
    name        TEXT NOT NULL,
    PRIMARY KEY (account_id, name)
) /* clustered */;

-- The different keywords in a mailbox, to keep them few. What no message has any
-- more stays here until there are too many.
CREATE TABLE keyword (
    account_id  BIGINT NOT NULL,
    mailbox_id  BIGINT NOT NULL,
    name        TEXT NOT NULL,
    PRIMARY KEY (account_id, mailbox_id, name)
) /* clustered */;

-- Octets as they came; small ones here, large ones in the file named by the id.
CREATE TABLE content (
    id          BIGINT PRIMARY KEY,
    size        BIGINT NOT NULL,
    octets      BLOB                     -- NULL: in its file
);

-- Content that lost a referring row; the collector looks whether any is left.
CREATE TABLE released (
    content_id  BIGINT PRIMARY KEY
);

CREATE TABLE email (
    account_id    BIGINT NOT NULL,
    id            BIGINT NOT NULL,       -- EMAILID
    thread_id     BIGINT NOT NULL,       -- THREADID
    content_id    BIGINT NOT NULL,
    prefix        BLOB NOT NULL,         -- header fields before the content
    size          BIGINT NOT NULL,       -- prefix and content
    received_at   DOUBLE PRECISION NOT NULL,
    envelope      BLOB NOT NULL,         -- mail.summary
    bodystructure BLOB NOT NULL,
    body          BLOB NOT NULL,
    sections      BLOB NOT NULL,
    PRIMARY KEY (account_id, id)
);
CREATE INDEX email_content ON email (content_id);

CREATE TABLE placement (
    account_id  BIGINT NOT NULL,
    mailbox_id  BIGINT NOT NULL,
    uid         BIGINT NOT NULL,
    email_id    BIGINT NOT NULL,
    modseq      BIGINT NOT NULL,
    flags       BIGINT NOT NULL,
    keywords    TEXT NOT NULL,
    size        BIGINT NOT NULL,
    saved_at    DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (account_id, mailbox_id, uid)
) /* clustered */;
CREATE INDEX placement_modseq ON placement (account_id, mailbox_id, modseq);
CREATE INDEX placement_email ON placement (account_id, email_id);

-- UIDs that are gone, for clients that come back (QRESYNC).
CREATE TABLE vanished (
    account_id  BIGINT NOT NULL,
    mailbox_id  BIGINT NOT NULL,
    modseq      BIGINT NOT NULL,
    uid         BIGINT NOT NULL,
    PRIMARY KEY (account_id, mailbox_id, modseq, uid)
) /* clustered */;

-- A message that waits for one or more next hops.
CREATE TABLE queued (
    id          BIGINT PRIMARY KEY,      -- Envelope.id, the queue id
    content_id  BIGINT NOT NULL,
    size        BIGINT NOT NULL,         -- prefix and content
    eight_bit   INTEGER NOT NULL,
    prefix      BLOB NOT NULL,
    sender      TEXT,                    -- NULL: the null sender
    envelope    TEXT NOT NULL,           -- the whole of it, as JSON
    queued_at   DOUBLE PRECISION NOT NULL
);
CREATE INDEX queued_content ON queued (content_id);

-- A queue row: one message for one next hop.
CREATE TABLE hop (
    id          BIGINT PRIMARY KEY,
    queued_id   BIGINT NOT NULL,
    agent       TEXT NOT NULL,
    next_hop    TEXT NOT NULL,
    held        INTEGER NOT NULL,
    due         DOUBLE PRECISION NOT NULL,  -- while leased: when the lease ends
    lease       TEXT NOT NULL,           -- who has it; empty: nobody
    attempts    BIGINT NOT NULL,
    warned      INTEGER NOT NULL
);
CREATE INDEX hop_due ON hop (held, due);
CREATE INDEX hop_queued ON hop (queued_id);

CREATE TABLE recipient (
    hop_id      BIGINT NOT NULL,
    address     TEXT NOT NULL,
    status      TEXT NOT NULL,           -- of the last attempt, or empty
    diagnostic  TEXT NOT NULL,
    remote      TEXT NOT NULL,
    replied     INTEGER NOT NULL,
    PRIMARY KEY (hop_id, address)
) /* clustered */;
