//! Devices that fail, and several of them behind one name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Code, Exit, FailureKind, Pid, ProcessState, What};
use aosk_kernel::{Kernel, Model, Outcome, Serves, Standings};
use aosk_ports::ServerLoad;

use crate::mail::{puppet, state};
use crate::support::{Kit, Puppet, Quarters, Say, failure, spawn};

fn ill() -> Say {
    failure(FailureKind::Transient, Code::LlmTransient, None)
}

/// A kernel with these models; behind `puppet` stand the spread and then the alternatives.
fn kernel(kit: &Kit, models: &[&Arc<Puppet>], spread: &[(&str, u32)], instead: &[&str]) -> Kernel {
    kit.kernel_of(kit.store(), |parts| {
        parts.models = models
            .iter()
            .map(|puppet| {
                let device: Arc<Puppet> = Arc::clone(puppet);
                (puppet.name().to_owned(), Model { device, tokenizer: Arc::new(Quarters) })
            })
            .collect();
        let spread: Vec<_> =
            spread.iter().map(|(name, weight)| ((*name).into(), *weight)).collect();
        if !spread.is_empty() {
            parts.spreads = HashMap::from([("puppet".to_owned(), spread)]);
        }
        let instead = instead.iter().map(|name| (*name).to_owned()).collect();
        parts.alternatives = HashMap::from([("puppet".to_owned(), instead)]);
    })
}

async fn asked(kit: &Kit, pid: Pid) -> Vec<String> {
    let events = kit.events(pid).await.into_iter();
    let asked = events.filter_map(|what| match what {
        What::LlmRequested(requested) => Some(requested.device),
        _ => None,
    });
    asked.collect()
}

fn has_completed(outcome: &Option<Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Exited(Exit::Completed { .. })))
}

