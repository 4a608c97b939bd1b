//! The table of processes: where each journal stands, and what lists show.

use aosk_abi::{
    Epoch, Hash, MicroDollars, Pid, ProcessState, Seq, Tenant, Timestamp, Tokens, Usage,
};
use aosk_ports::{ProcessFilter, ProcessRow, Receipt};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::Fault;
use super::span::{self, Entry};
use super::tenant;
use crate::check;

/// Where a process's journal stands.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) tenant: i64,
    pub(super) pid: Pid,
    pub(super) epoch: Epoch,
    pub(super) next: Seq,
    pub(super) head: Hash,
    pub(super) origin: Hash,
    pub(super) tail: Vec<Entry>,
    pub(super) checkpoints: Vec<Entry>,
    pub(super) finished: bool,
}

/// The place of a process, if it is there.
pub(super) fn find(connection: &Connection, tenant: i64, pid: Pid) -> Result<Option<Place>, Fault> {
    let found = connection
        .prepare_cached(
            "SELECT epoch, next, head, origin, finished, tail, checkpoints FROM processes \
             WHERE tenant = ?1 AND pid = ?2",
        )?
        .query_row((tenant, pid.as_bytes()), |row| {
            let tail = span::decode(row.get_ref(5)?.as_blob()?);
            let checkpoints = span::decode(row.get_ref(6)?.as_blob()?);
            let place = Place {
                tenant,
                pid,
                epoch: Epoch(number(row, 0)?),
                next: Seq(number(row, 1)?),
                head: Hash::from_bytes(row.get(2)?),
                origin: Hash::from_bytes(row.get(3)?),
                finished: row.get(4)?,
                tail: Vec::new(),
                checkpoints: Vec::new(),
            };
            Ok((place, tail.zip(checkpoints)))
        })
        .optional()?;
    match found {
        None => Ok(None),
        // Half the range is more events than any disk holds, and sums with it cannot overflow.
        Some((place, Some((tail, checkpoints)))) if place.next.0 <= u64::MAX / 2 => {
            Ok(Some(Place { tail, checkpoints, ..place }))
        }
        Some(_) => Err(Fault::damaged(format_args!("process {pid}: its row cannot be read"))),
    }
}

/// The place of a process that must be there.
pub(super) fn expect(connection: &Connection, tenant: &Tenant, pid: Pid) -> Result<Place, Fault> {
    let place = match tenant::find(connection, tenant)? {
        None => None,
        Some(tenant) => find(connection, tenant.id, pid)?,
    };
    place.ok_or_else(|| check::unknown(tenant, pid).into())
}

/// The columns that [`receipt`] reads.
const RECEIPT: &str = "pid, epoch, next, head, name, model, state, steps, input, cached, \
                       cache_write, output, reasoning, spent, created, updated";

