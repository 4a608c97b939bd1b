//! Making, checking and migrating the tables.
//!
//! Everything happens in one transaction under a lock of the whole database, so two nodes that start
//! at once make the tables once, and a migration that fails leaves the version before. The comment of
//! the table of migrations says whose schema it is: a schema with tables and without it belongs to
//! somebody else and is refused. So is one newer than this program; it never guesses.

use aosk_abi::{Code, Kind};
use deadpool_postgres::Object;
use tokio_postgres::GenericClient;

use super::fault::{Fault, quoted};
use super::fragments;
use super::partition;

/// Every migration, in order; the n-th leads to version n. Those of a released version never
/// change.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
    include_str!("migrations/0007.sql"),
    include_str!("migrations/0008.sql"),
    include_str!("migrations/0009.sql"),
    include_str!("migrations/0010.sql"),
    include_str!("migrations/0011.sql"),
    include_str!("migrations/0012.sql"),
    include_str!("migrations/0013.sql"),
];

/// The schema that this program writes in PostgreSQL. It reads every older one after migrating it,
/// and no newer.
pub const SCHEMA: usize = MIGRATIONS.len();

/// The oldest server: views that ask for the reader's own rights came with it.
const OLDEST: i32 = 150_000;

/// The comment by which a store is known.
const MARK: &str = "aosk store";

/// What stands in a schema.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Empty,
    Store(usize),
}

/// Makes the tables of the store in `schema`, or migrates them; looks after what must be there ahead
/// of time.
pub(super) async fn prepare(client: &mut Object, schema: &str) -> Result<(), Fault> {
    migrate(client, schema, MIGRATIONS).await
}

async fn migrate(client: &mut Object, schema: &str, migrations: &[&str]) -> Result<(), Fault> {
    let transaction = client.transaction().await?;
    lock(&*transaction, schema).await?;
    check_server(&*transaction).await?;
    let seen = match inspect(&*transaction, schema, migrations.len()).await? {
        Found::Store(version) => version,
        Found::Empty => 0,
        Found::Nothing => {
            transaction.batch_execute(&format!("CREATE SCHEMA {}", quoted(schema))).await?;
            0
        }
    };
    for (version, sql) in (1_i32..).zip(migrations).skip(seen) {
        transaction.batch_execute(&sql.replace("{schema}", &quoted(schema))).await?;
        transaction
            .execute("INSERT INTO schema_migrations (version) VALUES ($1)", &[&version])
            .await?;
    }
    // Kinds come with versions of the program, without a migration.
    fill(&*transaction).await?;
    partition::ahead(&*transaction, schema).await?;
    transaction.commit().await?;
    Ok(())
}

/// Waits for everyone else who changes the tables, until the end of the transaction.
pub(super) async fn lock(client: &impl GenericClient, schema: &str) -> Result<(), Fault> {
    let name = format!("aosk:{schema}");
    client.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&name]).await?;
    Ok(())
}

/// Checks that a reader of this version can read the store in `schema`; whether there is one.
pub(super) async fn check(client: &Object, schema: &str) -> Result<bool, Fault> {
    check_server(&***client).await?;
    match inspect(&***client, schema, MIGRATIONS.len()).await? {
        Found::Store(version) if version == MIGRATIONS.len() => Ok(true),
        Found::Store(version) => Err(Fault::refused(
            Code::StoreOpen,
            format!(
                "the store in the schema {schema} has the older version {version}: run this \
                 version of aosk on it once, which migrates it"
            ),
        )),
        Found::Nothing | Found::Empty => Ok(false),
    }
}

async fn check_server(client: &impl GenericClient) -> Result<(), Fault> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
             current_setting('server_encoding'), current_setting('fsync')",
            &[],
        )
        .await?;
    if row.try_get::<_, i32>(0)? < OLDEST {
        let version: &str = row.try_get(1)?;
        return Err(Fault::refused(
            Code::StoreOpen,
            format!("the server is PostgreSQL {version}; a store needs 15 or newer: upgrade it"),
        ));
    }
    let encoding: &str = row.try_get(2)?;
    if encoding != "UTF8" {
        return Err(Fault::refused(
            Code::StoreOpen,
            format!(
                "the database is encoded in {encoding}; a store needs UTF8: make another one with \
                 createdb --encoding=UTF8 --template=template0"
            ),
        ));
    }
    if row.try_get::<_, &str>(3)? == "off" {
        tracing::warn!(
            "the server runs with fsync=off: what it acknowledges may be lost with the power; set \
             fsync=on in its configuration"
        );
    }
    Ok(())
}

async fn inspect(client: &impl GenericClient, schema: &str, newest: usize) -> Result<Found, Fault> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), \
             min(c.relname::text), \
             bool_or(c.relname = 'schema_migrations' AND obj_description(c.oid, 'pg_class') = $2) \
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1",
            &[&schema, &MARK],
        )
        .await?;
    if !row.try_get::<_, bool>(0)? {
        return Ok(Found::Nothing);
    }
    let Some(table) = row.try_get::<_, Option<&str>>(1)? else {
        return Ok(Found::Empty);
    };
    if row.try_get::<_, Option<bool>>(2)? != Some(true) {
        return Err(Fault::refused(
            Code::StoreForeign,
            format!(
                "the schema {schema} holds somebody else's tables ({table} among them); nothing was \
                 changed: choose another schema for the store, or another database"
            ),
        ));
    }
    let sql = format!("SELECT max(version) FROM {}.schema_migrations", quoted(schema));
    let version: Option<i32> = client.query_one(&sql, &[]).await?.try_get(0)?;
    let version = version.unwrap_or(0);
    match usize::try_from(version) {
        Ok(known) if known <= newest => Ok(Found::Store(known)),
        _ => Err(Fault::refused(
            Code::StoreNewerSchema,
            format!(
                "the store in the schema {schema} has version {version}; this version of aosk knows \
                 up to {newest}: upgrade aosk to open it"
            ),
        )),
    }
}

/// Tells SQL what layouts and kinds stand for.
async fn fill(client: &impl GenericClient) -> Result<(), Fault> {
    let (mut layouts, mut tokens, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
    for (layout, token, piece) in fragments::tables() {
        layouts.push(layout);
        tokens.push(token);
        pieces.push(piece);
    }
    client
        .execute(
            "INSERT INTO fragments (layout, token, plain) \
             SELECT * FROM UNNEST($1::smallint[], $2::text[], $3::text[]) \
             ON CONFLICT DO NOTHING",
            &[&layouts, &tokens, &pieces],
        )
        .await?;
    let (codes, names): (Vec<i16>, Vec<&str>) =
        Kind::ALL.iter().map(|kind| (kind.code().cast_signed(), kind.name())).unzip();
    client
        .execute(
            "INSERT INTO kinds (code, name) SELECT * FROM UNNEST($1::smallint[], $2::text[]) \
             ON CONFLICT DO NOTHING",
            &[&codes, &names],
        )
        .await?;
    Ok(())
}
