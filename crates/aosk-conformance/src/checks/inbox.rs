//! The inbox.

use std::time::Duration;

use aosk_abi::{Code, Hash, MicroDollars, Op, Pid, Priority, Seq, Signal, Tenant};
use aosk_ports::{Append, InboxId, InboxItem};

use super::refused;
use crate::World;

/// An item leaves the inbox in the very transaction that puts it into the journal.
pub async fn items_wait_until_an_append_takes_them_over(mut world: World) {
    let (mut one, mut two) = (world.scribe(1).await, world.scribe(2).await);
    one.write(world.store().as_ref(), &[b"zero"]).await.expect("begins");
    two.write(world.store().as_ref(), &[b"zero"]).await.expect("begins");
    let items = [
        (one.pid, InboxItem::Signal { signal: Signal::Stop }),
        (two.pid, InboxItem::Message { from: "user".to_owned(), text: "hé\0llo".to_owned() }),
        (one.pid, InboxItem::Signal { signal: Signal::Cont }),
        (one.pid, InboxItem::Message { from: String::new(), text: "x".repeat(100_000) }),
        (two.pid, InboxItem::Signal { signal: Signal::Kill }),
        (two.pid, InboxItem::Priority { priority: Priority::new(99).expect("in range") }),
        (one.pid, InboxItem::SpendLimit { limit: MicroDollars(u64::MAX) }),
        (two.pid, InboxItem::Mail { from: one.pid, op: Op(u64::MAX), text: "\0".to_owned() }),
    ];
    let mut posted = Vec::new();
    for (pid, item) in items {
        let id = world.store().post(&one.tenant, pid, item.clone()).await.expect("posted");
        posted.push((pid, id, item));
    }
    let pending =
        async |world: &World| world.store().pending(&Tenant::local()).await.expect("answers");
    assert_eq!(pending(&world).await, posted);
    world.reopen();
    assert_eq!(pending(&world).await, posted, "posted is durable");

    let consumed = vec![posted[0].1, posted[3].1];
    let mut broken = Append { consumed: consumed.clone(), ..one.append(&[b"broken"]) };
    broken.records[0].hash = Hash::ZERO;
    refused(world.store().append(broken).await, Code::StoreConflict);
    assert_eq!(pending(&world).await, posted, "a refused append takes nothing over");

    let append = Append { consumed, ..one.append(&[b"taken over"]) };
    world.store().append(append.clone()).await.expect("continues");
    one.follow(&append);
    let left = [1, 2, 4, 5, 6, 7].map(|index: usize| posted[index].clone());
    assert_eq!(pending(&world).await, left);
    world.reopen();
    assert_eq!(pending(&world).await, left);
}

/// Whoever can be told that something was posted is told each time; a store that cannot says so.
pub async fn a_post_is_told_to_whoever_can_be_told(world: World) {
    let mut one = world.scribe(1).await;
    one.write(world.store().as_ref(), &[b"zero"]).await.expect("begins");
    for _ in 0..3 {
        let Some(told) = world.store().posted() else {
            return;
        };
        let item = InboxItem::Signal { signal: Signal::Stop };
        world.store().post(&one.tenant, one.pid, item).await.expect("posted");
        tokio::time::timeout(Duration::from_secs(30), told).await.expect("told");
    }
}

/// Only what was named, only of the process that was named, and only while its journal ends where
/// whoever dismisses saw its end.
pub async fn a_dismissed_item_is_gone(mut world: World) {
    let (mut one, mut two) = (world.scribe(1).await, world.scribe(2).await);
    let mut ids = Vec::new();
    for scribe in [&mut one, &mut two] {
        scribe.write(world.store().as_ref(), &[b"zero"]).await.expect("begins");
        for signal in [Signal::Stop, Signal::Cont] {
            let item = InboxItem::Signal { signal };
            ids.push(world.store().post(&scribe.tenant, scribe.pid, item).await.expect("posted"));
        }
    }
    let dismiss = async |world: &World, next, items: &[InboxId]| {
        world.store().dismiss(&one.tenant, one.pid, next, items).await
    };
    dismiss(&world, one.next, &[ids[0], ids[2]]).await.expect("dismissed");
    dismiss(&world, one.next, &[ids[0]]).await.expect("it is gone already");
    for other in [Seq(one.next.0 - 1), one.next.next()] {
        refused(dismiss(&world, other, &[ids[1]]).await, Code::StoreConflict);
    }
    world.reopen();
    let left = world.store().pending(&one.tenant).await.expect("answers");
    assert_eq!(left.iter().map(|(_, id, _)| *id).collect::<Vec<_>>(), ids[1..]);
    let append = Append { consumed: vec![ids[0]], ..one.append(&[b"too late"]) };
    refused(world.store().append(append).await, Code::StoreConflict);
    let nobody = Pid::from_bytes([99; 16]);
    let answer = world.store().dismiss(&one.tenant, nobody, one.next, &[ids[1]]).await;
    refused(answer, Code::StoreUnknownProcess);
}

/// Not twice, not by another process, not by another tenant.
pub async fn an_item_is_taken_over_once(world: World) {
    let store = world.store();
    let other: Tenant = "other".parse().expect("a tenant name");
    let (mut one, mut two) = (world.scribe(1).await, world.scribe(2).await);
    let mut foreign = world.scribe_of(&other, 1).await;
    for scribe in [&mut one, &mut two, &mut foreign] {
        scribe.write(store.as_ref(), &[b"zero"]).await.expect("begins");
    }
    let item = InboxItem::Signal { signal: Signal::Stop };
    let id = store.post(&one.tenant, one.pid, item.clone()).await.expect("posted");
    assert!(store.pending(&other).await.expect("answers").is_empty());
    for thief in [&two, &foreign] {
        let append = Append { consumed: vec![id], ..thief.append(&[b"mine"]) };
        refused(store.append(append).await, Code::StoreConflict);
    }
    let twice = Append { consumed: vec![id, id], ..one.append(&[b"twice"]) };
    refused(store.append(twice).await, Code::StoreConflict);

    let append = Append { consumed: vec![id], ..one.append(&[b"once"]) };
    store.append(append.clone()).await.expect("continues");
    one.follow(&append);
    let again = Append { consumed: vec![id], ..one.append(&[b"again"]) };
    refused(store.append(again).await, Code::StoreConflict);
    store.append(append).await.expect("a repeated append is no second taking over");

    let next = store.post(&one.tenant, one.pid, item).await.expect("posted");
    assert!(next > id, "a number is never used twice");
}
