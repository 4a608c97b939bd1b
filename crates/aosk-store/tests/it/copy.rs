//! Copies of whole stores: the same in every event, hash and content, or nothing.

use std::path::Path;

use aosk_abi::{ChunkList, Code, Content, ContentKey, Epoch, Hash, Record, Seq, Signal, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{
    Append, Checkpoint, ContentReader, ContentStore, ContentWriter, Inbox, InboxItem, Journal,
    Posted, ProcessFilter, Receipt, Store,
};
use aosk_store::{
    Backup, PostgresReader, PostgresStore, SqliteReader, StorePlace, copy, integrity, restore,
};

use crate::child::pid;
use crate::postgres::server;
use crate::support::{block_on, noise, open, options, refused};

fn tenants() -> [Tenant; 2] {
    ["local", "other"].map(|name| name.parse().expect("a name"))
}

/// What stands in chunks.
fn long() -> Vec<u8> {
    noise(77, 2 * ChunkList::CHUNK + 9)
}

fn texts(n: u64, round: u64) -> Vec<Vec<u8>> {
    vec![
        format!("said {n} {round}").into_bytes(),
        noise(n * 1000 + round, Content::INLINE_MAX),
        noise(round, Content::INLINE_MAX + 1),
        b"large text that compresses ".repeat(400),
    ]
}

/// Journals past a span, under more than one epoch, one that begins as the copy of another would;
/// contents of every size, saved folds, a name with U+0000, an inbox with gaps.
async fn write(store: &(impl Store + ContentStore)) {
    for tenant in tenants() {
        let key = store.content_key(&tenant).await.expect("made");
        let mut writer = ContentWriter::new(store, &tenant, key);
        writer.write(&long()).await.expect("stored");
        writer.finish().await.expect("stored");
        for n in 0..3 {
            let mut scribe = Scribe::new(store, &tenant, pid(n)).await;
            if n == 2 {
                scribe.head = Hash::of(b"another journal");
            }
            for round in 0..70 {
                let texts = if round % 20 == 3 { texts(n, round) } else { vec![vec![b'x'; 9]] };
                let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
                let mut append = scribe.append(&texts);
                if round % 30 == 29 {
                    append = Scribe::with_checkpoint(append, noise(n, 500));
                    append = Scribe::with_stretch(append, Seq(round / 2), noise(round, 9_000));
                }
                append.row.name = format!("agent\0{n}");
                store.append(append.clone()).await.expect("continues");
                scribe.follow(&append);
                if round == 50 {
                    store.claim(&tenant, pid(n), Epoch(1)).await.expect("there");
                    scribe.epoch = Epoch(2);
                }
            }
        }
        for text in ["one", "two\0", "three"] {
            let item = InboxItem::Message { from: "user".to_owned(), text: text.to_owned() };
            store.post(&tenant, pid(1), item).await.expect("there");
        }
        let signal = InboxItem::Signal { signal: Signal::Stop };
        let taken = store.post(&tenant, pid(0), signal).await.expect("there");
        let scribe = Scribe::new(store, &tenant, pid(0)).await;
        let append = Append { consumed: vec![taken], ..scribe.append(&[b"stopped"]) };
        store.append(append).await.expect("continues");
    }
}

/// All that a reader can have.
#[derive(Debug, PartialEq)]
struct Everything {
    keys: Vec<[u8; 32]>,
    receipts: Vec<Receipt>,
    records: Vec<Vec<Record>>,
    contents: Vec<Vec<u8>>,
    checkpoints: Vec<(Option<Checkpoint>, Option<Checkpoint>)>,
    inbox: Vec<Posted>,
}

async fn everything(reader: &(impl Journal + Inbox + ContentStore)) -> Everything {
    let mut all = Everything {
        keys: Vec::new(),
        receipts: Vec::new(),
        records: Vec::new(),
        contents: Vec::new(),
        checkpoints: Vec::new(),
        inbox: Vec::new(),
    };
    for tenant in tenants() {
        let key: ContentKey = reader.content_key(&tenant).await.expect("there");
        all.keys.push(*key.as_bytes());
        let address = key.hash(&long());
        let mut chunks =
            ContentReader::open(reader, &tenant, key, address).await.expect("in chunks");
        while let Some(chunk) = chunks.next().await.expect("whole") {
            all.contents.push(chunk.to_vec());
        }
        for receipt in reader.processes(&tenant, ProcessFilter::All).await.expect("listed") {
            let pid = receipt.pid;
            let records = reader.read(&tenant, pid, Seq(0), usize::MAX).await.expect("whole");
            let newest = reader.checkpoint(&tenant, pid, None).await.expect("sound");
            let before = newest.as_ref().map(|newest| Seq(newest.seq.0 - 1));
            let before = reader.checkpoint(&tenant, pid, before).await.expect("sound");
            all.checkpoints.push((newest, before));
            let n = (0..3).find(|n| self::pid(*n) == pid).expect("one of them");
            for round in (3..70).step_by(20) {
                for text in texts(n, round) {
                    let hash = key.hash(&text);
                    let naming = |record: &&Record| {
                        String::from_utf8_lossy(&record.body).contains(&hash.to_string())
                    };
                    let seq = records.iter().find(naming).expect("names it").seq;
                    let found = reader.contents(&tenant, pid, &[(seq, hash)]).await.expect("there");
                    all.contents.push(found[0].to_vec());
                }
            }
            all.records.push(records);
            all.receipts.push(receipt);
        }
        all.inbox.extend(reader.pending(&tenant).await.expect("there"));
    }
    all
}

fn names(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).expect("a folder");
    let mut names: Vec<String> =
        names.map(|it| it.expect("read").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_copy_to_a_server_and_back_is_the_same_in_every_event_hash_and_content() {
    if !server::is_here() {
        return;
    }
    let (dir, back) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("one"));
    let store = open(dir.path());
    block_on(write(&store));
    let original = block_on(everything(&store));
    let (here, there) = (StorePlace::Sqlite(dir.path().to_owned()), server::options());
    let on_server = StorePlace::Postgres(there.clone());

    // The owner goes on meanwhile; a copy is of one moment.
    let out = copy(&here, &on_server).expect("copied");
    assert_eq!((out.tenants, out.items, out.checkpoints, out.chunked), (2, 6, 12, 2));
    let events: usize = original.records.iter().map(Vec::len).sum();
    assert_eq!((out.events, out.heads.len()), (events as u64, 6));
    for receipt in &original.receipts {
        let head = out.heads.get(&(receipt.tenant.clone(), receipt.pid));
        assert_eq!(head, Some(&(receipt.next, receipt.head)));
    }
    let reader = PostgresReader::open(&there).expect("a store");
    assert_eq!(block_on(everything(&reader)), original);

    let home = StorePlace::Sqlite(back.path().to_owned());
    assert_eq!(copy(&on_server, &home).expect("copied"), out);
    let returned = SqliteReader::open(back.path()).expect("a store");
    assert_eq!(block_on(everything(&returned)), original);
    assert_eq!(integrity(&back.path().join("aosk.db")).expect("read"), [""; 0]);

    // Both go on where the source stands, with numbers that were never used.
    let (server, file) = (PostgresStore::open(&there).expect("opens"), open(back.path()));
    block_on(async {
        goes_on(&server).await;
        goes_on(&file).await;
    });
}

async fn goes_on(store: &impl Store) {
    let local = Tenant::local();
    let last = store.pending(&local).await.expect("there").iter().map(|it| it.1).max();
    let item = InboxItem::Signal { signal: Signal::Kill };
    let id = store.post(&local, pid(1), item).await.expect("there");
    assert!(Some(id) > last, "{id:?} after {last:?}");
    let mut scribe = Scribe::new(store, &local, pid(1)).await;
    assert_eq!(scribe.epoch, Epoch(2));
    scribe.write(store, &[&texts(1, 3)[2], b"and more"]).await.expect("continues");
}

#[test]
fn what_holds_a_store_is_not_copied_into() {
    let (dir, full) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("one"));
    let store = open(dir.path());
    block_on(write(&store));
    let here = StorePlace::Sqlite(dir.path().to_owned());
    drop(open(full.path()));
    let taken = StorePlace::Sqlite(full.path().to_owned());
    let before = std::fs::read(full.path().join("aosk.db")).expect("read");
    refused(copy(&here, &taken), Code::StoreOpen);
    refused(copy(&here, &here), Code::StoreOwned);
    assert!(std::fs::read(full.path().join("aosk.db")).expect("read") == before);
    let nothing = StorePlace::Sqlite(full.path().join("nothing"));
    refused(copy(&nothing, &StorePlace::Sqlite(full.path().join("new"))), Code::StoreOpen);

    if server::is_here() {
        let used = server::options();
        block_on(write(&server::open(&used)));
        refused(copy(&here, &StorePlace::Postgres(used)), Code::StoreOpen);
    }
}

