//! What a person with `psql` sees.

use aosk_abi::{
    ChunkList, Content, ContentRef, Event, LlmReturned, MicroDollars, Op, Record, ReplyPart,
    StopReason, Tenant, Timestamp, Told, What,
};
use aosk_conformance::Scribe;
use aosk_ports::{Append, ContentWriter, Journal, JournalWriter};
use aosk_store::{PostgresOptions, PostgresStore};
use tokio_postgres::Client;

use super::server::{fresh, is_here, open, options, psql};
use crate::child::pid;
use crate::growth::step;
use crate::support::{block_on, noise};

/// An append of one event.
fn one(scribe: &Scribe, what: What, contents: Vec<Content>) -> Append {
    let event = Event::new(Timestamp::from_millis(1_790_000_000_123), what);
    let record =
        Record::seal(&scribe.tenant, scribe.pid, scribe.next, scribe.epoch, scribe.head, &event);
    let records = vec![record.expect("no text holds U+0000")].into();
    Append { records, contents, ..scribe.append(&[]) }
}

fn reply(parts: Vec<ContentRef>) -> What {
    What::LlmReturned(LlmReturned {
        op: Op(1),
        attempt: 1,
        parts: parts.into_iter().map(|content| ReplyPart::Text { content }).collect(),
        stop: StopReason::Stop,
        usage: None,
        cost: MicroDollars(5),
        model: "m".to_owned(),
        raw: None,
        took_ms: 1,
        used: Vec::new(),
    })
}

async fn write(store: &PostgresStore, scribe: &mut Scribe, append: Append) {
    store.append(append.clone()).await.expect("continues");
    scribe.follow(&append);
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect(sql).get(0)
}

#[test]
fn every_event_stands_in_the_views_byte_for_byte() {
    let Some((options, store)) = fresh() else { return };
    block_on(async {
        let mut scribe = Scribe::new(&store, &Tenant::local(), pid(1)).await;
        for n in 0..20 {
            let append = step(&scribe, n, 3);
            write(&store, &mut scribe, append).await;
        }
        let read =
            store.read(&scribe.tenant, scribe.pid, aosk_abi::Seq(0), 99).await.expect("read");
        let client = psql(&options).await;
        let sql = format!(
            "SELECT seq, epoch, kind, version, bytes, hash, body->>'at' FROM events \
             WHERE pid = '{}' ORDER BY seq",
            scribe.pid
        );
        let rows = client.query(&sql, &[]).await.expect("answers");
        assert_eq!(rows.len(), read.len());
        for (row, record) in rows.iter().zip(&read) {
            assert_eq!(row.get::<_, i64>(0) as u64, record.seq.0);
            assert_eq!(row.get::<_, i64>(1) as u64, record.epoch.0);
            let kind = aosk_abi::Kind::from_code(record.kind).expect("known").name();
            assert_eq!(row.get::<_, &str>(2), kind);
            assert_eq!(row.get::<_, i32>(3), i32::from(record.version));
            assert_eq!(row.get::<_, &[u8]>(4), &record.body[..]);
            if let Some(hash) = row.get::<_, Option<&[u8]>>(5) {
                assert_eq!(hash, record.hash.as_bytes());
            }
            assert!(row.get::<_, &str>(6).starts_with("179"));
        }
        assert_eq!(count(&client, "SELECT count(hash) FROM events").await, 20);
    });
}

