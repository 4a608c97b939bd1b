//! Collection: what nothing names goes after two generations, and nothing else ever does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aosk_abi::{ChunkList, Code, Content, ContentKey, Hash, Pid, Seq, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{ContentStore, ContentWriter, Journal, JournalWriter, ProcessFilter, Store};
use aosk_store::{Collected, PostgresOptions, StorePlace, collect};
use proptest::prelude::*;
use rusqlite::Connection;

use crate::child::pid;
use crate::postgres::server;
use crate::support::{block_on, noise, open, refused};

/// A large content of a small set, so that processes share some.
fn text(n: u64) -> Vec<u8> {
    noise(n, Content::INLINE_MAX + 1 + n as usize)
}

const LISTS_AND_HOLDS: &str = "SELECT (SELECT count(*) FROM chunked), (SELECT count(*) FROM held)";

/// Takes a process out of a store with all that is its own.
trait Eraser {
    fn erase(&self, pid: Pid);
    /// Ends the time for which contents are kept that nothing names.
    fn end_holds(&self);
    /// How many contents stand in chunks, and how many are kept for a time.
    fn lists_and_holds(&self) -> (i64, i64);
    fn stored(&self) -> BTreeSet<Hash>;
}

struct File(Connection);

impl File {
    fn of(dir: &Path) -> Self {
        let connection = Connection::open(dir.join("aosk.db")).expect("opens");
        connection.busy_timeout(std::time::Duration::from_secs(10)).expect("set");
        Self(connection)
    }
}

impl Eraser for File {
    fn erase(&self, pid: Pid) {
        self.0.execute_batch("BEGIN IMMEDIATE").expect("begun");
        for table in ["journal", "spans", "checkpoints", "stretches", "inbox", "processes"] {
            let sql = format!("DELETE FROM {table} WHERE pid = ?1");
            self.0.execute(&sql, [pid.as_bytes()]).expect("deleted");
        }
        self.0.execute_batch("COMMIT").expect("committed");
    }

    fn end_holds(&self) {
        self.0.execute_batch("UPDATE held SET until = unixepoch()").expect("altered");
    }

    fn lists_and_holds(&self) -> (i64, i64) {
        let count = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.0.query_row(LISTS_AND_HOLDS, [], count).expect("counted")
    }

    fn stored(&self) -> BTreeSet<Hash> {
        let mut statement = self.0.prepare("SELECT hash FROM blobs").expect("prepared");
        let rows = statement.query_map([], |row| row.get(0)).expect("asked");
        rows.map(|hash| Hash::from_bytes(hash.expect("32 bytes"))).collect()
    }
}

struct Server(PostgresOptions);

impl Eraser for Server {
    fn erase(&self, pid: Pid) {
        block_on(async {
            let client = server::psql(&self.0).await;
            let sql = ["journal", "checkpoints", "inbox", "processes"]
                .map(|table| format!("DELETE FROM {table} WHERE pid = '{pid}';"));
            client.batch_execute(&format!("BEGIN; {} COMMIT", sql.concat())).await.expect("erased");
        });
    }

    fn end_holds(&self) {
        block_on(async {
            let client = server::psql(&self.0).await;
            client.batch_execute("UPDATE held SET until = now()").await.expect("altered");
        });
    }

    fn lists_and_holds(&self) -> (i64, i64) {
        block_on(async {
            let client = server::psql(&self.0).await;
            let row = client.query_one(LISTS_AND_HOLDS, &[]).await.expect("counted");
            (row.get(0), row.get(1))
        })
    }

