-- Whether what an account submits is kept in its mailbox for sent mail.

ALTER TABLE account ADD COLUMN save_sent INTEGER NOT NULL DEFAULT 0;

-- How much an account has submitted, by the hour (since the epoch).
CREATE TABLE submitted (
    account_id  BIGINT NOT NULL,
    hour        BIGINT NOT NULL,
    messages    BIGINT NOT NULL,
    recipients  BIGINT NOT NULL,
    PRIMARY KEY (account_id, hour)
) /* clustered */;
