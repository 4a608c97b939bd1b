-- `{schema}` stands for the quoted name of the schema. The owner of these tables is the role that
-- made them; kernels connect as it. Everyone else reads, one tenant at a time: see the policies.

-- The version that the schema has; its comment says whose schema this is.
CREATE TABLE {schema}.schema_migrations (
    version int         PRIMARY KEY,
    applied timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE {schema}.schema_migrations IS 'aosk store';

-- Tenants by name; the number stands for the name in every other key.
CREATE TABLE {schema}.tenants (
    id          int   PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name        text  NOT NULL UNIQUE,
    content_key bytea NOT NULL
);

-- One row a kernel node, alive until `until` by the server's clock.
CREATE TABLE {schema}.nodes (
    id         uuid        PRIMARY KEY,
    label      text        NOT NULL,
    registered timestamptz NOT NULL DEFAULT now(),
    until      timestamptz NOT NULL
);

-- One row a process: where its journal stands, who owns it, and what lists show of it. Half of each
-- page stays free, so that a row is rewritten beside itself and no index is touched. Numbers of 64
-- unsigned bits stand as signed ones.
CREATE TABLE {schema}.processes (
    pid               uuid   NOT NULL,
    owner_node        uuid,
    claim             uuid,
    epoch             bigint NOT NULL,
    next_seq          bigint NOT NULL,
    checkpoint        bigint,
    checkpoint_before bigint,
    steps             bigint NOT NULL,
    input             bigint NOT NULL,
    cached            bigint NOT NULL,
    cache_write       bigint NOT NULL,
    output            bigint NOT NULL,
    reasoning         bigint NOT NULL,
    spent             bigint NOT NULL,
    created           bigint NOT NULL,
    updated           bigint NOT NULL,
    tenant            int    NOT NULL,
    finished          bool   NOT NULL,
    head              bytea  NOT NULL,
    origin            bytea  NOT NULL,
    name              text   NOT NULL,
    model             text   NOT NULL,
    state             text   NOT NULL,
    detail            text   NOT NULL,
    PRIMARY KEY (tenant, pid)
) WITH (fillfactor = 50);

CREATE INDEX processes_unfinished ON {schema}.processes (tenant, pid) WHERE NOT finished;

-- One row an append, never changed. `first_seq` is the place of its first event, `hash` the link
-- after its last.
-- events: for each event 2 bytes of kind, 2 of version, 4 of length, high bytes first.
-- bodies: their bodies one after the other, written as `layout` says; `hashes` belongs to it.
-- beside: for each content that came with it 16 bytes of its hash and 4 of its length.
CREATE TABLE {schema}.journal (
    pid       uuid     NOT NULL,
    first_seq bigint   NOT NULL,
    epoch     bigint   NOT NULL,
    tenant    int      NOT NULL,
    layout    smallint NOT NULL,
    hash      bytea    NOT NULL,
    events    bytea    NOT NULL,
    hashes    bytea    NOT NULL,
    bodies    bytea    NOT NULL,
    beside    bytea    NOT NULL,
    contents  bytea    NOT NULL,
    PRIMARY KEY (tenant, pid, first_seq)
) PARTITION BY RANGE (pid);

-- Rows of up to 2,712 bytes stay whole, three to a page; of longer ones the contents are compressed
-- and, if need be, moved out. Moved out, 2,048 bytes would take a third of a page by themselves.
CREATE TABLE {schema}.journal_default PARTITION OF {schema}.journal DEFAULT
    WITH (toast_tuple_target = 2712);

-- Contents too large to stand beside their events.
CREATE TABLE {schema}.blobs (
    tenant int   NOT NULL,
    hash   bytea NOT NULL,
    bytes  bytea NOT NULL,
    PRIMARY KEY (tenant, hash)
);

-- The newest saved folds of each process, zstd frames with a checksum.
CREATE TABLE {schema}.checkpoints (
    pid     uuid   NOT NULL,
    seq     bigint NOT NULL,
    tenant  int    NOT NULL,
    version int    NOT NULL,
    len     int    NOT NULL,
    bytes   bytea  NOT NULL,
    PRIMARY KEY (tenant, pid, seq)
);
ALTER TABLE {schema}.checkpoints ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- What waits for a process's owner, as JSON. Numbers are never used twice. The nonce makes a post
-- that is repeated after a lost connection the same one.
CREATE TABLE {schema}.inbox (
    id     bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    nonce  uuid   NOT NULL UNIQUE,
    pid    uuid   NOT NULL,
    tenant int    NOT NULL,
    item   text   NOT NULL
);
CREATE INDEX inbox_of_tenant ON {schema}.inbox (tenant, id);

-- A quarter of the work of the other method, where the server was built with it.
DO $do$
BEGIN
    ALTER TABLE {schema}.journal ALTER COLUMN contents SET COMPRESSION lz4;
    ALTER TABLE {schema}.journal_default ALTER COLUMN contents SET COMPRESSION lz4;
    ALTER TABLE {schema}.blobs ALTER COLUMN bytes SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
    NULL;
END
$do$;

-- What the layouts and kinds stand for, so that SQL can read what the program wrote. The program
-- fills them from the tables that it uses itself.
CREATE TABLE {schema}.fragments (
    layout smallint NOT NULL,
    token  text     NOT NULL,
    plain  text     NOT NULL,
    PRIMARY KEY (layout, token)
);
CREATE TABLE {schema}.kinds (
    code smallint PRIMARY KEY,
    name text     NOT NULL
);

-- The number that high bytes first spell, from `at` on.
CREATE FUNCTION {schema}.number(bytes bytea, at int, len int) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT sum(get_byte(bytes, at + i)::bigint << (8 * (len - 1 - i)))::bigint
    FROM generate_series(0, len - 1) AS i
$$;

-- Catching an error is not possible in a parallel query, so the next two are unsafe there.
-- Bytes as text: as they are where they are UTF-8 without U+0000, else with escapes.
CREATE FUNCTION {schema}.readable(bytes bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL UNSAFE AS $$
BEGIN
    RETURN convert_from(bytes, 'UTF8');
EXCEPTION WHEN data_exception THEN
    RETURN encode(bytes, 'escape');
END
$$;

-- Text as JSON; NULL where it is none that jsonb takes (it takes no U+0000).
CREATE FUNCTION {schema}.as_json(plain text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL UNSAFE AS $$
BEGIN
    RETURN plain::jsonb;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;

-- The bodies of an append as they were hashed.
CREATE FUNCTION {schema}.unpacked(layout smallint, hashes bytea, bodies bytea) RETURNS bytea
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
DECLARE
    packed text;
    plain  text := '';
    part   text;
    known  record;
    at     int := 0;
BEGIN
    IF layout = 0 THEN
        RETURN bodies;
    END IF;
    packed := convert_from(bodies, 'UTF8');
    FOR known IN
        SELECT f.token, f.plain FROM {schema}.fragments AS f WHERE f.layout = unpacked.layout
    LOOP
        packed := replace(packed, known.token, known.plain);
    END LOOP;
    FOREACH part IN ARRAY string_to_array(packed, chr(1)) LOOP
        IF at > 0 THEN
            plain := plain || '"' || encode(substring(hashes FROM 32 * at - 31 FOR 32), 'hex') || '"';
        END IF;
        plain := plain || part;
        at := at + 1;
    END LOOP;
    RETURN convert_to(plain, 'UTF8');
END
$$;

-- The events of an append, one a row.
CREATE FUNCTION {schema}.split(layout smallint, events bytea, hashes bytea, bodies bytea)
RETURNS TABLE (place int, kind smallint, version int, bytes bytea)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
DECLARE
    plain bytea := {schema}.unpacked(layout, hashes, bodies);
    start int := 1;
    size  int;
BEGIN
    FOR i IN 0 .. length(events) / 8 - 1 LOOP
        size := {schema}.number(events, 8 * i + 4, 4);
        place := i;
        kind := {schema}.number(events, 8 * i, 2);
        version := {schema}.number(events, 8 * i + 2, 2);
        bytes := substring(plain FROM start FOR size);
        start := start + size;
        RETURN NEXT;
    END LOOP;
END
$$;

-- The contents that came with an append, one a row; `address` begins their hash.
CREATE FUNCTION {schema}.brought(beside bytea, contents bytea)
RETURNS TABLE (address bytea, bytes bytea)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    start int := 1;
    size  int;
BEGIN
    FOR i IN 0 .. length(beside) / 20 - 1 LOOP
        size := {schema}.number(beside, 20 * i + 16, 4);
        address := substring(beside FROM 20 * i + 1 FOR 16);
        bytes := substring(contents FROM start FOR size);
        start := start + size;
        RETURN NEXT;
    END LOOP;
END
$$;

CREATE FUNCTION {schema}.moment(millis bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN millis BETWEEN 0 AND 253402300799999 THEN to_timestamp(millis / 1000.0) END
$$;

-- The tenant whose rows a role that does not own the tables may see.
CREATE FUNCTION {schema}.current_tenant() RETURNS int
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT id FROM {schema}.tenants WHERE name = current_setting('aosk.tenant', true)
$$;

ALTER TABLE {schema}.tenants     ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}.processes   ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}.journal     ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}.journal_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}.blobs       ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}.checkpoints ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}.inbox       ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON {schema}.tenants FOR SELECT
    USING (name = current_setting('aosk.tenant', true));
