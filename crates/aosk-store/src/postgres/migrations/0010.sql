-- Which processes were removed, a row a transaction: JSON, and the link of a chain over all rows.
CREATE TABLE {schema}.prunings (
    id     bigint PRIMARY KEY,
    tenant int    NOT NULL,
    body   text   NOT NULL,
    link   bytea  NOT NULL
);
ALTER TABLE {schema}.prunings ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON {schema}.prunings FOR SELECT
    USING (tenant = (SELECT {schema}.current_tenant()));

-- When somebody began to look after the store: one row.
CREATE TABLE {schema}.upkeep (
    id    int         PRIMARY KEY CHECK (id = 1),
    begun timestamptz NOT NULL
);
INSERT INTO {schema}.upkeep (id, begun) VALUES (1, now());
