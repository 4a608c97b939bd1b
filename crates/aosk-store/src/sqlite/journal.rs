//! The journal: rows of batches, found through spans, verified as they are read.

use aosk_abi::{Code, Hash, Pid, Record, Seq, Tenant};
use rusqlite::{Connection, OptionalExtension};

use super::batch::Batch;
use super::fault::Fault;
use super::process::{Place, number};
use super::span::{self, Entry, SPAN};
use crate::copy::Stored;

/// A row of the journal.
struct Found {
    first: Seq,
    /// The link after its last event.
    hash: Hash,
    batch: Batch,
}

/// Up to `limit` events of a process from `from` on. Each is linked to the one before; the first
/// to the link that the batch before it ends with.
pub(super) fn read(
    connection: &Connection,
    tenant: &Tenant,
    place: &Place,
    from: Seq,
    limit: usize,
) -> Result<Vec<Record>, Fault> {
    let mut records = Vec::new();
    if from >= place.next || limit == 0 {
        return Ok(records);
    }
    let mut walk = Walk::to(connection, place, from)?;
    let mut prev = match walk.before(connection)? {
        None => place.origin,
        Some(entry) => row_hash(connection, place.pid, entry)?,
    };
    let mut next = None;
    while let Some(entry) = walk.step(connection)? {
        if next.is_some_and(|next| next != entry.first) {
            break;
        }
        let stored = row(connection, place, entry)?;
        next = Some(entry.first + stored.batch.len() as u64);
        for mut record in stored.batch.records(stored.first) {
            record.hash = record.link(tenant, place.pid, prev);
            prev = record.hash;
            if record.seq >= from && records.len() < limit {
                records.push(record);
            }
        }
        let end = next == Some(place.next.0);
        if prev != stored.hash || (end && prev != place.head) {
            let expected = if prev == stored.hash { place.head } else { stored.hash };
            return Err(broken(place.pid, &stored, expected, prev));
        }
        if end || records.len() == limit {
            return Ok(records);
        }
    }
    Err(missing(place.pid, next.unwrap_or(from.0)))
}

/// Up to `limit` appends of a process, from the one on that begins with event `from` after the link
/// `prev`.
pub(super) fn appends(
    connection: &Connection,
    tenant: &Tenant,
    place: &Place,
    (from, mut prev): (Seq, Hash),
    limit: usize,
) -> Result<Vec<Stored>, Fault> {
    let mut found = Vec::new();
    if from >= place.next {
        return Ok(found);
    }
    let mut walk = Walk::to(connection, place, from)?;
    let mut next = from.0;
    while found.len() < limit && next < place.next.0 {
        let Some(entry) = walk.step(connection)?.filter(|entry| entry.first == next) else {
            return Err(missing(place.pid, next));
        };
        let stored = row(connection, place, entry)?;
        let before = prev;
        let mut records: Vec<Record> = stored.batch.records(stored.first).collect();
        for record in &mut records {
            record.hash = record.link(tenant, place.pid, prev);
            prev = record.hash;
        }
        if prev != stored.hash {
            return Err(broken(place.pid, &stored, stored.hash, prev));
        }
        next += records.len() as u64;
        found.push((before, records, stored.batch.contents().map(<[u8]>::to_vec).collect()));
    }
    Ok(found)
}

/// The batch that holds event `seq`, and how far it reaches; `None` past the end.
pub(super) fn covering(
    connection: &Connection,
    place: &Place,
    seq: Seq,
) -> Result<Option<(std::ops::Range<u64>, Batch)>, Fault> {
    if seq >= place.next {
        return Ok(None);
    }
    let Some(entry) = Walk::to(connection, place, seq)?.step(connection)? else {
        return Err(missing(place.pid, seq.0));
    };
    let stored = row(connection, place, entry)?;
    let range = entry.first..entry.first + stored.batch.len() as u64;
    if range.contains(&seq.0) {
        return Ok(Some((range, stored.batch)));
    }
    Err(missing(place.pid, seq.0))
}

/// Adds a batch and moves the place behind it.
pub(super) fn append(
    connection: &Connection,
    place: &mut Place,
    batch: &[u8],
    next: Seq,
    head: Hash,
) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO journal (tenant, pid, first, hash, batch) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            place.tenant,
            place.pid.as_bytes(),
            place.next.0.cast_signed(),
            head.as_bytes(),
            batch,
        ))?;
    place.tail.push(Entry { first: place.next.0, id: connection.last_insert_rowid() });
    place.next = next;
    place.head = head;
    if place.tail.len() == SPAN {
        connection
            .prepare_cached(
                "INSERT INTO spans (tenant, pid, first, batches) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((
                place.tenant,
                place.pid.as_bytes(),
                place.tail[0].first.cast_signed(),
                span::encode(&place.tail),
            ))?;
        place.tail.clear();
    }
    Ok(())
}

/// Removes all batches of a process. They are found by their numbers, since no index leads to them.
pub(super) fn erase(connection: &Connection, place: &Place) -> Result<(), Fault> {
    let mut walk = Walk::to(connection, place, Seq(0))?;
    while let Some(entry) = walk.step(connection)? {
        connection.prepare_cached("DELETE FROM journal WHERE id = ?1")?.execute([entry.id])?;
    }
    Ok(())
}

