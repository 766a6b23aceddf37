-- Who came before, for greylisting: a network with a sender and a recipient, or a
-- network that has come back often enough.

CREATE TABLE greylist (
    id          BLOB PRIMARY KEY,        -- a hash of what it is about
    first       DOUBLE PRECISION NOT NULL,
    last        DOUBLE PRECISION NOT NULL,
    passed      BIGINT NOT NULL          -- how often it came back in time
) /* clustered */;
CREATE INDEX greylist_last ON greylist (last);
