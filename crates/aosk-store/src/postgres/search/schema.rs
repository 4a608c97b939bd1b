//! The tables of the index: making, adopting an embedder, throwing away.

use aosk_abi::Code;
use aosk_ports::StoreError;
use deadpool_postgres::{Object, Transaction};

use super::super::fault::{Fault, quoted};
use super::super::{schema, vectors};
use crate::search::index::Model;

/// How the comment begins by which this version is known.
const MARK: &str = "aosk search 1:";

/// The most components that pgvector keeps in half precision.
const DIMS_MAX: usize = 16_000;

/// What a server can do for vectors.
#[derive(Debug, Clone)]
pub(super) enum Vectors {
    /// No embedder is set.
    Unasked,
    /// It keeps those of this model; the extension's names stand in this schema.
    Kept { model: Model, home: String },
    /// It cannot, and what to do about it.
    Missing(StoreError),
}

/// Makes the tables, or makes them anew where they are of another version, and takes the model on.
pub(super) async fn prepare(
    client: &mut Object,
    name: &str,
    model: Option<&Model>,
) -> Result<Vectors, Fault> {
    if !schema::check(client, name).await? {
        return Err(Fault::refused(
            Code::StoreOpen,
            format!("there is no store in the schema {name}: open the store first, then its index"),
        ));
    }
    let transaction = client.transaction().await?;
    schema::lock(&*transaction, name).await?;
    let comment = format!(
        "SELECT obj_description(to_regclass('{}.search_spaces'), 'pg_class')",
        quoted(name).replace('\'', "''")
    );
    let said: Option<String> = transaction.query_one(&comment, &[]).await?.try_get(0)?;
    if said.is_none_or(|said| !said.starts_with(MARK)) {
        transaction
            .batch_execute(
                "DROP TABLE IF EXISTS search_vectors, search_waiting, search_items, \
                 search_cursors, search_spaces, search_model CASCADE",
            )
            .await?;
        let sql = include_str!("schema.sql").replace("{schema}", &quoted(name));
        transaction.batch_execute(&sql).await?;
    }
    transaction.commit().await?;
    let Some(model) = model else {
        return Ok(Vectors::Unasked);
    };
    if model.dims > DIMS_MAX {
        return Ok(Vectors::Missing(StoreError::new(
            Code::StoreNoVectors,
            format!(
                "the embedder {} makes {} components and the server keeps up to {DIMS_MAX}: set a \
                 smaller `dims`; until then searches go by words alone",
                model.id, model.dims
            ),
        )));
    }
    if let Some(error) = vectors::prepare(client, name).await? {
        return Ok(Vectors::Missing(error));
    }
    let Some(home) = vectors::installed(client).await? else {
        return Ok(Vectors::Missing(vectors::missing("pgvector went away in this moment")));
    };
    if !is_recent(client).await? {
        return Ok(Vectors::Missing(vectors::missing(
            "pgvector is older than 0.8: upgrade it and run ALTER EXTENSION vector UPDATE",
        )));
    }
    let transaction = client.transaction().await?;
    schema::lock(&*transaction, name).await?;
    adopt(&transaction, name, model, &home).await?;
    transaction.commit().await?;
    Ok(Vectors::Kept { model: model.clone(), home })
}

/// Whether a graph can be asked until a filter has let enough through, which came with 0.8.
async fn is_recent(client: &Object) -> Result<bool, Fault> {
    let row = client
        .query_one(
            "SELECT string_to_array(extversion, '.')::int[] >= ARRAY[0, 8] \
             FROM pg_extension WHERE extname = 'vector'",
            &[],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// Makes the vectors those of `model`.
async fn adopt(
    transaction: &Transaction<'_>,
    name: &str,
    model: &Model,
    home: &str,
) -> Result<(), Fault> {
    let there = "SELECT to_regclass('search_vectors') IS NOT NULL";
    if !transaction.query_one(there, &[]).await?.try_get::<_, bool>(0)? {
        let sql = include_str!("vectors.sql")
            .replace("{schema}", &quoted(name))
            .replace("{halfvec}", &format!("{}.halfvec", quoted(home)));
        transaction.batch_execute(&sql).await?;
    }
    let dims = i32::try_from(model.dims).unwrap_or(i32::MAX);
    let changed = transaction
        .execute(
            "INSERT INTO search_model (name, dims) VALUES ($1, $2) \
             ON CONFLICT (is_one) DO UPDATE SET name = $1, dims = $2 \
             WHERE (search_model.name, search_model.dims) <> ($1, $2)",
            &[&model.id, &dims],
        )
        .await?;
    if changed > 0 {
        transaction
            .batch_execute(
                "TRUNCATE search_vectors; DROP INDEX IF EXISTS search_vectors_graph; \
                 INSERT INTO search_waiting SELECT id FROM search_items ON CONFLICT DO NOTHING",
            )
            .await?;
    }
    Ok(())
}
