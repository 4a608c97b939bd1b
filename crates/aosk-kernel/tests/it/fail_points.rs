//! Every call of the store that a small world makes goes wrong, each in every way, one at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Code, FailureKind, Pid, ProcessState, Seq, Tenant, What};
use aosk_kernel::Stop;
use aosk_ports::{Inbox, InboxItem, Journal, ProcessFilter};
use aosk_sim::{FailPoints, Mishap};

use crate::support::{Kit, Puppet, Say, failure, spawn};

/// A life that has not brought the process to its end by then hangs.
const PATIENCE: u64 = 300;

/// What the model says, however often it is asked again: replies that are in the journal were given.
fn script(events: &[What]) -> Vec<Say> {
    let tools = vec![("pure", "{}"), ("keyed", "{}"), ("unsafe", "{}")];
    let replies = [Say::Calls(tools), Say::Text("first answer"), Say::Text("second answer")];
    let given = events.iter().filter(|what| matches!(what, What::LlmReturned(_))).count();
    // It fails once in a way that passes: the process waits for a timer.
    let has_failed = events.iter().any(|what| matches!(what, What::LlmFailed(_)));
    let fails = (!has_failed && given == 0)
        .then(|| failure(FailureKind::Transient, Code::LlmTransient, None));
    fails.into_iter().chain(replies.into_iter().skip(given)).collect()
}

/// The process, where it was spawned.
async fn there(kit: &Kit) -> Option<(Pid, ProcessState)> {
    let all = kit.store().processes(&Tenant::local(), ProcessFilter::All).await.expect("listed");
    assert!(all.len() <= 1, "spawned twice");
    all.first().map(|receipt| (receipt.pid, receipt.row.state.clone()))
}

/// One life of a kernel on that store: it spawns the process or takes it up, and brings it to its
/// answer and, once somebody has sent a message, to the next. Whether it did.
async fn live(kit: &mut Kit, store: FailPoints) -> bool {
    let events = match there(kit).await {
        Some((pid, _)) => kit.events(pid).await,
        None => Vec::new(),
    };
    kit.puppet = Arc::new(Puppet::new(script(&events)));
    kit.watcher = Arc::default();
    let kernel = kit.kernel_on(store);
    let begun = async {
        match there(kit).await {
            None => kernel.spawn(spawn("go")).await.is_ok(),
            Some(_) => kernel.recover().await.is_ok(),
        }
    };
    let patience = Duration::from_secs(PATIENCE);
    let has_begun = tokio::time::timeout(patience, begun).await.unwrap_or(false);
    let mut is_done = false;
    for _ in 0..PATIENCE {
        if !has_begun || is_done || !kernel.broken(1).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Some((pid, ProcessState::Exited { .. })) = there(kit).await {
            let waiting = kit.store().pending(&Tenant::local()).await.expect("listed");
            let names = kit.names(pid).await;
            let ends = names.iter().filter(|name| **name == "exited").count();
            is_done = ends == 2 && waiting.is_empty();
            if ends == 1 && waiting.is_empty() {
                let item = InboxItem::Message { from: "user".into(), text: "and then?".into() };
                kit.store().post(&Tenant::local(), pid, item).await.expect("posted");
            }
        }
    }
    kernel.stop(Stop::Now);
    is_done
}

/// What the kernel of the last life was told is durable is what stands in the journal.
async fn nothing_acknowledged_is_lost(kit: &Kit, about: &str) {
    let committed = kit.watcher.committed.lock().unwrap().clone();
    let happened = kit.watcher.happened.lock().unwrap().clone();
    for (pid, last) in committed {
        let all = kit.store().read(&Tenant::local(), pid, Seq(0), usize::MAX).await;
        let all = all.unwrap_or_else(|error| panic!("{about}: {error}"));
        assert!(all.last().is_some_and(|record| record.seq >= last), "{about}: {last} is lost");
        for (_, seq, event) in happened.iter().filter(|it| it.0 == pid && it.1 <= last) {
            let stored = all[seq.0 as usize].decode().expect("readable");
            assert_eq!(&stored, event, "{about}: event {seq}");
        }
    }
}