/// A way along the batches of a process: span after span, then the tail.
struct Walk<'a> {
    place: &'a Place,
    list: Vec<Entry>,
    at: usize,
    in_tail: bool,
}

impl<'a> Walk<'a> {
    /// Stands before the batch that covers `seq`.
    fn to(connection: &Connection, place: &'a Place, seq: Seq) -> Result<Self, Fault> {
        let in_tail = place.tail.first().is_some_and(|entry| entry.first <= seq.0);
        let list = if in_tail {
            place.tail.clone()
        } else {
            let newest = "SELECT batches FROM spans WHERE tenant = ?1 AND pid = ?2 \
                          AND first <= ?3 ORDER BY first DESC LIMIT 1";
            span_row(connection, place, newest, seq.0)?.ok_or_else(|| missing(place.pid, seq.0))?
        };
        let covering = list.partition_point(|entry| entry.first <= seq.0);
        Ok(Self { place, list, at: covering.saturating_sub(1), in_tail })
    }

    /// The batch before the next one; `None` where that is the process's first.
    fn before(&self, connection: &Connection) -> Result<Option<Entry>, Fault> {
        if let Some(index) = self.at.checked_sub(1) {
            return Ok(self.list.get(index).copied());
        }
        let first = self.list.first().map_or(0, |entry| entry.first);
        if first == 0 {
            return Ok(None);
        }
        let newest = "SELECT batches FROM spans WHERE tenant = ?1 AND pid = ?2 \
                      AND first < ?3 ORDER BY first DESC LIMIT 1";
        span_row(connection, self.place, newest, first)?
            .and_then(|list| list.last().copied())
            .map(Some)
            .ok_or_else(|| missing(self.place.pid, first - 1))
    }

    /// The next batch; `None` behind the last.
    fn step(&mut self, connection: &Connection) -> Result<Option<Entry>, Fault> {
        if self.at == self.list.len() {
            if self.in_tail {
                return Ok(None);
            }
            let last = self.list.last().map_or(0, |entry| entry.first);
            let oldest = "SELECT batches FROM spans WHERE tenant = ?1 AND pid = ?2 \
                          AND first > ?3 ORDER BY first LIMIT 1";
            let found = span_row(connection, self.place, oldest, last)?;
            self.in_tail = found.is_none();
            self.list = found.unwrap_or_else(|| self.place.tail.clone());
            self.at = 0;
        }
        let entry = self.list.get(self.at).copied();
        self.at += usize::from(entry.is_some());
        Ok(entry)
    }
}

fn span_row(
    connection: &Connection,
    place: &Place,
    sql: &str,
    seq: u64,
) -> Result<Option<Vec<Entry>>, Fault> {
    let found = connection
        .prepare_cached(sql)?
        .query_row((place.tenant, place.pid.as_bytes(), seq.cast_signed()), |row| {
            Ok(span::decode(row.get_ref(0)?.as_blob()?).filter(|list| !list.is_empty()))
        })
        .optional()?;
    match found {
        None => Ok(None),
        Some(Some(list)) => Ok(Some(list)),
        Some(None) => Err(Fault::damaged(format_args!(
            "process {}: the list of batches around event {seq} cannot be read",
            place.pid
        ))),
    }
}

fn row_hash(connection: &Connection, pid: Pid, entry: Entry) -> Result<Hash, Fault> {
    connection
        .prepare_cached("SELECT hash FROM journal WHERE id = ?1")?
        .query_row([entry.id], |row| Ok(Hash::from_bytes(row.get(0)?)))
        .optional()?
        .ok_or_else(|| missing(pid, entry.first))
}

fn row(connection: &Connection, place: &Place, entry: Entry) -> Result<Found, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT tenant, pid, first, hash, batch FROM journal WHERE id = ?1")?;
    let mut rows = statement.query([entry.id])?;
    let Some(row) = rows.next()? else {
        return Err(missing(place.pid, entry.first));
    };
    let (tenant, pid, first): (i64, [u8; 16], u64) = (row.get(0)?, row.get(1)?, number(row, 2)?);
    let expected = (place.tenant, place.pid.as_bytes(), entry.first);
    if (tenant, &pid, first) != expected || first >= place.next.0 {
        return Err(missing(place.pid, entry.first));
    }
    let hash = Hash::from_bytes(row.get(3)?);
    let batch = Batch::decode(row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?).map_err(
        |what| {
            Fault::damaged(format_args!(
                "process {}: the events from {first} on cannot be read: {what}",
                place.pid
            ))
        },
    )?;
    Ok(Found { first: Seq(first), hash, batch })
}

fn missing(pid: Pid, seq: u64) -> Fault {
    Fault::damaged(format_args!("process {pid}: event {seq} is missing"))
}

fn broken(pid: Pid, stored: &Found, expected: Hash, computed: Hash) -> Fault {
    let last = stored.first.0 + stored.batch.len() as u64 - 1;
    Fault::refused(
        Code::ChainBroken,
        format!(
            "process {pid}: the chain breaks at the events {} to {last}: stored link {expected}, \
             computed {computed}; the journal was altered or damaged: restore the store's file \
             from a copy",
            stored.first
        ),
    )
}