#[test]
fn a_copy_that_breaks_off_leaves_nothing_that_looks_like_a_store() {
    let (dir, new) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("one"));
    block_on(write(&open(dir.path())));
    let sql = "UPDATE journal SET hash = zeroblob(32) \
               WHERE id = (SELECT max(id) FROM journal) OR id = 400";
    let database = rusqlite::Connection::open(dir.path().join("aosk.db")).expect("opens");
    database.execute_batch(sql).expect("altered");
    drop(database);
    let here = StorePlace::Sqlite(dir.path().to_owned());
    let to = StorePlace::Sqlite(new.path().to_owned());
    refused(copy(&here, &to), Code::ChainBroken);
    assert_eq!(names(new.path()), ["aosk.lock"]);
    // What a copy leaves that was killed is not taken for a store, and not in the way of the next.
    std::fs::write(new.path().join("aosk.db.new"), noise(1, 5000)).expect("written");
    refused(SqliteReader::open(new.path()), Code::StoreOpen);
    refused(copy(&here, &to), Code::ChainBroken);
    assert_eq!(names(new.path()), ["aosk.lock"]);

    if server::is_here() {
        let options = server::options();
        let to = StorePlace::Postgres(options.clone());
        refused(copy(&here, &to), Code::ChainBroken);
        block_on(async {
            let client = server::psql(&options).await;
            for table in ["tenants", "processes", "journal", "blobs", "checkpoints"] {
                let sql = format!("SELECT count(*) FROM {table}");
                let row = client.query_one(&sql, &[]).await.expect("counted");
                assert_eq!(row.get::<_, i64>(0), 0, "{table}");
            }
        });
        let whole = tempfile::tempdir().expect("a folder");
        block_on(write(&open(whole.path())));
        copy(&StorePlace::Sqlite(whole.path().to_owned()), &to).expect("it is still empty");
    }
}

