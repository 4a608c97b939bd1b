//! Crashes: what a later kernel makes of what an earlier one left.

use std::time::Duration;

use aosk_abi::{Code, Epoch, Exit, Pid, What};
use aosk_kernel::Outcome;

use crate::support::{Kit, Say, spawn};

/// Runs a process until it is within its first tool or call, then pulls the plug.
async fn crash(kit: &Kit) -> Pid {
    let store = kit.boot();
    let kernel = kit.kernel_on(store.clone());
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.crash();
    kernel.stop(aosk_kernel::Stop::Now);
    kernel.wait(pid).await.unwrap();
    drop(kit.boot());
    pid
}

async fn recover(kit: &Kit, pid: Pid) -> Outcome {
    let kernel = kit.kernel();
    assert_eq!(kernel.recover().await.unwrap(), [pid]);
    kernel.wait(pid).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_cut_off_is_made_again_with_the_same_bytes() {
    let kit = Kit::new(vec![Say::Hang, Say::Text("ok")]);
    let pid = crash(&kit).await;
    let outcome = recover(&kit, pid).await;
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let prompts = kit.puppet.prompts.lock().unwrap().clone();
    assert_eq!(prompts.len(), 2);
    assert_eq!(prompts[0].body, prompts[1].body, "tail and all: it follows from the plan");
    let events = kit.events(pid).await;
    let plans = events.iter().filter(|what| matches!(what, What::Planned(_))).count();
    assert_eq!(plans, 1, "the plan was recorded and not made again");
    let attempts: Vec<u32> = events
        .iter()
        .filter_map(|what| match what {
            What::LlmRequested(requested) => Some(requested.attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [1, 2]);
    assert_eq!(kit.image(pid).await.epoch, Epoch(2));
}

#[tokio::test(start_paused = true)]
async fn an_unsafe_tool_that_was_cut_off_is_never_run_again() {
    let kit = Kit::new(vec![Say::Call("slow", "{}"), Say::Text("I checked")]);
    let pid = crash(&kit).await;
    let outcome = recover(&kit, pid).await;
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    assert_eq!(kit.slow.total(), 1);
    let interrupted = kit.events(pid).await.into_iter().find_map(|what| match what {
        What::Interrupted(interrupted) => Some(interrupted.result),
        _ => None,
    });
    let told = kit.text(pid, interrupted.expect("interrupted")).await;
    assert!(told.contains("not known"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_pure_or_idempotent_tool_is_run_again_with_the_same_key() {
    for effect in [aosk_abi::Effect::Pure, aosk_abi::Effect::Idempotent] {
        let mut kit = Kit::new(vec![Say::Call("slow", "{}"), Say::Text("ok")]);
        kit.slow = crate::support::Counter::new("slow", effect, Duration::from_secs(30));
        let pid = crash(&kit).await;
        let outcome = recover(&kit, pid).await;
        assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
        let calls = kit.slow.calls.lock().unwrap().clone();
        assert_eq!(calls.into_values().collect::<Vec<_>>(), [2], "twice under one key");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_backup_caught_in_flight_is_never_run_again_whatever_its_effect() {
    use aosk_abi::Effect::{Idempotent, Pure, Unsafe};
    for effect in [Pure, Idempotent, Unsafe] {
        let mut kit = Kit::new(vec![Say::Call("slow", "{}"), Say::Text("ok")]);
        kit.slow = crate::support::Counter::new("slow", effect, Duration::from_secs(30));
        let pid = crash(&kit).await;
        let kernel = kit.kernel_without_models();
        assert_eq!(kernel.settle_restored().await.unwrap(), 1);
        assert_eq!(kernel.settle_restored().await.unwrap(), 0, "once");
        kernel.stop(aosk_kernel::Stop::Now);
        assert!(kit.names(pid).await.contains(&"interrupted"));
        let outcome = recover(&kit, pid).await;
        assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
        assert_eq!(kit.slow.total(), 1, "{effect:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_lost_its_process_cannot_write() {
    let kit = Kit::new(vec![Say::Call("slow", "{}"), Say::Text("ok")]);
    let store = kit.store();
    let old = kit.kernel_on(store.clone());
    let pid = old.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let new = kit.kernel_on(store);
    new.resume(pid, None).await.unwrap();
    assert!(matches!(new.wait(pid).await, Some(Outcome::Exited(Exit::Completed { .. }))));
    let outcome = old.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Broken { code: Code::StoreStaleEpoch, .. }), "{outcome:?}");
    kit.image(pid).await;
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_or_runs_cannot_be_resumed() {
    let kit = Kit::new(vec![]);
    let (pid, _) = kit.run().await;
    let kernel = kit.kernel();
    let error = kernel.resume(pid, None).await.expect_err("ended");
    assert_eq!(error.code(), Code::KernelNotResumable);
    let error = kernel.resume(Pid::from_alias("nobody"), None).await.expect_err("unknown");
    assert_eq!(error.code(), Code::StoreUnknownProcess);
    let kit = Kit::new(vec![Say::Hang]);
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    let error = kernel.resume(pid, None).await.expect_err("runs");
    assert_eq!(error.code(), Code::KernelNotResumable);
}
