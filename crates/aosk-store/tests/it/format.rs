//! Stores that earlier versions wrote.

use std::path::Path;

use aosk_abi::{Content, Epoch, Hash, Seq, Signal, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{Append, Inbox, InboxItem, Journal, JournalWriter, ProcessFilter};

use crate::child::pid;
use crate::support::{block_on, noise, open};

/// What every version's fixture holds.
fn texts(n: u64) -> Vec<Vec<u8>> {
    vec![
        format!("small {n}").into_bytes(),
        "text that compresses ".repeat(60).into_bytes(),
        noise(n, 1500),
        noise(n, Content::INLINE_MAX + 1),
        "large text that compresses ".repeat(400).into_bytes(),
    ]
}

/// Two processes past a span, one of them claimed; checkpoints; two items in the inbox.
fn write(dir: &Path) {
    let store = open(dir);
    block_on(async {
        for n in 0..2 {
            let mut scribe = Scribe::new(&store, &Tenant::local(), pid(n)).await;
            for round in 0..40 {
                let texts = if round % 20 == 0 { texts(n) } else { vec![vec![round; 9]] };
                let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
                let mut append = scribe.append(&texts);
                if round == 39 {
                    append = Scribe::with_checkpoint(append, noise(n, 500));
                }
                store.append(append.clone()).await.expect("continues");
                scribe.follow(&append);
            }
        }
        store.claim(&Tenant::local(), pid(1), Epoch(1)).await.expect("there");
        for item in items() {
            store.post(&Tenant::local(), pid(0), item).await.expect("there");
        }
    });
}

fn items() -> [InboxItem; 2] {
    let message = InboxItem::Message { from: "user".to_owned(), text: "hello".to_owned() };
    [InboxItem::Signal { signal: Signal::Stop }, message]
}

/// Run once for each version of the schema, before its release; never again after it.
#[test]
#[ignore = "writes the fixture of the present schema"]
fn write_the_fixture() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path());
    let bytes = std::fs::read(dir.path().join("aosk.db")).expect("closed");
    let packed = zstd::bulk::compress(&bytes, 19).expect("zstd");
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/0001.db.zst"), packed)
        .expect("written");
}

#[test]
fn a_store_of_every_schema_is_read_and_goes_on() {
    let fixtures: [(&str, &[u8]); 1] = [("0001", include_bytes!("../fixtures/0001.db.zst"))];
    for (schema, packed) in fixtures {
        let dir = tempfile::tempdir().expect("a folder");
        let bytes = zstd::bulk::decompress(packed, 8 << 20).expect("zstd");
        std::fs::write(dir.path().join("aosk.db"), bytes).expect("written");
        block_on(check(dir.path(), schema));
    }
}

async fn check(dir: &Path, schema: &str) {
    let store = open(dir);
    let local = Tenant::local();
    let key = store.content_key(&local).await.expect("there");
    let listed = store.processes(&local, ProcessFilter::Unfinished).await.expect("listed");
    let places: Vec<_> = listed.iter().map(|it| (it.pid, it.epoch.0, it.next.0)).collect();
    assert_eq!(places, [(pid(0), 1, 48), (pid(1), 2, 48)], "{schema}");
    for (n, receipt) in (0..).zip(&listed) {
        let read = store.read(&local, pid(n), Seq(0), usize::MAX).await.expect("whole");
        assert_eq!(read.len(), 48, "{schema}");
        assert_eq!(read.last().map(|it| it.hash), Some(receipt.head), "{schema}");
        let wanted: Vec<(Seq, Hash)> =
            texts(n).iter().zip(24..).map(|(text, seq)| (Seq(seq), key.hash(text))).collect();
        let found = store.contents(&local, pid(n), &wanted).await.expect("there");
        assert!(found.iter().map(|it| it.to_vec()).eq(texts(n)), "{schema}");
        let saved = store.checkpoint(&local, pid(n), None).await.expect("there").expect("one");
        assert_eq!((saved.seq, saved.bytes), (Seq(47), noise(n, 500)), "{schema}");
    }
    let waiting = store.pending(&local).await.expect("there");
    assert!(waiting.iter().map(|(_, _, item)| item.clone()).eq(items()), "{schema}");

    let mut scribe = Scribe::new(&store, &local, pid(1)).await;
    scribe.write(&store, &[b"it goes on"]).await.expect("continues");
    let consumed = waiting.iter().map(|(_, id, _)| *id).collect();
    let scribe = Scribe::new(&store, &local, pid(0)).await;
    let append = Append { consumed, ..scribe.append(&[b"taken over"]) };
    store.append(append).await.expect("continues");
}
