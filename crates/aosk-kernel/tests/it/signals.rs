//! Signals, and stopping the kernel.

use std::time::Duration;

use aosk_abi::{Code, Exit, FailureKind, Pid, ProcessState, Signal, Tenant};
use aosk_kernel::{Kernel, Outcome, Stop};
use aosk_ports::{Inbox, InboxItem};
use aosk_sim::MemoryStore;

use crate::support::{Kit, Puppet, Say, failure, spawn};

async fn begin(kit: &Kit) -> (MemoryStore, Kernel, Pid) {
    let store = kit.store();
    let kernel = kit.kernel_on(store.clone());
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    (store, kernel, pid)
}

async fn signal(store: &MemoryStore, pid: Pid, signal: Signal) {
    store.post(&Tenant::local(), pid, InboxItem::Signal { signal }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_a_process_in_the_middle_of_a_call() {
    let kit = Kit::new(vec![Say::Hang]);
    let (store, kernel, pid) = begin(&kit).await;
    signal(&store, pid, Signal::Kill).await;
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Exited(Exit::Killed)));
    let names = kit.names(pid).await;
    assert!(names.ends_with(&["signal_received", "cancelled", "exited"]), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_a_process_whose_tool_runs() {
    let kit = Kit::new(vec![Say::Call("slow", "{}")]);
    let (store, kernel, pid) = begin(&kit).await;
    signal(&store, pid, Signal::Kill).await;
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Exited(Exit::Killed)));
    assert!(kit.names(pid).await.contains(&"cancelled"));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_process_waits_between_two_steps_and_goes_on() {
    let mut kit = Kit::new(vec![Say::Call("slow", "{}"), Say::Text("ok")]);
    kit.options.tool_timeout = Duration::from_secs(20);
    let (store, kernel, pid) = begin(&kit).await;
    signal(&store, pid, Signal::Stop).await;
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Suspended));
    assert!(matches!(kit.image(pid).await.state, ProcessState::Suspended { .. }));
    assert!(kit.names(pid).await.contains(&"tool_returned"), "the step was brought to its end");
    kernel.resume(pid, None).await.unwrap();
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_the_middle_of_a_call_is_durable_before_the_call_ends() {
    let kit = Kit::new(vec![Say::Hang]);
    let (store, _kernel, pid) = begin(&kit).await;
    signal(&store, pid, Signal::Stop).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(store.pending(&Tenant::local()).await.unwrap().is_empty(), "it is taken over");
    assert!(matches!(kit.image(pid).await.state, ProcessState::Suspended { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_gives_a_hanging_call_up_within_its_grace() {
    let kit = Kit::new(vec![Say::Hang, Say::Text("ok")]);
    let (_, kernel, pid) = begin(&kit).await;
    let began = tokio::time::Instant::now();
    kernel.stop(Stop::Graceful);
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Stopped));
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4) && took <= Duration::from_secs(5), "{took:?}");
    assert!(kernel.spawn(spawn("late")).await.is_err());

    let again = kit.kernel();
    again.resume(pid, None).await.unwrap();
    let outcome = again.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    assert_eq!(kit.puppet.asked.lock().unwrap().len(), 2, "the call was made again");
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_lets_a_short_call_end() {
    let kit = Kit::new(vec![Say::Call("slow", "{}")]);
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    kernel.stop(Stop::Graceful);
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Stopped));
    let names = kit.names(pid).await;
    assert!(!names.contains(&"tool_requested"), "no effect begins after the stop: {names:?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_is_at_once() {
    let kit = Kit::new(vec![Say::Hang]);
    let (_, kernel, pid) = begin(&kit).await;
    kernel.stop(Stop::Graceful);
    kernel.stop(Stop::Now);
    let began = tokio::time::Instant::now();
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Stopped));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_stopped_in_the_queue_makes_no_call() {
    let kit = Kit::with(Puppet::new(vec![Say::Hang]).slots(1));
    let (store, kernel, first) = begin(&kit).await;
    let second = kernel.spawn(spawn("later")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    signal(&store, second, Signal::Stop).await;
    let heard = tokio::time::timeout(Duration::from_secs(1), kernel.wait(second)).await;
    assert_eq!(heard, Ok(Some(Outcome::Suspended)), "the first one holds the slot for a minute");
    assert_eq!(kit.names(second).await, ["spawned", "signal_received"]);
    signal(&store, first, Signal::Kill).await;
    kernel.wait(first).await.unwrap();
    kernel.resume(second, None).await.unwrap();
    let outcome = kernel.wait(second).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_kill_cancels_what_is_in_flight_and_not_what_waits_to_be_tried_again() {
    let hour = Duration::from_secs(3600);
    let slow = failure(FailureKind::Throttled, Code::LlmThrottled, Some(hour));
    let kit = Kit::new(vec![slow]);
    let (store, kernel, pid) = begin(&kit).await;
    signal(&store, pid, Signal::Kill).await;
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Exited(Exit::Killed)));
    let names = kit.names(pid).await;
    assert!(names.ends_with(&["llm_failed", "signal_received", "exited"]), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_stops_says_that_it_hears_nothing_more() {
    let kit = Kit::new(vec![Say::Hang]);
    let (_, kernel, pid) = begin(&kit).await;
    assert!(kernel.nudge().is_ok());
    kernel.stop(Stop::Now);
    kernel.wait(pid).await.unwrap();
    assert_eq!(kernel.nudge().expect_err("it stopped").code(), Code::KernelStopping);
    assert_eq!(kernel.recover().await.expect_err("it stopped").code(), Code::KernelStopping);
    // Nobody is brought in any more, so there is nobody to wait for.
    kernel.attend(pid);
    tokio::time::timeout(Duration::from_secs(60), kernel.quiet()).await.expect("it is quiet");
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Stopped));
}
