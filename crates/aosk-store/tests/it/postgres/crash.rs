//! Durability: what was acknowledged is there, whoever is killed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aosk_abi::{Hash, Pid, Seq, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{Journal, JournalWriter};
use aosk_store::{Link, PostgresStore};

use super::server::{Server, is_here, open, options, place};
use crate::child::{Other, pid};
use crate::ledger::{Ledger, rounds, seed, stores};
use crate::support::{block_on, noise, random};

/// The links of a process's journal, whose chain is verified as it is read.
fn links(store: &PostgresStore, pid: Pid) -> HashSet<(u64, Hash)> {
    let read = block_on(store.read(&Tenant::local(), pid, Seq(0), usize::MAX)).expect("whole");
    read.iter().map(|record| (record.seq.0, record.hash)).collect()
}

#[test]
fn acknowledged_appends_survive_a_killed_node() {
    if !is_here() {
        return;
    }
    let mut seed = seed();
    for rounds in stores(rounds()) {
        let (options, mut ledger) = (options(), Ledger::default());
        for round in rounds {
            ledger.hear_and_kill(Other::start("write to a server", &place(&options)), &mut seed);
            assert_eq!(ledger.wrong(&open(&options)), None, "round {round}");
        }
    }
}

/// The server dies again and again; the agents wait and none fails. Once in 15 rounds of the others:
/// 20 times where the count is full.
#[test]
fn agents_wait_while_the_server_is_killed_and_nothing_acknowledged_is_lost() {
    if !is_here() {
        return;
    }
    let rounds = (rounds() / 15).max(1);
    let server = Server::start();
    let options = server.options();
    let store = open(&options);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let stop = AtomicBool::new(false);
    let written: Vec<(Scribe, u64)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|n| {
                let (store, runtime, stop) = (&store, &runtime, &stop);
                scope.spawn(move || {
                    runtime.block_on(async {
                        let mut scribe = Scribe::new(store, &Tenant::local(), pid(n)).await;
                        let mut count = 0;
                        while !stop.load(Ordering::Relaxed) {
                            let text = noise(count * 100 + n, (count * 37 % 5000) as usize);
                            let append = scribe.append(&[&text]);
                            scribe.follow(&append);
                            store.append(append).await.expect("it waits, it does not fail");
                            let at = Seq(scribe.next.0 - 1);
                            let read = store.read(&scribe.tenant, scribe.pid, at, 1).await;
                            assert_eq!(read.expect("readers wait too").len(), 1);
                            count += 1;
                        }
                        (scribe, count)
                    })
                })
            })
            .collect();
        let mut link = store.link();
        let mut seed = 20_260_102;
        for _ in 0..rounds {
            std::thread::sleep(Duration::from_millis(300 + random(&mut seed) % 400));
            server.kill();
            let down = runtime.block_on(link.wait_for(|link| *link != Link::Up));
            match &*down.expect("open") {
                Link::Down { error, .. } => assert!(!error.is_empty()),
                Link::Up => unreachable!("waited for"),
            }
            server.go();
            runtime.block_on(link.wait_for(|link| *link == Link::Up)).expect("open");
        }
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().expect("none failed")).collect()
    });
    assert_eq!(store.queue_depth().appends, 0);
    for (scribe, count) in written {
        assert!(count > rounds, "only {count} in {rounds} rounds");
        let links = links(&store, scribe.pid);
        assert_eq!(links.len() as u64, count, "each once, none twice");
        assert!(links.contains(&(count - 1, scribe.head)));
    }
}

#[test]
fn a_store_that_closes_while_the_server_is_away_ends_soon_and_says_so() {
    if !is_here() {
        return;
    }
    let server = Server::start();
    let store = open(&server.options());
    let scribe = block_on(Scribe::new(&store, &Tenant::local(), pid(1)));
    server.stop();
    let ticket = store.append(scribe.append(&[b"too late"]));
    let begun = std::time::Instant::now();
    drop(store);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    crate::support::refused(block_on(ticket), aosk_abi::Code::StoreClosed);
}
