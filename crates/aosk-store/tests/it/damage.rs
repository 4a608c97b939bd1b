//! Damaged stores: an error that says what is wrong, never other data, never a panic.

use std::path::{Path, PathBuf};

use aosk_abi::{Code, Content, Hash, Record, Seq, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{Checkpoint, Journal, JournalWriter, StoreError};
use aosk_store::{SCHEMA, SqliteReader, SqliteStore};
use rusqlite::Connection;

use crate::child::pid;
use crate::support::{block_on, noise, open, options, random, refused};

/// Everything that a reader can have of the processes, which hashes cover.
#[derive(Debug, PartialEq)]
struct Everything {
    records: Vec<Vec<Record>>,
    contents: Vec<Vec<u8>>,
    checkpoint: Option<Checkpoint>,
}

const PROCESSES: u64 = 3;

/// A closed store: batches in spans and in the tail, contents of every kind, checkpoints.
fn sample() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    block_on(async {
        for n in 0..PROCESSES {
            let mut scribe = Scribe::new(&store, &Tenant::local(), pid(n)).await;
            for round in 0..40 {
                let texts = texts(n, round);
                let mut append = scribe.append(&[&texts[0], &texts[1]]);
                if round % 15 == 0 {
                    append = Scribe::with_checkpoint(append, noise(round, 3000));
                }
                scribe.follow(&append);
                drop(store.append(append));
            }
        }
    });
    drop(store);
    dir
}

fn texts(n: u64, round: u64) -> [Vec<u8>; 2] {
    let large = if round.is_multiple_of(10) { Content::INLINE_MAX + 900 } else { 30 };
    [noise(n * 100 + round, 200), noise(n * 100 + round, large)]
}

fn everything(reader: &SqliteReader) -> Result<Everything, StoreError> {
    block_on(async {
        let local = Tenant::local();
        let key = reader.content_key(&local).await?;
        let (mut records, mut contents) = (Vec::new(), Vec::new());
        for n in 0..PROCESSES {
            records.push(reader.read(&local, pid(n), Seq(0), usize::MAX).await?);
            let wanted: Vec<(Seq, Hash)> = (0..40)
                .flat_map(|round| texts(n, round))
                .zip(0..)
                .map(|(text, seq)| (Seq(seq), key.hash(&text)))
                .collect();
            let found = reader.contents(&local, pid(n), &wanted).await?;
            contents.extend(found.iter().map(|bytes| bytes.to_vec()));
        }
        Ok(Everything {
            records,
            contents,
            checkpoint: reader.checkpoint(&local, pid(0), None).await?,
        })
    })
}

fn database(dir: &Path) -> PathBuf {
    dir.join("aosk.db")
}

/// Changes the file from outside, as no store does.
fn tamper(dir: &Path, sql: &str) {
    Connection::open(database(dir)).expect("opens").execute_batch(sql).expect("runs");
}

#[test]
fn a_truncated_file_is_damage_at_any_length() {
    const PAGE: usize = 32 << 10;
    let dir = sample();
    let whole = std::fs::read(database(dir.path())).expect("read");
    assert_eq!(whole.len() % PAGE, 0);
    let last = whole.len() - PAGE;
    for len in [0, 1, 15, 16, 99, 100, 511, 512, 4096, PAGE, whole.len() / 2, last] {
        std::fs::write(database(dir.path()), &whole[..len]).expect("written");
        let error = refused(SqliteStore::open(&options(dir.path())), Code::StoreCorrupt);
        assert!(error.message.contains("aosk.db"), "{len}: {error}");
        refused(SqliteReader::open(dir.path()), Code::StoreCorrupt);
    }
    // A last page that is there in part is met when it is read.
    let expected = {
        std::fs::write(database(dir.path()), &whole).expect("written");
        everything(&SqliteReader::open(dir.path()).expect("whole again")).expect("whole again")
    };
    for len in [last + 1, last + PAGE / 2, whole.len() - 1] {
        std::fs::write(database(dir.path()), &whole[..len]).expect("written");
        match SqliteReader::open(dir.path()).and_then(|reader| everything(&reader)) {
            Ok(read) => assert!(read == expected, "other data at length {len}"),
            Err(error) => assert!(
                matches!(error.code, Code::StoreCorrupt | Code::ChainBroken | Code::StoreIo),
                "{len}: {error}"
            ),
        }
    }
}

