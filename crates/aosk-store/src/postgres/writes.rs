//! What a group writes: for each table one statement with an array for each column.
//!
//! The server pays for each statement and the wire for each message, so 64 appends are given to it
//! as columns of 64 values and not as 64 times as many statements.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aosk_abi::{Content, Hash, Pid, Seq};
use aosk_ports::ProcessRow;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::append::Prepared;
use super::checkpoint::Frame;
use super::process::{Place, uuid};
use super::{content, text};
use crate::check::Reached;

/// A column of values, or a value.
type Param<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// The statements that write appends, each with its tenant. `places` says where their processes
/// stand afterwards, `before` where they must stand now; those that are not there are new and
/// become `node`'s.
pub(super) fn of<'a>(
    writes: &[(&'a Prepared, i32)],
    places: &'a BTreeMap<(i32, Pid), Place>,
    before: &'a BTreeMap<(i32, Pid), Reached>,
    node: Uuid,
) -> Vec<Write<'a>> {
    // The last append of each process says what lists show.
    let newest: BTreeMap<(i32, Pid), &'a Prepared> =
        writes.iter().map(|(append, tenant)| ((*tenant, append.pid), *append)).collect();
    let (mut made, mut moved) = (Rows::default(), Moved::default());
    for (key, append) in newest {
        let Some(place) = places.get(&key) else { continue };
        match before.get(&key) {
            None => made.push(place, &append.row, &append.detail),
            Some(before) => moved.push(before, place, append),
        }
    }
    let mut statements = Vec::new();
    if !made.pid.is_empty() {
        statements.push(made.insert(Some(node)));
    }
    statements.push(match moved.is_empty() {
        true => batches(writes),
        false => moved.and_batches(writes),
    });
    if let Some(blobs) = blobs(writes) {
        statements.push(Write { sql: content::SHARE, params: Vec::new() });
        statements.push(blobs);
    }
    statements.extend(checkpoints(writes, places));
    statements.extend(stretches(writes));
    statements.extend(consumed(writes));
    statements
}

/// The statements that store the appends of a copy; that of their process is [`process`].
pub(super) fn copied<'a>(writes: &[(&'a Prepared, i32)]) -> Vec<Write<'a>> {
    let mut statements = vec![batches(writes)];
    statements.extend(checkpoints(writes, &BTreeMap::new()));
    statements.extend(stretches(writes));
    statements
}

/// The statement that stores where a process of a copy stands; nobody owns it.
pub(super) fn process<'a>(place: &'a Place, row: &'a ProcessRow, detail: &'a str) -> Write<'a> {
    let mut rows = Rows::default();
    rows.push(place, row, detail);
    rows.insert(None)
}

/// The statement that stores a large content.
pub(super) fn blob(tenant: i32, blob: &Content) -> Write<'_> {
    Write {
        sql: "INSERT INTO blobs (tenant, hash, bytes) VALUES ($1::int, $2::bytea, $3::bytea)",
        params: vec![
            Box::new(tenant),
            Box::new(blob.hash().as_bytes().to_vec()),
            Box::new(&blob.bytes()[..]),
        ],
    }
}

/// A statement with its columns.
pub(super) struct Write<'a> {
    pub(super) sql: &'static str,
    pub(super) params: Vec<Param<'a>>,
}

/// The columns of the table of processes.
#[derive(Default)]
struct Rows<'a> {
    tenant: Vec<i32>,
    pid: Vec<Uuid>,
    head: Vec<&'a [u8]>,
    origin: Vec<&'a [u8]>,
    finished: Vec<bool>,
    checkpoint: Vec<Option<i64>>,
    checkpoint_before: Vec<Option<i64>>,
    name: Vec<Cow<'a, str>>,
    model: Vec<Cow<'a, str>>,
    state: Vec<&'static str>,
    detail: Vec<&'a str>,
    /// epoch, next_seq, steps, input, cached, cache_write, output, reasoning, spent, created,
    /// updated.
    numbers: [Vec<i64>; 11],
}

