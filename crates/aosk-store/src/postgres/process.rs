//! The table of processes: where each journal stands, who owns it, and what lists show.

use aosk_abi::{
    Epoch, Hash, MicroDollars, Pid, ProcessState, Seq, Tenant, Timestamp, Tokens, Usage,
};
use aosk_ports::{ProcessFilter, ProcessRow, Receipt, StoreError};
use deadpool_postgres::Object;
use tokio_postgres::Row;
use uuid::Uuid;

use super::fault::Fault;
use super::tenant;
use super::text;
use crate::check::{self, Reached};

/// Where a process's journal stands.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) tenant: i32,
    pub(super) pid: Pid,
    pub(super) epoch: Epoch,
    pub(super) next: Seq,
    pub(super) head: Hash,
    pub(super) origin: Hash,
    /// The newest checkpoint and the one before it.
    pub(super) checkpoints: [Option<Seq>; 2],
}

/// The columns that [`Place::read`] reads.
pub(super) const PLACE: &str =
    "p.tenant, p.pid, p.epoch, p.next_seq, p.head, p.origin, p.checkpoint, p.checkpoint_before";

impl Place {
    /// What an append must continue.
    pub(super) const fn reached(&self) -> Reached {
        Reached { epoch: self.epoch, next: self.next, head: self.head }
    }

    /// The place in a row that begins with [`PLACE`].
    pub(super) fn read(row: &Row) -> Result<Self, Fault> {
        let pid = pid(row, 1)?;
        let damaged = || Fault::damaged(format_args!("process {pid}: its row cannot be read"));
        let next = Seq(number(row, 3)?);
        // Half the range is more events than any disk holds, and sums with it cannot overflow.
        if next.0 > u64::MAX / 2 {
            return Err(damaged());
        }
        let hash =
            |column| -> Result<Hash, Fault> { hash(row.try_get(column)?).ok_or_else(damaged) };
        let seq = |column| -> Result<Option<Seq>, Fault> {
            Ok(row.try_get::<_, Option<i64>>(column)?.map(|seq| Seq(seq.cast_unsigned())))
        };
        Ok(Self {
            tenant: row.try_get(0)?,
            pid,
            epoch: Epoch(number(row, 2)?),
            next,
            head: hash(4)?,
            origin: hash(5)?,
            checkpoints: [seq(6)?, seq(7)?],
        })
    }
}

/// The pid in a column.
pub(super) fn pid(row: &Row, column: usize) -> Result<Pid, Fault> {
    Ok(Pid::from_bytes(row.try_get::<_, Uuid>(column)?.into_bytes()))
}

/// A pid as the driver takes it.
pub(super) fn uuid(pid: Pid) -> Uuid {
    Uuid::from_bytes(*pid.as_bytes())
}

/// A hash from its bytes; `None` where there are not 32.
pub(super) fn hash(bytes: &[u8]) -> Option<Hash> {
    bytes.try_into().ok().map(Hash::from_bytes)
}

/// An unsigned number; PostgreSQL's are signed, so the upper half is stored as negative ones.
pub(super) fn number(row: &Row, column: usize) -> Result<u64, Fault> {
    Ok(row.try_get::<_, i64>(column)?.cast_unsigned())
}

/// The place of a process that must be there.
pub(super) async fn expect(client: &Object, tenant: &Tenant, pid: Pid) -> Result<Place, Fault> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT {PLACE} FROM processes AS p JOIN tenants AS t ON t.id = p.tenant \
             WHERE t.name = $1 AND p.pid = $2"
        ))
        .await?;
    let found = client.query_opt(&statement, &[&tenant.as_str(), &uuid(pid)]).await?;
    found.as_ref().map_or_else(|| Err(check::unknown(tenant, pid).into()), Place::read)
}

/// The columns that [`receipt`] reads.
pub(super) const RECEIPT: &str = "p.pid, p.epoch, p.next_seq, p.head, p.name, p.model, p.detail, p.steps, p.input, p.cached, \
     p.cache_write, p.output, p.reasoning, p.spent, p.created, p.updated";

/// A process as lists show it, if it is there.
pub(super) async fn show(
    client: &Object,
    tenant: &Tenant,
    pid: Pid,
) -> Result<Option<Receipt>, Fault> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT {RECEIPT} FROM processes AS p JOIN tenants AS t ON t.id = p.tenant \
             WHERE t.name = $1 AND p.pid = $2"
        ))
        .await?;
    let found = client.query_opt(&statement, &[&tenant.as_str(), &uuid(pid)]).await?;
    found.map(|row| receipt(tenant, &row)).transpose()
}

