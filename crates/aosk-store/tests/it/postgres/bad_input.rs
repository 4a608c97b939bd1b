//! What cannot work says why, whose fault it is and what to do, and changes nothing.

use aosk_abi::{Code, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{Journal, JournalWriter, ProcessFilter};
use aosk_store::{POSTGRES_SCHEMA, PostgresOptions, PostgresReader, PostgresStore};

use super::server::{Server, fresh, is_here, open, options, psql};
use crate::child::pid;
use crate::support::{block_on, refused};

#[track_caller]
fn says(options: &PostgresOptions, code: Code, words: &str) {
    let error = refused(PostgresStore::open(options), code);
    assert!(error.message.contains(words), "{error}");
    let error = refused(PostgresReader::open(options), code);
    assert!(error.message.contains(words), "{error}");
}

fn at(url: &str) -> PostgresOptions {
    PostgresOptions::new(url, "a test")
}

#[test]
fn a_server_that_is_not_there_is_named_with_its_address() {
    says(&at("postgres://a:hunter2@127.0.0.1:1/b"), Code::StoreUnreachable, "127.0.0.1:1/b");
    says(&at("postgres://a@nowhere.invalid/b"), Code::StoreUnreachable, "nowhere.invalid");
    says(&at("mysql://a@b/c"), Code::StoreAddress, "postgres://");
}

#[test]
fn what_the_server_refuses_is_told_with_the_remedy() {
    if !is_here() {
        return;
    }
    let server = Server::with(&["password_encryption = 'scram-sha-256'"]);
    let options = server.options();
    block_on(async {
        let client = psql(&options).await;
        for sql in [
            "CREATE ROLE ana LOGIN PASSWORD 'right'",
            "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
        ] {
            client.batch_execute(sql).await.expect(sql);
        }
    });
    server.demand_passwords();
    let url = |who: &str, database: &str| {
        format!("postgres://{who}@127.0.0.1:{}/{database}", server.port())
    };
    says(&at(&url("ana:wrong", "postgres")), Code::StoreAccess, "check user and password");
    says(&at(&url("ana", "postgres")), Code::StoreAccess, "password missing");
    says(&at(&url("nobody:x", "postgres")), Code::StoreAccess, "check user and password");
    says(&at(&url("ana:right", "nothing")), Code::StoreOpen, "createdb nothing");
    says(&at(&url("ana:right", "latin")), Code::StoreOpen, "UTF8");
    let error = refused(PostgresStore::open(&at(&url("ana:right", "postgres"))), Code::StoreAccess);
    assert!(error.message.contains("CREATE SCHEMA \"aosk\" AUTHORIZATION \"ana\""), "{error}");
    let error = refused(PostgresReader::open(&at(&url("ana:right", "postgres"))), Code::StoreOpen);
    assert!(error.message.contains("nothing ran there yet"), "{error}");
    assert!(!error.message.contains("right@"), "{error}");
}

#[test]
fn somebody_elses_tables_are_left_alone() {
    if !is_here() {
        return;
    }
    let options = options();
    let tables = || async {
        let client = psql(&options).await;
        let sql = "SELECT count(*) FROM pg_class WHERE relnamespace = $1::text::regnamespace";
        client.query_one(sql, &[&options.schema]).await.expect("runs").get::<_, i64>(0)
    };
    for sql in [
        "CREATE TABLE journal (x int)",
        "CREATE TABLE schema_migrations (version int)",
        "INSERT INTO schema_migrations VALUES (1)",
    ] {
        let before = block_on(async {
            let client = psql(&options).await;
            let make = format!("CREATE SCHEMA IF NOT EXISTS {}", options.schema);
            client.batch_execute(&make).await.expect("made");
            client.batch_execute(sql).await.expect(sql);
            tables().await
        });
        says(&options, Code::StoreForeign, "somebody else's tables");
        assert_eq!(block_on(tables()), before);
    }
    let wide = PostgresOptions { schema: "a \"b\"; DROP TABLE c".to_owned(), ..options };
    drop(open(&wide));
    drop(PostgresReader::open(&wide).expect("the same one"));
}

#[test]
fn a_newer_schema_is_left_alone() {
    if !is_here() {
        return;
    }
    let options = options();
    drop(open(&options));
    for version in [(POSTGRES_SCHEMA + 1).to_string(), "99".to_owned()] {
        block_on(async {
            let client = psql(&options).await;
            let sql = format!(
                "UPDATE schema_migrations SET version = {version} \
                 WHERE version = (SELECT max(version) FROM schema_migrations)"
            );
            client.batch_execute(&sql).await.expect("updated");
        });
        says(&options, Code::StoreNewerSchema, &format!("has version {version};"));
    }
}

#[test]
fn altered_tables_are_damage_and_altered_rows_are_located() {
    let Some((options, store)) = fresh() else { return };
    let local = Tenant::local();
    block_on(async {
        let mut scribe = Scribe::new(&store, &local, pid(1)).await;
        for n in 0..3_u8 {
            scribe.write(&store, &[&[n], b"text"]).await.expect("continues");
        }
        let client = psql(&options).await;
        for (sql, undo, code, words) in [
            (
                "UPDATE journal SET epoch = 7 WHERE first_seq = 2",
                "UPDATE journal SET epoch = 1 WHERE first_seq = 2",
                Code::ChainBroken,
                "events 2 to 3",
            ),
            (
                "UPDATE journal SET first_seq = 9 WHERE first_seq = 2",
                "UPDATE journal SET first_seq = 2 WHERE first_seq = 9",
                Code::StoreCorrupt,
                "event 2 is missing",
            ),
            (
                "UPDATE journal SET bodies = bodies || '!' WHERE first_seq = 4",
                "UPDATE journal SET bodies = substring(bodies FROM 1 FOR length(bodies) - 1) \
                 WHERE first_seq = 4",
                Code::StoreCorrupt,
                "events from 4 on",
            ),
            (
                "UPDATE processes SET next_seq = 8",
                "UPDATE processes SET next_seq = 6",
                Code::StoreCorrupt,
                "event 6 is missing",
            ),
        ] {
            client.batch_execute(sql).await.expect(sql);
            let read = store.read(&local, pid(1), aosk_abi::Seq(0), 99).await;
            let error = refused(read, code);
            assert!(error.message.contains(words), "{error}");
            client.batch_execute(undo).await.expect(undo);
        }
        let wanted = [(aosk_abi::Seq(0), scribe.key.hash(b"text"))];
        store.contents(&local, pid(1), &wanted).await.expect("there");
        client
            .batch_execute("UPDATE journal SET contents = overlay(contents PLACING 'X' FROM 2)")
            .await
            .expect("altered");
        refused(store.contents(&local, pid(1), &wanted).await, Code::StoreCorrupt);
        client.batch_execute("ALTER TABLE inbox RENAME TO outbox").await.expect("renamed");
        let item = aosk_ports::InboxItem::Signal { signal: aosk_abi::Signal::Stop };
        refused(aosk_ports::Inbox::post(&store, &local, pid(1), item).await, Code::StoreCorrupt);
        client.batch_execute("ALTER TABLE outbox RENAME TO inbox").await.expect("renamed");
        assert_eq!(store.processes(&local, ProcessFilter::All).await.expect("listed").len(), 1);
    });
}

#[test]
fn a_database_that_may_only_be_read_is_named_as_such() {
    if !is_here() {
        return;
    }
    let server = Server::start();
    let options = server.options();
    drop(open(&options));
    let read_only = |value: &str| {
        let sql = format!("ALTER DATABASE postgres SET default_transaction_read_only = {value}");
        block_on(async {
            let client = psql(&options).await;
            let sql = format!("SET transaction_read_only = off; {sql}");
            client.batch_execute(&sql).await.expect("set");
        });
    };
    read_only("on");
    let error = refused(PostgresStore::open(&options), Code::StoreReadOnly);
    assert!(error.message.contains("primary"), "{error}");
    drop(PostgresReader::open(&options).expect("reading is fine"));
    read_only("off");
    let store = open(&options);
    let scribe = block_on(Scribe::new(&store, &Tenant::local(), pid(1)));
    block_on(store.append(scribe.append(&[b"goes on"]))).expect("writable again");
}