impl<'a> Rows<'a> {
    fn push(&mut self, place: &'a Place, row: &'a ProcessRow, detail: &'a str) {
        self.tenant.push(place.tenant);
        self.pid.push(uuid(place.pid));
        self.head.push(place.head.as_bytes());
        self.origin.push(place.origin.as_bytes());
        self.finished.push(row.state.is_final());
        let seq = |seq: Option<Seq>| seq.map(|seq| seq.0.cast_signed());
        self.checkpoint.push(seq(place.checkpoints[0]));
        self.checkpoint_before.push(seq(place.checkpoints[1]));
        self.name.push(text::stored(&row.name));
        self.model.push(text::stored(&row.model));
        self.state.push(row.state.name());
        self.detail.push(detail);
        let numbers = [
            place.epoch.0,
            place.next.0,
            row.steps,
            row.usage.input.0,
            row.usage.cached.0,
            row.usage.cache_write.0,
            row.usage.output.0,
            row.usage.reasoning.0,
            row.spent.0,
            row.created.as_millis(),
            row.updated.as_millis(),
        ];
        for (column, number) in self.numbers.iter_mut().zip(numbers) {
            column.push(number.cast_signed());
        }
    }

    fn params(self) -> Vec<Param<'a>> {
        let mut params: Vec<Param<'a>> = vec![
            Box::new(self.tenant),
            Box::new(self.pid),
            Box::new(self.head),
            Box::new(self.origin),
            Box::new(self.finished),
            Box::new(self.checkpoint),
            Box::new(self.checkpoint_before),
            Box::new(self.name),
            Box::new(self.model),
            Box::new(self.state),
            Box::new(self.detail),
        ];
        params.extend(self.numbers.map(|column| Box::new(column) as _));
        params
    }

    fn insert(self, node: Option<Uuid>) -> Write<'a> {
        let mut params = self.params();
        params.push(Box::new(node));
        Write {
            sql: "INSERT INTO processes (tenant, pid, head, origin, finished, checkpoint, \
                  checkpoint_before, name, model, state, detail, epoch, next_seq, steps, input, \
                  cached, cache_write, output, reasoning, spent, created, updated, owner_node) \
                  SELECT w.*, $23::uuid FROM UNNEST($1::int[], $2::uuid[], $3::bytea[], \
                  $4::bytea[], $5::bool[], $6::bigint[], $7::bigint[], $8::text[], $9::text[], \
                  $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[], \
                  $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], \
                  $20::bigint[], $21::bigint[], $22::bigint[]) AS w",
            params,
        }
    }
}

/// The columns of processes that are moved on, and where each must stand for that.
#[derive(Default)]
struct Moved<'a> {
    rows: Rows<'a>,
    next: Vec<i64>,
    head: Vec<&'a [u8]>,
}

impl<'a> Moved<'a> {
    const fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    fn push(&mut self, before: &'a Reached, place: &'a Place, append: &'a Prepared) {
        self.rows.push(place, &append.row, &append.detail);
        self.next.push(before.next.0.cast_signed());
        self.head.push(before.head.as_bytes());
    }

    /// The statement that moves them on and stores the appends, or fails as a clash with another
    /// writer.
    fn and_batches(self, writes: &[(&'a Prepared, i32)]) -> Write<'a> {
        let wanted = self.next.len() as i64;
        let mut params = columns(writes);
        params.extend(self.rows.params());
        params.push(Box::new(self.next));
        params.push(Box::new(self.head));
        params.push(Box::new(wanted));
        Write {
            sql: "WITH moved AS (UPDATE processes AS p SET head = w.head, origin = w.origin, \
                  finished = w.finished, checkpoint = w.checkpoint, \
                  checkpoint_before = w.checkpoint_before, name = w.name, model = w.model, \
                  state = w.state, detail = w.detail, next_seq = w.next_seq, \
                  steps = w.steps, input = w.input, cached = w.cached, \
                  cache_write = w.cache_write, output = w.output, reasoning = w.reasoning, \
                  spent = w.spent, created = w.created, updated = w.updated \
                  FROM UNNEST($13::int[], $14::uuid[], $15::bytea[], $16::bytea[], $17::bool[], \
                  $18::bigint[], $19::bigint[], $20::text[], $21::text[], $22::text[], \
                  $23::text[], $24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], \
                  $28::bigint[], $29::bigint[], $30::bigint[], $31::bigint[], $32::bigint[], \
                  $33::bigint[], $34::bigint[], $35::bigint[], $36::bytea[]) \
                  AS w (tenant, pid, head, origin, finished, checkpoint, checkpoint_before, name, \
                  model, state, detail, epoch, next_seq, steps, input, cached, cache_write, output, \
                  reasoning, spent, created, updated, was_next, was_head) \
                  WHERE p.tenant = w.tenant AND p.pid = w.pid AND p.epoch = w.epoch \
                  AND p.next_seq = w.was_next AND p.head = w.was_head RETURNING 1) \
                  INSERT INTO journal (tenant, pid, first_seq, epoch, layout, hash, events, \
                  hashes, bodies, beside, contents, at) SELECT * FROM UNNEST($1::int[], $2::uuid[], \
                  $3::bigint[], $4::bigint[], $5::smallint[], $6::bytea[], $7::bytea[], \
                  $8::bytea[], $9::bytea[], $10::bytea[], $11::bytea[], $12::timestamptz[]) \
                  WHERE (SELECT expect(count(*), $37::bigint) FROM moved)",
            params,
        }
    }
}

/// The statement that stores the rows of appends.
fn batches<'a>(writes: &[(&'a Prepared, i32)]) -> Write<'a> {
    Write {
        sql: "INSERT INTO journal (tenant, pid, first_seq, epoch, layout, hash, events, hashes, \
              bodies, beside, contents, at) SELECT * FROM UNNEST($1::int[], $2::uuid[], \
              $3::bigint[], $4::bigint[], $5::smallint[], $6::bytea[], $7::bytea[], $8::bytea[], \
              $9::bytea[], $10::bytea[], $11::bytea[], $12::timestamptz[])",
        params: columns(writes),
    }
}

