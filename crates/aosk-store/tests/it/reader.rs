//! Beside the owner: readers and those who post.

use std::time::Duration;

use aosk_abi::{Code, Hash, Seq, Signal, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{Inbox, InboxItem, Journal, ProcessFilter};
use aosk_store::SqliteReader;

use crate::child::{Ack, Other, pid};
use crate::support::{block_on, open, refused};

#[test]
fn a_reader_reads_and_posts_while_the_owner_writes() {
    let dir = tempfile::tempdir().expect("a folder");
    let local = Tenant::local();
    let mut other = Other::start("write", dir.path());
    let mut ack = Ack::parse(&other.line("ack ")).expect("an ack");
    let reader = SqliteReader::open(dir.path()).expect("a reader");
    let mut posted = Vec::new();
    for n in 0..20 {
        // Acknowledged by another process is readable in this one.
        let read = block_on(reader.read(&local, pid(ack.n), Seq(ack.last), 1)).expect("read");
        assert_eq!(read[0].hash, ack.hash);
        let whole = block_on(reader.read(&local, pid(n % 3), Seq(0), usize::MAX)).expect("whole");
        assert!(!whole.is_empty());
        let item = InboxItem::Message { from: "user".to_owned(), text: format!("{n}") };
        let id = block_on(reader.post(&local, pid(n % 3), item.clone())).expect("posted");
        posted.push((pid(n % 3), id, item));
        ack = Ack::parse(&other.line("ack ")).expect("an ack");
    }
    let unknown = reader.post(&local, pid(99), InboxItem::Signal { signal: Signal::Kill });
    refused(block_on(unknown), Code::StoreUnknownProcess);
    let item = InboxItem::Signal { signal: Signal::Stop };
    let half = vec![(pid(0), item.clone()), (pid(99), item.clone())];
    refused(block_on(reader.post_all(&local, half)), Code::StoreUnknownProcess);
    assert_eq!(block_on(reader.pending(&local)).expect("answers"), posted, "all or none");
    let both = vec![(pid(0), item.clone()), (pid(1), item.clone())];
    let ids = block_on(reader.post_all(&local, both)).expect("posted");
    posted.extend([(pid(0), ids[0], item.clone()), (pid(1), ids[1], item)]);
    assert_eq!(block_on(reader.pending(&local)).expect("answers"), posted);
    other.kill();
    assert_eq!(block_on(open(dir.path()).pending(&local)).expect("answers"), posted);
}

#[test]
fn the_owner_is_told_of_everything_that_is_posted_and_of_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, local) = (open(dir.path()), Tenant::local());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let told = async |within| {
            let posted = store.posted().expect("this system tells");
            tokio::time::timeout(within, posted).await.is_ok()
        };
        let (soon, long) = (Duration::from_secs(10), Duration::from_millis(100));
        assert!(!told(long).await);
        let mut scribe = Scribe::new(&store, &local, pid(0)).await;
        scribe.write(&store, &[b"one's own work"]).await.expect("written");
        assert!(!told(long).await, "a commit of the owner's is no news");

        let reader = SqliteReader::open(dir.path()).expect("a reader");
        let item = InboxItem::Signal { signal: Signal::Stop };
        for _ in 0..2 {
            reader.post(&local, pid(0), item.clone()).await.expect("posted");
            assert!(told(soon).await);
            store.post(&local, pid(0), item.clone()).await.expect("posted");
            assert!(told(soon).await);
            assert!(!told(long).await);
            // Somebody tidies up.
            std::fs::remove_file(dir.path().join("aosk.bell")).expect("there");
        }
        assert_eq!(store.pending(&local).await.expect("answers").len(), 4);
    });
}

#[test]
fn a_reader_changes_no_byte_of_what_a_killed_owner_left() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut other = Other::start("write", dir.path());
    for _ in 0..50 {
        other.line("ack ");
    }
    other.kill();
    let files = ["aosk.db", "aosk.db-wal", "aosk.lock"].map(|name| dir.path().join(name));
    let hashes = || files.clone().map(|path| Hash::of(&std::fs::read(path).expect("there")));
    let before = hashes();
    let reader = SqliteReader::open(dir.path()).expect("a reader");
    let local = Tenant::local();
    for receipt in block_on(reader.processes(&local, ProcessFilter::All)).expect("listed") {
        let read = block_on(reader.read(&local, receipt.pid, Seq(0), usize::MAX)).expect("whole");
        assert_eq!(read.last().map(|record| record.hash), Some(receipt.head));
    }
    assert_eq!(hashes(), before);
    drop(reader);
    assert_eq!(hashes(), before);

    // Who posts adds to the log, and leaves the file itself to the next owner.
    let reader = SqliteReader::open(dir.path()).expect("a reader");
    let item = InboxItem::Signal { signal: Signal::Stop };
    block_on(reader.post(&local, pid(0), item)).expect("posted");
    drop(reader);
    let after = hashes();
    assert_eq!((after[0], after[2]), (before[0], before[2]));
    assert_ne!(after[1], before[1]);
    assert_eq!(block_on(open(dir.path()).pending(&local)).expect("answers").len(), 1);
}

#[test]
fn a_reader_makes_nothing_where_there_is_no_store() {
    let dir = tempfile::tempdir().expect("a folder");
    refused(SqliteReader::open(dir.path()), Code::StoreOpen);
    refused(SqliteReader::open(&dir.path().join("nowhere")), Code::StoreOpen);
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0);

    drop(open(dir.path()));
    let reader = SqliteReader::open(dir.path()).expect("a reader");
    let key = reader.content_key(&Tenant::local());
    refused(block_on(key), Code::StoreUnknownProcess);
}
