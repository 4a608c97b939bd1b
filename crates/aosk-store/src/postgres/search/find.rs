//! Reading: rankings by direction, and what is shown of a row.

use aosk_abi::{Hash, PageId, Pid, Seq, Tenant, Timestamp};
use aosk_ports::{Embedding, Entry, Filter};
use deadpool_postgres::{GenericClient, Object};
use tokio_postgres::Row as Line;

use super::super::fault::{Fault, quoted};
use super::ask::{Ask, number};
use super::put::written;
use super::space;
use crate::search::check;
use crate::search::index::Model;
use crate::search::shelf::{self, Row, Scope, Shown};

/// Up to how many vectors are compared one by one. Above that the graph is asked first.
pub(super) const EXACT: i64 = 2_000;

/// The most components of a graph's vectors.
pub(super) const GRAPH_DIMS_MAX: usize = 4_000;

/// Those with the nearest directions.
pub(super) async fn nearest(
    client: &mut Object,
    model: &Model,
    home: &str,
    scope: &Scope,
    vector: &Embedding,
    limit: usize,
) -> Result<Vec<Row>, Fault> {
    let transaction = client.transaction().await?;
    let memories = space::find_all(&transaction, &scope.tenant, &scope.spaces).await?;
    let spaces: Vec<i64> = memories.iter().map(|it| it.id).collect();
    let is_narrow = scope.filter != Filter::default();
    let from = |ask: &mut Ask| {
        ask.add("FROM search_vectors AS v");
        if is_narrow {
            ask.add(" JOIN search_items AS i ON i.id = v.item");
        }
        ask.add(" WHERE v.space = ANY (").value(spaces.clone()).add(")").narrow(&scope.filter);
    };
    let mut count = Ask::new();
    count.add("SELECT count(*) FROM (SELECT ");
    from(&mut count);
    count.add(&format!(" LIMIT {}) AS few", EXACT + 1));
    let many = count.rows(&transaction).await?.first().is_some_and(|count| *count > EXACT);
    let home = quoted(home);
    let rank = |cast: &str| {
        let mut ask = Ask::new();
        ask.add("SELECT v.item ");
        from(&mut ask);
        ask.add(&format!(" ORDER BY v.vector{cast} OPERATOR({home}.<=>) (SELECT "))
            .value(written(vector))
            .add(&format!("::text::{home}.halfvec{cast}) LIMIT "))
            .value(number(limit));
        ask
    };
    if many && let Some(size) = graph(&transaction).await? {
        // A graph is asked on until the filter has let enough through.
        let kept = breadth(size);
        transaction
            .batch_execute(&format!(
                "SET LOCAL hnsw.ef_search = {kept}; SET LOCAL hnsw.iterative_scan = relaxed_order"
            ))
            .await?;
        let typed = format!("::{home}.halfvec({})", model.dims);
        let found = rank(&typed).rows(&transaction).await?;
        if found.len() >= limit {
            return Ok(found);
        }
    }
    // No cast, no graph: this compares all that the filter lets through.
    rank("").rows(&transaction).await
}

/// How many vectors the graph holds, about, if there is one: as many as when it was made or last
/// looked over by the server.
async fn graph(client: &impl GenericClient) -> Result<Option<f32>, Fault> {
    let size = "SELECT reltuples FROM pg_class WHERE oid = to_regclass('search_vectors_graph')";
    Ok(client.query_opt(size, &[]).await?.map(|row| row.try_get(0)).transpose()?)
}

/// How many of the best vectors a walk through a graph of `size` keeps in hand (`ef_search`). The
/// more there are, the more must be kept to meet the same share of the right ones: of vectors of rank
/// 48 and 384 components the ten nearest of 100,000 were 96.5 % of the right ones with 120 in hand,
/// 98.2 % with 160 and 99.1 % with 200; of 1,000,000 95.3 % with 320, 96.8 % with 400 and 97.7 % with
/// 480. The time grows with the number.
fn breadth(size: f32) -> u32 {
    let grown = 170.0 * (size.max(1.0) / 100_000.0).powf(0.37);
    // pgvector takes 1,000 at most.
    grown.clamp(100.0, 1_000.0) as u32
}

const COLUMNS: &str = "i.id, s.name, i.pid, i.page, i.start, i.seq, i.hash, i.kind, i.time, i.tags";

/// What stands in the rows that are still there.
pub(super) async fn show(
    client: &Object,
    tenant: &Tenant,
    rows: &[Row],
    neighbours: bool,
) -> Result<Vec<Shown>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM search_items AS i JOIN search_spaces AS s ON s.id = i.space \
         WHERE i.id = ANY ($1) AND s.tenant = $2"
    );
    let statement = client.prepare_cached(&sql).await?;
    let lines = client.query(&statement, &[&rows, &tenant.as_str()]).await?;
    let mut shown = Vec::with_capacity(lines.len());
    for line in &lines {
        shown.push(Shown { row: line.try_get(0)?, entry: entry(line)?, beside: Vec::new() });
    }
    if !neighbours {
        return Ok(shown);
    }
    let beside = |comparison: &str, order: &str| {
        format!(
            "(SELECT * FROM search_items AS i WHERE i.space = o.space AND i.pid = o.pid \
             AND i.page {comparison} o.page ORDER BY i.page {order}, i.start LIMIT 1)"
        )
    };
    let sql = format!(
        "SELECT {COLUMNS}, o.id FROM search_items AS o JOIN search_spaces AS s ON s.id = o.space, \
         LATERAL ({} UNION ALL {}) AS i WHERE o.id = ANY ($1) AND s.tenant = $2 \
         ORDER BY i.page, i.start",
        beside("<", "DESC"),
        beside(">", "ASC")
    );
    let statement = client.prepare_cached(&sql).await?;
    for line in client.query(&statement, &[&rows, &tenant.as_str()]).await? {
        let of: Row = line.try_get(10)?;
        if let Some(shown) = shown.iter_mut().find(|shown| shown.row == of) {
            shown.beside.push(entry(&line)?);
        }
    }
    Ok(shown)
}

fn entry(line: &Line) -> Result<Entry, Fault> {
    let id: Row = line.try_get(0)?;
    let damaged = || Fault::damaged(format_args!("entry {id} of the search index"));
    let pid: uuid::Uuid = line.try_get(2)?;
    let tags: Vec<&str> = line.try_get(9)?;
    Ok(Entry {
        space: shelf::of_name(line.try_get(1)?).ok_or_else(damaged)?,
        pid: Pid::from_bytes(pid.into_bytes()),
        page: PageId(u32::try_from(line.try_get::<_, i64>(3)?).map_err(|_| damaged())?),
        start: line.try_get::<_, i64>(4)?.cast_unsigned(),
        seq: Seq(line.try_get::<_, i64>(5)?.cast_unsigned()),
        hash: Hash::from_bytes(line.try_get::<_, &[u8]>(6)?.try_into().map_err(|_| damaged())?),
        kind: check::kind(line.try_get(7)?).ok_or_else(damaged)?,
        time: Timestamp::from_millis(line.try_get::<_, i64>(8)?.cast_unsigned()),
        tags: tags.into_iter().map(Into::into).collect(),
    })
}
