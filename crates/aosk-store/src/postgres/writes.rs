//! What a group writes: for each table one statement.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aosk_abi::{Content, Hash, Pid, Seq};
use aosk_ports::ProcessRow;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::append::Prepared;
use super::columns::{self, Param};
use super::process::{Place, uuid};
use super::{content, folds, text};
use crate::check::Reached;

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
    let mut beside = Vec::new();
    if let Some(blobs) = blobs(writes) {
        beside.push(Write::new(content::SHARE, Vec::new()));
        beside.push(blobs);
    }
    beside.extend(folds::of(writes, places));
    beside.extend(consumed(writes));

    let mut statements = Vec::with_capacity(2 + beside.len());
    if !made.pid.is_empty() {
        statements.push(made.insert(Some(node)));
    }
    statements.push(match moved.is_empty() {
        true => batches(writes),
        false => moved.and_batches(writes),
    });
    statements.extend(beside);
    statements
}

/// The statements that store the appends of a copy; that of their process is [`process`].
pub(super) fn copied<'a>(writes: &[(&'a Prepared, i32)]) -> Vec<Write<'a>> {
    let mut statements = vec![batches(writes)];
    statements.extend(folds::of(writes, &BTreeMap::new()));
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
    Write::new(
        "INSERT INTO blobs (tenant, hash, bytes) VALUES ($1::int, $2::bytea, $3::bytea)",
        vec![
            Box::new(tenant),
            Box::new(blob.hash().as_bytes().to_vec()),
            Box::new(&blob.bytes()[..]),
        ],
    )
}

/// A statement with its columns.
pub(super) struct Write<'a> {
    pub(super) sql: &'static str,
    pub(super) params: Vec<Param<'a>>,
}

impl<'a> Write<'a> {
    pub(super) const fn new(sql: &'static str, params: Vec<Param<'a>>) -> Self {
        Self { sql, params }
    }
}

/// The columns of the table of processes.
#[derive(Default)]
struct Rows<'a> {
    tenant: Vec<i32>,
    pid: Vec<Uuid>,
    epoch: Vec<i64>,
    head: Vec<&'a [u8]>,
    origin: Vec<&'a [u8]>,
    finished: Vec<bool>,
    checkpoint: Vec<Option<i64>>,
    checkpoint_before: Vec<Option<i64>>,
    name: Vec<Cow<'a, str>>,
    model: Vec<Cow<'a, str>>,
    state: Vec<&'static str>,
    detail: Vec<&'a str>,
    /// next_seq, steps, input, cached, cache_write, output, reasoning, spent, created, updated.
    numbers: [Vec<i64>; 10],
}

impl<'a> Rows<'a> {
    fn push(&mut self, place: &'a Place, row: &'a ProcessRow, detail: &'a str) {
        self.tenant.push(place.tenant);
        self.pid.push(uuid(place.pid));
        self.epoch.push(place.epoch.0.cast_signed());
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

    /// In the order of the statements.
    fn params(self) -> Vec<Param<'a>> {
        let mut params: Vec<Param<'a>> = vec![
            Box::new(self.tenant),
            Box::new(self.pid),
            Box::new(self.epoch),
            Box::new(self.head),
            Box::new(self.origin),
            Box::new(self.checkpoint),
            Box::new(self.checkpoint_before),
            Box::new(self.finished),
            Box::new(self.name),
            Box::new(self.model),
            Box::new(self.state),
            Box::new(self.detail),
        ];
        params.extend(self.numbers.map(|column| Box::new(column) as Param<'a>));
        params
    }

    fn insert(self, node: Option<Uuid>) -> Write<'a> {
        let mut params = self.params();
        params.push(Box::new(node));
        Write::new(&columns::MAKE, params)
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
        let mut params = batch_params(writes);
        params.extend(self.rows.params());
        params.push(Box::new(self.next));
        params.push(Box::new(self.head));
        params.push(Box::new(wanted));
        Write::new(&columns::MOVE, params)
    }
}

/// The statement that stores the rows of appends.
fn batches<'a>(writes: &[(&'a Prepared, i32)]) -> Write<'a> {
    Write::new(&columns::STORE, batch_params(writes))
}

/// The columns of the journal.
fn batch_params<'a>(writes: &[(&'a Prepared, i32)]) -> Vec<Param<'a>> {
    fn column<'a, T: ToSql + Sync + Send + 'a>(
        writes: &[(&'a Prepared, i32)],
        of: impl Fn(&'a Prepared) -> T,
    ) -> Param<'a> {
        Box::new(writes.iter().map(|(append, _)| of(append)).collect::<Vec<_>>())
    }
    vec![
        Box::new(writes.iter().map(|(_, tenant)| *tenant).collect::<Vec<_>>()),
        column(writes, |it| uuid(it.pid)),
        column(writes, |it| it.first.0.cast_signed()),
        column(writes, |it| it.epoch.0.cast_signed()),
        column(writes, |it| it.batch.layout),
        column(writes, |it| it.head().as_bytes().to_vec()),
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
    (!tenants.is_empty()).then(|| {
        Write::new(
            "INSERT INTO blobs (tenant, hash, bytes) \
              SELECT * FROM UNNEST($1::int[], $2::bytea[], $3::bytea[]) \
              ON CONFLICT (tenant, hash) DO NOTHING",
            vec![Box::new(tenants), Box::new(hashes), Box::new(bytes)],
        )
    })
}

fn consumed<'a>(writes: &[(&'a Prepared, i32)]) -> Option<Write<'a>> {
    let ids: Vec<i64> =
        writes.iter().flat_map(|(append, _)| &append.consumed).map(|item| item.0).collect();
    (!ids.is_empty())
        .then(|| Write::new("DELETE FROM inbox WHERE id = ANY ($1::bigint[])", vec![Box::new(ids)]))
}
