-- Made once the server has pgvector, which may be long after the rest. `{vector}` is its type. It
-- has no fixed number of dimensions: that is the embedder's.
-- This is the one table that others may fill, each its own tenant's rows.
CREATE TABLE {schema}.embeddings (
    tenant     text     NOT NULL,
    context_id uuid     NOT NULL,
    model      text     NOT NULL,
    embedding  {vector} NOT NULL,
    PRIMARY KEY (tenant, context_id)
);
ALTER TABLE {schema}.embeddings ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON {schema}.embeddings
    USING (tenant = current_setting('aosk.tenant', true))
    WITH CHECK (tenant = current_setting('aosk.tenant', true));

CREATE OR REPLACE VIEW {schema}.context_storage WITH (security_invoker = true) AS
SELECT c.*, e.embedding
FROM {schema}.contents AS c
LEFT JOIN {schema}.embeddings AS e ON e.tenant = c.tenant AND e.context_id = c.context_id;