CREATE POLICY own ON {schema}.processes FOR SELECT
    USING (tenant = (SELECT {schema}.current_tenant()));
CREATE POLICY own ON {schema}.journal FOR SELECT
    USING (tenant = (SELECT {schema}.current_tenant()));
CREATE POLICY own ON {schema}.blobs FOR SELECT
    USING (tenant = (SELECT {schema}.current_tenant()));
CREATE POLICY own ON {schema}.checkpoints FOR SELECT
    USING (tenant = (SELECT {schema}.current_tenant()));
CREATE POLICY own ON {schema}.inbox FOR SELECT
    USING (tenant = (SELECT {schema}.current_tenant()));

-- Every event. `hash` is known to SQL after the last event of an append only.
CREATE VIEW {schema}.events WITH (security_invoker = true) AS
SELECT t.name AS tenant, j.pid, j.first_seq + e.place AS seq, j.epoch,
       coalesce(k.name, e.kind::text) AS kind,
       {schema}.as_json({schema}.readable(e.bytes)) AS body, e.bytes, e.version,
       CASE WHEN 8 * (e.place + 1) = length(j.events) THEN j.hash END AS hash
FROM {schema}.journal AS j
JOIN {schema}.tenants AS t ON t.id = j.tenant
CROSS JOIN LATERAL {schema}.split(j.layout, j.events, j.hashes, j.bodies) AS e
LEFT JOIN {schema}.kinds AS k ON k.code = e.kind;

