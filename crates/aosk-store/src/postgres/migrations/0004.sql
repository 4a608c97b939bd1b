-- When the first event of an append happened; NULL where its body tells no time before the year
-- 10000. The times of all processes ascend together as rows are added, so a summary of each 64 pages
-- prunes a window of time for 24 bytes in 512 KB. An entry for each row would take 36 bytes of some
-- 2,600 and write one more page an append.
ALTER TABLE {schema}.journal ADD COLUMN at timestamptz;

UPDATE {schema}.journal AS j
SET at = {schema}.moment(({schema}.as_json({schema}.readable(e.bytes)) ->> 'at')::bigint)
FROM {schema}.journal AS same
CROSS JOIN LATERAL {schema}.split(same.layout, same.events, same.hashes, same.bodies) AS e
WHERE e.place = 0
  AND (j.tenant, j.pid, j.first_seq) = (same.tenant, same.pid, same.first_seq);

-- The newest of a process's appends that are found to begin before `sought`, or its first; found by
-- halves, on the server: 14 looks into the key for 16,000 events. One without a time is later than
-- any. Where times go back it ends at any place between an earlier and a later one.
CREATE FUNCTION {schema}.append_before(
    whose int, which uuid, next bigint, sought timestamptz
) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    seen   record;
    best   bigint := 0;
    low    bigint := 0;
    high   bigint := next;
    middle bigint;
BEGIN
    WHILE low < high LOOP
        middle := low + (high - low) / 2;
        SELECT j.first_seq, j.at INTO seen FROM {schema}.journal AS j
        WHERE j.tenant = whose AND j.pid = which AND j.first_seq <= middle
        ORDER BY j.first_seq DESC LIMIT 1;
        IF NOT FOUND THEN
            RETURN best;
        ELSIF seen.at < sought THEN
            best := seen.first_seq;
            low := middle + 1;
        ELSE
            high := seen.first_seq;
        END IF;
    END LOOP;
    RETURN best;
END
$$;

CREATE INDEX journal_at ON {schema}.journal USING brin (at) WITH (pages_per_range = 64);

-- A summary is made when rows were looked through; on a table that only grows, after so many.
ALTER TABLE {schema}.journal_default SET
    (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000);

-- As before, and with the time of the append: a condition on it is one on a column of the journal,
-- so whole appends are left out before any of their events is unpacked.
CREATE OR REPLACE VIEW {schema}.events WITH (security_invoker = true) AS
SELECT t.name AS tenant, j.pid, j.first_seq + e.place AS seq, j.epoch,
       coalesce(k.name, e.kind::text) AS kind,
       {schema}.as_json({schema}.readable(e.bytes)) AS body, e.bytes, e.version,
       CASE WHEN 8 * (e.place + 1) = length(j.events) THEN j.hash END AS hash,
       j.at AS created_at
FROM {schema}.journal AS j
JOIN {schema}.tenants AS t ON t.id = j.tenant
CROSS JOIN LATERAL {schema}.split(j.layout, j.events, j.hashes, j.bodies) AS e
LEFT JOIN {schema}.kinds AS k ON k.code = e.kind;

CREATE OR REPLACE VIEW {schema}.audit_logs WITH (security_invoker = true) AS
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
       j.first_seq + e.place AS seq, j.epoch, j.at AS created_at
FROM {schema}.journal AS j
JOIN {schema}.tenants AS t ON t.id = j.tenant
CROSS JOIN LATERAL {schema}.split(j.layout, j.events, j.hashes, j.bodies) AS e
LEFT JOIN {schema}.kinds AS k ON k.code = e.kind;
