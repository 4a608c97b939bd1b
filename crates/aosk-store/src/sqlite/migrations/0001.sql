-- Tenants by name; the number stands for the name in every other key.
CREATE TABLE tenants (
    name        TEXT PRIMARY KEY,
    id          INTEGER NOT NULL,
    content_key BLOB NOT NULL
) WITHOUT ROWID, STRICT;

-- One row a process: where its journal stands, and what lists show of it.
-- `origin` is the link before the first event (32 zero bytes unless forked).
-- `tail` lists the newest batches in the encoding of `spans.batches`, `checkpoints` the kept
-- checkpoints in the same one: pairs of an event's place and a row's id.
CREATE TABLE processes (
    tenant      INTEGER NOT NULL,
    pid         BLOB NOT NULL,
    epoch       INTEGER NOT NULL,
    next        INTEGER NOT NULL,
    head        BLOB NOT NULL,
    origin      BLOB NOT NULL,
    tail        BLOB NOT NULL,
    checkpoints BLOB NOT NULL,
    finished    INTEGER NOT NULL,
    name        TEXT NOT NULL,
    model       TEXT NOT NULL,
    state       TEXT NOT NULL,
    steps       INTEGER NOT NULL,
    input       INTEGER NOT NULL,
    cached      INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    output      INTEGER NOT NULL,
    reasoning   INTEGER NOT NULL,
    spent       INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    updated     INTEGER NOT NULL,
    PRIMARY KEY (tenant, pid)
) WITHOUT ROWID, STRICT;

CREATE INDEX processes_unfinished ON processes (tenant, pid) WHERE finished = 0;

-- One row an append, in the order of commits; always written at the end of the table.
-- `first` is the place of its first event, `hash` the link after its last.
CREATE TABLE journal (
    id     INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL,
    pid    BLOB NOT NULL,
    first  INTEGER NOT NULL,
    hash   BLOB NOT NULL,
    batch  BLOB NOT NULL
) STRICT;

-- Which rows of `journal` hold a process's events from `first` on, many batches a row.
CREATE TABLE spans (
    tenant  INTEGER NOT NULL,
    pid     BLOB NOT NULL,
    first   INTEGER NOT NULL,
    batches BLOB NOT NULL,
    PRIMARY KEY (tenant, pid, first)
) WITHOUT ROWID, STRICT;

-- Contents too large to stand beside their events. codec: 0 as they are, 1 zstd.
CREATE TABLE blobs (
    tenant INTEGER NOT NULL,
    hash   BLOB NOT NULL,
    len    INTEGER NOT NULL,
    codec  INTEGER NOT NULL,
    bytes  BLOB NOT NULL,
    UNIQUE (tenant, hash)
) STRICT;

-- The newest saved folds of each process, zstd frames with a checksum.
CREATE TABLE checkpoints (
    id      INTEGER PRIMARY KEY,
    tenant  INTEGER NOT NULL,
    pid     BLOB NOT NULL,
    seq     INTEGER NOT NULL,
    version INTEGER NOT NULL,
    len     INTEGER NOT NULL,
    bytes   BLOB NOT NULL
) STRICT;

-- What waits for a process's owner, as JSON: a signal, a message, a new limit. Numbers are never
-- used twice, so that an item taken over once cannot be taken for a later one.
CREATE TABLE inbox (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant INTEGER NOT NULL,
    pid    BLOB NOT NULL,
    item   TEXT NOT NULL
) STRICT;
