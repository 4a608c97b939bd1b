-- Contents that the last collection found to be named by nothing.
CREATE TABLE suspects (
    tenant INTEGER NOT NULL,
    hash   BLOB NOT NULL,
    PRIMARY KEY (tenant, hash)
) WITHOUT ROWID, STRICT;
