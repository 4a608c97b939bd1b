-- What vectors are of. One row, or none.
CREATE TABLE model (name TEXT NOT NULL, dims INTEGER NOT NULL) STRICT;

-- The memories. `name`: 'p' and the 16 bytes of a pid, or 's' and the name of a shared one.
CREATE TABLE spaces (
    id     INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    name   BLOB NOT NULL,
    UNIQUE (tenant, name)
) STRICT;

-- How far each journal was followed.
CREATE TABLE cursors (
    tenant TEXT NOT NULL,
    pid    BLOB NOT NULL,
    next   INTEGER NOT NULL,
    head   BLOB NOT NULL,
    PRIMARY KEY (tenant, pid)
) WITHOUT ROWID, STRICT;

-- The entries. Numbers are never used twice, so that a sketch in memory is never taken for a later
-- entry's. `seal` is a hash of what an answer says of the entry. `text` is a zstd frame: it is read to make vectors, never to answer.
CREATE TABLE items (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    space INTEGER NOT NULL,
    pid   BLOB NOT NULL,
    page  INTEGER NOT NULL,
    start INTEGER NOT NULL,
    seq   INTEGER NOT NULL,
    hash  BLOB NOT NULL,
    kind  INTEGER NOT NULL,
    time  INTEGER NOT NULL,
    seal  INTEGER NOT NULL,
    len   INTEGER NOT NULL,
    text  BLOB NOT NULL,
    UNIQUE (space, pid, page, start)
) STRICT;
CREATE INDEX items_of_processes ON items (pid);
CREATE INDEX items_in_time ON items (space, time, kind);

CREATE TABLE tags (
    item INTEGER NOT NULL,
    tag  TEXT NOT NULL,
    PRIMARY KEY (item, tag)
) WITHOUT ROWID, STRICT;

-- The terms of the entries, between blanks. `scope` holds that of the space, by which an entry of
-- another memory is passed over without being looked at.
CREATE VIRTUAL TABLE words USING fts5 (
    scope, body, content = '', contentless_delete = 1, tokenize = "ascii tokenchars '_'"
);

-- The vectors of entries: little-endian 32-bit floats.
CREATE TABLE vectors (item INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT;

-- Their sketches, by memory: the bits, then the scale.
CREATE TABLE sketches (
    space INTEGER NOT NULL,
    item  INTEGER NOT NULL,
    bits  BLOB NOT NULL,
    PRIMARY KEY (space, item)
) WITHOUT ROWID, STRICT;

-- The entries that wait for a vector.
CREATE TABLE waiting (item INTEGER PRIMARY KEY) STRICT;
