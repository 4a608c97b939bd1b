//! An auditor's question in SQL: what did this agent do between then and then?

use aosk_abi::{Event, Record, Tenant, Timestamp, Unblocked, What};
use aosk_conformance::Scribe;
use aosk_ports::{Append, Journal, JournalWriter};
use tokio_postgres::Client;

use super::schema::UNDO_9;
use super::server::{fresh, is_here, open, options_in_a_database_of_its_own, psql};
use crate::child::pid;
use crate::support::{block_on, noise};

const AGENTS: u64 = 16;
const ROUNDS: u64 = 200;
const BEGINNING: u64 = 1_790_000_000_000;

/// An append of one event at that time, with 2 KB beside it.
fn at(scribe: &Scribe, millis: u64, seed: u64) -> Append {
    let event = Event::new(Timestamp::from_millis(millis), What::Unblocked(Unblocked {}));
    let (tenant, pid, next) = (&scribe.tenant, scribe.pid, scribe.next);
    let record = Record::seal(tenant, pid, next, scribe.epoch, scribe.head, &event);
    let contents = vec![scribe.key.seal(noise(seed, 2048))];
    let records = vec![record.expect("no text holds U+0000")].into();
    Append { records, contents, ..scribe.append(&[]) }
}

async fn lines(client: &Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).await.expect(sql).iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_window_of_time_in_the_views_reads_the_pages_of_that_time_alone() {
    if !is_here() {
        return;
    }
    let options = options_in_a_database_of_its_own();
    let store = open(&options);
    block_on(async {
        let mut scribes = Vec::new();
        for n in 0..AGENTS {
            scribes.push(Scribe::new(&store, &Tenant::local(), pid(n)).await);
        }
        let mut last = None;
        for round in 0..ROUNDS {
            for (agent, scribe) in (0..).zip(&mut scribes) {
                let append = at(scribe, BEGINNING + round * 1000, round * AGENTS + agent);
                scribe.follow(&append);
                last = Some(store.append(append));
            }
        }
        last.expect("an agent").await.expect("acknowledged");
        let client = psql(&options).await;
        client.batch_execute("VACUUM ANALYZE journal_default").await.expect("looked through");
        let window = format!(
            "agent_pid = '{}' AND created_at >= to_timestamp({1}) \
             AND created_at < to_timestamp({1} + 10)",
            pid(3),
            BEGINNING / 1000 + 100
        );
        let sql = format!("SELECT seq::text FROM audit_logs WHERE {window} ORDER BY 1");
        let expected: Vec<String> = (100..110).map(|seq| seq.to_string()).collect();
        assert_eq!(lines(&client, &sql).await, expected);
        for (view, column) in [("audit_logs", "agent_pid"), ("events", "pid")] {
            let sql = format!(
                "EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off) \
                 SELECT * FROM {view} WHERE {}",
                window.replace("agent_pid", column)
            );
            let plan = lines(&client, &sql).await.join("\n");
            assert!(plan.contains("journal_default_at_idx"), "{plan}");
            assert!(!plan.contains("Seq Scan on journal"), "{plan}");
            // Of 3,200 rows on 1,067 pages a range of 64 pages holds what is asked, two at an edge.
            let blocks = plan.lines().find(|line| line.contains("Heap Blocks")).expect("a bitmap");
            let read: u64 = blocks
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|number| number.parse::<u64>().ok())
                .sum();
            assert!(read <= 128, "{plan}");
        }
    });
}

#[test]
fn an_append_at_a_time_that_no_date_spells_is_stored_and_shows_none() {
    let Some((options, store)) = fresh() else { return };
    let last = 253_402_300_799_999;
    block_on(async {
        let mut scribe = Scribe::new(&store, &Tenant::local(), pid(1)).await;
        let times = [0, last, last + 1, u64::MAX >> 11];
        for (n, millis) in (0..).zip(times) {
            let append = at(&scribe, millis, n);
            store.append(append.clone()).await.expect("stored");
            scribe.follow(&append);
        }
        let client = psql(&options).await;
        let sql = "SELECT coalesce((extract(epoch FROM created_at) * 1000)::bigint::text, '-') \
                   FROM events ORDER BY seq";
        assert_eq!(lines(&client, sql).await, ["0", &last.to_string(), "-", "-"]);
        let until = Timestamp::from_millis(u64::MAX);
        let (tenant, from) = (&scribe.tenant, Timestamp::from_millis(last + 1));
        let found = store.events_between(tenant, scribe.pid, from, until, 9).await.expect("read");
        assert_eq!(found.len(), 2, "the journal knows them all the same");
    });
}

#[test]
fn a_store_from_before_the_times_gets_them_when_it_is_opened() {
    let Some((options, store)) = fresh() else { return };
    block_on(async {
        let mut scribe = Scribe::new(&store, &Tenant::local(), pid(1)).await;
        for n in 0..3 {
            let append = at(&scribe, BEGINNING + n * 1000, n);
            store.append(append.clone()).await.expect("stored");
            scribe.follow(&append);
        }
    });
    drop(store);
    let sql = "SELECT seq || ' ' || extract(epoch FROM created_at)::bigint FROM audit_logs \
               ORDER BY seq";
    let before = block_on(async {
        let client = psql(&options).await;
        let before = lines(&client, sql).await;
        // The tables as the version before made them; its views had no such column either.
        let undo = "DROP VIEW audit_logs, events; ALTER TABLE journal DROP COLUMN at; \
                    DROP FUNCTION append_before, expect; DROP INDEX processes_owned; \
                    DROP TABLE posts, chunked, held; ALTER TABLE inbox ADD COLUMN nonce uuid; \
                    DELETE FROM schema_migrations WHERE version >= 4";
        client.batch_execute(UNDO_9).await.expect("undone");
        client.batch_execute(undo).await.expect("undone");
        before
    });
    let expected: Vec<String> = (0..3).map(|n| format!("{n} {}", BEGINNING / 1000 + n)).collect();
    assert_eq!(before, expected);
    let reopened = open(&options);
    let after = block_on(async { lines(&psql(&options).await, sql).await });
    assert_eq!(after, expected);
    drop(reopened);
}
