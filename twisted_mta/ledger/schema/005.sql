-- What is kept of a password for SCRAM (RFC 5802), beside its hash; empty: nothing yet.

ALTER TABLE account ADD COLUMN scram_sha256 TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN scram_sha1 TEXT NOT NULL DEFAULT '';

-- Passwords of programs: an account has as many as it likes, each can be taken back.
CREATE TABLE app_password (
    account_id  BIGINT NOT NULL,
    name        TEXT NOT NULL,           -- what the person calls it
    password    TEXT NOT NULL,           -- its hash
    protocols   TEXT NOT NULL,           -- that it may be used for, with spaces between
    created_at  DOUBLE PRECISION NOT NULL,
    used_at     DOUBLE PRECISION NOT NULL,  -- 0: never
    PRIMARY KEY (account_id, name)
) /* clustered */;

-- Secrets of this server that all its processes share.
CREATE TABLE secret (
    name        TEXT PRIMARY KEY,
    octets      BLOB NOT NULL
) /* clustered */;