#[test]
fn the_tables_of_the_specification_answer_and_refuse_to_be_written() {
    let Some((options, store)) = fresh() else { return };
    block_on(async {
        let mut scribe = Scribe::new(&store, &Tenant::local(), pid(1)).await;
        let small = scribe.key.seal("我想用工具。".as_bytes());
        let large = scribe.key.seal("large ".repeat(2000).into_bytes());
        let what = reply(vec![small.reference(), large.reference()]);
        let append = one(&scribe, what, vec![small.clone(), large.clone()]);
        write(&store, &mut scribe, append).await;
        let odd = scribe.key.seal(b"a\0b\xff".as_slice());
        let told = What::Told(Told { op: Op(2), content: odd.reference() });
        let mut append = one(&scribe, told, vec![odd]);
        append.row.name = "a\0b\u{1a}".to_owned();
        write(&store, &mut scribe, append).await;

        let client = psql(&options).await;
        let row = client
            .query_one("SELECT pid::text, name, state, context_snapshot FROM agent_processes", &[])
            .await;
        // The driver of the test reads no JSON; that it is there is what counts.
        assert!(row.is_ok());
        let row = client
            .query_one(
                "SELECT pid::text, state, context_snapshot->>'events', \
                 context_snapshot->'state'->>'state' FROM agent_processes",
                &[],
            )
            .await
            .expect("one process");
        assert_eq!(row.get::<_, &str>(0), pid(1).to_string());
        assert_eq!((row.get::<_, &str>(1), row.get::<_, &str>(2)), ("ready", "2"));
        assert_eq!(row.get::<_, &str>(3), "ready");

        let rows = client
            .query(
                "SELECT content FROM context_storage WHERE agent_pid = $1::text::uuid \
                 ORDER BY since_seq, bytes",
                &[&pid(1).to_string()],
            )
            .await
            .expect("answers");
        let texts: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(texts, ["我想用工具。", &"large ".repeat(2000), "a\\000b\\377"]);
        let ids = "SELECT count(DISTINCT context_id) FROM context_storage";
        assert_eq!(count(&client, ids).await, 3);

        let row = client
            .query_one(
                "SELECT log_id::text, action_type, reasoning, extract(epoch FROM created_at)::float8 \
                 FROM audit_logs WHERE action_type = 'llm_returned'",
                &[],
            )
            .await
            .expect("one reply");
        assert_eq!(row.get::<_, &str>(2), format!("我想用工具。\n{}", "large ".repeat(2000)));
        assert!((row.get::<_, f64>(3) - 1_790_000_000.123).abs() < 0.001);
        assert_eq!(count(&client, "SELECT count(*) FROM audit_logs").await, 2);

        for view in ["agent_processes", "context_storage", "audit_logs", "events"] {
            let column = if view == "agent_processes" { "epoch" } else { "tenant" };
            for sql in [
                format!("DELETE FROM {view}"),
                format!("UPDATE {view} SET {column} = {column}"),
                format!("INSERT INTO {view} ({column}) VALUES (NULL)"),
            ] {
                let error = client.batch_execute(&sql).await.expect_err(&sql);
                let error = error.as_db_error().expect("the server's");
                assert!(error.message().contains("is a view of the journal"), "{error}");
                assert!(error.hint().expect("a hint").contains("aosk send"), "{error:?}");
            }
        }
    });
}

#[test]
fn a_role_sees_its_tenant_alone_and_writes_nothing() {
    let Some((options, store)) = fresh() else { return };
    block_on(async {
        for (name, count) in [("a", 1_u64), ("b", 2)] {
            let tenant: Tenant = name.parse().expect("a name");
            for n in 0..count {
                let mut scribe = Scribe::new(&store, &tenant, pid(n)).await;
                let append = Scribe::with_checkpoint(
                    scribe.append(&[b"small", &noise(n, 5000)]),
                    vec![1; 9],
                );
                write(&store, &mut scribe, append).await;
                let mut long = ContentWriter::new(&store, &tenant, scribe.key);
                long.write(&noise(n, ChunkList::CHUNK + 1)).await.expect("stored");
                long.finish().await.expect("stored");
                let item = aosk_ports::InboxItem::Signal { signal: aosk_abi::Signal::Stop };
                aosk_ports::Inbox::post(&store, &tenant, pid(n), item).await.expect("posted");
            }
        }
        let client = psql(&options).await;
        let (schema, role) = (&options.schema, format!("auditor_{}", options.schema));
        let grant = format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA {schema} TO {role}; \
             GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}; SET ROLE {role}"
        );
        client.batch_execute(&grant).await.expect("granted");
        let tables = [
            ("agent_processes", 1),
            ("audit_logs", 2),
            ("events", 2),
            ("context_storage", 2),
            ("tenants", 1),
            ("processes", 1),
            ("journal", 1),
            ("blobs", 3),
            ("chunked", 1),
            ("held", 3),
            ("checkpoints", 1),
            ("inbox", 1),
        ];
        for (tenant, times) in [("", 0), ("nobody", 0), ("a", 1), ("b", 2)] {
            let set = format!("SET aosk.tenant = '{tenant}'");
            client.batch_execute(&set).await.expect("set");
            for (table, of_one) in tables {
                let expected = if table == "tenants" { times.min(1) } else { of_one * times };
                let sql = format!("SELECT count(*) FROM {table}");
                assert_eq!(count(&client, &sql).await, expected, "{table} for {tenant:?}");
            }
            let sql = "SELECT count(*) FROM journal_default";
            assert_eq!(count(&client, sql).await, 0, "partitions are no way around");
        }
        for sql in ["DELETE FROM journal", "UPDATE processes SET epoch = 9", "DELETE FROM tenants"]
        {
            let error = client.batch_execute(sql).await.expect_err(sql);
            assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{sql}");
        }
        client.batch_execute("RESET ROLE").await.expect("back");
        let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
        client.batch_execute(&drop).await.expect("dropped");
    });
}

