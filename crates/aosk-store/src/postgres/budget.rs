//! Budgets: what kernels have drawn.

use aosk_abi::MicroDollars;
use aosk_ports::{Draw, Drawn};
use deadpool_postgres::Object;

use super::fault::Fault;
use super::tenant;
use crate::check;

/// Sets what a drawer has drawn, where the limit lets it. Said twice it is done once.
pub(super) async fn draw(client: &mut Object, draw: &Draw) -> Result<Drawn, Fault> {
    check::budget(draw)?;
    let tenant = tenant::find_or_make(client, &draw.tenant).await?.id;
    let (window, drawer) = (draw.window.as_millis().cast_signed(), draw.drawer.cast_signed());
    let transaction = client.transaction().await?;
    // Those who draw on one budget come one after the other: no row is there to lock before the first.
    let lock = transaction
        .prepare_cached("SELECT pg_advisory_xact_lock(hashtextextended($1, $2))")
        .await?;
    let name = format!("aosk:budget:{}", draw.budget);
    transaction.execute(&lock, &[&name, &i64::from(tenant)]).await?;
    let read = transaction
        .prepare_cached(
            "SELECT drawer, drawn FROM budgets WHERE tenant = $1 AND budget = $2 AND starts = $3",
        )
        .await?;
    let (mut own, mut others) = (MicroDollars::ZERO, MicroDollars::ZERO);
    for row in transaction.query(&read, &[&tenant, &draw.budget, &window]).await? {
        let drawn = MicroDollars(row.try_get::<_, i64>(1)?.cast_unsigned());
        if row.try_get::<_, i64>(0)? == drawer {
            own = drawn;
        } else {
            others += drawn;
        }
    }
    let granted = draw.drawn <= own || others + draw.drawn <= draw.limit;
    if granted && draw.drawn != own {
        let write = transaction
            .prepare_cached(
                "INSERT INTO budgets (tenant, budget, starts, drawer, drawn) \
                 VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (tenant, budget, starts, drawer) DO UPDATE SET drawn = $5",
            )
            .await?;
        let drawn = draw.drawn.0.cast_signed();
        transaction.execute(&write, &[&tenant, &draw.budget, &window, &drawer, &drawn]).await?;
        let forget = transaction
            .prepare_cached("DELETE FROM budgets WHERE tenant = $1 AND budget = $2 AND starts < $3")
            .await?;
        transaction.execute(&forget, &[&tenant, &draw.budget, &window]).await?;
    }
    transaction.commit().await?;
    Ok(Drawn { granted, others })
}
