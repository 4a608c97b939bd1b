//! A group of one: what an agent that is alone waits for at each step.

use deadpool_postgres::{Object, Pool};
use futures::future::try_join3;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::append::Prepared;
use super::columns::{MAKE, MOVE_ONE, OF_ONE, STORE};
use super::fault::Fault;
use super::process::uuid;
use super::text;
use crate::check::Reached;

/// The writer's connection, with what the first steps of an agent need on it.
pub(super) struct Ready {
    pub(super) client: Object,
    /// [`MOVE_ONE`]. To look it up by its text at each step takes as long as to encode its values.
    append: Statement,
}

impl Ready {
    /// Connects and prepares, so that the first agent waits for neither.
    pub(super) async fn on(pool: &Pool) -> Result<Self, Fault> {
        let client = pool.get().await?;
        let [append, make, store] =
            [&*MOVE_ONE, &*MAKE, &*STORE].map(|sql| client.prepare_cached(sql));
        let (append, _, _) = try_join3(append, make, store).await?;
        Ok(Self { client, append })
    }
}

/// Whether an append to a process that is there is one row and the place of its process.
pub(super) fn is_plain(append: &Prepared) -> bool {
    append.checkpoint.is_none() && append.consumed.is_empty() && append.large().next().is_none()
}

/// Commits a plain append to a process that stands at `before`: one statement, which is a
/// transaction by itself and finds nothing to write where the process stands elsewhere.
pub(super) async fn commit(
    ready: &Ready,
    append: &Prepared,
    tenant: i32,
    before: &Reached,
) -> Result<(), Fault> {
    let (batch, row, head) = (&append.batch, &append.row, append.head());
    let (pid, state) = (uuid(append.pid), row.state.name());
    let [first, epoch, next] =
        [append.first.0, append.epoch.0, append.last.next().0].map(u64::cast_signed);
    let [created, updated] = [row.created, row.updated].map(|time| time.as_millis().cast_signed());
    let usage = &row.usage;
    let [steps, spent] = [row.steps, row.spent.0].map(u64::cast_signed);
    let [input, cached, cache_write, output, reasoning] =
        [usage.input, usage.cached, usage.cache_write, usage.output, usage.reasoning]
            .map(|tokens| tokens.0.cast_signed());
    let (name, model) = (text::stored(&row.name), text::stored(&row.model));
    let params: [&(dyn ToSql + Sync); OF_ONE] = [
        &tenant,
        &pid,
        &first,
        &epoch,
        &batch.layout,
        &&head.as_bytes()[..],
        &batch.events,
        &batch.hashes,
        &batch.bodies,
        &batch.beside,
        &batch.contents,
        &batch.at,
        &&before.head.as_bytes()[..],
        &row.state.is_final(),
        &name,
        &model,
        &state,
        &append.detail,
        &next,
        &steps,
        &input,
        &cached,
        &cache_write,
        &output,
        &reasoning,
        &spent,
        &created,
        &updated,
    ];
    match ready.client.execute(&ready.append, &params).await? {
        1 => Ok(()),
        _ => Err(Fault::Clash("the process does not stand where its node left it".to_owned())),
    }
}
