//! Several nodes on one database.

use std::time::{Duration, Instant};

use aosk_abi::{Code, Epoch, Seq, Signal, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{Inbox, InboxItem, Journal, JournalWriter, Leases, Standing};
use aosk_store::{PostgresOptions, PostgresReader};

use super::server::{Server, is_here, open, options, place, psql};
use crate::child::{Ack, Other, WRITERS, pid};
use crate::support::{block_on, refused};

const LEASE: Duration = Duration::from_secs(1);

fn short(options: PostgresOptions) -> PostgresOptions {
    PostgresOptions { lease: LEASE, ..options }
}

#[test]
fn looking_for_what_dead_nodes_left_writes_nothing_while_all_live() {
    if !is_here() {
        return;
    }
    // No renewal comes between.
    let options = PostgresOptions { lease: Duration::from_secs(600), ..options() };
    let store = open(&options);
    let local = Tenant::local();
    block_on(async {
        let mut scribe = Scribe::new(&store, &local, pid(1)).await;
        scribe.write(&store, &[b"begun"]).await.expect("begins");
        let client = psql(&options).await;
        let sql = "SELECT xmin::text FROM nodes";
        let written = async || client.query_one(sql, &[]).await.expect("one").get::<_, String>(0);
        store.renew().await.expect("held");
        let before = written().await;
        for _ in 0..3 {
            assert!(store.take_over(&local, 9).await.expect("answers").is_empty());
        }
        assert_eq!(written().await, before);
        store.release(&local, pid(1), scribe.epoch).await.expect("its own");
        assert_eq!(store.take_over(&local, 9).await.expect("answers").len(), 1);
        assert_ne!(written().await, before);
    });
}

#[test]
fn a_node_that_slept_past_its_lease_is_fenced_and_nothing_it_was_told_is_lost() {
    if !is_here() {
        return;
    }
    let options = short(options());
    let local = Tenant::local();
    let store = open(&options);
    let mut other = Other::start("write to a server", &place(&options));
    let mut acks: Vec<Ack> = (0..40).filter_map(|_| Ack::parse(&other.line("ack "))).collect();
    assert!(block_on(store.take_over(&local, 99)).expect("answers").is_empty(), "it lives");
    other.signal("-STOP");
    let stopped = Instant::now();
    let mut taken = Vec::new();
    while taken.len() < WRITERS as usize {
        assert!(stopped.elapsed() < LEASE * 5, "only {} were given up", taken.len());
        taken.extend(block_on(store.take_over(&local, 3)).expect("answers"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(stopped.elapsed() > LEASE / 2, "a lease of {LEASE:?} ended at once");
    block_on(async {
        for receipt in &taken {
            assert_eq!(receipt.epoch, Epoch(2));
            let mut scribe = Scribe::new(&store, &local, receipt.pid).await;
            scribe.write(&store, &[b"the new owner's"]).await.expect("its own");
        }
    });
    other.signal("-CONT");
    let said = other.line("refused ");
    assert!(["refused AOSK-S007", "refused AOSK-S017"].contains(&said.as_str()), "{said}");
    let rest = other.kill();
    acks.extend(rest.lines().filter_map(Ack::parse));
    for n in 0..WRITERS {
        let read = block_on(store.read(&local, pid(n), Seq(0), usize::MAX)).expect("whole");
        assert_eq!(read.last().map(|record| record.epoch), Some(Epoch(2)));
        assert!(read.is_sorted_by_key(|record| record.epoch), "nothing late came between");
        for ack in acks.iter().filter(|ack| ack.n == n) {
            assert_eq!(read[ack.last as usize].hash, ack.hash, "{ack:?}");
        }
    }
}

#[test]
fn a_node_whose_processes_were_taken_hears_it_and_stops_for_good() {
    if !is_here() {
        return;
    }
    let options = short(options());
    let (local, first) = (Tenant::local(), open(&options));
    let mut scribe = block_on(Scribe::new(&first, &local, pid(1)));
    block_on(scribe.write(&first, &[b"begun"])).expect("begins");
    let (changed, next) = (first.changed(), open(&options));
    let taken = (0..50).find_map(|_| {
        block_on(async {
            let client = psql(&options).await;
            // As if the first had not been heard for a lease, by the server's clock alone. It may be
            // faster and renew it; not each time.
            let sql = "UPDATE nodes SET until = now() - interval '1 ms' WHERE registered = \
                         (SELECT min(registered) FROM nodes)";
            client.batch_execute(sql).await.expect("set");
            let taken = next.take_over(&local, 9).await.expect("answers");
            (!taken.is_empty()).then_some(taken)
        })
    });
    let taken = taken.expect("taken over");
    assert_eq!((taken[0].pid, taken[0].epoch), (pid(1), Epoch(2)));
    block_on(async { tokio::time::timeout(LEASE * 2, changed).await }).expect("it hears of it");
    assert_eq!(first.standing(), Standing::Lost);
    refused(block_on(first.append(scribe.append(&[b"late"]))), Code::StoreLease);
    refused(block_on(first.claim(&local, pid(1), Epoch(2))), Code::StoreLease);
    refused(block_on(first.take_over(&local, 9)), Code::StoreLease);
    assert_eq!(block_on(first.renew()).expect("answers"), Standing::Lost);
    let read = block_on(first.read(&local, pid(1), Seq(0), 9)).expect("it may still read");
    assert_eq!(read.len(), 1);
}

#[test]
fn a_node_without_its_server_stops_before_its_lease_ends_and_goes_on_after() {
    if !is_here() {
        return;
    }
    let server = Server::start();
    let options = short(server.options());
    let store = open(&options);
    let until = || {
        block_on(async {
            let client = psql(&options).await;
            let sql = "SELECT extract(epoch FROM until - now())::float8 FROM nodes";
            client.query_one(sql, &[]).await.expect("its row").get::<_, f64>(0)
        })
    };
    // What the server thinks is left is more than what the node thinks, at any moment.
    for _ in 0..5 {
        let own = store.standing();
        let servers = until();
        let Standing::Held { left } = own else { panic!("{own:?} while the server answers") };
        assert!(left.as_secs_f64() < servers + 0.2 - 0.1, "{left:?} of {servers} s");
        std::thread::sleep(Duration::from_millis(90));
    }
    let changed = store.changed();
    server.stop();
    let stopped = Instant::now();
    while store.standing() != Standing::Lapsed {
        assert!(stopped.elapsed() < LEASE, "it must stop before others may begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(LEASE);
    assert_eq!(store.standing(), Standing::Lapsed);
    server.go();
    block_on(async { tokio::time::timeout(LEASE * 10, changed).await }).expect("held again");
    assert!(matches!(store.standing(), Standing::Held { .. }), "nobody took over meanwhile");
    let mut scribe = block_on(Scribe::new(&store, &Tenant::local(), pid(1)));
    block_on(scribe.write(&store, &[b"goes on"])).expect("as before");
}

#[test]
fn nodes_that_take_over_at_once_get_different_processes() {
    if !is_here() {
        return;
    }
    const PROCESSES: u64 = 60;
    let options = options();
    let local = Tenant::local();
    let dead = open(&options);
    block_on(async {
        for n in 0..PROCESSES {
            let mut scribe = Scribe::new(&dead, &local, pid(n)).await;
            scribe.write(&dead, &[b"begun"]).await.expect("begins");
        }
    });
    drop(dead);
    let nodes: Vec<_> = (0..3).map(|_| open(&options)).collect();
    let taken: Vec<Vec<_>> = std::thread::scope(|scope| {
        let takers: Vec<_> = nodes
            .iter()
            .map(|node| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    for _ in 0..40 {
                        let some = block_on(node.take_over(&Tenant::local(), 7)).expect("answers");
                        assert!(some.len() <= 7);
                        mine.extend(some);
                    }
                    mine
                })
            })
            .collect();
        takers.into_iter().map(|taker| taker.join().expect("took")).collect()
    });
    let mut all: Vec<_> = taken.iter().flatten().map(|it| (it.pid, it.epoch)).collect();
    all.sort();
    assert_eq!(all, (0..PROCESSES).map(|n| (pid(n), Epoch(2))).collect::<Vec<_>>());
    block_on(async {
        for (node, mine) in nodes.iter().zip(&taken) {
            for receipt in mine {
                let mut scribe = Scribe::new(node, &local, receipt.pid).await;
                scribe.write(node, &[b"goes on"]).await.expect("its own");
            }
        }
    });
}

#[test]
fn a_post_wakes_every_node_within_moments_whoever_posts_it() {
    if !is_here() {
        return;
    }
    let options = options();
    let (one, two) = (open(&options), open(&options));
    let local = Tenant::local();
    block_on(async {
        let mut scribe = Scribe::new(&one, &local, pid(1)).await;
        scribe.write(&one, &[b"begun"]).await.expect("begins");
        let (mut at_one, mut at_two) = (one.wakeups(), two.wakeups());
        let reader = PostgresReader::open(&options).expect("opens");
        let mut fast = 0;
        for n in 0..10 {
            at_one.mark_unchanged();
            at_two.mark_unchanged();
            let item = || InboxItem::Signal { signal: Signal::Stop };
            let begun = Instant::now();
            match n % 2 {
                0 => one.post(&local, pid(1), item()).await,
                _ => reader.post(&local, pid(1), item()).await,
            }
            .expect("posted");
            at_one.changed().await.expect("open");
            at_two.changed().await.expect("open");
            // A look is due each second in any case; most must come from the post.
            fast += u32::from(begun.elapsed() < Duration::from_millis(400));
            assert!(begun.elapsed() < Duration::from_secs(3));
        }
        assert!(fast >= 7, "only {fast} of 10 came at once");
        at_one.mark_unchanged();
        tokio::time::timeout(Duration::from_secs(3), at_one.changed())
            .await
            .expect("a look is due without any post")
            .expect("open");
    });
}
