-- The search index. Made when a node first opens it, thrown away where another version of it is found;
-- it holds nothing that is not in the journals. The version stands in the comment of this table.
CREATE TABLE {schema}.search_spaces (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text   NOT NULL,
    -- 'p' and the 16 bytes of a pid, or 's' and the name of a shared memory.
    name   bytea  NOT NULL,
    -- How many entries it has, and how many terms in all.
    items  bigint NOT NULL DEFAULT 0,
    terms  bigint NOT NULL DEFAULT 0,
    UNIQUE (tenant, name)
);
COMMENT ON TABLE {schema}.search_spaces IS 'aosk search 1: the memories that are searched';

CREATE TABLE {schema}.search_cursors (
    tenant text   NOT NULL,
    pid    uuid   NOT NULL,
    next   bigint NOT NULL,
    head   bytea  NOT NULL,
    PRIMARY KEY (tenant, pid)
);
COMMENT ON TABLE {schema}.search_cursors IS 'how far each journal was followed';

-- `terms` holds '@' and the number of the space as well, so that one look into the index finds what is
-- in that memory. It stays on its page: out of line each rank would fetch it.
CREATE TABLE {schema}.search_items (
    id    bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    space bigint   NOT NULL REFERENCES {schema}.search_spaces,
    pid   uuid     NOT NULL,
    page  bigint   NOT NULL,
    start bigint   NOT NULL,
    seq   bigint   NOT NULL,
    hash  bytea    NOT NULL,
    kind  smallint NOT NULL,
    time  bigint   NOT NULL,
    tags  text[]   NOT NULL,
    len   integer  NOT NULL,
    body  bytea    NOT NULL,
    terms tsvector NOT NULL,
    UNIQUE (space, pid, page, start)
) WITH (toast_tuple_target = 8160);
ALTER TABLE {schema}.search_items ALTER COLUMN terms SET STORAGE MAIN;
CREATE INDEX search_items_of_processes ON {schema}.search_items (pid);
CREATE INDEX search_items_in_time ON {schema}.search_items (space, time);
-- Without a list of what is not yet sorted in: every query would read all of that.
CREATE INDEX search_items_by_terms ON {schema}.search_items USING gin (terms)
    WITH (fastupdate = off);
COMMENT ON TABLE {schema}.search_items IS 'the pages that are searched';

CREATE TABLE {schema}.search_waiting (
    item bigint PRIMARY KEY REFERENCES {schema}.search_items ON DELETE CASCADE
);
COMMENT ON TABLE {schema}.search_waiting IS 'the pages that wait for a vector';

-- Whose vectors are kept. One row, or none.
CREATE TABLE {schema}.search_model (
    is_one boolean PRIMARY KEY DEFAULT true CHECK (is_one),
    name   text    NOT NULL,
    dims   integer NOT NULL
);
COMMENT ON TABLE {schema}.search_model IS 'the embedder of the vectors';
