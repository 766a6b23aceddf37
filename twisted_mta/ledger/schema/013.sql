-- Whose a queue row is, so that senders take turns; empty: from before they did.
ALTER TABLE hop ADD COLUMN flow TEXT NOT NULL DEFAULT '';

-- The site that could not be reached, whose return it waits for; empty: it waits for
-- its own time.
ALTER TABLE hop ADD COLUMN site TEXT NOT NULL DEFAULT '';

-- Who has something due, one sender after the other. What is leased is in neither.
CREATE INDEX hop_flow ON hop (held, flow, due) WHERE lease = '';
CREATE INDEX hop_site ON hop (agent, site) WHERE site <> '';

-- Sites that cannot be reached, as all processes know them.
CREATE TABLE outage (
    agent       TEXT NOT NULL,
    site        TEXT NOT NULL,
    changed_at  DOUBLE PRECISION NOT NULL,  -- the row
    since       DOUBLE PRECISION NOT NULL,
    probe_at    DOUBLE PRECISION NOT NULL,  -- before then nobody tries
    failures    BIGINT NOT NULL,         -- probes in vain; 0: it is there again
    diagnostic  TEXT NOT NULL,           -- of the last one
    PRIMARY KEY (agent, site)
) /* clustered */;
CREATE INDEX outage_changed ON outage (changed_at);
