//! What goes into the index, and what goes out.

use std::sync::Arc;

use aosk_abi::{Hash, Pid, Seq, Tenant};
use aosk_ports::{Batch, Cursor, Embedding, Entry, Followed, Item, Space};
use rusqlite::{Connection, OptionalExtension, params};

use super::super::fault::Fault;
use super::nearest::Kept;
use super::space;
use crate::search::shelf::{self, Counts, Row, Waiting};
use crate::search::sketch::sketch;
use crate::search::{check, terms};

/// The level at which texts are compressed: the lowest takes half of them away already.
const LEVEL: i32 = 1;

/// An entry that went: its space and its number.
pub(super) type Removed = Vec<(i64, Row)>;

/// Puts a batch in, and moves its cursor; what it took the place of.
pub(super) fn put(connection: &Connection, batch: &Batch) -> Result<Removed, Fault> {
    if let Some(followed) = &batch.followed
        && !follow(connection, &batch.tenant, followed)?
    {
        return Ok(Vec::new());
    }
    let mut removed = Vec::new();
    for item in &batch.items {
        removed.extend(put_one(connection, &batch.tenant, item)?);
    }
    Ok(removed)
}

/// Moves a cursor; whether it was not moved by this batch before.
fn follow(connection: &Connection, tenant: &Tenant, followed: &Followed) -> Result<bool, Fault> {
    let there = cursor(connection, tenant, followed.pid)?;
    if there == followed.until {
        return Ok(false);
    }
    if there != followed.from {
        return Err(check::elsewhere(there.next.0, followed.from.next.0).into());
    }
    connection.prepare_cached("INSERT OR REPLACE INTO cursors VALUES (?1, ?2, ?3, ?4)")?.execute(
        params![
            tenant.as_str(),
            followed.pid.as_bytes(),
            followed.until.next.0.cast_signed(),
            followed.until.head.as_bytes(),
        ],
    )?;
    Ok(true)
}

/// See [`Retriever::cursor`](aosk_ports::Retriever::cursor).
pub(super) fn cursor(connection: &Connection, tenant: &Tenant, pid: Pid) -> Result<Cursor, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT next, head FROM cursors WHERE tenant = ?1 AND pid = ?2")?;
    let there = statement.query_row((tenant.as_str(), pid.as_bytes()), |row| {
        let next = row.get::<_, i64>(0)?.cast_unsigned();
        Ok(Cursor { next: Seq(next), head: Hash::from_bytes(row.get(1)?) })
    });
    Ok(there.optional()?.unwrap_or_default())
}

/// See [`Retriever::followed`](aosk_ports::Retriever::followed).
pub(super) fn followed(connection: &Connection, tenant: &Tenant) -> Result<Vec<Pid>, Fault> {
    let mut statement = connection.prepare_cached("SELECT pid FROM cursors WHERE tenant = ?1")?;
    let pids = statement.query_map([tenant.as_str()], |row| row.get(0).map(Pid::from_bytes))?;
    Ok(pids.collect::<Result<_, _>>()?)
}

fn put_one(connection: &Connection, tenant: &Tenant, item: &Item) -> Result<Removed, Fault> {
    let Entry { space: of, pid, page, start, seq, hash, kind, time, tags } = &item.entry;
    let space = space::find_or_make(connection, tenant, of)?;
    let key = params![space, pid.as_bytes(), page.0, start.cast_signed()];
    let there = connection
        .prepare_cached(
            "SELECT id FROM items WHERE space = ?1 AND pid = ?2 AND page = ?3 AND start = ?4",
        )?
        .query_row(key, |row| row.get::<_, Row>(0))
        .optional()?;
    let removed: Removed = there.into_iter().map(|row| (space, row)).collect();
    remove(connection, &removed)?;
    let text = zstd::bulk::compress(item.text.as_bytes(), LEVEL)
        .map_err(|error| Fault::damaged(format_args!("a text cannot be compressed: {error}")))?;
    let row = connection
        .prepare_cached(
            "INSERT INTO items (space, pid, page, start, seq, hash, kind, time, seal, len, \
             text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .insert(params![
            space,
            pid.as_bytes(),
            page.0,
            start.cast_signed(),
            seq.0.cast_signed(),
            hash.as_bytes(),
            check::number(*kind),
            time.as_millis().cast_signed(),
            seal(&item.entry),
            u32::try_from(item.text.len()).unwrap_or(u32::MAX),
            text,
        ])?;
    let mut tag_one = connection.prepare_cached("INSERT INTO tags VALUES (?1, ?2)")?;
    for tag in tags {
        tag_one.execute((row, &**tag))?;
    }
    connection
        .prepare_cached("INSERT INTO words (rowid, scope, body) VALUES (?1, ?2, ?3)")?
        .execute((row, space::term(space), terms::of_text(&item.text).join(" ")))?;
    connection.prepare_cached("INSERT INTO waiting VALUES (?1)")?.execute([row])?;
    Ok(removed)
}

