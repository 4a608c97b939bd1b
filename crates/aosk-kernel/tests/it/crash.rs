//! Steps in which the kernel fails inside itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aosk_abi::{BlockedOn, Code, Exit, Pid, Signal, Tenant, What};
use aosk_kernel::{Outcome, Stop};
use aosk_ports::{FlightRecorder, Inbox, InboxItem};
use aosk_sandbox::NoFiles;
use aosk_sim::{Chance, DiskFaults, MemoryStore, Power};
use aosk_store::Flight;

use crate::support::{Kit, Say, spawn};

/// Whom the kernel executes, and whom it ever did; whom the last one did at its end.
#[derive(Default)]
struct Recorder {
    now: Mutex<Vec<Pid>>,
    ever: Mutex<Vec<Pid>>,
    suspects: Mutex<Vec<Pid>>,
}

impl Recorder {
    /// The recorder of a kernel that fell over while it executed the process.
    fn suspecting(pid: Pid) -> Arc<Self> {
        Arc::new(Self { suspects: Mutex::new(vec![pid]), ..Self::default() })
    }
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

    fn suspects(&self) -> Vec<Pid> {
        self.suspects.lock().unwrap().clone()
    }

    fn clear(&self, suspect: Pid) {
        self.suspects.lock().unwrap().retain(|pid| *pid != suspect);
    }
}

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
    kernel.nudge().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
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
        let next = kit.kernel_recorded_by(Recorder::suspecting(pid));
        assert_eq!(next.recover().await.unwrap(), [pid], "one crash is chance");
        // It gets on by at least one reply before it is stopped again.
        tokio::time::sleep(Duration::from_millis(16)).await;
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
    tokio::time::sleep(Duration::from_secs(1)).await;
    kernel.stop(Stop::Now);
    for taken in [1, 0] {
        let next = kit.kernel_recorded_by(Recorder::suspecting(pid));
        assert_eq!(next.recover().await.unwrap().len(), taken);
        tokio::time::sleep(Duration::from_secs(1)).await;
        next.stop(Stop::Now);
        next.quiet().await;
    }
    let last = kit.kernel();
    let parked = last.wait(pid).await;
    assert_eq!(parked, Some(Outcome::Parked(BlockedOn::Review { crashes: 2 })));
}

#[tokio::test(start_paused = true)]
async fn the_recorder_names_who_is_executed_and_no_one_who_waits() {
    let kit = Kit::new(vec![Say::Hang]);
    let recorder = Arc::new(Recorder::default());
    let kernel = kit.kernel_recorded_by(recorder.clone());
    let waiting = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let bad = kernel.spawn(spawn("boom")).await.unwrap();
    kernel.wait(bad).await.unwrap();
    assert!(recorder.now.lock().unwrap().is_empty(), "one waits, the other's panic was caught");
    let ever = recorder.ever.lock().unwrap();
    assert!(ever.contains(&waiting) && ever.contains(&bad));
}