CREATE VIEW {schema}.agent_processes WITH (security_invoker = true) AS
SELECT p.pid, p.name, p.state,
       jsonb_build_object(
           'state', {schema}.as_json(p.detail), 'events', p.next_seq, 'checkpoint', p.checkpoint,
           'steps', p.steps, 'spent_micro_dollars', p.spent,
           'usage', jsonb_build_object(
               'input', p.input, 'cached', p.cached, 'cache_write', p.cache_write,
               'output', p.output, 'reasoning', p.reasoning)) AS context_snapshot,
       t.name AS tenant, p.model, p.steps, p.spent AS spent_micro_dollars, p.epoch, p.owner_node,
       {schema}.moment(p.created) AS created_at, {schema}.moment(p.updated) AS updated_at
FROM {schema}.processes AS p
JOIN {schema}.tenants AS t ON t.id = p.tenant;

-- What the events of each process name. The first part is what stands beside them, the second what
-- is stored once for the tenant.
CREATE VIEW {schema}.contents WITH (security_invoker = true) AS
SELECT md5(j.pid::text || encode(c.address, 'hex'))::uuid AS context_id, j.pid AS agent_pid,
       {schema}.readable(c.bytes) AS content, t.name AS tenant, j.first_seq AS since_seq,
       length(c.bytes) AS bytes, encode(c.address, 'hex') AS address
