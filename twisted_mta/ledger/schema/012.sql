-- What is known of the channel to other servers.

-- MTA-STS policies (RFC 8461), for all processes and across restarts.
CREATE TABLE sts_policy (
    domain      TEXT PRIMARY KEY,
    id          TEXT NOT NULL,           -- as its TXT record has it
    policy      BLOB NOT NULL,           -- as its Web server has it
    renew_at    DOUBLE PRECISION NOT NULL,
    expires_at  DOUBLE PRECISION NOT NULL,
    used_at     DOUBLE PRECISION NOT NULL   -- to within a day
);
CREATE INDEX sts_policy_renew ON sts_policy (renew_at);

-- Hosts that had TLS.
CREATE TABLE tls_memory (
    host        TEXT PRIMARY KEY,
    last        DOUBLE PRECISION NOT NULL,  -- with TLS; to within a day
    days        BIGINT NOT NULL,            -- on which that was seen
    missed_at   DOUBLE PRECISION NOT NULL   -- first without, since; 0: never
);
CREATE INDEX tls_memory_last ON tls_memory (last);

-- How TLS went (RFC 8460).
CREATE TABLE tls_result (
    day         BIGINT NOT NULL,         -- since the epoch, UTC
    domain      TEXT NOT NULL,           -- who may want to know
    policy      TEXT NOT NULL,           -- mail.tlsreport.write_policy
    failure     TEXT NOT NULL,           -- write_failure; empty: it went well
    sessions    BIGINT NOT NULL,
    PRIMARY KEY (day, domain, policy, failure)
) /* clustered */;

-- Reports of that which are on their way, an address each.
CREATE TABLE tls_report (
    day         BIGINT NOT NULL,
    domain      TEXT NOT NULL,
    address     TEXT NOT NULL,           -- mailto: or https:
    due         DOUBLE PRECISION NOT NULL,
    attempts    BIGINT NOT NULL,
    PRIMARY KEY (day, domain, address)
) /* clustered */;
