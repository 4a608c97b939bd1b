-- Contents that the last collection found to be named by nothing.
CREATE TABLE {schema}.suspects (
    tenant int   NOT NULL,
    hash   bytea NOT NULL,
    PRIMARY KEY (tenant, hash)
);
ALTER TABLE {schema}.suspects ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON {schema}.suspects FOR SELECT
    USING (tenant = (SELECT {schema}.current_tenant()));
