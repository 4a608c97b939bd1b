-- What of a process's folds never changes again, in stretches of its events from `first_seq` on; zstd
-- frames with a checksum. A checkpoint stands on those that begin at its event or before.
CREATE TABLE {schema}.stretches (
    pid       uuid   NOT NULL,
    first_seq bigint NOT NULL,
    tenant    int    NOT NULL,
    len       int    NOT NULL,
    bytes     bytea  NOT NULL,
    PRIMARY KEY (tenant, pid, first_seq)
);
ALTER TABLE {schema}.stretches ALTER COLUMN bytes SET STORAGE EXTERNAL;
ALTER TABLE {schema}.stretches ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON {schema}.stretches FOR SELECT
    USING (tenant = (SELECT {schema}.current_tenant()));
