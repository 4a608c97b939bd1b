//! Contents, and the tenants they belong to.

use aosk_abi::{Code, Content, Hash, Seq, Tenant};
use aosk_ports::ProcessFilter;

use super::refused;
use crate::World;
use crate::scribe::Scribe;

/// Small ones, the largest small one, the smallest large one, large ones; compressible or not.
pub async fn contents_at_the_inline_bound_come_back(world: World) {
    let (store, mut scribe) = (world.store(), world.scribe(1).await);
    let max = Content::INLINE_MAX;
    let texts: Vec<Vec<u8>> = [0, 1, 1024, 1025, max - 1, max, max + 1, 100_000]
        .into_iter()
        .flat_map(|len| [vec![b'a'; len], noise(len), vec![0; len]])
        .collect();
    let borrowed: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let mut wanted = Vec::new();
    for chunk in borrowed.chunks(5) {
        let first = scribe.next.0;
        scribe.write(store.as_ref(), chunk).await.expect("continues");
        wanted.extend((first..).zip(chunk).map(|(seq, text)| (Seq(seq), scribe.key.hash(text))));
    }
    let found = store.contents(&scribe.tenant, scribe.pid, &wanted).await.expect("all there");
    assert!(found.iter().map(|bytes| &bytes[..]).eq(borrowed.iter().copied()));
    // In any order, and one twice.
    wanted.reverse();
    wanted.push(wanted[3]);
    let found = store.contents(&scribe.tenant, scribe.pid, &wanted).await.expect("all there");
    let expected = borrowed.iter().rev().chain([&borrowed[borrowed.len() - 4]]);
    assert!(found.iter().map(|bytes| &bytes[..]).eq(expected.copied()));
}

/// The same document in many journals is readable from each; a large one needs to come once.
pub async fn one_content_serves_many_processes(world: World) {
    let store = world.store();
    // The largest that must come every time, the smallest that need not.
    let (small, large) = (noise(Content::INLINE_MAX), noise(Content::INLINE_MAX + 1));
    let mut scribes = Vec::new();
    for n in 0..5 {
        let mut scribe = world.scribe(n).await;
        let mut append = scribe.append(&[&small, &large, &large, &small]);
        if n > 0 {
            append.contents.retain(|content| content.bytes().len() <= Content::INLINE_MAX);
        }
        store.append(append.clone()).await.expect("begins");
        scribe.follow(&append);
        scribes.push(scribe);
    }
    for scribe in &scribes {
        let wanted: Vec<(Seq, Hash)> = [&small, &large, &large, &small]
            .into_iter()
            .zip(0..)
            .map(|(text, seq)| (Seq(seq), scribe.key.hash(text)))
            .collect();
        let found = store.contents(&scribe.tenant, scribe.pid, &wanted).await.expect("there");
        assert!(found.iter().map(|bytes| &bytes[..]).eq([&small[..], &large, &large, &small]));
    }
}

/// A hash that stands for nothing, and an event that is not there, are told apart from damage.
pub async fn a_content_that_nobody_stored_is_missing(world: World) {
    let (store, mut scribe) = (world.store(), world.scribe(1).await);
    scribe.write(store.as_ref(), &[b"here"]).await.expect("begins");
    let here = scribe.key.hash(b"here");
    let nowhere = scribe.key.hash(b"nowhere");
    for wanted in [(Seq(0), nowhere), (Seq(1), here), (Seq(u64::MAX), here)] {
        let answer = store.contents(&scribe.tenant, scribe.pid, &[(Seq(0), here), wanted]).await;
        refused(answer, Code::StoreContentMissing);
    }
}

/// Nothing is stored under an address that its reader could not check.
pub async fn a_content_of_another_tenants_key_is_refused(world: World) {
    let (store, scribe) = (world.store(), world.scribe(1).await);
    let other: Tenant = "other".parse().expect("a tenant name");
    let foreign =
        Scribe { key: store.content_key(&other).await.expect("its key"), ..scribe.clone() };
    for len in [10, Content::INLINE_MAX + 1] {
        let append = foreign.append(&[&vec![1; len]]);
        refused(store.append(append).await, Code::StoreConflict);
    }
    assert_eq!(store.process(&scribe.tenant, scribe.pid).await.expect("answers"), None);
}

/// One id under two tenants is two processes, and neither learns what the other holds.
pub async fn tenants_do_not_see_each_other(world: World) {
    let store = world.store();
    let (a, b): (Tenant, Tenant) = ("a".parse().expect("name"), "b".parse().expect("name"));
    let (mut of_a, mut of_b) = (world.scribe_of(&a, 1).await, world.scribe_of(&b, 1).await);
    assert_ne!(of_a.key, of_b.key);
    assert_eq!(store.content_key(&a).await.expect("its key"), of_a.key);
    let (small, large) = (noise(100), noise(10_000));
    of_a.write(store.as_ref(), &[&small, &large]).await.expect("begins");
    of_b.write(store.as_ref(), &[b"b's own", b"too"]).await.expect("begins");
    of_b.write(store.as_ref(), &[b"more"]).await.expect("continues");

    assert_eq!(store.read(&a, of_a.pid, Seq(0), 9).await.expect("read").len(), 2);
    assert_eq!(store.read(&b, of_b.pid, Seq(0), 9).await.expect("read").len(), 3);
    for text in [&small, &large] {
        for key in [of_a.key, of_b.key] {
            for seq in 0..3 {
                let answer = store.contents(&b, of_b.pid, &[(Seq(seq), key.hash(text))]).await;
                refused(answer, Code::StoreContentMissing);
            }
        }
    }
    for tenant in [&a, &b] {
        let listed = store.processes(tenant, ProcessFilter::All).await.expect("listed");
        assert!(listed.iter().map(|it| (&it.tenant, it.pid)).eq([(tenant, of_a.pid)]));
    }
    store.claim(&a, of_a.pid, of_a.epoch).await.expect("there");
    of_b.write(store.as_ref(), &[b"another's claim is not ours"]).await.expect("continues");
}

/// Bytes that do not compress, the same for the same length.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let blocks = (0..len.div_ceil(32) as u64)
        .flat_map(|n| *Hash::of(&[len as u64, n].map(u64::to_le_bytes).concat()).as_bytes());
    blocks.take(len).collect()
}
