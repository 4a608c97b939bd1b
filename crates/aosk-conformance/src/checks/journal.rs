//! Appending and reading.

use aosk_abi::{Code, Epoch, Hash, Record, Records, Seq};
use aosk_ports::Append;

use super::refused;
use crate::World;
use crate::scribe::Scribe;

/// What was appended is what is read: bodies that are not JSON, not UTF-8 or empty, too, because
/// a store keeps bytes and does not read them.
pub async fn bodies_and_contents_come_back_byte_for_byte(world: World) {
    let mut scribe = world.scribe(1).await;
    let bodies: [&[u8]; 6] =
        [b"{}", b"", b"\0\0", &[0xff; 300], "é 日本語 \u{1f600}".as_bytes(), &[b'x'; 70_000]];
    let mut written = Vec::new();
    for chunk in bodies.chunks(4) {
        let append = of_bodies(&scribe, chunk);
        let committed = world.store().append(append.clone()).await.expect("continues the journal");
        scribe.follow(&append);
        assert_eq!(committed.last.next(), scribe.next);
        written.extend(append.records);
    }
    let read = world.store().read(&scribe.tenant, scribe.pid, Seq(0), 100).await.expect("read");
    assert_eq!(read, written);

    let texts: [&[u8]; 4] = [b"", b"\0", &[0xff, 0, 0xfe], "naïve".as_bytes()];
    let first = scribe.next;
    scribe.write(world.store().as_ref(), &texts).await.expect("continues the journal");
    let wanted: Vec<(Seq, Hash)> =
        (first.0..).zip(texts).map(|(seq, text)| (Seq(seq), scribe.key.hash(text))).collect();
    let found = world.store().contents(&scribe.tenant, scribe.pid, &wanted).await.expect("there");
    assert!(found.iter().map(|bytes| &bytes[..]).eq(texts));
}

/// Any event can be the first that is read, also in the middle of an append, and none past the
/// limit or the end comes.
pub async fn reads_begin_anywhere_and_stop_at_the_limit(world: World) {
    let mut scribe = world.scribe(1).await;
    let texts: Vec<Vec<u8>> = (0..4_u8).map(|n| vec![n; 10]).collect();
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    // More appends than any backend is likely to group in one unit of its index.
    for n in 0..150 {
        scribe.write(world.store().as_ref(), &texts[..n % 5]).await.expect("continues");
    }
    let read = async |from: u64, limit: usize| {
        world.store().read(&scribe.tenant, scribe.pid, Seq(from), limit).await.expect("read")
    };
    let all = read(0, usize::MAX).await;
    assert_eq!(all.len() as u64, scribe.next.0);
    for from in (0..scribe.next.0).step_by(7).chain([scribe.next.0 - 1]) {
        for limit in [1, 2, 5, 100, usize::MAX] {
            let expected: Vec<Record> =
                all.iter().skip(from as usize).take(limit).cloned().collect();
            assert_eq!(read(from, limit).await, expected, "{limit} from {from}");
        }
    }
    assert_eq!(read(0, 0).await, []);
    assert_eq!(read(scribe.next.0, 10).await, []);
    assert_eq!(read(u64::MAX, 10).await, []);
}

/// A writer that has no answer may ask again.
pub async fn a_repeated_append_is_acknowledged_and_changes_nothing(world: World) {
    let (store, mut scribe) = (world.store(), world.scribe(1).await);
    let first = scribe.append(&[b"one", b"two"]);
    assert_eq!(store.append(first.clone()).await.expect("first").last, Seq(1));
    scribe.follow(&first);
    scribe.write(store.as_ref(), &[b"three"]).await.expect("continues");
    let before = store.process(&scribe.tenant, scribe.pid).await.expect("there");

    assert_eq!(store.append(first.clone()).await.expect("the same again").last, Seq(1));
    let second_half = Append {
        prev: first.records[0].hash,
        records: first.records[1..].to_vec().into(),
        ..first.clone()
    };
    assert_eq!(store.append(second_half).await.expect("records that are there").last, Seq(1));
    assert_eq!(store.process(&scribe.tenant, scribe.pid).await.expect("there"), before);
    let read = store.read(&scribe.tenant, scribe.pid, Seq(0), 10).await.expect("read");
    assert_eq!(read.len(), 3);
}

