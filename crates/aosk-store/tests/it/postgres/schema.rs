//! The tables: made once, ahead of time, by whoever comes first.

use aosk_abi::{Pid, Seq, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{Journal, JournalWriter};

use super::server::{fresh, is_here, open, options, psql};
use crate::child::pid;
use crate::support::{block_on, noise};

/// Makes of the tables those of version 8, where stretches had their own.
pub(super) const UNDO_9: &str = "CREATE TABLE stretches AS \
     SELECT pid, seq AS first_seq, tenant, len, bytes FROM checkpoints WHERE settled; \
     DELETE FROM checkpoints WHERE settled; \
     ALTER TABLE checkpoints DROP COLUMN settled, ALTER COLUMN version SET NOT NULL, \
     ADD CONSTRAINT checkpoints_pkey PRIMARY KEY (tenant, pid, seq); \
     DROP TABLE prunings, upkeep, budgets; DELETE FROM schema_migrations WHERE version >= 9";

#[test]
fn nodes_that_start_at_once_make_the_tables_once() {
    if !is_here() {
        return;
    }
    let options = options();
    let stores: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| open(&options))).collect();
        starts.into_iter().map(|start| start.join().expect("opened")).collect()
    });
    block_on(async {
        let client = psql(&options).await;
        let sql = "SELECT (SELECT count(*) FROM schema_migrations), (SELECT count(*) FROM nodes)";
        let row = client.query_one(sql, &[]).await.expect("counted");
        let counted = (row.get::<_, i64>(0), row.get::<_, i64>(1));
        assert_eq!(counted, (aosk_store::POSTGRES_SCHEMA as i64, 4));
    });
    drop(stores);
    block_on(async {
        let client = psql(&options).await;
        let left = client.query_one("SELECT count(*) FROM nodes", &[]).await.expect("counted");
        assert_eq!(left.get::<_, i64>(0), 0, "who ends says so");
    });
}

#[test]
fn the_journal_has_partitions_ahead_and_every_pid_has_a_place() {
    let Some((options, store)) = fresh() else { return };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_millis() as u64;
    let month = 31 * 24 * 3600 * 1000;
    block_on(async {
        for (pid, place) in [
            (Pid::from_parts(now, [1; 10]), "month"),
            (Pid::from_parts(now + month, [1; 10]), "month"),
            (Pid::from_parts(now - 13 * month, [1; 10]), "default"),
            (Pid::from_alias("agent-123"), "default"),
        ] {
            let mut scribe = Scribe::new(&store, &Tenant::local(), pid).await;
            scribe.write(&store, &[b"begun"]).await.expect("begins");
            let client = psql(&options).await;
            let sql = format!("SELECT tableoid::regclass::text FROM journal WHERE pid = '{pid}'");
            let found: String = client.query_one(&sql, &[]).await.expect("one row").get(0);
            assert_eq!(found == "journal_default", place == "default", "{pid} is in {found}");
        }
    });
    drop(store);
    // A month whose processes came before its partition keeps them.
    block_on(async {
        let client = psql(&options).await;
        client
            .batch_execute(
                "DO $$ DECLARE t text; BEGIN FOR t IN SELECT inhrelid::regclass::text \
                 FROM pg_inherits WHERE inhparent = 'journal'::regclass \
                 AND inhrelid <> 'journal_default'::regclass LOOP \
                 EXECUTE 'ALTER TABLE journal DETACH PARTITION ' || t; \
                 EXECUTE 'INSERT INTO journal_default SELECT * FROM ' || t; \
                 EXECUTE 'DROP TABLE ' || t; END LOOP; END $$",
            )
            .await
            .expect("moved");
    });
    let store = open(&options);
    block_on(async {
        let pid = Pid::from_parts(now, [1; 10]);
        let mut scribe = Scribe::new(&store, &Tenant::local(), pid).await;
        assert_eq!(scribe.next.0, 1);
        scribe.write(&store, &[b"goes on"]).await.expect("in the default partition");
    });
}

#[test]
fn folds_that_an_older_version_saved_are_read_with_their_stretches() {
    if !is_here() {
        return;
    }
    let options = options();
    let local = Tenant::local();
    let store = open(&options);
    let before = block_on(async {
        let mut scribe = Scribe::new(&store, &local, pid(1)).await;
        for first in [0, 1, 3] {
            let append = scribe.append(&[b"one", b"two"]);
            scribe.follow(&append);
            let append = Scribe::with_checkpoint(append, noise(first, 900));
            let append = Scribe::with_stretch(append, Seq(first), noise(first, 9000));
            store.append(append).await.expect("stored");
        }
        store.checkpoint(&local, pid(1), None).await.expect("whole").expect("there")
    });
    drop(store);
    block_on(async { psql(&options).await.batch_execute(UNDO_9).await.expect("undone") });
    let store = open(&options);
    let after = block_on(store.checkpoint(&local, pid(1), None)).expect("whole").expect("there");
    assert_eq!(after.stretches.len(), 3);
    assert_eq!(after, before);
}
