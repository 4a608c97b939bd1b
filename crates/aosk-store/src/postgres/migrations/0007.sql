-- Which posts were made, for as long as one may be repeated whose answer was lost: longer than its
-- item lies in the inbox, or a message that was taken meanwhile would be left a second time.
CREATE TABLE {schema}.posts (
    nonce uuid        PRIMARY KEY,
    id    bigint      NOT NULL,
    at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX posts_at ON {schema}.posts (at);
ALTER TABLE {schema}.posts ENABLE ROW LEVEL SECURITY;
INSERT INTO {schema}.posts (nonce, id) SELECT nonce, id FROM {schema}.inbox;
ALTER TABLE {schema}.inbox DROP COLUMN nonce;