#[test]
fn a_file_that_is_no_store_is_not_taken_for_one() {
    let dir = sample();
    std::fs::write(database(dir.path()), noise(1, 100_000)).expect("written");
    refused(SqliteStore::open(&options(dir.path())), Code::StoreCorrupt);

    std::fs::remove_file(database(dir.path())).expect("removed");
    tamper(dir.path(), "CREATE TABLE journal (id)");
    let error = refused(SqliteStore::open(&options(dir.path())), Code::StoreCorrupt);
    assert!(error.message.contains("not a store of aosk"), "{error}");
}

#[test]
fn a_log_without_its_database_is_not_replayed_into_a_new_one() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("aosk.db-wal"), noise(1, 5000)).expect("written");
    refused(SqliteStore::open(&options(dir.path())), Code::StoreCorrupt);
    refused(SqliteReader::open(dir.path()), Code::StoreCorrupt);
    assert!(!database(dir.path()).exists());
}

#[test]
fn a_newer_schema_is_left_alone() {
    let dir = sample();
    drop(SqliteReader::open(dir.path()).expect("of this version"));
    for version in [&(SCHEMA + 1).to_string(), "99", "-1"] {
        tamper(dir.path(), &format!("PRAGMA user_version = {version}"));
        let before = std::fs::read(database(dir.path())).expect("read");
        let error = refused(SqliteStore::open(&options(dir.path())), Code::StoreNewerSchema);
        assert!(error.message.contains(&format!("schema {version};")), "{error}");
        refused(SqliteReader::open(dir.path()), Code::StoreNewerSchema);
        assert!(std::fs::read(database(dir.path())).expect("read") == before);
    }
}

/// Damage anywhere in the file: what a reader still gets is what was written.
#[test]
fn flipped_bytes_anywhere_never_become_other_data() {
    let dir = sample();
    let whole = std::fs::read(database(dir.path())).expect("read");
    let expected = everything(&SqliteReader::open(dir.path()).expect("whole")).expect("whole");
    let (mut seed, mut noticed) = (20_260_101, 0);
    for _ in 0..400 {
        let mut bytes = whole.clone();
        // A run of damage, as disks have it, so that most rounds hit something that is used.
        let place = random(&mut seed) as usize % (whole.len() - 64);
        for byte in &mut bytes[place..place + 64] {
            *byte ^= (random(&mut seed) % 255) as u8 + 1;
        }
        std::fs::write(database(dir.path()), &bytes).expect("written");
        match SqliteReader::open(dir.path()).and_then(|reader| everything(&reader)) {
            Ok(read) => assert!(read == expected, "other data after damage at {place}"),
            Err(error) => {
                noticed += 1;
                assert!(
                    matches!(
                        error.code,
                        Code::StoreCorrupt
                            | Code::StoreNewerSchema
                            | Code::ChainBroken
                            | Code::StoreContentMissing
                            | Code::StoreUnknownProcess
                            | Code::StoreIo
                    ),
                    "damage at {place}: {error}"
                );
            }
        }
    }
    assert!(noticed > 50, "only {noticed} of 400 hit anything");
}

