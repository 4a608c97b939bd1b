//! The partitions of the journal: one for each month in which processes were spawned.
//!
//! A pid begins with the moment of its spawn, so a range of pids is a range of time, and a process's
//! events stay together for its whole life. Old months can be detached and archived as one table.
//! Months are made ahead; a process that was spawned before the first or has a pid from a name goes
//! to the default partition, where everything works the same.

use std::time::Duration;

use tokio_postgres::GenericClient;

use super::fault::{Fault, quoted};
use super::schema;
use super::session::Sessions;

/// How many months there are ahead of the present one.
const AHEAD: i32 = 2;

/// How often a store that stays open looks; months ahead are enough for any pause.
const EVERY: Duration = Duration::from_secs(24 * 3600);

/// Makes the partitions of this month and the next ones, in a transaction that holds the schema's
/// lock.
pub(super) async fn ahead(client: &impl GenericClient, schema: &str) -> Result<(), Fault> {
    let months = client
        .query(
            "SELECT 'journal_' || to_char(m, 'YYYY_MM'), \
             (extract(epoch FROM m) * 1000)::bigint, \
             (extract(epoch FROM m + interval '1 month') * 1000)::bigint \
             FROM generate_series(date_trunc('month', now() AT TIME ZONE 'UTC'), \
             date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => $2), \
             interval '1 month') AS m \
             WHERE to_regclass(format('%I.%I', $1::text, 'journal_' || to_char(m, 'YYYY_MM'))) \
             IS NULL",
            &[&schema, &AHEAD],
        )
        .await?;
    for month in months {
        let name: &str = month.try_get(0)?;
        let (from, to) = (first_pid(month.try_get(1)?), first_pid(month.try_get(2)?));
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {}.journal_default WHERE pid >= '{from}' AND pid < '{to}')",
            quoted(schema)
        );
        if client.query_one(&sql, &[]).await?.try_get(0)? {
            tracing::warn!(
                month = name,
                "processes of this month are in the default partition already and stay there"
            );
            continue;
        }
        client
            .batch_execute(&format!(
                "CREATE TABLE {schema}.{name} PARTITION OF {schema}.journal \
                 FOR VALUES FROM ('{from}') TO ('{to}') WITH (toast_tuple_target = 2712, \
                 autovacuum_vacuum_insert_scale_factor = 0, \
                 autovacuum_vacuum_insert_threshold = 50000); \
                 ALTER TABLE {schema}.{name} ENABLE ROW LEVEL SECURITY",
                schema = quoted(schema)
            ))
            .await?;
    }
    Ok(())
}

/// The lowest pid that can be spawned at a moment.
fn first_pid(millis: i64) -> String {
    format!("{:08x}-{:04x}-0000-0000-000000000000", millis >> 16, millis & 0xffff)
}

/// Makes partitions in time, for as long as it is polled.
pub(super) async fn keep(sessions: std::sync::Arc<Sessions>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(fault) = once(&sessions).await {
            let error = fault.at(&sessions.address);
            tracing::warn!(%error, "the journal's next partitions could not be made");
        }
    }
}

async fn once(sessions: &Sessions) -> Result<(), Fault> {
    let mut client = sessions.upkeep.get().await?;
    let transaction = client.transaction().await?;
    schema::lock(&*transaction, &sessions.address.schema).await?;
    ahead(&*transaction, &sessions.address.schema).await?;
    transaction.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aosk_abi::Pid;

    #[test]
    fn the_first_pid_of_a_moment_is_at_most_any_that_is_spawned_then() {
        for millis in [0, 1, 0xffff, 0x1_0000, 1_790_000_000_000_u64] {
            let first = first_pid(millis.cast_signed());
            assert!(Pid::from_parts(millis, [0; 10]).to_string() >= first);
            assert!(
                millis == 0 || Pid::from_parts(millis - 1, [0xff; 10]).to_string() < first,
                "{millis}"
            );
        }
    }
}