#[tokio::test(start_paused = true)]
async fn a_device_that_fails_for_many_is_left_alone_and_then_asked_by_one_at_a_time() {
    let kit = Kit::with(Puppet::new((0..10).map(|_| ill()).collect()));
    let kernel = kit.kernel();
    let mut pids = Vec::new();
    for _ in 0..8 {
        pids.push(kernel.spawn(spawn("go")).await.unwrap());
    }
    // Four at a time, then the eight again after their pauses: ten failures come within seconds.
    let mut opened = None;
    for second in 0..60 {
        let so_far = kit.puppet.asked.lock().unwrap().len();
        if so_far >= 10 {
            opened = Some(second);
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(opened.is_some_and(|second| second < 10), "{opened:?}");
    let so_far = kit.puppet.asked.lock().unwrap().len();
    tokio::time::sleep(Duration::from_secs(7)).await;
    let later = kit.puppet.asked.lock().unwrap().len();
    assert!(later <= so_far + 3, "what was under way, and nothing else: {so_far} and {later}");
    for pid in pids {
        assert!(has_completed(&kernel.wait(pid).await), "nobody hears of it: {pid}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_a_device_is_ill_goes_elsewhere_without_an_attempt_there() {
    let kit = Kit::with(Puppet::new((0..99).map(|_| ill()).collect()));
    let spare = puppet("spare", vec![Say::Call("pure", "{}")]);
    let kernel = kernel(&kit, &[&kit.puppet, &spare], &[], &["spare"]);
    for _ in 0..6 {
        // Two attempts each before another model is asked.
        let pid = kernel.spawn(spawn("go")).await.unwrap();
        assert!(has_completed(&kernel.wait(pid).await));
    }
    let before = kit.puppet.asked.lock().unwrap().len();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    assert!(has_completed(&kernel.wait(pid).await));
    assert_eq!(kit.puppet.asked.lock().unwrap().len(), before);
    assert!(asked(&kit, pid).await.iter().all(|device| device == "spare"));
    let routed = kit.events(pid).await.into_iter().find_map(|what| match what {
        What::Routed(routed) => Some(routed.model),
        _ => None,
    });
    assert_eq!(routed.as_deref(), Some("spare"), "and the journal says so");
    assert_eq!(kit.image(pid).await.model, "spare");
}

#[tokio::test(start_paused = true)]
async fn calls_are_spread_over_the_pools_of_a_name_and_a_conversation_stays_where_it_is_warm() {
    let kit = Kit::new(vec![]);
    let steps = || {
        (0..400).map(|index| if index % 4 == 3 { Say::Text("ok") } else { Say::Call("pure", "{}") })
    };
    let one = Arc::new(Puppet::new(steps().collect()).named("one").slots(64));
    let two = Arc::new(Puppet::new(steps().collect()).named("two").slots(64));
    let kernel = kernel(&kit, &[&one, &two], &[("one", 3), ("two", 1)], &[]);
    let mut pids = Vec::new();
    for _ in 0..40 {
        pids.push(kernel.spawn(spawn("go")).await.unwrap());
    }
    let (mut first, mut moved, mut steps) = ([0, 0], 0, 0);
    for pid in pids {
        kernel.wait(pid).await;
        let asked = asked(&kit, pid).await;
        first[usize::from(asked[0] == "two")] += 1;
        steps += asked.len() - 1;
        moved += asked.windows(2).filter(|pair| pair[0] != pair[1]).count();
    }
    assert!((28..=32).contains(&first[0]), "three to one: {first:?}");
    assert!(moved * 5 <= steps, "{moved} moves in {steps} steps of 40 conversations");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_ill_is_passed_over_and_comes_back() {
    let kit = Kit::new(vec![]);
    let one = Arc::new(Puppet::new((0..12).map(|_| ill()).collect()).named("one"));
    let two = puppet("two", vec![]);
    let kernel = kernel(&kit, &[&one, &two], &[("one", 50), ("two", 1)], &[]);
    let mut pids = Vec::new();
    for _ in 0..10 {
        pids.push(kernel.spawn(spawn("go")).await.unwrap());
    }
    for pid in &pids {
        assert!(has_completed(&kernel.wait(*pid).await));
    }
    assert!(!two.asked.lock().unwrap().is_empty(), "somebody went over");
    tokio::time::sleep(Duration::from_secs(400)).await;
    let before = one.asked.lock().unwrap().len();
    for _ in 0..4 {
        let pid = kernel.spawn(spawn("go")).await.unwrap();
        kernel.wait(pid).await;
        assert!(matches!(state(&kit, pid).await, ProcessState::Exited { .. }));
    }
    assert!(one.asked.lock().unwrap().len() > before, "its weight is the greater one by far");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_at_a_pool_goes_to_another_once_and_then_to_what_is_asked_instead() {
    let kit = Kit::new(vec![]);
    let one = Arc::new(Puppet::new((0..9).map(|_| ill()).collect()).named("one"));
    let two = Arc::new(Puppet::new((0..9).map(|_| ill()).collect()).named("two"));
    let spare = puppet("spare", vec![]);
    let spread = [("one", 1), ("two", 1)];
    let kernel = kernel(&kit, &[&one, &two, &spare], &spread, &["spare"]);
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    assert!(has_completed(&kernel.wait(pid).await));
    assert_eq!(asked(&kit, pid).await, ["one", "one", "two", "two", "spare"]);
}

/// A server that works on that many calls, whoever's they are.
fn busy(puppet: Puppet, running: u64, kv_used_milli: u64) -> Arc<Puppet> {
    let load = ServerLoad {
        running: Some(running),
        kv_used_milli: Some(kv_used_milli),
        ..ServerLoad::default()
    };
    *puppet.load.lock().unwrap() = Some(load);
    Arc::new(puppet)
}

#[tokio::test(start_paused = true)]
async fn calls_go_where_the_servers_say_that_there_is_room() {
    for (running, kv_used_milli) in [(50, 0), (0, 950)] {
        let kit = Kit::new(vec![]);
        let one = busy(Puppet::new(vec![]).named("one").slots(64), running, kv_used_milli);
        let two = busy(Puppet::new(vec![]).named("two").slots(64), 0, 0);
        let kernel = kernel(&kit, &[&one, &two], &[("one", 1), ("two", 1)], &[]);
        // The first has its servers asked.
        let pid = kernel.spawn(spawn("go")).await.unwrap();
        kernel.wait(pid).await;
        let before = one.asked.lock().unwrap().len();
        let mut pids = Vec::new();
        for _ in 0..20 {
            pids.push(kernel.spawn(spawn("go")).await.unwrap());
        }
        for pid in pids {
            kernel.wait(pid).await;
        }
        assert_eq!(one.asked.lock().unwrap().len(), before, "{running}, {kv_used_milli}");
        // What was said long ago is not believed any more, and where nobody answers the kernel's own
        // calls decide.
        *one.load.lock().unwrap() = None;
        *two.load.lock().unwrap() = None;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let mut pids = Vec::new();
        for _ in 0..20 {
            pids.push(kernel.spawn(spawn("go")).await.unwrap());
        }
        for pid in pids {
            kernel.wait(pid).await;
        }
        assert_eq!(one.asked.lock().unwrap().len(), before + 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_shows_its_circuit_its_server_and_the_names_that_lead_to_it() {
    let kit = Kit::new(vec![]);
    let one = busy(Puppet::new((0..99).map(|_| ill()).collect()).named("one"), 3, 250);
    let two = puppet("two", vec![]);
    let spare = puppet("spare", vec![]);
    let kernel = kernel(&kit, &[&one, &two, &spare], &[("one", 50), ("two", 1)], &["spare"]);
    let shown = |standings: Standings, name: &str| {
        standings.devices.into_iter().find(|it| it.name == name).expect("it is there")
    };
    let before = shown(kernel.standings().await, "one");
    assert_eq!(before.circuit, None, "closed");
    let server = before.server.expect("asked");
    assert_eq!((server.running, server.kv_used_milli), (Some(3), Some(250)));
    let mut pids = Vec::new();
    for _ in 0..10 {
        pids.push(kernel.spawn(spawn("go")).await.unwrap());
    }
    for pid in pids {
        kernel.wait(pid).await;
    }
    let standings = kernel.standings().await;
    let now = kit.clock_now();
    let (one, two, spare) = (
        shown(standings.clone(), "one"),
        shown(standings.clone(), "two"),
        shown(standings, "spare"),
    );
    let circuit = one.circuit.expect("it failed ten times");
    assert!(circuit.failures >= 10 && circuit.since <= now, "{circuit:?}");
    let lasts = circuit.until.millis_since(circuit.since);
    assert!((9_999..=10_001).contains(&lasts), "its first pause: {circuit:?}");
    let name = |weight| vec![Serves { alias: "puppet".into(), weight }];
    assert_eq!([one.serves, two.serves], [name(Some(50)), name(Some(1))]);
    assert_eq!(spare.serves, name(None));
}