/// What was said and how it ended, without how often it was tried.
async fn story(kit: &Kit) -> Vec<String> {
    let (pid, state) = there(kit).await.expect("spawned");
    let told = kit.events(pid).await.into_iter().filter_map(|what| match what {
        What::LlmReturned(returned) => Some(format!("{:?}", returned.parts)),
        What::MessageReceived(message) => Some(format!("{:?}", message.content)),
        What::Exited(exited) => Some(format!("{exited:?}")),
        _ => None,
    });
    let mut told: Vec<_> = told.collect();
    told.push(format!("{state:?}"));
    told
}

/// The world with a mishap in the first life, and one in the second; the lives after them meet none.
/// What each of the two called, and whether its mishap happened.
async fn world(points: [Option<(usize, Mishap)>; 2]) -> (Kit, Vec<FailPoints>) {
    let mut kit = Kit::new(Vec::new());
    kit.options.adopts = true;
    let (about, mut lives, mut is_done) = (format!("{points:?}"), Vec::new(), false);
    for point in points.into_iter().chain([None, None]) {
        if is_done {
            break;
        }
        let machine = kit.boot();
        let store = FailPoints::new(machine.clone(), point);
        lives.push(store.clone());
        is_done = live(&mut kit, store).await;
        machine.crash();
        nothing_acknowledged_is_lost(&kit, &about).await;
    }
    assert!(is_done, "{about}: never comes to its end");
    let (pid, _) = there(&kit).await.expect("spawned");
    kit.image(pid).await;
    let names = kit.names(pid).await;
    assert!(kit.unsafe_.total() <= 1, "{about}: an unsafe effect was doubled: {names:?}");
    let was_cut_off = names.contains(&"interrupted");
    assert!(kit.unsafe_.total() == 1 || was_cut_off, "{about}: {names:?}");
    assert_eq!(kit.keyed.calls.lock().unwrap().len(), 1, "{about}: under one key");
    (kit, lives)
}

/// Tries every mishap at every call of a life, until the life makes no such call. How many happened,
/// by call.
async fn sweep(
    expected: &[String],
    points: impl Fn((usize, Mishap)) -> [Option<(usize, Mishap)>; 2],
    life: usize,
) -> BTreeMap<&'static str, usize> {
    let mut tried = BTreeMap::new();
    for mishap in Mishap::ALL {
        for number in 1.. {
            let points = points((number, mishap));
            let (kit, lives) = world(points).await;
            assert_eq!(story(&kit).await, expected, "{points:?}");
            let met = lives.get(life).filter(|store| store.has_happened());
            let Some(met) = met else { break };
            *tried.entry(met.calls()[number - 1]).or_default() += 1;
        }
    }
    tried
}

#[tokio::test(start_paused = true)]
async fn whatever_call_of_the_store_goes_wrong_nothing_is_lost_or_doubled() {
    let (kit, lives) = world([None, None]).await;
    let expected = story(&kit).await;
    let calls = lives[0].calls();
    let names = kit.names(there(&kit).await.expect("spawned").0).await;
    for part in ["spawned", "llm_failed", "tool_returned", "message_received", "exited"] {
        assert!(names.contains(&part), "the world has {part}: {names:?}");
    }
    let tried = sweep(&expected, |point| [Some(point), None], 0).await;
    let points: usize = tried.values().sum();
    println!("{points} points in the first life: {tried:?}");
    assert!(points >= calls.len() * 5, "{points} of {} calls", calls.len());
}

#[tokio::test(start_paused = true)]
async fn whatever_call_of_a_recovery_goes_wrong_nothing_is_lost_or_doubled() {
    let expected = story(&world([None, None]).await.0).await;
    // The machine dies when the intents of the tools are durable.
    let dead = (7, Mishap::DiesAfter);
    let tried = sweep(&expected, |point| [Some(dead), Some(point)], 1).await;
    let points: usize = tried.values().sum();
    println!("{points} points in the second life: {tried:?}");
    assert!(tried.contains_key("claim"), "{tried:?}");
}
