//! Kernels that share a store: who may act, and what becomes of what a dead one left behind.

use std::time::Duration;

use aosk_abi::{Code, Effect, Exit, Signal, Tenant};
use aosk_kernel::{Kernel, Outcome, Stop};
use aosk_ports::{Inbox, InboxItem, Standing};
use aosk_sim::{DiskFaults, MemoryStore, Power};

use crate::support::{Counter, Kit, Say, spawn};

/// How often a node looks for what others left behind.
const ROUND: Duration = Duration::from_secs(1);

/// A kernel that adopts, with its store, on the disk of the kit.
fn node(kit: &mut Kit) -> (Kernel, MemoryStore) {
    kit.options.adopts = true;
    let store = MemoryStore::node(&kit.disk, DiskFaults::calm(), Power::on(), ROUND);
    (kit.kernel_on(store.clone()), store)
}

fn completed(outcome: Option<Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Exited(Exit::Completed { .. })))
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_while_the_lease_has_lapsed_and_all_goes_on_when_it_is_held() {
    let script = vec![Say::Call("slow", "{}"), Say::Call("pure", "{}"), Say::Text("ok")];
    let mut kit = Kit::new(script);
    kit.slow = Counter::new("slow", Effect::Unsafe, Duration::from_secs(30));
    let (kernel, store) = node(&mut kit);
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    pass(1).await;
    assert_eq!(kit.slow.total(), 1, "a tool is at work");
    store.stand(Standing::Lapsed);
    pass(600).await;
    let names = kit.names(pid).await;
    assert!(names.ends_with(&["tool_requested", "tool_returned"]), "in flight: {names:?}");
    assert_eq!((kit.puppet.asked.lock().unwrap().len(), kit.slow.total()), (1, 1));
    let begun = kernel.spawn(spawn("another"));
    assert!(tokio::time::timeout(Duration::from_secs(60), begun).await.is_err(), "it waits");
    store.stand(Standing::Held { left: Duration::MAX });
    assert!(completed(kernel.wait(pid).await));
    assert_eq!((kit.slow.total(), kit.pure.total()), (1, 1), "once each");
    assert!(!kit.names(pid).await.contains(&"recovered"), "nobody took over");
}

