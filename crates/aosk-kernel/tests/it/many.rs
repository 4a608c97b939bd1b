//! Many processes at once.

use std::sync::atomic::Ordering;

use aosk_abi::{Exit, Pid, Seq, Tenant};
use aosk_kernel::Outcome;
use aosk_ports::Journal;

use crate::support::{Kit, Puppet, spawn};

#[tokio::test(start_paused = true)]
async fn a_hundred_processes_share_the_slots_and_all_end() {
    let kit = Kit::with(Puppet::new(vec![]).slots(3));
    let kernel = kit.kernel();
    let mut pids = Vec::new();
    for index in 0..100 {
        pids.push(kernel.spawn(spawn(&format!("task {index}"))).await.unwrap());
    }
    let outcomes = kernel.wait_each(&pids).await;
    assert_eq!(outcomes.len(), 100);
    for (pid, outcome) in &outcomes {
        assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
        kit.image(*pid).await;
    }
    assert_eq!(kit.puppet.peak.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_called_committed_is_in_the_store() {
    let kit = Kit::new(vec![]);
    let (pid, _) = kit.run().await;
    let committed: Seq = kit.watcher.committed.lock().unwrap()[&pid];
    let store = kit.store();
    let found = store.process(&Tenant::local(), pid).await.unwrap().expect("there");
    assert_eq!(found.next, committed.next());
    let happened: Vec<(Pid, Seq)> =
        kit.watcher.happened.lock().unwrap().iter().map(|(pid, seq, _)| (*pid, *seq)).collect();
    assert!(happened.contains(&(pid, committed)));
}