/// A tenant's processes, by pid.
pub(super) async fn list(
    client: &Object,
    tenant: &Tenant,
    filter: ProcessFilter,
) -> Result<Vec<Receipt>, Fault> {
    let Some(row) = tenant::find(client, tenant).await? else {
        return Ok(Vec::new());
    };
    let which = match filter {
        ProcessFilter::All => "",
        ProcessFilter::Unfinished => "AND NOT p.finished",
    };
    let sql =
        format!("SELECT {RECEIPT} FROM processes AS p WHERE p.tenant = $1 {which} ORDER BY p.pid");
    let statement = client.prepare_cached(&sql).await?;
    let rows = client.query(&statement, &[&row.id]).await?;
    rows.iter().map(|row| receipt(tenant, row)).collect()
}

/// The process in a row that begins with [`RECEIPT`].
pub(super) fn receipt(tenant: &Tenant, row: &Row) -> Result<Receipt, Fault> {
    let pid = pid(row, 0)?;
    let state: ProcessState = serde_json::from_str(row.try_get(6)?).map_err(|error| {
        Fault::damaged(format_args!("process {pid}: its state cannot be read: {error}"))
    })?;
    let head = hash(row.try_get(3)?)
        .ok_or_else(|| Fault::damaged(format_args!("process {pid}: its row cannot be read")))?;
    Ok(Receipt {
        tenant: tenant.clone(),
        pid,
        epoch: Epoch(number(row, 1)?),
        next: Seq(number(row, 2)?),
        head,
        row: ProcessRow {
            name: text::restored(row.try_get(4)?),
            model: text::restored(row.try_get(5)?),
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

/// Raises the epoch from `expected` for `node` and returns the new one. To repeat it is safe: who
/// heard no answer finds the epoch raised under the number of its very claim.
pub(super) async fn claim(
    client: &Object,
    tenant: &Tenant,
    pid: Pid,
    expected: Epoch,
    [node, claim]: [Uuid; 2],
) -> Result<Epoch, Fault> {
    let raise = client
        .prepare_cached(
            "UPDATE processes AS p SET epoch = $4, owner_node = $5, claim = $6 FROM tenants AS t \
             WHERE t.name = $1 AND p.tenant = t.id AND p.pid = $2 AND p.epoch = $3",
        )
        .await?;
    let look = client
        .prepare_cached(
            "SELECT p.epoch, p.claim FROM processes AS p JOIN tenants AS t ON t.id = p.tenant \
             WHERE t.name = $1 AND p.pid = $2",
        )
        .await?;
    if let Some(next) = expected.0.checked_add(1) {
        let (name, id) = (tenant.as_str(), uuid(pid));
        let (was, next) = (expected.0.cast_signed(), next.cast_signed());
        if client.execute(&raise, &[&name, &id, &was, &next, &node, &claim]).await? == 1 {
            return Ok(Epoch(next.cast_unsigned()));
        }
    }
    let Some(row) = client.query_opt(&look, &[&tenant.as_str(), &uuid(pid)]).await? else {
        return Err(check::unknown(tenant, pid).into());
    };
    let own = Epoch(number(&row, 0)?);
    if row.try_get::<_, Option<Uuid>>(1)? == Some(claim) {
        return Ok(own);
    }
    let refusal: StoreError = match check::raised(pid, own, expected) {
        // It came back to the expected one between the two statements, which no epoch does.
        Ok(_) => return Err(Fault::Clash(format!("process {pid} changes hands"))),
        Err(refusal) => refusal,
    };
    Err(refusal.into())
}

/// Gives a process up, so that any node may take it over at once.
pub(super) async fn release(
    client: &Object,
    tenant: &Tenant,
    pid: Pid,
    epoch: Epoch,
) -> Result<(), Fault> {
    let statement = client
        .prepare_cached(
            "UPDATE processes AS p SET owner_node = NULL FROM tenants AS t \
             WHERE t.name = $1 AND p.tenant = t.id AND p.pid = $2 AND p.epoch = $3",
        )
        .await?;
    let (name, id, own) = (tenant.as_str(), uuid(pid), epoch.0.cast_signed());
    if client.execute(&statement, &[&name, &id, &own]).await? == 1 {
        return Ok(());
    }
    let place = expect(client, tenant, pid).await?;
    Err(check::raised(pid, place.epoch, epoch)
        .err()
        .map_or_else(|| Fault::Clash(format!("process {pid} changes hands")), Fault::Refused))
}