/// Every single byte of one append's row, body and contents alike.
#[test]
fn a_flipped_byte_of_a_row_is_noticed_and_located() {
    let dir = sample();
    let connection = Connection::open(database(dir.path())).expect("opens");
    let (id, row): (i64, Vec<u8>) = connection
        .query_row(
            "SELECT id, batch FROM journal WHERE pid = ?1 AND first = 8",
            [pid(1).as_bytes()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .expect("the fifth append");
    let reader = SqliteReader::open(dir.path()).expect("opens");
    let local = Tenant::local();
    let key = block_on(reader.content_key(&local)).expect("there");
    let wanted: Vec<(Seq, Hash)> =
        texts(1, 4).iter().zip(8..).map(|(text, seq)| (Seq(seq), key.hash(text))).collect();
    let look = || {
        let records = block_on(reader.read(&local, pid(1), Seq(8), 2))?;
        let contents = block_on(reader.contents(&local, pid(1), &wanted))?;
        Ok::<_, StoreError>((records, contents))
    };
    let whole = look().expect("whole");
    let write = |bytes: &[u8]| {
        connection
            .execute("UPDATE journal SET batch = ?1 WHERE id = ?2", (bytes, id))
            .expect("written");
    };
    let mut harmless = Vec::new();
    for place in 0..row.len() {
        for bit in [1, 0x80] {
            let mut bad = row.clone();
            bad[place] ^= bit;
            write(&bad);
            let error = match look() {
                Ok(read) => {
                    assert!(read == whole, "other data after a flip at {place}");
                    harmless.push((place, bit));
                    continue;
                }
                Err(error) => error,
            };
            assert!(
                matches!(
                    error.code,
                    Code::StoreCorrupt | Code::ChainBroken | Code::StoreContentMissing
                ),
                "{place}: {error}"
            );
            assert!(error.message.contains(&pid(1).to_string()), "{place}: {error}");
        }
    }
    // Bits of a frame's header that say nothing about its bytes.
    assert!(harmless.len() <= 4, "{harmless:?}");
    for len in 0..row.len() {
        write(&row[..len]);
        look().expect_err("cut");
    }
    write(&row);
    look().expect("whole again");
}

/// Rows that are gone, exchanged, moved or put elsewhere.
#[test]
fn rows_that_are_not_in_their_place_are_noticed() {
    let of = |n: u64| format!("pid = x'{}'", pid(n).to_string().replace('-', ""));
    let tampering = [
        (format!("DELETE FROM journal WHERE {} AND first = 8", of(1)), "event 8 is missing"),
        (format!("DELETE FROM spans WHERE {}", of(1)), "is missing"),
        (
            format!(
                "UPDATE processes SET tail = (SELECT tail FROM processes WHERE {}) WHERE {}",
                of(0),
                of(1)
            ),
            "is missing",
        ),
        (format!("UPDATE journal SET first = first + 2 WHERE {}", of(1)), "is missing"),
        (format!("UPDATE journal SET tenant = 2 WHERE {}", of(1)), "is missing"),
        (
            format!(
                "UPDATE journal SET batch = (SELECT batch FROM journal WHERE {} AND first = 8) \
                 WHERE {} AND first = 8",
                of(0),
                of(1)
            ),
            "events 8 to 9",
        ),
        (format!("UPDATE processes SET head = zeroblob(32) WHERE {}", of(1)), "events 78 to 79"),
        (format!("UPDATE processes SET next = next - 2 WHERE {}", of(1)), ""),
        (format!("UPDATE processes SET next = next + 1 WHERE {}", of(1)), "event 80 is missing"),
        (format!("UPDATE processes SET next = -1 WHERE {}", of(1)), "cannot be read"),
        (format!("UPDATE processes SET origin = x'00' WHERE {}", of(1)), ""),
        (format!("UPDATE journal SET hash = zeroblob(32) WHERE {}", of(1)), "events 0 to 1"),
    ];
    for (sql, words) in tampering {
        let dir = sample();
        tamper(dir.path(), &sql);
        let store = open(dir.path());
        let local = Tenant::local();
        let error = block_on(store.read(&local, pid(1), Seq(0), usize::MAX)).expect_err(&sql);
        assert!(matches!(error.code, Code::StoreCorrupt | Code::ChainBroken), "{sql}: {error}");
        assert!(error.message.contains(words), "{sql}: {error}");
        for n in [0, 2] {
            block_on(store.read(&local, pid(n), Seq(0), usize::MAX)).expect("another process");
        }
    }
}

#[test]
fn damaged_blobs_and_checkpoints_are_noticed() {
    let dir = sample();
    tamper(dir.path(), "UPDATE blobs SET bytes = zeroblob(length(bytes))");
    let reader = SqliteReader::open(dir.path()).expect("opens");
    let local = Tenant::local();
    let hash = block_on(reader.content_key(&local)).expect("there").hash(&texts(0, 10)[1]);
    refused(block_on(reader.contents(&local, pid(0), &[(Seq(21), hash)])), Code::StoreCorrupt);

    let newest = "(SELECT MAX(id) FROM checkpoints GROUP BY pid)";
    tamper(dir.path(), &format!("UPDATE checkpoints SET len = len + 1 WHERE id IN {newest}"));
    let answer = block_on(reader.checkpoint(&local, pid(0), None));
    let error = refused(answer, Code::StoreCorrupt);
    assert!(error.message.contains("its checkpoint at event 61"), "{error}");
    let before =
        block_on(reader.checkpoint(&local, pid(0), Some(Seq(60)))).expect("the one before");
    assert_eq!(before.map(|it| it.seq), Some(Seq(31)));

    let store = open(dir.path());
    let scribe = block_on(Scribe::new(&store, &local, pid(0)));
    let append = Scribe::with_checkpoint(scribe.append(&[b"more"]), b"a fold".to_vec());
    let append = Scribe::with_stretch(append, Seq(0), noise(1, 9_000));
    block_on(store.append(append)).expect("continues");
    let there = || block_on(store.checkpoint(&local, pid(0), None));
    assert_eq!(there().expect("whole").map(|it| it.stretches.len()), Some(1));
    tamper(dir.path(), "UPDATE stretches SET len = len + 1");
    refused(there(), Code::StoreCorrupt);
}