    fn stored(&self) -> BTreeSet<Hash> {
        block_on(async {
            let client = server::psql(&self.0).await;
            let rows = client.query("SELECT hash FROM blobs", &[]).await.expect("asked");
            let hash = |bytes: &[u8]| Hash::from_bytes(bytes.try_into().expect("32 bytes"));
            rows.iter().map(|row| hash(row.get(0))).collect()
        })
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A process names these contents.
    Name {
        of: u64,
        contents: Vec<u64>,
    },
    /// A process is removed.
    Erase {
        of: u64,
    },
    Collect {
        dry: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = (0..4_u64, prop::collection::vec(0..6_u64, 1..4));
    prop::collection::vec(
        prop_oneof![
            3 => name.prop_map(|(of, contents)| Step::Name { of, contents }),
            2 => (0..4_u64).prop_map(|of| Step::Erase { of }),
            4 => prop::bool::weighted(0.2).prop_map(|dry| Step::Collect { dry }),
        ],
        1..24,
    )
}

/// What is stored is what is named, and what was not named in less than two generations.
fn play(store: &impl Store, place: &StorePlace, eraser: &impl Eraser, steps: &[Step]) {
    let local = Tenant::local();
    let key: ContentKey = block_on(store.content_key(&local)).expect("there");
    let mut named: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut unnamed_for: BTreeMap<u64, u32> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Name { of, contents } => block_on(async {
                let texts: Vec<Vec<u8>> = contents.iter().map(|n| text(*n)).collect();
                let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
                let mut scribe = Scribe::new(store, &local, pid(*of)).await;
                scribe.write(store, &texts).await.expect("continues");
                named.entry(*of).or_default().extend(contents);
                for n in contents {
                    unnamed_for.entry(*n).or_insert(0);
                }
            }),
            Step::Erase { of } => {
                eraser.erase(pid(*of));
                named.remove(of);
            }
            Step::Collect { dry } => {
                let stored: BTreeSet<u64> = unnamed_for.keys().copied().collect();
                let is_named = |n: &u64| named.values().any(|names| names.contains(n));
                let mut expected = Collected::default();
                for n in stored {
                    let generations = unnamed_for.get_mut(&n).expect("stored");
                    match (is_named(&n), *generations) {
                        (true, _) => {
                            expected.named += 1;
                            *generations = if *dry { *generations } else { 0 };
                        }
                        (false, 0) => {
                            expected.suspected += 1;
                            *generations += u32::from(!dry);
                        }
                        (false, _) => {
                            expected.deleted += 1;
                            expected.deleted_bytes += text(n).len() as u64;
                            if !dry {
                                unnamed_for.remove(&n);
                            }
                        }
                    }
                }
                let collected = collect(place, *dry).expect("collected");
                // What a store takes for them is up to it.
                assert!(
                    collected.deleted_bytes.abs_diff(expected.deleted_bytes) < 200,
                    "{collected:?}"
                );
                expected.deleted_bytes = collected.deleted_bytes;
                assert_eq!(collected, expected);
            }
        }
        let expected = unnamed_for.keys().map(|n| key.hash(&text(*n))).collect();
        assert_eq!(eraser.stored(), expected, "{step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_collected_is_what_the_model_says(steps in steps()) {
        let dir = tempfile::tempdir().expect("a folder");
        let store = open(dir.path());
        play(&store, &StorePlace::Sqlite(dir.path().to_owned()), &File::of(dir.path()), &steps);
    }
}

#[test]
fn what_is_collected_on_a_server_is_what_the_model_says() {
    if !server::is_here() {
        return;
    }
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let done = runner.run(&steps(), |steps| {
        let options = server::options();
        let store = server::open(&options);
        play(&store, &StorePlace::Postgres(options.clone()), &Server(options), &steps);
        Ok(())
    });
    done.expect("alike");
}

/// Writers begin processes that name contents of a small set while others are removed and what
/// nothing names is collected: what stands in a journal can always be read.
fn race(store: &impl Store, place: &StorePlace, eraser: &impl Eraser, rounds: u64) {
    let local = Tenant::local();
    let key = block_on(store.content_key(&local)).expect("there");
    let (stop, begun, gone) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut deleted = 0;
    std::thread::scope(|scope| {
        for writer in 0..2_u64 {
            let (stop, begun, gone) = (&stop, &begun, &gone);
            scope.spawn(move || {
                block_on(async {
                    let mut n = writer;
                    while !stop.load(Ordering::Relaxed) {
                        // No further ahead than what removes them can follow.
                        if n > gone.load(Ordering::Relaxed) + 16 {
                            std::thread::sleep(std::time::Duration::from_millis(1));
                            continue;
                        }
                        let mut scribe = Scribe::new(store, &Tenant::local(), pid(n)).await;
                        scribe.write(store, &[&text(n % 5)]).await.expect("begins");
                        begun.fetch_max(n, Ordering::Relaxed);
                        n += 2;
                    }
                });
            });
        }
        for _ in 0..rounds {
            // Writers go on meanwhile, so what is due is looked up once.
            let due = begun.load(Ordering::Relaxed).saturating_sub(6);
            for n in gone.load(Ordering::Relaxed)..due {
                eraser.erase(pid(n));
                gone.store(n + 1, Ordering::Relaxed);
            }
            deleted += collect(place, false).expect("collected").deleted;
            for receipt in block_on(store.processes(&local, ProcessFilter::All)).expect("listed") {
                let n = (0..u64::MAX).find(|n| pid(*n) == receipt.pid).expect("one of them");
                let records = block_on(store.read(&local, receipt.pid, Seq(0), 9)).expect("whole");
                let wanted = key.hash(&text(n % 5));
                let last = records.last().expect("some").seq;
                let found = block_on(store.contents(&local, receipt.pid, &[(last, wanted)]));
                assert_eq!(found.expect("it is there")[0].to_vec(), text(n % 5));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    // Then nothing is named any more, and two generations later nothing is there.
    for receipt in block_on(store.processes(&local, ProcessFilter::All)).expect("listed") {
        eraser.erase(receipt.pid);
    }
    for _ in 0..2 {
        deleted += collect(place, false).expect("collected").deleted;
    }
    assert_eq!(eraser.stored(), BTreeSet::new());
    assert!(deleted >= 5, "{deleted}");
}

#[test]
fn a_content_that_a_writer_names_again_is_never_collected() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    race(&store, &StorePlace::Sqlite(dir.path().to_owned()), &File::of(dir.path()), 60);
}

#[test]
fn a_content_that_a_node_names_again_is_never_collected() {
    let Some((options, store)) = server::fresh() else { return };
    race(&store, &StorePlace::Postgres(options.clone()), &Server(options), 30);
}

/// A content in chunks stays while it is held or named, and with it its chunks, one of which another
/// content has too.
fn chunks(store: &(impl Store + ContentStore), place: &StorePlace, eraser: &impl Eraser) {
    let local = Tenant::local();
    let chunk = ChunkList::CHUNK;
    let first = noise(1, 2 * chunk + 1);
    let second = [&first[..chunk], &noise(2, 5)].concat();
    let key = block_on(store.content_key(&local)).expect("there");
    let write = |text: &[u8]| {
        block_on(async {
            let mut writer = ContentWriter::new(store, &local, key);
            writer.write(text).await.expect("stored");
            writer.finish().await.expect("stored")
        })
    };
    let twice = || {
        let first = collect(place, false).expect("collected");
        (first.suspected, collect(place, false).expect("collected").deleted)
    };
    for text in [&first, &second] {
        assert_eq!(write(text).hash, key.hash(text));
    }
    // Four chunks, since one is of both; two lists.
    assert_eq!((eraser.stored().len(), eraser.lists_and_holds()), (4, (2, 6)));
    assert_eq!(twice(), (0, 0));

    eraser.end_holds();
    block_on(async {
        let mut scribe = Scribe::new(store, &local, pid(0)).await;
        let mut append = scribe.append(&[&first]);
        append.contents.clear();
        store.append(append.clone()).await.expect("begins");
        scribe.follow(&append);
    });
    // Only the second goes: its list and its own chunk.
    assert_eq!(twice(), (2, 2));
    assert_eq!((eraser.stored().len(), eraser.lists_and_holds()), (3, (1, 0)));
    let found = block_on(store.contents(&local, pid(0), &[(Seq(0), key.hash(&first))]));
    assert!(found.expect("it is there")[0][..] == first[..]);

    // Suspected, then held again: what came in anew is not deleted by the next run.
    eraser.erase(pid(0));
    assert_eq!(collect(place, false).expect("collected").suspected, 4);
    write(&second);
    assert_eq!(collect(place, false).expect("collected").deleted, 3);
    assert_eq!((eraser.stored().len(), eraser.lists_and_holds().0), (2, 1));
    eraser.end_holds();
    assert_eq!(twice(), (3, 3));
    assert_eq!((eraser.stored().len(), eraser.lists_and_holds()), (0, (0, 0)));
}

#[test]
fn chunks_stay_while_their_content_is_named_or_held() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    chunks(&store, &StorePlace::Sqlite(dir.path().to_owned()), &File::of(dir.path()));
}

#[test]
fn chunks_on_a_server_stay_while_their_content_is_named_or_held() {
    let Some((options, store)) = server::fresh() else { return };
    chunks(&store, &StorePlace::Postgres(options.clone()), &Server(options));
}

/// The moment that a race rarely meets: a collection has looked at everything and deletes.
#[test]
fn a_writer_waits_for_a_collection_and_stores_its_content_anew() {
    let Some((options, store)) = server::fresh() else { return };
    let local = Tenant::local();
    block_on(async {
        let key = store.content_key(&local).await.expect("there");
        let mut first = Scribe::new(&store, &local, pid(0)).await;
        first.write(&store, &[&text(1)]).await.expect("begins");
        let mut broom = server::psql(&options).await;
        let collection = broom.transaction().await.expect("begun");
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended('aosk contents ' || \
                    current_schema(), 0))";
        collection.batch_execute(lock).await.expect("alone");
        let second = Scribe::new(&store, &local, pid(1)).await;
        let mut ticket = std::pin::pin!(store.append(second.append(&[&text(1)])));
        let soon = std::time::Duration::from_millis(500);
        assert!(tokio::time::timeout(soon, &mut ticket).await.is_err(), "it does not wait");
        collection.batch_execute("DELETE FROM blobs").await.expect("deleted");
        collection.commit().await.expect("committed");
        let last = ticket.await.expect("continues").last;
        let found = store.contents(&local, pid(1), &[(last, key.hash(&text(1)))]).await;
        assert_eq!(found.expect("it is there")[0].to_vec(), text(1));
    });
}

#[test]
fn nothing_is_collected_where_a_journal_is_damaged_or_there_is_no_store() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = StorePlace::Sqlite(dir.path().to_owned());
    refused(collect(&place, false), Code::StoreOpen);
    let store = open(dir.path());
    let local = Tenant::local();
    block_on(async {
        for n in 0..2 {
            let mut scribe = Scribe::new(&store, &local, pid(n)).await;
            scribe.write(&store, &[&text(n)]).await.expect("begins");
        }
    });
    let file = File::of(dir.path());
    file.erase(pid(0));
    assert_eq!(collect(&place, false).expect("collected").suspected, 1);
    file.0.execute_batch("UPDATE journal SET hash = zeroblob(32)").expect("altered");
    let before = file.stored();
    refused(collect(&place, false), Code::ChainBroken);
    assert_eq!(file.stored(), before);
}
