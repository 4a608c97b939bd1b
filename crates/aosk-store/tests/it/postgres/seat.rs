//! Where the writer runs: on a runtime of its callers, from which it must be able to go at any time.

use std::sync::LazyLock;
use std::time::Duration;

use aosk_abi::{Seq, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{Journal, JournalWriter, Ticket};
use aosk_store::{PostgresOptions, PostgresStore};
use tokio::runtime::Runtime;

use super::server::{is_here, open, options};
use crate::child::pid;
use crate::support::{block_on, noise};

/// A runtime on which stores are opened.
pub(super) static GUESTS: LazyLock<Runtime> = LazyLock::new(|| several(2));

fn several(threads: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A store opened here, and a process in it.
async fn begun(options: &PostgresOptions) -> (PostgresStore, Scribe) {
    let store = open(options);
    let mut scribe = Scribe::new(&store, &Tenant::local(), pid(1)).await;
    scribe.write(&store, &[b"begun"]).await.expect("begins");
    (store, scribe)
}

/// Enqueues so many appends that the first of them are being written and the last wait.
fn enqueue(store: &PostgresStore, scribe: &mut Scribe) -> Vec<Ticket> {
    (0..400_u64)
        .map(|n| {
            let append = scribe.append(&[&noise(n, 20_000)]);
            scribe.follow(&append);
            store.append(append)
        })
        .collect()
}

/// Every ticket is answered with a commit, and another node finds all of it.
fn are_there(options: &PostgresOptions, scribe: &Scribe, tickets: Vec<Ticket>) {
    block_on(async {
        for ticket in tickets {
            let answer = tokio::time::timeout(Duration::from_secs(60), ticket).await;
            answer.expect("an answer").expect("committed");
        }
        let read = open(options).read(&Tenant::local(), pid(1), Seq(0), usize::MAX).await;
        assert_eq!(read.expect("whole").last().map(|record| record.hash), Some(scribe.head));
    });
}

/// The thread that the writer would need is the one that waits for it.
#[test]
fn a_store_that_the_only_thread_of_its_runtime_drops_writes_what_is_enqueued() {
    if !is_here() {
        return;
    }
    let (options, runtime) = (options(), several(1));
    let opened = options.clone();
    let task = runtime.spawn(async move {
        let (store, mut scribe) = begun(&opened).await;
        let tickets = enqueue(&store, &mut scribe);
        drop(store);
        (scribe, tickets)
    });
    let (scribe, tickets) = runtime.block_on(task).expect("no panic");
    are_there(&options, &scribe, tickets);
}

#[test]
fn a_runtime_that_ends_before_its_store_leaves_the_writer_to_it() {
    if !is_here() {
        return;
    }
    let (options, runtime) = (options(), several(2));
    let (store, mut scribe, mut tickets) = runtime.block_on(async {
        let (store, mut scribe) = begun(&options).await;
        let tickets = enqueue(&store, &mut scribe);
        (store, scribe, tickets)
    });
    drop(runtime);
    tickets.extend(enqueue(&store, &mut scribe));
    are_there(&options, &scribe, tickets);
}

/// The runtime drops its tasks one after the other; the one with the store may come first.
#[test]
fn a_store_that_ends_with_its_runtime_writes_what_is_enqueued() {
    if !is_here() {
        return;
    }
    for threads in [1, 2] {
        let (options, runtime) = (options(), several(threads));
        let (scribe, tickets) = runtime.block_on(async {
            let (store, mut scribe) = begun(&options).await;
            let tickets = enqueue(&store, &mut scribe);
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(store);
            });
            (scribe, tickets)
        });
        drop(runtime);
        are_there(&options, &scribe, tickets);
    }
}

/// Callers that wait for room hold their thread; the writer makes room on another one.
#[test]
fn a_full_queue_does_not_take_the_writers_thread_away() {
    if !is_here() {
        return;
    }
    let (options, runtime) = (options(), several(1));
    let opened = options.clone();
    let task = runtime.spawn(async move {
        let (store, mut scribe) = begun(&opened).await;
        // 64 MiB may wait.
        let tickets: Vec<Ticket> = (0..90_u64)
            .map(|n| {
                let append = scribe.append(&[&noise(n, 1 << 20)]);
                scribe.follow(&append);
                store.append(append)
            })
            .collect();
        (scribe, tickets, store)
    });
    let (scribe, tickets, store) = runtime.block_on(task).expect("no panic");
    are_there(&options, &scribe, tickets);
    drop(store);
}
