//! Who owns what: the same on every backend.

use aosk_abi::{Code, Epoch, Exit, ProcessState, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{Append, Leases, ProcessRow, Standing, Store};

use crate::child::pid;
use crate::postgres::server;
use crate::support::{block_on, open, refused};

/// A store that one node after the other opens.
async fn succession<S: Store + Leases>(mut open: impl FnMut() -> S) {
    let local = Tenant::local();
    let first = open();
    assert!(matches!(first.standing(), Standing::Held { .. }));
    let mut old = Vec::new();
    for n in 0..5 {
        let mut scribe = Scribe::new(&first, &local, pid(n)).await;
        let mut append = scribe.append(&[b"begun"]);
        if n == 3 {
            let state = ProcessState::Exited { exit: Exit::Killed };
            append = Append { row: ProcessRow { state, ..append.row }, ..append };
        }
        scribe.follow(&append);
        first.append(append).await.expect("begins");
        old.push(scribe);
    }
    assert!(first.take_over(&local, 9).await.expect("answers").is_empty(), "all are its own");
    drop(first);

    let next = open();
    let taken = next.take_over(&local, 2).await.expect("answers");
    let places = |taken: &[aosk_ports::Receipt]| -> Vec<_> {
        taken.iter().map(|it| (it.pid, it.epoch, it.next, it.head)).collect()
    };
    let expected = |n: usize| (pid(n as u64), Epoch(2), old[n].next, old[n].head);
    assert_eq!(places(&taken), [expected(0), expected(1)]);
    let other: Tenant = "other".parse().expect("a name");
    assert!(next.take_over(&other, 9).await.expect("answers").is_empty());
    assert_eq!(next.claim(&local, pid(2), Epoch(1)).await.expect("free"), Epoch(2));
    let taken = next.take_over(&local, 9).await.expect("answers");
    assert_eq!(places(&taken), [expected(4)], "3 has ended, 2 is claimed");
    assert!(next.take_over(&local, 9).await.expect("answers").is_empty());

    refused(next.append(old[0].append(&[b"late"])).await, Code::StoreStaleEpoch);
    let mut scribe = Scribe::new(&next, &local, pid(0)).await;
    scribe.write(&next, &[b"goes on"]).await.expect("its owner");

    refused(next.release(&local, pid(0), Epoch(1)).await, Code::StoreStaleEpoch);
    refused(next.release(&local, pid(9), Epoch(1)).await, Code::StoreUnknownProcess);
    next.release(&local, pid(0), Epoch(2)).await.expect("its owner");
    let taken = next.take_over(&local, 9).await.expect("answers");
    assert_eq!(places(&taken), [(pid(0), Epoch(3), scribe.next, scribe.head)]);
    assert!(matches!(next.renew().await, Ok(Standing::Held { .. })));
}

#[test]
fn what_nobody_owns_is_taken_over_once_on_a_file() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(succession(|| open(dir.path())));
}

#[test]
fn what_nobody_owns_is_taken_over_once_on_a_server() {
    if server::is_here() {
        let options = server::options();
        block_on(succession(|| server::open(&options)));
    }
}