/// The columns of the journal.
fn columns<'a>(writes: &[(&'a Prepared, i32)]) -> Vec<Param<'a>> {
    fn column<'a, T: ToSql + Sync + Send + 'a>(
        writes: &[(&'a Prepared, i32)],
        of: impl Fn(&'a Prepared) -> T,
    ) -> Param<'a> {
        Box::new(writes.iter().map(|(append, _)| of(append)).collect::<Vec<T>>())
    }
    let tenants: Vec<i32> = writes.iter().map(|(_, tenant)| *tenant).collect();
    let heads: Vec<Vec<u8>> =
        writes.iter().map(|(append, _)| append.head().as_bytes().to_vec()).collect();
    vec![
        Box::new(tenants),
        column(writes, |it| uuid(it.pid)),
        column(writes, |it| it.first.0.cast_signed()),
        column(writes, |it| it.epoch.0.cast_signed()),
        column(writes, |it| it.batch.layout),
        Box::new(heads),
        column(writes, |it| &it.batch.events[..]),
        column(writes, |it| &it.batch.hashes[..]),
        column(writes, |it| &it.batch.bodies[..]),
        column(writes, |it| &it.batch.beside[..]),
        column(writes, |it| &it.batch.contents[..]),
        column(writes, |it| it.batch.at),
    ]
}

/// Large contents, in the order of their keys: another writer may store the same ones now.
fn blobs<'a>(writes: &[(&'a Prepared, i32)]) -> Option<Write<'a>> {
    let wanted: BTreeMap<(i32, Hash), &'a [u8]> = writes
        .iter()
        .flat_map(|(append, tenant)| append.large().map(move |it| (*tenant, it)))
        .map(|(tenant, it)| ((tenant, it.hash()), &it.bytes()[..]))
        .collect();
    let (mut tenants, mut hashes, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for ((tenant, hash), blob) in wanted {
        tenants.push(tenant);
        hashes.push(hash.as_bytes().to_vec());
        bytes.push(blob);
    }
    (!tenants.is_empty()).then(|| Write {
        sql: "INSERT INTO blobs (tenant, hash, bytes) \
              SELECT * FROM UNNEST($1::int[], $2::bytea[], $3::bytea[]) \
              ON CONFLICT (tenant, hash) DO NOTHING",
        params: vec![Box::new(tenants), Box::new(hashes), Box::new(bytes)],
    })
}

