//! Processes that begin again by themselves.

use std::time::Duration;

use aosk_abi::{Code, Exit, FailureKind, RestartSpec, RestartWhen, Signal, Tenant, What};
use aosk_kernel::{Outcome, Spawn};
use aosk_ports::{Inbox, InboxItem, Journal};

use crate::support::{Kit, Say, failure, spawn};

fn broken() -> Say {
    failure(FailureKind::Fatal, Code::LlmAuth, None)
}

fn restarting(when: RestartWhen, max: Option<u64>) -> Spawn {
    let mut request = spawn("go");
    request.manifest.restart = RestartSpec { when, max, wait_s: 10, max_wait_s: 25 };
    request
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_as_often_as_the_manifest_says() {
    let kit = Kit::new((0..4).map(|_| broken()).collect());
    let kernel = kit.kernel();
    let began = tokio::time::Instant::now();
    let pid = kernel.spawn(restarting(RestartWhen::OnFailure, Some(3))).await.unwrap();
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Failed { .. })), "{outcome:?}");
    let waited = began.elapsed();
    // 10, 20, and 25 where the cap holds.
    assert!(waited >= Duration::from_secs(55) && waited < Duration::from_secs(57), "{waited:?}");
    let restarts: Vec<u64> = kit
        .events(pid)
        .await
        .iter()
        .filter_map(|what| match what {
            What::Restarted(restarted) => Some(restarted.number),
            _ => None,
        })
        .collect();
    assert_eq!(restarts, [1, 2, 3]);
    assert_eq!(kit.puppet.asked.lock().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_passes_leaves_the_conversation_whole() {
    let kit = Kit::new(vec![Say::Call("pure", "{}"), broken(), Say::Text("ok")]);
    let kernel = kit.kernel();
    let pid = kernel.spawn(restarting(RestartWhen::OnFailure, None)).await.unwrap();
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let prompts = kit.puppet.prompts.lock().unwrap().clone();
    assert_eq!(prompts[1].prompt_bytes, prompts[2].prompt_bytes, "asked again where it stood");
    assert_eq!(kit.pure.total(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_without_a_restart_policy_ends_at_its_first_failure() {
    let kit = Kit::new(vec![broken(), Say::Text("ok")]);
    let (_, outcome) = kit.run().await;
    assert!(matches!(outcome, Outcome::Exited(Exit::Failed { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn who_always_begins_again_does_the_task_again_until_it_is_killed() {
    let kit = Kit::new(vec![]);
    let kernel = kit.kernel();
    let pid = kernel.spawn(restarting(RestartWhen::Always, None)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(35)).await;
    assert_eq!(kernel.residents(), 0, "it waits outside for its time");
    let kill = InboxItem::Signal { signal: Signal::Kill };
    kit.store().post(&Tenant::local(), pid, kill).await.unwrap();
    assert_eq!(kernel.wait(pid).await, Some(Outcome::Exited(Exit::Killed)));
    let told = kit.names(pid).await.iter().filter(|name| **name == "told").count();
    assert_eq!(told, 3, "once for each time after the first");
    kit.image(pid).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_was_cut_off_waits_no_longer_than_what_is_left() {
    let kit = Kit::new(vec![broken(), Say::Text("ok")]);
    let kernel = kit.kernel();
    let began = tokio::time::Instant::now();
    let pid = kernel.spawn(restarting(RestartWhen::OnFailure, None)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    kernel.stop(aosk_kernel::Stop::Now);
    let again = kit.kernel();
    assert_eq!(again.recover().await.unwrap(), [pid]);
    let outcome = again.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(11), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn short_stays_come_to_a_checkpoint_and_a_wake_reads_little() {
    let mut kit = Kit::new(vec![]);
    // Only those that are asked for: a history of a hundred events calls for none by itself.
    kit.options.checkpoint_events = 1_000_000;
    let kernel = kit.kernel();
    let pid = kernel.spawn(restarting(RestartWhen::Always, None)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(900)).await;
    kernel.stop(aosk_kernel::Stop::Now);
    kernel.quiet().await;
    let image = kit.image(pid).await;
    assert!(image.restarts > 20 && image.next.0 > 100, "{} {}", image.restarts, image.next);
    let saved = kit.store().checkpoint(&Tenant::local(), pid, None).await.unwrap();
    let behind = image.next.0 - saved.expect("a checkpoint").seq.0;
    assert!(behind <= 8 + 6, "{behind} events are read at a wake, a stay has about 5");
}

#[tokio::test(start_paused = true)]
async fn a_short_life_leaves_no_checkpoint_and_comes_back_from_its_events() {
    let mut kit = Kit::new(vec![Say::Call("pure", "{}"), Say::Text("ok"), Say::Text("again")]);
    kit.options.checkpoint_events = 100;
    let (pid, _) = kit.run().await;
    assert_eq!(kit.store().checkpoint(&Tenant::local(), pid, None).await.unwrap(), None);
    let message = InboxItem::Message { from: "user".to_owned(), text: "and?".to_owned() };
    kit.store().post(&Tenant::local(), pid, message).await.unwrap();
    let kernel = kit.kernel();
    kernel.attend(pid);
    let outcome = kernel.wait(pid).await;
    assert!(matches!(outcome, Some(Outcome::Exited(Exit::Completed { .. }))), "{outcome:?}");
}
