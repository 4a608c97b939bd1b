-- Contents in chunks of 1 MiB, each of which is a row of `blobs`: for each chunk 32 bytes of its address and
-- 32 of its subtree's value at its place.
CREATE TABLE chunked (
    tenant INTEGER NOT NULL,
    hash   BLOB NOT NULL,
    len    INTEGER NOT NULL,
    chunks BLOB NOT NULL,
    PRIMARY KEY (tenant, hash)
) WITHOUT ROWID, STRICT;

-- What came in by itself and may be named by nothing yet, with the second until which it is kept.
CREATE TABLE held (
    tenant INTEGER NOT NULL,
    hash   BLOB NOT NULL,
    until  INTEGER NOT NULL,
    PRIMARY KEY (tenant, hash)
) WITHOUT ROWID, STRICT;