/// A hash of an entry, so that one that was altered on the disk is never shown: SQLite has no
/// checksums of its own.
pub(super) fn seal(entry: &Entry) -> i64 {
    let mut bytes = shelf::name(&entry.space);
    bytes.extend_from_slice(entry.pid.as_bytes());
    bytes.extend_from_slice(&entry.page.0.to_le_bytes());
    for number in [entry.start, entry.seq.0, entry.time.as_millis()] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(entry.hash.as_bytes());
    bytes.extend_from_slice(&check::number(entry.kind).to_le_bytes());
    for tag in &entry.tags {
        bytes.push(0);
        bytes.extend_from_slice(tag.as_bytes());
    }
    let hash = Hash::of(&bytes);
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    i64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// See [`Retriever::forget`](aosk_ports::Retriever::forget).
pub(super) fn forget(connection: &Connection, tenant: &Tenant, pid: Pid) -> Result<Removed, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT i.space, i.id FROM items AS i JOIN spaces AS s ON s.id = i.space \
         WHERE i.pid = ?2 AND s.tenant = ?1",
    )?;
    let rows = statement.query_map((tenant.as_str(), pid.as_bytes()), |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Row>(1)?))
    })?;
    let removed = rows.collect::<Result<Removed, _>>()?;
    remove(connection, &removed)?;
    let whose = (tenant.as_str(), pid.as_bytes());
    connection
        .prepare_cached("DELETE FROM cursors WHERE tenant = ?1 AND pid = ?2")?
        .execute(whose)?;
    if let Some(own) = space::find(connection, tenant, &Space::Process(pid))? {
        connection.prepare_cached("DELETE FROM spaces WHERE id = ?1")?.execute([own])?;
    }
    Ok(removed)
}

fn remove(connection: &Connection, removed: &Removed) -> Result<(), Fault> {
    for (space, row) in removed {
        for sql in [
            "DELETE FROM items WHERE id = ?1",
            "DELETE FROM tags WHERE item = ?1",
            "DELETE FROM words WHERE rowid = ?1",
            "DELETE FROM vectors WHERE item = ?1",
            "DELETE FROM waiting WHERE item = ?1",
        ] {
            connection.prepare_cached(sql)?.execute([row])?;
        }
        connection
            .prepare_cached("DELETE FROM sketches WHERE space = ?1 AND item = ?2")?
            .execute((space, row))?;
    }
    Ok(())
}

/// Texts that wait for a vector.
pub(super) fn waiting(connection: &Connection, limit: usize) -> Result<Vec<Waiting>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT i.id, i.len, i.text FROM waiting AS w JOIN items AS i ON i.id = w.item \
         ORDER BY w.item DESC LIMIT ?1",
    )?;
    let mut rows = statement.query([i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id: Row = row.get(0)?;
        let damaged = |what: &dyn std::fmt::Display| {
            Fault::damaged(format_args!("the text of entry {id}: {what}"))
        };
        let len = (row.get::<_, u32>(1)? as usize).min(Entry::TEXT_MAX);
        let text = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        let text = zstd::bulk::decompress(text, len).map_err(|error| damaged(&error))?;
        let text = String::from_utf8(text).map_err(|error| damaged(&error))?;
        found.push(Waiting { row: id, text: Arc::from(text) });
    }
    Ok(found)
}

/// Keeps vectors of entries that are still there; their sketches, for those who compare.
pub(super) fn keep(
    connection: &Connection,
    vectors: &[(Row, Option<Embedding>)],
) -> Result<Vec<Kept>, Fault> {
    let mut kept = Vec::with_capacity(vectors.len());
    for (row, vector) in vectors {
        let waited =
            connection.prepare_cached("DELETE FROM waiting WHERE item = ?1")?.execute([row])?;
        let (1, Some(vector)) = (waited, vector) else {
            continue;
        };
        let space = connection
            .prepare_cached("SELECT space FROM items WHERE id = ?1")?
            .query_row([row], |row| row.get::<_, i64>(0))?;
        let bytes: Vec<u8> = vector.values().iter().flat_map(|it| it.to_le_bytes()).collect();
        connection
            .prepare_cached("INSERT OR REPLACE INTO vectors VALUES (?1, ?2)")?
            .execute((row, bytes))?;
        let sketch = sketch(vector);
        let bits = sketch.bits.iter().flat_map(|word| word.to_le_bytes());
        let bytes: Vec<u8> = bits.chain(sketch.scale.to_le_bytes()).collect();
        connection
            .prepare_cached("INSERT OR REPLACE INTO sketches VALUES (?1, ?2, ?3)")?
            .execute((space, row, bytes))?;
        kept.push(Kept { space, row: *row, sketch });
    }
    Ok(kept)
}

/// How many entries there are, and how many wait.
pub(super) fn counts(connection: &Connection) -> Result<Counts, Fault> {
    let count = |sql| -> Result<u64, Fault> {
        Ok(connection
            .prepare_cached(sql)?
            .query_row([], |row| row.get::<_, i64>(0))?
            .cast_unsigned())
    };
    let items = count("SELECT COUNT(*) FROM items")?;
    Ok(Counts { items, waiting: count("SELECT COUNT(*) FROM waiting")? })
}