/// No event without the one before it; a process begins with event 0.
pub async fn a_gap_is_refused(world: World) {
    let (store, mut scribe) = (world.store(), world.scribe(1).await);
    let mut late = scribe.clone();
    late.next = Seq(1);
    refused(store.append(late.append(&[b"no event 0"])).await, Code::StoreConflict);
    assert_eq!(store.process(&scribe.tenant, scribe.pid).await.expect("answers"), None);

    scribe.write(store.as_ref(), &[b"zero"]).await.expect("begins");
    let mut ahead = scribe.clone();
    ahead.next = Seq(2);
    refused(store.append(ahead.append(&[b"two"])).await, Code::StoreConflict);
    let mut torn = scribe.append(&[b"one", b"two", b"three"]);
    torn.records.remove(1);
    refused(store.append(torn).await, Code::StoreConflict);
    assert_eq!(store.read(&scribe.tenant, scribe.pid, Seq(0), 9).await.expect("read").len(), 1);
}

/// What is there stays, even if what comes carries a valid chain.
pub async fn other_records_in_a_taken_place_are_refused(world: World) {
    let (store, mut scribe) = (world.store(), world.scribe(1).await);
    let start = scribe.clone();
    let append = scribe.append(&[b"mine", b"too"]);
    store.append(append.clone()).await.expect("begins");
    scribe.follow(&append);
    refused(store.append(start.append(&[b"another"])).await, Code::StoreConflict);
    refused(store.append(start.append(&[b"mine", b"other"])).await, Code::StoreConflict);
    // The same two and one more: a repetition is a repetition of the whole.
    refused(store.append(start.append(&[b"mine", b"too", b"new"])).await, Code::StoreConflict);
    let read = store.read(&scribe.tenant, scribe.pid, Seq(0), 9).await.expect("read");
    assert_eq!(read, *append.records);
}

/// Every link is checked: to the journal, within the append, and to tenant, process and epoch.
pub async fn a_broken_chain_is_refused(world: World) {
    let (store, mut scribe) = (world.store(), world.scribe(1).await);
    scribe.write(store.as_ref(), &[b"zero"]).await.expect("begins");
    let good = scribe.append(&[b"one", b"two"]);

    let mut elsewhere = scribe.clone();
    elsewhere.head = Hash::of(b"elsewhere");
    refused(store.append(elsewhere.append(&[b"one"])).await, Code::StoreConflict);

    let mut altered = good.clone();
    altered.records[0].body.push(b' ');
    refused(store.append(altered).await, Code::StoreConflict);

    let mut forged = good.clone();
    forged.records[1].hash = Hash::of(b"forged");
    refused(store.append(forged).await, Code::StoreConflict);

    let mut mixed = good.clone();
    mixed.records[1].epoch = Epoch(2);
    refused(store.append(mixed).await, Code::StoreConflict);

    let other = world.scribe(2).await.pid;
    refused(
        store.append(Append { pid: other, prev: Hash::ZERO, ..good.clone() }).await,
        Code::StoreConflict,
    );

    store.append(good).await.expect("the unbroken one");
}

/// An append is of something.
pub async fn an_append_without_records_is_refused(world: World) {
    let (store, scribe) = (world.store(), world.scribe(1).await);
    let empty = Append { records: Records::default(), ..scribe.append(&[]) };
    refused(store.append(empty).await, Code::StoreConflict);
    assert_eq!(store.process(&scribe.tenant, scribe.pid).await.expect("answers"), None);
}

fn of_bodies(scribe: &Scribe, bodies: &[&[u8]]) -> Append {
    let mut append = scribe.append(&[]);
    let mut prev = scribe.head;
    append.records = (scribe.next.0..)
        .zip(bodies)
        .map(|(seq, body)| {
            let mut record = Record {
                seq: Seq(seq),
                epoch: scribe.epoch,
                kind: 60_000,
                version: 65_535,
                body: body.to_vec(),
                hash: Hash::ZERO,
            };
            record.hash = record.link(&scribe.tenant, scribe.pid, prev);
            prev = record.hash;
            record
        })
        .collect();
    append
}
