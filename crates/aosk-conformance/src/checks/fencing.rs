//! Epochs: who may write.

use aosk_abi::{Code, Epoch, Hash, Seq, Signal, Tenant};
use aosk_ports::InboxItem;

use super::refused;
use crate::World;
use crate::world::pid;

/// From the claim on, the old owner is out, also with what it repeats.
pub async fn a_claim_fences_the_old_epoch(world: World) {
    let (store, mut old) = (world.store(), world.scribe(1).await);
    let start = old.clone();
    old.write(store.as_ref(), &[b"zero"]).await.expect("begins");
    let epoch = store.claim(&old.tenant, old.pid, old.epoch).await.expect("there");
    assert_eq!(epoch, Epoch(2));
    let claimed = store.process(&old.tenant, old.pid).await.expect("answers").expect("there");
    assert_eq!((claimed.epoch, claimed.next, claimed.head), (epoch, old.next, old.head));

    refused(store.append(old.append(&[b"late"])).await, Code::StoreStaleEpoch);
    refused(store.append(start.append(&[b"zero"])).await, Code::StoreStaleEpoch);

    let mut new = old.clone();
    new.epoch = epoch;
    new.write(store.as_ref(), &[b"one"]).await.expect("the new owner");
    assert_eq!(store.claim(&old.tenant, old.pid, epoch).await.expect("there"), Epoch(3));
    refused(store.append(new.append(&[b"late too"])).await, Code::StoreStaleEpoch);

    let read = store.read(&old.tenant, old.pid, Seq(0), 9).await.expect("read");
    assert_eq!(read.iter().map(|record| record.epoch.0).collect::<Vec<_>>(), [1, 2]);
}

/// Of all who claim what they read, one becomes the owner; the others hear that they are late.
pub async fn a_claim_of_an_epoch_that_passed_is_refused(world: World) {
    let (store, mut scribe) = (world.store(), world.scribe(1).await);
    scribe.write(store.as_ref(), &[b"zero"]).await.expect("begins");
    for round in 1..=5 {
        let claim = || store.claim(&scribe.tenant, scribe.pid, Epoch(round));
        let (a, b, c) = tokio::join!(claim(), claim(), claim());
        let (granted, late): (Vec<_>, Vec<_>) = [a, b, c].into_iter().partition(Result::is_ok);
        assert_eq!(granted.len(), 1, "one of three");
        scribe.epoch = granted.into_iter().next().expect("one").expect("granted");
        assert_eq!(scribe.epoch, Epoch(round + 1));
        for answer in late {
            refused(answer, Code::StoreStaleEpoch);
        }
        let early = store.claim(&scribe.tenant, scribe.pid, Epoch(round + 2));
        refused(early.await, Code::StoreStaleEpoch);
        scribe.write(store.as_ref(), &[b"its owner goes on"]).await.expect("the one epoch");
    }
}

/// A token is granted, not chosen.
pub async fn an_epoch_that_nobody_granted_is_refused(world: World) {
    let (store, mut scribe) = (world.store(), world.scribe(1).await);
    scribe.epoch = Epoch(7);
    scribe.write(store.as_ref(), &[b"zero"]).await.expect("the first append brings its epoch");
    for wrong in [6, 8] {
        let mut other = scribe.clone();
        other.epoch = Epoch(wrong);
        refused(store.append(other.append(&[b"one"])).await, Code::StoreStaleEpoch);
    }
    scribe.write(store.as_ref(), &[b"one"]).await.expect("its own");
}

/// Whoever names a process that is not there hears so, and makes nothing.
pub async fn unknown_processes_are_named_as_such(world: World) {
    let store = world.store();
    let local = Tenant::local();
    let nobody: Tenant = "nobody".parse().expect("a tenant name");
    world.scribe(1).await.write(store.as_ref(), &[b"zero"]).await.expect("begins");
    for (tenant, pid) in [(&local, pid(2)), (&nobody, pid(1))] {
        let code = Code::StoreUnknownProcess;
        refused(store.read(tenant, pid, Seq(0), 1).await, code);
        refused(store.contents(tenant, pid, &[(Seq(0), Hash::ZERO)]).await, code);
        refused(store.checkpoint(tenant, pid, None).await, code);
        refused(store.claim(tenant, pid, Epoch(1)).await, code);
        refused(store.post(tenant, pid, InboxItem::Signal { signal: Signal::Stop }).await, code);
        assert_eq!(store.process(tenant, pid).await.expect("answers"), None);
    }
    assert!(store.pending(&local).await.expect("answers").is_empty());
    assert!(store.pending(&nobody).await.expect("answers").is_empty());
}
