-- Which processes were removed, a row a transaction: JSON, and the link of a chain over all rows.
CREATE TABLE prunings (
    id     INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL,
    body   BLOB NOT NULL,
    link   BLOB NOT NULL
) STRICT;

-- When somebody began to look after the store, in seconds: one row.
CREATE TABLE upkeep (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    begun INTEGER NOT NULL
) STRICT;
INSERT INTO upkeep (id, begun) VALUES (1, unixepoch());
