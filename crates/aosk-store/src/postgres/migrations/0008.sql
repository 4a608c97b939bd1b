-- Contents in chunks of 1 MiB, each of which is a row of `blobs`: for each chunk 32 bytes of its address and
-- 32 of its subtree's value at its place.
CREATE TABLE {schema}.chunked (
    tenant int    NOT NULL,
    len    bigint NOT NULL,
    hash   bytea  NOT NULL,
    chunks bytea  NOT NULL,
    PRIMARY KEY (tenant, hash)
);
ALTER TABLE {schema}.chunked ALTER COLUMN chunks SET STORAGE EXTERNAL;
ALTER TABLE {schema}.chunked ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON {schema}.chunked FOR SELECT
    USING (tenant = (SELECT {schema}.current_tenant()));

-- What came in by itself and may be named by nothing yet, and until when it is kept.
CREATE TABLE {schema}.held (
    tenant int         NOT NULL,
    until  timestamptz NOT NULL,
    hash   bytea       NOT NULL,
    PRIMARY KEY (tenant, hash)
);
ALTER TABLE {schema}.held ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON {schema}.held FOR SELECT
    USING (tenant = (SELECT {schema}.current_tenant()));