#[tokio::test(start_paused = true)]
async fn whoever_was_executed_at_the_end_has_crashed_before_anything_reaches_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut kit = Kit::new(vec![Say::Hang]);
    kit.options.adopts = true;
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    kernel.stop(Stop::Now);
    kernel.quiet().await;
    let flight = Flight::open(dir.path()).expect("a recorder");
    flight.enter(pid);
    // Forgotten, not left: as after a kill.
    std::mem::forget(flight);
    let cont = InboxItem::Signal { signal: Signal::Cont };
    kit.store().post(&Tenant::local(), pid, cont).await.unwrap();
    for _ in 0..2 {
        let flight = Arc::new(Flight::open(dir.path()).expect("a recorder"));
        let next = kit.kernel_recorded_by(flight.clone());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(flight.suspects(), [], "it is durable");
        next.stop(Stop::Now);
        next.quiet().await;
    }
    let names = kit.names(pid).await;
    let after: Vec<_> =
        names.iter().skip_while(|name| **name != "recovered").take(4).copied().collect();
    assert_eq!(after[..2], ["recovered", "crashed"], "{names:?}");
    assert!(after.contains(&"signal_received"), "{names:?}");
    assert_eq!(names.iter().filter(|name| **name == "crashed").count(), 1, "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn a_suspicion_that_cannot_be_written_down_is_kept() {
    let kit = Kit::new(vec![Say::Hang]);
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    kernel.stop(Stop::Now);
    let recorder = Recorder::suspecting(pid);
    let full = DiskFaults { full: Chance::ALWAYS, ..DiskFaults::calm() };
    let store = MemoryStore::open(&kit.disk, full, Power::on());
    let next = kit.kernel_of(store, |parts| parts.recorder = Some(recorder.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(recorder.suspects(), [pid]);
    next.stop(Stop::Now);
    next.quiet().await;
    let last = kit.kernel_of(kit.boot(), |parts| parts.recorder = Some(recorder.clone()));
    assert_eq!(last.recover().await.unwrap(), [pid]);
    assert_eq!(recorder.suspects(), []);
    assert!(kit.names(pid).await.contains(&"crashed"));
}

#[tokio::test(start_paused = true)]
async fn the_recorder_names_who_has_a_tool_at_work_and_who_is_being_read() {
    let kit = Kit::new(vec![Say::Call("slow", "{}")]);
    let recorder = Arc::new(Recorder::default());
    let kernel = kit.kernel_recorded_by(recorder.clone());
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*recorder.now.lock().unwrap(), [pid], "for as long as the tool runs");
    kernel.stop(Stop::Now);
    kernel.quiet().await;
    tokio::task::yield_now().await;
    assert_eq!(*recorder.now.lock().unwrap(), []);

    let seen = Arc::new(Mutex::new(Vec::new()));
    let next = kit.kernel_of(kit.store(), |parts| {
        let (recorder, seen) = (recorder.clone(), seen.clone());
        parts.recorder = Some(recorder.clone());
        parts.sandbox = Arc::new(move |_| {
            *seen.lock().unwrap() = recorder.now.lock().unwrap().clone();
            Ok(Arc::new(NoFiles))
        });
    });
    next.recover().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*seen.lock().unwrap(), [pid], "while it comes in");
}

#[tokio::test(start_paused = true)]
async fn a_panic_on_the_way_into_memory_gives_the_place_back_and_is_said() {
    let mut kit = Kit::new(vec![Say::Hang, Say::Text("ok")]);
    kit.options.resident = 1;
    let kernel = kit.kernel();
    let bad = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    kernel.stop(Stop::Now);
    let next = kit.kernel_of(kit.store(), |parts| {
        let times = AtomicUsize::new(0);
        parts.sandbox = Arc::new(move |_| {
            let first = times.fetch_add(1, Ordering::SeqCst) == 0;
            assert!(!first, "a sandbox that cannot be opened");
            Ok(Arc::new(NoFiles))
        });
    });
    next.recover().await.unwrap();
    let outcome = next.wait(bad).await.unwrap();
    let Outcome::Broken { code: Code::KernelPanic, message } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(message.contains("cannot be opened"), "{message}");
    assert_eq!(next.broken(9), [(bad, Code::KernelPanic, message)]);
    let good = next.spawn(spawn("go")).await.unwrap();
    let outcome = next.wait(good).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    next.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_paid_reply_outlives_the_crash_that_follows_it() {
    // The reply is counted, and that panics, when the next prompt is planned.
    let kit = Kit::new(vec![Say::Cut("boom")]);
    let slow = Duration::from_millis(100);
    let faults = DiskFaults { sync: slow..=slow, ..DiskFaults::calm() };
    let kernel = kit.kernel_on(MemoryStore::open(&kit.disk, faults, Power::on()));
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    // What the driver sent was under way when it fell over, and is read all the same.
    let review = Outcome::Parked(BlockedOn::Review { crashes: 2 });
    assert_eq!(kernel.wait(pid).await, Some(review));
    let names = kit.names(pid).await;
    assert!(names.contains(&"llm_returned"), "{names:?}");
    assert_eq!(kit.puppet.asked.lock().unwrap().len(), 1, "asked once, paid once");
}