#[tokio::test(start_paused = true)]
async fn an_effect_whose_intent_came_late_waits_for_the_lease_too() {
    let mut kit = Kit::new(vec![Say::Call("pure", "{}"), Say::Text("ok")]);
    kit.options.adopts = true;
    let faults =
        DiskFaults { sync: Duration::from_secs(5)..=Duration::from_secs(5), ..DiskFaults::calm() };
    let store = MemoryStore::node(&kit.disk, faults, Power::on(), ROUND);
    let kernel = kit.kernel_on(store.clone());
    let spawned = tokio::spawn({
        let kernel = kernel.clone();
        async move { kernel.spawn(spawn("go")).await }
    });
    // The spawn takes 5 s, and so does the intent of the call behind it.
    pass(7).await;
    store.stand(Standing::Lapsed);
    let pid = spawned.await.unwrap().unwrap();
    pass(60).await;
    assert_eq!(kit.names(pid).await.last(), Some(&"llm_requested"), "durable by now");
    assert_eq!(kit.puppet.asked.lock().unwrap().len(), 0, "and not begun");
    store.stand(Standing::Held { left: Duration::MAX });
    assert!(completed(kernel.wait(pid).await));
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_node_left_goes_on_elsewhere_within_a_round_and_nothing_else_is_touched() {
    let mut kit = Kit::new(vec![Say::Hang, Say::Hang, Say::Hang]);
    let (dead, store) = node(&mut kit);
    let (alive, _) = node(&mut kit);
    let (lost, own) =
        (dead.spawn(spawn("a")).await.unwrap(), alive.spawn(spawn("b")).await.unwrap());
    let parked = dead.spawn(spawn("c")).await.unwrap();
    kit.store()
        .post(&Tenant::local(), parked, InboxItem::Signal { signal: Signal::Stop })
        .await
        .unwrap();
    dead.nudge().unwrap();
    pass(30).await;
    assert!(!kit.names(lost).await.contains(&"recovered"), "its owner lives");
    store.stand(Standing::Lost);
    pass(2).await;
    assert!(completed(alive.wait(lost).await), "nobody asked for it");
    assert_eq!(kit.names(lost).await.iter().filter(|name| **name == "recovered").count(), 1);
    assert_eq!(kit.image(lost).await.epoch.0, 2);
    assert_eq!(kit.image(own).await.epoch.0, 1);
    // The one that is gone for good begins nothing any more and says why.
    tokio::time::timeout(Duration::from_secs(9), dead.lost()).await.expect("it knows");
    dead.quiet().await;
    assert!(
        matches!(dead.spawn(spawn("d")).await, Err(error) if error.code() == Code::KernelStopping)
    );
    alive.stop(Stop::Now);
}

#[tokio::test(start_paused = true)]
async fn a_zombie_writes_nothing_over_who_took_its_process() {
    let mut kit = Kit::new(vec![Say::Call("slow", "{}"), Say::Text("of the new owner")]);
    kit.slow = Counter::new("slow", Effect::Unsafe, Duration::from_secs(30));
    let store = MemoryStore::node(&kit.disk, DiskFaults::calm(), Power::on(), ROUND);
    let zombie = kit.kernel_on(store.clone());
    let pid = zombie.spawn(spawn("go")).await.unwrap();
    pass(1).await;
    assert_eq!(kit.slow.total(), 1, "an unsafe tool is at work");
    // It sleeps: it does not hear that it is taken for dead, and believes in its lease.
    store.stand(Standing::Lost);
    store.stand(Standing::Held { left: Duration::MAX });
    let (alive, _) = node(&mut kit);
    pass(2).await;
    assert!(completed(alive.wait(pid).await));
    let before = kit.names(pid).await;
    pass(600).await;
    let outcome = zombie.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Broken { code: Code::StoreStaleEpoch, .. }), "{outcome:?}");
    assert_eq!(kit.names(pid).await, before, "its late outcome was refused");
    assert!(before.contains(&"interrupted") && !before.contains(&"tool_returned"), "{before:?}");
    assert_eq!(kit.slow.total(), 1, "not repeated");
}

#[tokio::test(start_paused = true)]
async fn whatever_a_living_node_owns_is_left_to_it() {
    let mut kit = Kit::new(vec![Say::Hang]);
    let (owner, _) = node(&mut kit);
    let (other, _) = node(&mut kit);
    let pid = owner.spawn(spawn("go")).await.unwrap();
    pass(1).await;
    assert!(other.recover().await.unwrap().is_empty());
    let error = other.resume(pid, None).await.expect_err("it is another's");
    assert_eq!(error.code(), Code::StoreOwned, "{error}");
    // Both are told of what is posted, and its owner takes it.
    let kill = InboxItem::Signal { signal: Signal::Kill };
    kit.store().post(&Tenant::local(), pid, kill).await.unwrap();
    other.nudge().unwrap();
    assert_eq!(owner.wait(pid).await, Some(Outcome::Exited(Exit::Killed)));
    assert_eq!(kit.image(pid).await.epoch.0, 1);
    assert!(kit.store().pending(&Tenant::local()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn more_than_a_batch_is_taken_over() {
    let mut kit = Kit::new(vec![Say::Hang, Say::Hang, Say::Hang, Say::Hang]);
    let (dead, store) = node(&mut kit);
    let mut pids = Vec::new();
    for _ in 0..300 {
        pids.push(dead.spawn(spawn("go")).await.unwrap());
    }
    store.stand(Standing::Lost);
    let (alive, _) = node(&mut kit);
    assert_eq!(alive.recover().await.unwrap().len(), 300);
    for pid in pids {
        assert!(completed(alive.wait(pid).await));
    }
}
