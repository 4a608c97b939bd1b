//! The journal: rows of batches, verified as they are read.
//!
//! Rows are only ever added, so a reader needs no snapshot: it asks how far the process has come and
//! reads up to there, whatever is added meanwhile.

use aosk_abi::{Code, Epoch, Hash, Pid, Record, Seq, Tenant, Timestamp};
use aosk_ports::CLOCK_STEP;
use deadpool_postgres::Object;
use tokio_postgres::Row;

use super::batch;
use super::fault::Fault;
use super::process::{Place, hash, number, uuid};

/// How many rows are asked for at once. A step's is 1 KB, so a page of them is 256 KB.
const PAGE: usize = 256;

/// A row of the journal.
struct Stored {
    first: Seq,
    /// The link after its last event.
    hash: Hash,
    records: Vec<Record>,
}

impl Stored {
    fn read(place: &Place, row: &Row) -> Result<Self, Fault> {
        let first = Seq(number(row, 0)?);
        let damaged = |what: &str| {
            Fault::damaged(format_args!(
                "process {}: the events from {first} on cannot be read: {what}",
                place.pid
            ))
        };
        let epoch = Epoch(number(row, 1)?);
        let hash = hash(row.try_get(3)?).ok_or_else(|| damaged("the link is cut off"))?;
        let parts = [row.try_get(4)?, row.try_get(5)?, row.try_get(6)?];
        let records =
            batch::records(first, epoch, row.try_get(2)?, parts).map_err(|what| damaged(&what))?;
        Ok(Self { first, hash, records })
    }

    fn end(&self) -> Seq {
        Seq(self.first.0 + self.records.len() as u64)
    }
}

const COLUMNS: &str = "first_seq, epoch, layout, hash, events, hashes, bodies";

/// Up to `limit` events of a process from `from` on. Each is linked to the one before; the first
/// to the link that the row before it ends with.
pub(super) async fn read(
    client: &Object,
    tenant: &Tenant,
    place: &Place,
    from: Seq,
    limit: usize,
) -> Result<Vec<Record>, Fault> {
    let mut records = Vec::new();
    if from >= place.next || limit == 0 {
        return Ok(records);
    }
    let back = client
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM journal WHERE tenant = $1 AND pid = $2 AND first_seq <= $3 \
             ORDER BY first_seq DESC LIMIT 2"
        ))
        .await?;
    let id = uuid(place.pid);
    let found = client.query(&back, &[&place.tenant, &id, &from.0.cast_signed()]).await?;
    let mut found = found.iter().map(|row| Stored::read(place, row));
    let covering = found.next().transpose()?.ok_or_else(|| missing(place.pid, from.0))?;
    let mut prev = match found.next().transpose()? {
        Some(before) if before.end() == covering.first => before.hash,
        None if covering.first == Seq(0) => place.origin,
        Some(before) => return Err(missing(place.pid, before.end().0)),
        None => return Err(missing(place.pid, 0)),
    };
    let mut page = vec![covering];
    loop {
        let mut next = Seq(0);
        for stored in page {
            next = stored.end();
            prev = verified(tenant, place, &stored, prev, |record| {
                if record.seq >= from && records.len() < limit {
                    records.push(record);
                }
            })?;
            if next >= place.next || records.len() == limit {
                return Ok(records);
            }
        }
        let left = (limit - records.len()).min(PAGE) as i64;
        let forth = client
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM journal WHERE tenant = $1 AND pid = $2 AND first_seq >= $3 \
                 ORDER BY first_seq LIMIT $4"
            ))
            .await?;
        let at = next.0.cast_signed();
        let rows = client.query(&forth, &[&place.tenant, &id, &at, &left]).await?;
        page = rows.iter().map(|row| Stored::read(place, row)).collect::<Result<_, _>>()?;
        let mut expected = next;
        for stored in &page {
            if stored.first != expected {
                return Err(missing(place.pid, expected.0));
            }
            expected = stored.end();
        }
        if page.is_empty() {
            return Err(missing(place.pid, next.0));
        }
    }
}

/// The event with which an append begins before which everything is older than `time`, while no
/// clock went back by more than [`CLOCK_STEP`]. What follows in that append may be younger, so it is
/// where reading begins.
pub(super) async fn since(client: &Object, place: &Place, time: Timestamp) -> Result<Seq, Fault> {
    let step = CLOCK_STEP.as_millis() as u64;
    let Some(earlier) = time.as_millis().checked_sub(step).map(Timestamp::from_millis) else {
        return Ok(Seq(0));
    };
    let search = client.prepare_cached("SELECT append_before($1, $2, $3, $4)").await?;
    let (id, next) = (uuid(place.pid), place.next.0.cast_signed());
    let row =
        client.query_one(&search, &[&place.tenant, &id, &next, &batch::sought(earlier)]).await?;
    Ok(Seq(number(&row, 0)?))
}

/// Up to `limit` appends of a process, from the one on that begins with event `from` after the link
/// `prev`.
pub(super) async fn appends(
    client: &Object,
    tenant: &Tenant,
    place: &Place,
    (from, mut prev): (Seq, Hash),
    limit: usize,
) -> Result<Vec<crate::copy::Stored>, Fault> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT {COLUMNS}, beside, contents FROM journal \
             WHERE tenant = $1 AND pid = $2 AND first_seq >= $3 ORDER BY first_seq LIMIT $4"
        ))
        .await?;
    let (id, at, limit) = (uuid(place.pid), from.0.cast_signed(), limit as i64);
    let rows = client.query(&statement, &[&place.tenant, &id, &at, &limit]).await?;
    let (mut found, mut next) = (Vec::with_capacity(rows.len()), from);
    for row in rows {
        let stored = Stored::read(place, &row)?;
        if stored.first != next {
            return Err(missing(place.pid, next.0));
        }
        let (before, mut records) = (prev, Vec::with_capacity(stored.records.len()));
        prev = verified(tenant, place, &stored, prev, |record| records.push(record))?;
        next = stored.end();
        let contents = batch::contents(row.try_get(7)?, row.try_get(8)?).map_err(|what| {
            Fault::damaged(format_args!(
                "process {}: the contents beside event {} cannot be read: {what}",
                place.pid, stored.first
            ))
        })?;
        found.push((before, records, contents.into_iter().map(<[u8]>::to_vec).collect()));
    }
    Ok(found)
}

/// Hands the records of a row on, linked after `prev`; returns the link after the last.
fn verified(
    tenant: &Tenant,
    place: &Place,
    stored: &Stored,
    mut prev: Hash,
    mut take: impl FnMut(Record),
) -> Result<Hash, Fault> {
    for record in &stored.records {
        let mut record = record.clone();
        record.hash = record.link(tenant, place.pid, prev);
        prev = record.hash;
        take(record);
    }
    let is_last = stored.end() == place.next;
    if prev == stored.hash && (!is_last || prev == place.head) {
        return Ok(prev);
    }
    let expected = if prev == stored.hash { place.head } else { stored.hash };
    Err(Fault::refused(
        Code::ChainBroken,
        format!(
            "process {}: the chain breaks at the events {} to {}: stored link {expected}, computed \
             {prev}; the journal was altered or damaged: restore the database from a backup",
            place.pid,
            stored.first,
            stored.end().0 - 1
        ),
    ))
}

fn missing(pid: Pid, seq: u64) -> Fault {
    Fault::damaged(format_args!("process {pid}: event {seq} is missing"))
}
