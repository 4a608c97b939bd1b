//! Vectors: one column that the server may or may not have.
//!
//! pgvector is an extension that the server's administrator installs. A store without it is whole
//! but for `context_storage.embedding`; the column appears at the next start after it is there.

use aosk_abi::Code;
use aosk_ports::StoreError;
use deadpool_postgres::Object;

use super::fault::{Fault, quoted};
use super::schema;

/// Makes the column where the server can have it; says how to get it where it cannot.
pub(super) async fn prepare(client: &mut Object, name: &str) -> Result<Option<StoreError>, Fault> {
    if installed(client).await?.is_none() {
        let available = client
            .query_one(
                "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')",
                &[],
            )
            .await?;
        if !available.try_get::<_, bool>(0)? {
            return Ok(Some(missing(
                "the server has no pgvector: install it (Debian: postgresql-NN-pgvector)",
            )));
        }
        let made =
            client.batch_execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public").await;
        // Two nodes that start at once may both try; whoever is late finds it.
        if let Err(error) = made
            && installed(client).await?.is_none()
        {
            return Ok(Some(missing(&format!(
                "this role may not install pgvector ({}): let an administrator run CREATE \
                 EXTENSION vector",
                super::fault::words(&error)
            ))));
        }
    }
    let Some(home) = installed(client).await? else {
        return Ok(Some(missing("pgvector went away in this moment")));
    };
    let transaction = client.transaction().await?;
    schema::lock(&*transaction, name).await?;
    let there = format!(
        "SELECT to_regclass('{}.embeddings') IS NOT NULL",
        quoted(name).replace('\'', "''")
    );
    if !transaction.query_one(&there, &[]).await?.try_get::<_, bool>(0)? {
        let sql = include_str!("migrations/vectors.sql")
            .replace("{schema}", &quoted(name))
            .replace("{vector}", &format!("{}.vector", quoted(&home)));
        transaction.batch_execute(&sql).await?;
    }
    transaction.commit().await?;
    Ok(None)
}

/// The schema in which the extension is.
pub(super) async fn installed(client: &Object) -> Result<Option<String>, Fault> {
    let found = client
        .query_opt(
            "SELECT n.nspname::text FROM pg_extension AS e \
             JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector'",
            &[],
        )
        .await?;
    Ok(found.map(|row| row.try_get(0)).transpose()?)
}

/// What is wrong, with what to do about it.
pub(super) fn missing(reason: &str) -> StoreError {
    StoreError::new(
        Code::StoreNoVectors,
        format!("{reason}, then start again; until then everything but vectors works"),
    )
}
