//! Steps in which the kernel fails inside itself.

use std::sync::{Arc, Mutex};

use aosk_abi::{BlockedOn, Exit, Pid, Signal, Tenant, What};
use aosk_kernel::{Outcome, Stop};
use aosk_ports::{FlightRecorder, Inbox, InboxItem};

use crate::support::{Kit, Say, spawn};

#[tokio::test(start_paused = true)]
async fn a_step_that_panics_takes_nobody_with_it_and_the_second_time_waits_for_a_person() {
    let kit = Kit::new(vec![]);
    let kernel = kit.kernel();
    let bad = kernel.spawn(spawn("boom")).await.unwrap();
    let good = kernel.spawn(spawn("go")).await.unwrap();
    let outcome = kernel.wait(good).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    let review = Outcome::Parked(BlockedOn::Review { crashes: 2 });
    assert_eq!(kernel.wait(bad).await, Some(review.clone()));
    assert_eq!(kit.names(bad).await, ["spawned", "crashed", "crashed", "blocked"]);
    let evidence = kit.events(bad).await.into_iter().find_map(|what| match what {
        What::Crashed(crashed) => Some(crashed.message),
        _ => None,
    });
    let evidence = kit.text(bad, evidence.expect("evidence")).await;
    assert!(evidence.contains("fails inside itself"), "{evidence}");

    // Whoever looked at it may let it try again; it gets as many chances as before.
    let cont = InboxItem::Signal { signal: Signal::Cont };
    kit.store().post(&Tenant::local(), bad, cont).await.unwrap();
    kernel.nudge();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(kernel.wait(bad).await, Some(review));
    let crashes = kit.names(bad).await.iter().filter(|name| **name == "crashed").count();
    assert_eq!(crashes, 4);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_got_on_between_two_crashes_is_not_poisoned() {
    let kit = Kit::new(vec![Say::Call("pure", "{}"), Say::Call("pure", "{}"), Say::Text("ok")]);
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    kernel.stop(Stop::Graceful);
    kernel.quiet().await;
    for _ in 0..2 {
        let next = kit.kernel();
        next.accuse(pid, "the program died").await.unwrap();
        next.stop(Stop::Now);
        let next = kit.kernel();
        assert_eq!(next.recover().await.unwrap(), [pid], "one crash is chance");
        // It gets on by at least one reply before it is stopped again.
        tokio::time::sleep(std::time::Duration::from_millis(16)).await;
        next.stop(Stop::Graceful);
        next.quiet().await;
    }
    let last = kit.kernel();
    last.recover().await.unwrap();
    let outcome = last.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn who_took_two_kernels_down_is_parked_before_it_takes_a_third() {
    let kit = Kit::new(vec![Say::Hang; 4]);
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    kernel.stop(Stop::Now);
    for taken in [1, 0] {
        let next = kit.kernel();
        next.accuse(pid, "the program died while it executed this process").await.unwrap();
        assert_eq!(next.recover().await.unwrap().len(), taken);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        next.stop(Stop::Now);
        next.quiet().await;
    }
    let last = kit.kernel();
    let parked = last.wait(pid).await;
    assert_eq!(parked, Some(Outcome::Parked(BlockedOn::Review { crashes: 2 })));
}

/// Whom the kernel executes, and whom it ever did.
#[derive(Default)]
struct Recorder {
    now: Mutex<Vec<Pid>>,
    ever: Mutex<Vec<Pid>>,
}

impl FlightRecorder for Recorder {
    fn enter(&self, pid: Pid) {
        self.now.lock().unwrap().push(pid);
        self.ever.lock().unwrap().push(pid);
    }

    fn leave(&self, pid: Pid) {
        let mut now = self.now.lock().unwrap();
        let place = now.iter().position(|other| *other == pid).expect("it was entered");
        now.remove(place);
    }
}

#[tokio::test(start_paused = true)]
async fn the_recorder_names_who_is_executed_and_no_one_who_waits() {
    let kit = Kit::new(vec![Say::Hang]);
    let recorder = Arc::new(Recorder::default());
    let kernel = kit.kernel_recorded_by(recorder.clone());
    let waiting = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let bad = kernel.spawn(spawn("boom")).await.unwrap();
    kernel.wait(bad).await.unwrap();
    assert!(recorder.now.lock().unwrap().is_empty(), "one waits, the other's panic was caught");
    let ever = recorder.ever.lock().unwrap();
    assert!(ever.contains(&waiting) && ever.contains(&bad));
}