/// A process as lists show it, if it is there.
pub(super) fn show(
    connection: &Connection,
    tenant: &Tenant,
    pid: Pid,
) -> Result<Option<Receipt>, Fault> {
    let Some(id) = tenant::find(connection, tenant)?.map(|tenant| tenant.id) else {
        return Ok(None);
    };
    let sql = format!("SELECT {RECEIPT} FROM processes WHERE tenant = ?1 AND pid = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((id, pid.as_bytes()))?;
    rows.next()?.map(|row| receipt(tenant, row)).transpose()
}

/// A tenant's processes, by pid.
pub(super) fn list(
    connection: &Connection,
    tenant: &Tenant,
    filter: ProcessFilter,
) -> Result<Vec<Receipt>, Fault> {
    let Some(id) = tenant::find(connection, tenant)?.map(|tenant| tenant.id) else {
        return Ok(Vec::new());
    };
    let which = match filter {
        ProcessFilter::All => "",
        ProcessFilter::Unfinished => "AND finished = 0",
    };
    let sql = format!("SELECT {RECEIPT} FROM processes WHERE tenant = ?1 {which} ORDER BY pid");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    let mut receipts = Vec::new();
    while let Some(row) = rows.next()? {
        receipts.push(receipt(tenant, row)?);
    }
    Ok(receipts)
}

fn receipt(tenant: &Tenant, row: &Row<'_>) -> Result<Receipt, Fault> {
    let pid = Pid::from_bytes(row.get(0)?);
    let state: ProcessState = serde_json::from_str(row.get_ref(6)?.as_str().map_err(|error| {
        Fault::damaged(format_args!("process {pid}: its state cannot be read: {error}"))
    })?)
    .map_err(|error| {
        Fault::damaged(format_args!("process {pid}: its state cannot be read: {error}"))
    })?;
    Ok(Receipt {
        tenant: tenant.clone(),
        pid,
        epoch: Epoch(number(row, 1)?),
        next: Seq(number(row, 2)?),
        head: Hash::from_bytes(row.get(3)?),
        row: ProcessRow {
            name: row.get(4)?,
            model: row.get(5)?,
            state,
            steps: number(row, 7)?,
            usage: Usage {
                input: Tokens(number(row, 8)?),
                cached: Tokens(number(row, 9)?),
                cache_write: Tokens(number(row, 10)?),
                cache_write_long: Tokens::ZERO,
                output: Tokens(number(row, 11)?),
                reasoning: Tokens(number(row, 12)?),
            },
            spent: MicroDollars(number(row, 13)?),
            created: Timestamp::from_millis(number(row, 14)?),
            updated: Timestamp::from_millis(number(row, 15)?),
        },
    })
}

/// An unsigned number; SQLite's are signed, so the upper half is stored as negative ones.
pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// Writes where the journal stands now and what lists show. `state` is the row's state as JSON.
pub(super) fn write(
    connection: &Connection,
    place: &Place,
    is_new: bool,
    row: &ProcessRow,
    state: &str,
) -> Result<(), Fault> {
    // The column that the partial index covers is left alone unless it changes: naming it in the
    // statement would rewrite the index with every append.
    let sql = if is_new {
        "INSERT INTO processes (tenant, pid, epoch, next, head, origin, tail, checkpoints, \
         finished, name, model, state, steps, input, cached, cache_write, output, reasoning, \
         spent, created, updated) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11, ?12, \
         ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)"
    } else {
        "UPDATE processes SET epoch = ?3, next = ?4, head = ?5, origin = ?6, tail = ?7, \
         checkpoints = ?8, name = ?9, model = ?10, state = ?11, steps = ?12, input = ?13, \
         cached = ?14, cache_write = ?15, output = ?16, reasoning = ?17, spent = ?18, \
         created = ?19, updated = ?20 WHERE tenant = ?1 AND pid = ?2"
    };
    // By number: to look twenty names up costs a third of the statement.
    connection.prepare_cached(sql)?.execute(params![
        place.tenant,
        place.pid.as_bytes(),
        place.epoch.0.cast_signed(),
        place.next.0.cast_signed(),
        place.head.as_bytes(),
        place.origin.as_bytes(),
        span::encode(&place.tail),
        span::encode(&place.checkpoints),
        row.name,
        row.model,
        state,
        row.steps.cast_signed(),
        row.usage.input.0.cast_signed(),
        row.usage.cached.0.cast_signed(),
        row.usage.cache_write.0.cast_signed(),
        row.usage.output.0.cast_signed(),
        row.usage.reasoning.0.cast_signed(),
        row.spent.0.cast_signed(),
        row.created.as_millis().cast_signed(),
        row.updated.as_millis().cast_signed(),
    ])?;
    let finished = row.state.is_final();
    if finished != place.finished {
        connection
            .prepare_cached("UPDATE processes SET finished = ?3 WHERE tenant = ?1 AND pid = ?2")?
            .execute((place.tenant, place.pid.as_bytes(), finished))?;
    }
    Ok(())
}

/// Raises the epoch from `expected` and returns the new one.
pub(super) fn claim(
    connection: &Connection,
    tenant: &Tenant,
    pid: Pid,
    expected: Epoch,
) -> Result<Epoch, Fault> {
    let place = expect(connection, tenant, pid)?;
    let epoch = check::raised(pid, place.epoch, expected)?;
    connection
        .prepare_cached("UPDATE processes SET epoch = ?3 WHERE tenant = ?1 AND pid = ?2")?
        .execute((place.tenant, pid.as_bytes(), epoch.0.cast_signed()))?;
    Ok(epoch)
}