FROM {schema}.journal AS j
JOIN {schema}.tenants AS t ON t.id = j.tenant
CROSS JOIN LATERAL {schema}.brought(j.beside, j.contents) AS c
UNION ALL
SELECT md5(n.pid::text || encode(substring(n.hash FROM 1 FOR 16), 'hex'))::uuid, n.pid,
       {schema}.readable(b.bytes), t.name, n.since_seq, length(b.bytes),
       encode(substring(n.hash FROM 1 FOR 16), 'hex')
FROM (
    SELECT j.tenant, j.pid, substring(j.hashes FROM 32 * i + 1 FOR 32) AS hash,
           min(j.first_seq) AS since_seq
    FROM {schema}.journal AS j
    CROSS JOIN LATERAL generate_series(0, length(j.hashes) / 32 - 1) AS i
    GROUP BY j.tenant, j.pid, 3
) AS n
JOIN {schema}.blobs AS b ON b.tenant = n.tenant AND b.hash = n.hash
JOIN {schema}.tenants AS t ON t.id = n.tenant;

-- Where the server has vectors this view has one more column, `embedding`.
CREATE VIEW {schema}.context_storage WITH (security_invoker = true) AS
SELECT c.* FROM {schema}.contents AS c;

-- Every event as an auditor asks for it. `reasoning` is what the model said when it acted.
CREATE VIEW {schema}.audit_logs WITH (security_invoker = true) AS
SELECT md5(j.pid::text || (j.first_seq + e.place)::text)::uuid AS log_id, j.pid AS agent_pid,
       coalesce(k.name, e.kind::text) AS action_type,
       CASE WHEN k.name = 'llm_returned' THEN (
           SELECT string_agg(coalesce({schema}.readable(c.bytes), {schema}.readable(b.bytes)), E'\n'
                             ORDER BY part.place)
           FROM jsonb_array_elements({schema}.as_json({schema}.readable(e.bytes)) -> 'parts')
                WITH ORDINALITY AS part (value, place)
           CROSS JOIN LATERAL (
               SELECT decode(part.value -> 'content' ->> 'hash', 'hex') AS hash) AS h
           LEFT JOIN LATERAL {schema}.brought(j.beside, j.contents) AS c
                ON c.address = substring(h.hash FROM 1 FOR 16)
           LEFT JOIN {schema}.blobs AS b ON b.tenant = j.tenant AND b.hash = h.hash
           WHERE part.value ->> 'type' = 'text') END AS reasoning,
       {schema}.as_json({schema}.readable(e.bytes)) AS data, t.name AS tenant,
       j.first_seq + e.place AS seq, j.epoch,
       {schema}.moment(({schema}.as_json({schema}.readable(e.bytes)) ->> 'at')::bigint) AS created_at
FROM {schema}.journal AS j
JOIN {schema}.tenants AS t ON t.id = j.tenant
CROSS JOIN LATERAL {schema}.split(j.layout, j.events, j.hashes, j.bodies) AS e
LEFT JOIN {schema}.kinds AS k ON k.code = e.kind;

CREATE FUNCTION {schema}.refuse() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is a view of the journal and cannot be written', TG_TABLE_NAME
        USING ERRCODE = 'feature_not_supported',
              HINT = 'What agents did is never edited. Use aosk to act on them: aosk send, stop, '
                     'cont, renice and kill post to the inbox, aosk spawn begins a process.';
END
$$;

CREATE TRIGGER refuse INSTEAD OF INSERT OR UPDATE OR DELETE ON {schema}.events
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse();
CREATE TRIGGER refuse INSTEAD OF INSERT OR UPDATE OR DELETE ON {schema}.agent_processes
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse();
CREATE TRIGGER refuse INSTEAD OF INSERT OR UPDATE OR DELETE ON {schema}.contents
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse();
CREATE TRIGGER refuse INSTEAD OF INSERT OR UPDATE OR DELETE ON {schema}.context_storage
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse();
CREATE TRIGGER refuse INSTEAD OF INSERT OR UPDATE OR DELETE ON {schema}.audit_logs
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse();
