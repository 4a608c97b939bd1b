//! Budgets: what kernels have drawn.

use aosk_abi::MicroDollars;
use aosk_ports::{Draw, Drawn};
use rusqlite::Connection;

use super::fault::Fault;
use super::tenant;
use crate::check;

/// Sets what a drawer has drawn, where the limit lets it.
pub(super) fn draw(connection: &Connection, draw: &Draw) -> Result<Drawn, Fault> {
    check::budget(draw)?;
    let tenant = tenant::find_or_make(connection, &draw.tenant)?.id;
    let (window, drawer) = (draw.window.as_millis().cast_signed(), draw.drawer.cast_signed());
    let mut statement = connection.prepare_cached(
        "SELECT drawer, drawn FROM budgets WHERE tenant = ?1 AND budget = ?2 AND starts = ?3",
    )?;
    let (mut own, mut others) = (MicroDollars::ZERO, MicroDollars::ZERO);
    let mut rows = statement.query((tenant, &draw.budget, window))?;
    while let Some(row) = rows.next()? {
        let drawn = MicroDollars(row.get::<_, i64>(1)?.cast_unsigned());
        if row.get::<_, i64>(0)? == drawer {
            own = drawn;
        } else {
            others += drawn;
        }
    }
    let granted = draw.drawn <= own || others + draw.drawn <= draw.limit;
    if granted && draw.drawn != own {
        connection
            .prepare_cached(
                "INSERT INTO budgets (tenant, budget, starts, drawer, drawn) \
                 VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT (tenant, budget, starts, drawer) DO UPDATE SET drawn = ?5",
            )?
            .execute((tenant, &draw.budget, window, drawer, draw.drawn.0.cast_signed()))?;
        // Once a window in which somebody draws: nobody asks for what is over.
        connection
            .prepare_cached(
                "DELETE FROM budgets WHERE tenant = ?1 AND budget = ?2 AND starts < ?3",
            )?
            .execute((tenant, &draw.budget, window))?;
    }
    Ok(Drawn { granted, others })
}