/// Checkpoints, then the removal of all but the newest two of each process that got one. One is
/// used; the one before it spares the whole journal where the newest is damaged or of an encoding
/// that an older program does not know.
fn checkpoints<'a>(
    writes: &[(&'a Prepared, i32)],
    places: &BTreeMap<(i32, Pid), Place>,
) -> Vec<Write<'a>> {
    let (mut tenants, mut pids, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut versions, mut lens, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    let mut oldest: BTreeMap<(i32, Pid), i64> = BTreeMap::new();
    for (append, tenant) in writes {
        let Some(saved) = &append.checkpoint else { continue };
        tenants.push(*tenant);
        pids.push(uuid(append.pid));
        seqs.push(saved.seq.0.cast_signed());
        versions.push(i32::from(saved.version));
        lens.push(saved.frame.len);
        bytes.push(&saved.frame.bytes[..]);
        let key = (*tenant, append.pid);
        if let Some(before) = places.get(&key).and_then(|place| place.checkpoints[1]) {
            oldest.insert(key, before.0.cast_signed());
        }
    }
    let mut statements = Vec::new();
    if !tenants.is_empty() {
        statements.push(Write {
            sql: "INSERT INTO checkpoints (tenant, pid, seq, version, len, bytes) \
                  SELECT * FROM UNNEST($1::int[], $2::uuid[], $3::bigint[], $4::int[], \
                  $5::int[], $6::bytea[])",
            params: vec![
                Box::new(tenants),
                Box::new(pids),
                Box::new(seqs),
                Box::new(versions),
                Box::new(lens),
                Box::new(bytes),
            ],
        });
    }
    if !oldest.is_empty() {
        let (keys, seqs): (Vec<(i32, Pid)>, Vec<i64>) = oldest.into_iter().unzip();
        let (tenants, pids): (Vec<i32>, Vec<Uuid>) =
            keys.into_iter().map(|(tenant, pid)| (tenant, uuid(pid))).unzip();
        statements.push(Write {
            sql: "DELETE FROM checkpoints AS c \
                  USING UNNEST($1::int[], $2::uuid[], $3::bigint[]) AS w (tenant, pid, seq) \
                  WHERE c.tenant = w.tenant AND c.pid = w.pid AND c.seq < w.seq",
            params: vec![Box::new(tenants), Box::new(pids), Box::new(seqs)],
        });
    }
    statements
}

/// Stretches of checkpoints, after the removal of those whose place they take.
fn stretches<'a>(writes: &[(&'a Prepared, i32)]) -> Vec<Write<'a>> {
    let mut settled: BTreeMap<(i32, Pid), BTreeMap<Seq, &'a Frame>> = BTreeMap::new();
    for (append, tenant) in writes {
        for (first, frame) in append.checkpoint.iter().flat_map(|saved| &saved.stretches) {
            let there = settled.entry((*tenant, append.pid)).or_default();
            there.retain(|behind, _| behind < first);
            there.insert(*first, frame);
        }
    }
    let (mut tenants, mut pids, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lens, mut bytes) = (Vec::new(), Vec::new());
    for ((tenant, pid), stretches) in settled {
        for (first, frame) in stretches {
            tenants.push(tenant);
            pids.push(uuid(pid));
            seqs.push(first.0.cast_signed());
            lens.push(frame.len);
            bytes.push(&frame.bytes[..]);
        }
    }
    if tenants.is_empty() {
        return Vec::new();
    }
    vec![
        Write {
            sql: "DELETE FROM stretches AS s \
                  USING UNNEST($1::int[], $2::uuid[], $3::bigint[]) AS w (tenant, pid, first_seq) \
                  WHERE s.tenant = w.tenant AND s.pid = w.pid AND s.first_seq >= w.first_seq",
            params: vec![Box::new(tenants.clone()), Box::new(pids.clone()), Box::new(seqs.clone())],
        },
        Write {
            sql: "INSERT INTO stretches (tenant, pid, first_seq, len, bytes) \
                  SELECT * FROM UNNEST($1::int[], $2::uuid[], $3::bigint[], $4::int[], \
                  $5::bytea[])",
            params: vec![
                Box::new(tenants),
                Box::new(pids),
                Box::new(seqs),
                Box::new(lens),
                Box::new(bytes),
            ],
        },
    ]
}

fn consumed<'a>(writes: &[(&'a Prepared, i32)]) -> Option<Write<'a>> {
    let ids: Vec<i64> =
        writes.iter().flat_map(|(append, _)| &append.consumed).map(|item| item.0).collect();
    (!ids.is_empty()).then(|| Write {
        sql: "DELETE FROM inbox WHERE id = ANY ($1::bigint[])",
        params: vec![Box::new(ids)],
    })
}
