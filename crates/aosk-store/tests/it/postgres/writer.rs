//! The writer: two of them, and what a group shares.

use std::time::{Duration, Instant};

use aosk_abi::{Code, Content, Epoch, Seq, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::{Journal, JournalWriter};

use super::server::{fresh, is_here, open, options, options_in_a_database_of_its_own, psql};
use crate::child::pid;
use crate::support::{block_on, noise, refused};

/// Two nodes write to the same processes as fast as they can, each believing that they are its own.
/// Whoever has the epoch gets through; nothing deadlocks, and every journal is one chain.
#[test]
fn of_two_writers_only_the_one_with_the_epoch_gets_through() {
    if !is_here() {
        return;
    }
    const PROCESSES: u64 = 12;
    let options = options();
    let nodes = [open(&options), open(&options)];
    let local = Tenant::local();
    block_on(async {
        for n in 0..PROCESSES {
            let mut scribe = Scribe::new(&nodes[0], &local, pid(n)).await;
            scribe.write(&nodes[0], &[b"begun"]).await.expect("begins");
        }
    });
    let accepted: Vec<Vec<(u64, Epoch)>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2_u64)
            .map(|me| {
                let node = &nodes[me as usize];
                scope.spawn(move || {
                    block_on(async {
                        let mut accepted = Vec::new();
                        for round in 0..60_u64 {
                            let mut tickets = Vec::new();
                            // Each locks them in another order, if locks followed the calls.
                            for i in 0..PROCESSES {
                                let n = if me == 0 { i } else { PROCESSES - 1 - i };
                                let mut scribe = Scribe::new(node, &Tenant::local(), pid(n)).await;
                                if (round + n + me) % 7 == 0 {
                                    let claim =
                                        node.claim(&scribe.tenant, scribe.pid, scribe.epoch);
                                    if let Ok(epoch) = claim.await {
                                        scribe.epoch = epoch;
                                    }
                                }
                                let text = noise(round * 50 + n * 3 + me, 600);
                                tickets.push((
                                    n,
                                    scribe.epoch,
                                    node.append(scribe.append(&[&text])),
                                ));
                            }
                            for (n, epoch, ticket) in tickets {
                                match ticket.await {
                                    Ok(committed) => {
                                        accepted.push((n << 32 | committed.last.0, epoch))
                                    }
                                    Err(error) => assert!(
                                        [Code::StoreStaleEpoch, Code::StoreConflict]
                                            .contains(&error.code),
                                        "{error}"
                                    ),
                                }
                            }
                        }
                        accepted
                    })
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("no deadlock")).collect()
    });
    let mut all: Vec<_> = accepted.into_iter().flatten().collect();
    all.sort();
    let count = all.len();
    all.dedup_by_key(|(place, _)| *place);
    assert_eq!(all.len(), count, "no place was granted twice");
    for n in 0..PROCESSES {
        let read = block_on(nodes[0].read(&local, pid(n), Seq(0), usize::MAX)).expect("one chain");
        assert!(read.is_sorted_by_key(|record| record.epoch), "no stale epoch came through");
        let mine = all.iter().filter(|(place, _)| place >> 32 == n);
        assert_eq!(read.len(), 1 + mine.clone().count());
        for (place, epoch) in mine {
            let seq = (place & 0xffff_ffff) as usize;
            assert_eq!(read[seq].epoch, *epoch);
        }
    }
}

/// A node knows where it left its processes and may be wrong.
#[test]
fn a_node_that_was_not_told_of_a_take_over_is_refused_and_its_other_processes_go_on() {
    if !is_here() {
        return;
    }
    let options = options();
    let [mine, others] = [open(&options), open(&options)];
    let local = Tenant::local();
    block_on(async {
        let mut lost = Scribe::new(&mine, &local, pid(1)).await;
        let mut kept = Scribe::new(&mine, &local, pid(2)).await;
        for _ in 0..3 {
            lost.write(&mine, &[b"known"]).await.expect("its own");
            kept.write(&mine, &[b"known"]).await.expect("its own");
        }
        let mut taken = Scribe::new(&others, &local, pid(1)).await;
        taken.epoch = others.claim(&local, pid(1), lost.epoch).await.expect("the next epoch");
        let late = (mine.append(lost.append(&[b"late"])), mine.append(kept.append(&[b"beside"])));
        refused(late.0.await, Code::StoreStaleEpoch);
        late.1.await.expect("another process");
        taken.write(&others, &[b"the new owner's"]).await.expect("its own");
        refused(mine.append(lost.append(&[b"later"])).await, Code::StoreStaleEpoch);

        let mut back = Scribe::new(&mine, &local, pid(1)).await;
        back.epoch = mine.claim(&local, pid(1), taken.epoch).await.expect("the next epoch");
        back.write(&mine, &[b"again the first's"]).await.expect("its own");
        others.claim(&local, pid(1), back.epoch).await.expect("the next epoch");
        let alone = mine.append(back.append(&[b"in a statement of its own"]));
        refused(alone.await, Code::StoreStaleEpoch);
        let epochs: Vec<Epoch> = mine
            .read(&local, pid(1), Seq(0), usize::MAX)
            .await
            .expect("one chain")
            .iter()
            .map(|record| record.epoch)
            .collect();
        let [first, second, third] = [lost.epoch, taken.epoch, back.epoch];
        assert_eq!(epochs, [first, first, first, second, third]);
    });
}

/// The last statement of a group that had to ask, or that is more than one, is its `COMMIT`.
#[test]
fn a_step_that_just_goes_on_is_one_statement() {
    if !is_here() {
        return;
    }
    let options = options_in_a_database_of_its_own();
    let store = open(&options);
    block_on(async {
        let client = psql(&options).await;
        let sql = "SELECT count(*) FILTER (WHERE query = 'COMMIT'), \
                   count(*) FILTER (WHERE query LIKE 'WITH moved AS (UPDATE%') \
                   FROM pg_stat_activity WHERE datname = current_database() \
                   AND pid <> pg_backend_pid() AND query ~ '^(COMMIT$|WITH moved)'";
        let last = async || {
            let row = client.query_one(sql, &[]).await.expect("counted");
            (row.get::<_, i64>(0), row.get::<_, i64>(1))
        };
        let mut scribe = Scribe::new(&store, &Tenant::local(), pid(1)).await;
        scribe.write(&store, &[b"begun"]).await.expect("begins");
        assert_eq!(last().await.1, 0, "a process is made by two statements");
        let committed = last().await.0;
        scribe.write(&store, &[b"goes on"]).await.expect("goes on");
        assert_eq!(last().await, (committed - 1, 1));
    });
}

/// A repeat of what the same group writes: it is compared with what is there after it.
#[test]
fn an_append_and_its_repeat_at_once_are_both_acknowledged_and_stored_once() {
    let Some((options, store)) = fresh() else { return };
    let local = Tenant::local();
    block_on(async {
        let mut scribe = Scribe::new(&store, &local, pid(1)).await;
        let mut tickets = Vec::new();
        for n in 0..30_u8 {
            let append =
                Scribe::with_checkpoint(scribe.append(&[&[n], &noise(n.into(), 5000)]), vec![n; 9]);
            scribe.follow(&append);
            tickets.push(store.append(append.clone()));
            tickets.push(store.append(append));
        }
        for ticket in tickets {
            ticket.await.expect("there or written");
        }
        let read = store.read(&local, pid(1), Seq(0), usize::MAX).await.expect("whole");
        assert_eq!((read.len(), read.last().map(|it| it.hash)), (60, Some(scribe.head)));
        let client = psql(&options).await;
        let rows = client.query_one(
            "SELECT (SELECT count(*) FROM journal), (SELECT count(*) FROM blobs), \
             (SELECT count(*) FROM checkpoints)",
            &[],
        );
        let rows = rows.await.expect("counted");
        let counts: [i64; 3] = [rows.get(0), rows.get(1), rows.get(2)];
        assert_eq!(counts, [30, 30, 2]);
    });
}

#[test]
fn empty_and_the_largest_contents_come_back_and_larger_ones_are_refused() {
    if !is_here() {
        return;
    }
    const LARGEST: usize = 64 << 20;
    let store = open(&options());
    let local = Tenant::local();
    block_on(async {
        let mut scribe = Scribe::new(&store, &local, pid(1)).await;
        let texts = [Vec::new(), noise(1, Content::INLINE_MAX + 1), vec![b'x'; LARGEST]];
        for text in &texts {
            scribe.write(&store, &[text]).await.expect("within the bounds");
        }
        let wanted: Vec<_> =
            (0..).zip(&texts).map(|(seq, text)| (Seq(seq), scribe.key.hash(text))).collect();
        let found = store.contents(&local, pid(1), &wanted).await.expect("there");
        assert!(found.iter().map(|bytes| &bytes[..]).eq(texts.iter().map(Vec::as_slice)));
        let over = scribe.append(&[&vec![b'x'; LARGEST + 1]]);
        refused(store.append(over).await, Code::EventEncode);
    });
}

/// Nobody has analysed the tables of a new store, and it is then that very many processes may begin.
/// Appends come alone, in groups, and with what must be asked for first.
#[test]
fn no_append_reads_the_whole_table_of_processes_however_new_the_store_is() {
    if !is_here() {
        return;
    }
    const ROUNDS: i64 = 100;
    let options = options();
    let store = open(&options);
    let local = Tenant::local();
    block_on(async {
        let (mut one, mut two) =
            (Scribe::new(&store, &local, pid(1)).await, Scribe::new(&store, &local, pid(2)).await);
        for _ in 0..ROUNDS {
            one.write(&store, &[b"alone"]).await.expect("its own");
            let pair = (one.append(&[b"one of"]), two.append(&[b"two"]));
            for (scribe, append) in [(&mut one, &pair.0), (&mut two, &pair.1)] {
                scribe.follow(append);
            }
            let tickets = (store.append(pair.0), store.append(pair.1.clone()));
            tickets.0.await.expect("its own");
            tickets.1.await.expect("its own");
            store.append(pair.1).await.expect("it is there");
        }
    });
    // What a connection counted is told when it ends.
    drop(store);
    let (scans, writes) = block_on(async {
        let client = psql(&options).await;
        let sql = "SELECT seq_scan, n_tup_ins + n_tup_upd FROM pg_stat_user_tables \
                   WHERE schemaname = $1::text AND relname = 'processes'";
        let begun = Instant::now();
        loop {
            let row = client.query_one(sql, &[&options.schema]).await.expect("counted");
            let (scans, writes): (i64, i64) = (row.get(0), row.get(1));
            if writes >= 3 * ROUNDS || begun.elapsed() > Duration::from_secs(20) {
                break (scans, writes);
            }
        }
    });
    assert!(writes >= 3 * ROUNDS, "{writes} rows of processes were written");
    // Whoever looks after leases may read it, a few times a second.
    assert!(scans < ROUNDS / 2, "{scans} scans in {ROUNDS} rounds of three");
}
