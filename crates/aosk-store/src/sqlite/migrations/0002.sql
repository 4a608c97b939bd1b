-- What of a process's folds never changes again, in stretches of its events from `first` on; zstd
-- frames with a checksum. A checkpoint stands on those that begin at its event or before.
CREATE TABLE stretches (
    id     INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL,
    pid    BLOB NOT NULL,
    first  INTEGER NOT NULL,
    len    INTEGER NOT NULL,
    bytes  BLOB NOT NULL,
    UNIQUE (tenant, pid, first)
) STRICT;
