//! What goes into the index, and what goes out.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use aosk_abi::{Hash, Pid, Seq, Tenant};
use aosk_ports::{Batch, Cursor, Embedding, Entry, Followed, Item, Space, StoreError};
use deadpool_postgres::{Object, Transaction};

use super::super::fault::Fault;
use super::super::process::{self, uuid};
use super::space;
use crate::search::index::Model;
use crate::search::shelf::{self, Counts, Row, Waiting};
use crate::search::{check, terms};

/// Puts a batch in, and moves its cursor.
pub(super) async fn put(client: &mut Object, batch: &Batch) -> Result<(), Fault> {
    let transaction = client.transaction().await?;
    if let Some(followed) = &batch.followed
        && !follow(&transaction, &batch.tenant, followed).await?
    {
        return Ok(());
    }
    // Of two items of one name the later one stays, as where each is put in by itself.
    let mut last: HashMap<(&Space, Pid, u32, u64), &Item> = HashMap::new();
    for item in &batch.items {
        last.insert(name(item), item);
    }
    // Memories are numbered in one order by everyone, so that no two nodes wait for each other.
    let spaces: BTreeSet<&Space> = batch.items.iter().map(|item| &item.entry.space).collect();
    let mut numbers = HashMap::new();
    for space in spaces {
        numbers.insert(space, space::find_or_make(&transaction, &batch.tenant, space).await?);
    }
    let mut columns = Columns::default();
    for item in &batch.items {
        let stays = last.get(&name(item)).is_some_and(|last| std::ptr::eq(*last, item));
        if let Some(number) = numbers.get(&item.entry.space).filter(|_| stays) {
            columns.push(*number, item);
        }
    }
    columns.write(&transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// What an item is known by.
fn name(item: &Item) -> (&Space, Pid, u32, u64) {
    let entry = &item.entry;
    (&entry.space, entry.pid, entry.page.0, entry.start)
}

/// Items, column by column, as one statement takes them.
#[derive(Default)]
struct Columns {
    spaces: Vec<i64>,
    pids: Vec<uuid::Uuid>,
    pages: Vec<i64>,
    starts: Vec<i64>,
    seqs: Vec<i64>,
    hashes: Vec<Vec<u8>>,
    kinds: Vec<i16>,
    times: Vec<i64>,
    tags: Vec<String>,
    lens: Vec<i32>,
    bodies: Vec<Vec<u8>>,
    terms: Vec<String>,
}

impl Columns {
    fn push(&mut self, space: i64, item: &Item) {
        let Entry { pid, page, start, seq, hash, kind, time, tags, .. } = &item.entry;
        let terms = terms::of_text(&item.text);
        self.spaces.push(space);
        self.pids.push(uuid(*pid));
        self.pages.push(page.0.into());
        self.starts.push(start.cast_signed());
        self.seqs.push(seq.0.cast_signed());
        self.hashes.push(hash.as_bytes().to_vec());
        self.kinds.push(check::number(*kind));
        self.times.push(time.as_millis().cast_signed());
        let tags: Vec<serde_json::Value> = tags.iter().map(|tag| (&**tag).into()).collect();
        self.tags.push(serde_json::Value::Array(tags).to_string());
        self.lens.push(i32::try_from(terms.len()).unwrap_or(i32::MAX));
        self.bodies.push(item.text.as_bytes().to_vec());
        self.terms.push(lexemes(space, &terms));
    }

    async fn write(&self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        let taken = transaction
            .prepare_cached(
                "WITH gone AS (DELETE FROM search_items AS i USING \
                     UNNEST($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[]) \
                         AS t (space, pid, page, start) \
                     WHERE (i.space, i.pid, i.page, i.start) = (t.space, t.pid, t.page, t.start) \
                     RETURNING i.space, i.len) \
                 UPDATE search_spaces AS s SET items = s.items - g.items, terms = s.terms - g.terms \
                 FROM (SELECT space, count(*) AS items, sum(len) AS terms FROM gone GROUP BY space) \
                     AS g WHERE s.id = g.space",
            )
            .await?;
        transaction.execute(&taken, &[&self.spaces, &self.pids, &self.pages, &self.starts]).await?;
        let made = transaction
            .prepare_cached(
                "WITH made AS (INSERT INTO search_items \
                     (space, pid, page, start, seq, hash, kind, time, tags, len, body, terms) \
                     SELECT space, pid, page, start, seq, hash, kind, time, \
                         ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)), len, body, \
                         terms::tsvector \
                     FROM UNNEST($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], \
                         $5::bigint[], $6::bytea[], $7::smallint[], $8::bigint[], $9::text[], \
                         $10::int[], $11::bytea[], $12::text[]) \
                         AS t (space, pid, page, start, seq, hash, kind, time, tags, len, body, \
                         terms) RETURNING id, space, len), \
                 waits AS (INSERT INTO search_waiting SELECT id FROM made) \
                 UPDATE search_spaces AS s SET items = s.items + g.items, terms = s.terms + g.terms \
                 FROM (SELECT space, count(*) AS items, sum(len) AS terms FROM made GROUP BY space) \
                     AS g WHERE s.id = g.space",
            )
            .await?;
        transaction
            .execute(
                &made,
                &[
                    &self.spaces,
                    &self.pids,
                    &self.pages,
                    &self.starts,
                    &self.seqs,
                    &self.hashes,
                    &self.kinds,
                    &self.times,
                    &self.tags,
                    &self.lens,
                    &self.bodies,
                    &self.terms,
                ],
            )
            .await?;
        Ok(())
    }
}

/// The terms with their places, as the server reads them. Letters, digits and underscores need no
/// escape.
fn lexemes(space: i64, terms: &[String]) -> String {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (term, place) in terms.iter().zip(1..) {
        places.entry(term).or_default().push(place);
    }
    let mut text = format!("'{}'", space::lexeme(space));
    for (term, places) in places {
        // Writing to a string cannot fail.
        let _ = write!(text, " '{term}'");
        for (place, sign) in
            places.into_iter().zip(std::iter::once(':').chain(std::iter::repeat(',')))
        {
            let _ = write!(text, "{sign}{place}");
        }
    }
    text
}

/// Moves a cursor; whether it was not moved by this batch before.
async fn follow(
    transaction: &Transaction<'_>,
    tenant: &Tenant,
    followed: &Followed,
) -> Result<bool, Fault> {
    // The row is there and locked before it is compared, so that of two nodes one waits.
    let (tenant, pid) = (tenant.as_str(), uuid(followed.pid));
    transaction
        .execute(
            "INSERT INTO search_cursors VALUES ($1, $2, 0, $3) ON CONFLICT DO NOTHING",
            &[&tenant, &pid, &&Hash::ZERO.as_bytes()[..]],
        )
        .await?;
    let row = transaction
        .query_one(
            "SELECT next, head FROM search_cursors WHERE tenant = $1 AND pid = $2 FOR UPDATE",
            &[&tenant, &pid],
        )
        .await?;
    let there = cursor_of(&row)?;
    if there == followed.until {
        return Ok(false);
    }
    if there != followed.from {
        return Err(check::elsewhere(there.next.0, followed.from.next.0).into());
    }
    let until = &followed.until;
    transaction
        .execute(
            "UPDATE search_cursors SET next = $3, head = $4 WHERE tenant = $1 AND pid = $2",
            &[&tenant, &pid, &until.next.0.cast_signed(), &&until.head.as_bytes()[..]],
        )
        .await?;
    Ok(true)
}

/// See [`Retriever::followed`](aosk_ports::Retriever::followed).
pub(super) async fn followed(client: &Object, tenant: &Tenant) -> Result<Vec<Pid>, Fault> {
    let sql = "SELECT pid FROM search_cursors WHERE tenant = $1";
    let rows = client.query(sql, &[&tenant.as_str()]).await?;
    rows.iter().map(|row| process::pid(row, 0)).collect()
}

fn cursor_of(row: &tokio_postgres::Row) -> Result<Cursor, Fault> {
    let head: [u8; 32] = row
        .try_get::<_, &[u8]>(1)?
        .try_into()
        .map_err(|_| Fault::damaged("a cursor of the search index is cut"))?;
    let next = row.try_get::<_, i64>(0)?.cast_unsigned();
    Ok(Cursor { next: Seq(next), head: Hash::from_bytes(head) })
}

/// See [`Retriever::cursor`](aosk_ports::Retriever::cursor).
pub(super) async fn cursor(client: &Object, tenant: &Tenant, pid: Pid) -> Result<Cursor, Fault> {
    let row = client
        .query_opt(
            "SELECT next, head FROM search_cursors WHERE tenant = $1 AND pid = $2",
            &[&tenant.as_str(), &uuid(pid)],
        )
        .await?;
    row.map_or(Ok(Cursor::default()), |row| cursor_of(&row))
}

/// See [`Retriever::forget`](aosk_ports::Retriever::forget).
pub(super) async fn forget(client: &mut Object, tenant: &Tenant, pid: Pid) -> Result<(), Fault> {
    let transaction = client.transaction().await?;
    let (tenant, own, pid) = (tenant.as_str(), shelf::name(&Space::Process(pid)), uuid(pid));
    transaction
        .execute(
            "WITH gone AS (DELETE FROM search_items AS i USING search_spaces AS s \
                 WHERE s.id = i.space AND s.tenant = $1 AND i.pid = $2 \
                 RETURNING i.space, i.len) \
             UPDATE search_spaces AS s SET items = s.items - g.items, terms = s.terms - g.terms \
             FROM (SELECT space, count(*) AS items, sum(len) AS terms FROM gone GROUP BY space) AS g \
             WHERE s.id = g.space",
            &[&tenant, &pid],
        )
        .await?;
    transaction
        .execute("DELETE FROM search_spaces WHERE tenant = $1 AND name = $2", &[&tenant, &own])
        .await?;
    transaction
        .execute("DELETE FROM search_cursors WHERE tenant = $1 AND pid = $2", &[&tenant, &pid])
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// Texts that wait for a vector.
pub(super) async fn waiting(client: &Object, limit: usize) -> Result<Vec<Waiting>, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = client
        .query(
            "SELECT i.id, i.body FROM search_waiting AS w JOIN search_items AS i ON i.id = w.item \
             ORDER BY w.item DESC LIMIT $1",
            &[&limit],
        )
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let id: Row = row.try_get(0)?;
        let text = std::str::from_utf8(row.try_get(1)?).map_err(|error| {
            Fault::damaged(format_args!("the text of entry {id} of the search index: {error}"))
        })?;
        found.push(Waiting { row: id, text: Arc::from(text) });
    }
    Ok(found)
}

/// Keeps vectors of entries that are still there.
pub(super) async fn keep(
    client: &mut Object,
    model: &Model,
    home: &str,
    vectors: &[(Row, Option<Embedding>)],
) -> Result<(), Fault> {
    let transaction = client.transaction().await?;
    held(&transaction, model).await?;
    let rows: Vec<Row> = vectors.iter().map(|it| it.0).collect();
    let (mut with, mut values) = (Vec::new(), Vec::new());
    for (row, vector) in vectors {
        if let Some(vector) = vector {
            with.push(*row);
            values.push(written(vector));
        }
    }
    let sql = format!(
        "INSERT INTO search_vectors (item, space, vector) \
         SELECT i.id, i.space, t.vector::{home}.halfvec \
         FROM UNNEST($1::bigint[], $2::text[]) AS t (item, vector) \
         JOIN search_items AS i ON i.id = t.item FOR SHARE OF i \
         ON CONFLICT (item) DO UPDATE SET vector = EXCLUDED.vector",
        home = super::super::fault::quoted(home)
    );
    let keep = transaction.prepare_cached(&sql).await?;
    transaction.execute(&keep, &[&with, &values]).await?;
    transaction.execute("DELETE FROM search_waiting WHERE item = ANY ($1)", &[&rows]).await?;
    transaction.commit().await?;
    Ok(())
}

/// Checks that vectors are still kept for `model`, and keeps it so until the transaction ends.
async fn held(transaction: &Transaction<'_>, model: &Model) -> Result<(), Fault> {
    let row = transaction.query_opt("SELECT name, dims FROM search_model FOR SHARE", &[]).await?;
    let (name, dims): (String, i32) = match row {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => (String::new(), 0),
    };
    if name == model.id && usize::try_from(dims) == Ok(model.dims) {
        return Ok(());
    }
    Err(StoreError::new(
        aosk_abi::Code::StoreConflict,
        format!(
            "the search index keeps vectors of {name:?} by now and this node makes those of {:?}: \
             set one embedder for all nodes of a store",
            model.id
        ),
    )
    .into())
}

/// A vector as the server reads it.
pub(super) fn written(vector: &Embedding) -> String {
    let mut text = String::with_capacity(vector.values().len() * 12);
    for (value, sign) in
        vector.values().iter().zip(std::iter::once('[').chain(std::iter::repeat(',')))
    {
        // Writing to a string cannot fail.
        let _ = write!(text, "{sign}{value}");
    }
    text.push(']');
    text
}

/// How many entries there are, and how many wait.
pub(super) async fn counts(client: &Object) -> Result<Counts, Fault> {
    let row = client
        .query_one(
            "SELECT (SELECT coalesce(sum(items), 0)::bigint FROM search_spaces), \
             (SELECT count(*) FROM search_waiting)",
            &[],
        )
        .await?;
    let count = |at| -> Result<u64, Fault> { Ok(row.try_get::<_, i64>(at)?.cast_unsigned()) };
    Ok(Counts { items: count(0)?, waiting: count(1)? })
}