#[test]
fn a_backup_of_a_server_is_restored_to_a_folder_and_to_a_server() {
    if !server::is_here() {
        return;
    }
    let from = server::options();
    let store = PostgresStore::open(&from).expect("opens");
    block_on(write(&store));
    let original = block_on(everything(&store));
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("friday.aosk");
    let backup = Backup::of_place(&StorePlace::Postgres(from), &file).expect("copied");
    assert_eq!(integrity(backup.path()).expect("read"), [""; 0]);
    assert!(!file.exists());
    backup.publish().expect("named");
    assert_eq!(names(dir.path()), ["friday.aosk"]);

    let folder = dir.path().join("restored");
    restore(&file, &options(&folder)).expect("restored");
    assert_eq!(block_on(everything(&SqliteReader::open(&folder).expect("opens"))), original);
    let to = server::options();
    copy(&StorePlace::Backup(file), &StorePlace::Postgres(to.clone())).expect("restored");
    assert_eq!(block_on(everything(&PostgresReader::open(&to).expect("opens"))), original);
}

#[test]
fn a_copy_is_of_one_moment_while_a_writer_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, tenant) = (open(dir.path()), Tenant::local());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            block_on(async {
                let mut scribes = Vec::new();
                for n in 0..4 {
                    scribes.push(Scribe::new(&store, &tenant, pid(n)).await);
                }
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    // In turns: no copy may have more of a later one than of an earlier one.
                    for scribe in &mut scribes {
                        scribe.write(&store, &[b"a step"]).await.expect("continues");
                    }
                }
            });
        });
        for _ in 0..10 {
            let new = tempfile::tempdir().expect("a folder");
            let to = StorePlace::Sqlite(new.path().to_owned());
            copy(&StorePlace::Sqlite(dir.path().to_owned()), &to).expect("copied");
            let reader = SqliteReader::open(new.path()).expect("a store");
            let listed = block_on(reader.processes(&tenant, ProcessFilter::All)).expect("listed");
            let ends: Vec<u64> = listed.iter().map(|receipt| receipt.next.0).collect();
            assert!(ends.is_sorted_by(|a, b| a >= b), "{ends:?}");
            assert!(ends.first().zip(ends.get(3)).is_none_or(|(a, b)| a - b <= 2), "{ends:?}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