#[test]
fn vectors_stand_in_a_column_where_the_server_has_them() {
    let Some((options, store)) = fresh() else { return };
    let vectors = store.vectors();
    let has_vectors = vectors.is_ok();
    block_on(async {
        let mut scribe = Scribe::new(&store, &Tenant::local(), pid(1)).await;
        scribe.write(&store, &[b"text"]).await.expect("begins");
        let client = psql(&options).await;
        if let Err(error) = vectors {
            assert_eq!(error.code, aosk_abi::Code::StoreNoVectors);
            assert!(error.message.contains("pgvector"), "{error}");
            assert_eq!(count(&client, "SELECT count(*) FROM context_storage").await, 1);
            return;
        }
        client
            .batch_execute(
                "INSERT INTO embeddings SELECT tenant, context_id, 'a model', '[1,2,3]' \
                 FROM context_storage",
            )
            .await
            .expect("stored");
        let sql = "SELECT count(*) FROM context_storage WHERE embedding <-> '[1,2,4]' = 1";
        client.batch_execute("SET search_path TO public").await.expect("set");
        let sql = sql.replace("context_storage", &format!("{}.context_storage", options.schema));
        assert_eq!(count(&client, &sql).await, 1);
    });
    drop(store);
    assert_eq!(open(&options).vectors().is_ok(), has_vectors, "and at the next start");
    if !has_vectors {
        aosk_conformance::skip("this server has no pgvector");
    }
}

/// A role that may not install the extension hears how to get it, and has all else.
#[test]
fn a_store_without_vectors_says_how_to_get_them_and_works() {
    if !is_here() {
        return;
    }
    block_on(async {
        let options = options();
        let client = psql(&options).await;
        let role = format!("keeper_{}", options.schema);
        let database = format!("plain_{}", options.schema);
        for sql in [
            format!("CREATE ROLE {role} LOGIN"),
            format!("CREATE DATABASE {database}"),
            format!("GRANT CREATE ON DATABASE {database} TO {role}"),
        ] {
            client.batch_execute(&sql).await.expect("made");
        }
        let url = options.url.replace("postgres@", &format!("{role}@"));
        let url = url.replace("/postgres?", &format!("/{database}?"));
        let options = PostgresOptions { url, ..options };
        let store = open(&options);
        let error = crate::support::refused(store.vectors(), aosk_abi::Code::StoreNoVectors);
        assert!(error.message.contains("everything but vectors works"), "{error}");
        let mut scribe = Scribe::new(&store, &Tenant::local(), pid(1)).await;
        scribe.write(&store, &[b"text"]).await.expect("everything else works");
        let plain = psql(&options).await;
        assert_eq!(count(&plain, "SELECT count(*) FROM context_storage").await, 1);
    });
}
