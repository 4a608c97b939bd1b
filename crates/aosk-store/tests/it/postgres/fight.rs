//! Two programs that fight for the same processes, by fair means and after long pauses.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aosk_abi::{Code, Epoch, Seq, Tenant};
use aosk_conformance::{Scribe, skewed_clock};
use aosk_ports::{Journal, JournalWriter, Leases, StoreError};
use aosk_store::{PostgresOptions, PostgresStore};

use super::server::{self, is_here, open, options_in_a_database_of_its_own, place, psql};
use crate::child::{Ack, Other, pid, say};
use crate::ledger::{seed, setting};
use crate::support::{block_on, noise, random};

const PROCESSES: u64 = 200;
const LEASE: Duration = Duration::from_secs(1);
const HOUR: i64 = 3600;

fn wall_clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("past 1970").as_secs().cast_signed()
}

/// A fighter: it takes what it can get, writes to what it believes to be its own, and steals. It ends
/// with its input.
pub(crate) fn fight(place: &Path) {
    say(&format!("clock {}", wall_clock()));
    let ended = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            let _ = std::io::stdin().read(&mut [0]);
            ended.store(true, Ordering::Relaxed);
        }
    });
    let mut draw = u64::from(std::process::id()) | 1;
    while !ended.load(Ordering::Relaxed) {
        let store = server::in_place(place);
        let lost = block_on(live(&store, &ended, &mut draw)).err();
        if let Some(error) = lost {
            assert_eq!(error.code, Code::StoreLease, "{error}");
            say("lost its lease");
        }
    }
}

/// The life of one node: until the end, or until it hears that it lost its lease.
async fn live(store: &PostgresStore, ended: &AtomicBool, draw: &mut u64) -> Result<(), StoreError> {
    let local = Tenant::local();
    let key = store.content_key(&local).await?;
    let mut own: HashMap<u64, Scribe> = HashMap::new();
    while !ended.load(Ordering::Relaxed) {
        let taken = store.take_over(&local, 20).await?;
        let stolen = random(draw) % PROCESSES;
        let there = store.process(&local, pid(stolen)).await?.expect("begun");
        let claim = store.claim(&local, there.pid, there.epoch).await;
        let stolen = kept(claim)?.map(|epoch| aosk_ports::Receipt { epoch, ..there });
        for it in taken.into_iter().chain(stolen) {
            let number = (0..PROCESSES).find(|n| pid(*n) == it.pid).expect("one of them");
            let (tenant, epoch) = (it.tenant, it.epoch);
            let scribe = Scribe { tenant, pid: it.pid, epoch, next: it.next, head: it.head, key };
            own.insert(number, scribe);
        }
        let mut flight = Vec::new();
        for (n, scribe) in &own {
            let append = scribe.append(&[&noise(random(draw), 100)]);
            let mut after = scribe.clone();
            after.follow(&append);
            flight.push((*n, after, store.append(append)));
        }
        for (n, after, ticket) in flight {
            match kept(ticket.await)? {
                Some(committed) => {
                    say(&format!("ack {n} {} {}", committed.last, after.head));
                    own.insert(n, after);
                }
                None => {
                    own.remove(&n);
                }
            }
        }
        if let Some(n) = own.keys().next().copied().filter(|_| random(draw).is_multiple_of(4))
            && let Some(scribe) = own.remove(&n)
        {
            kept(store.release(&local, scribe.pid, scribe.epoch).await)?;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// `None` for what another was faster at.
fn kept<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Err(error) if [Code::StoreStaleEpoch, Code::StoreConflict].contains(&error.code) => {
            say(&format!("refused {}", error.code));
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// One is an hour ahead, the other an hour behind; they are stopped past their leases, and their
/// connections are cut. `AOSK_FIGHT_SECONDS` says for how long.
#[test]
fn of_two_programs_that_fight_no_stale_one_gets_through_and_no_handover_loses_anything() {
    if !is_here() {
        return;
    }
    let (seconds, mut draw) = (setting("AOSK_FIGHT_SECONDS", 8), seed());
    let options = PostgresOptions { lease: LEASE, ..options_in_a_database_of_its_own() };
    let local = Tenant::local();
    let first = open(&options);
    block_on(async {
        let mut tickets = Vec::new();
        for n in 0..PROCESSES {
            let scribe = Scribe::new(&first, &local, pid(n)).await;
            tickets.push(first.append(scribe.append(&[b"begun"])));
        }
        for ticket in tickets {
            ticket.await.expect("begins");
        }
    });
    drop(first);

    let beside = tempfile::tempdir().expect("a folder");
    let mut fighters: Vec<Other> = [HOUR, -HOUR]
        .map(|skew| {
            let clock = skewed_clock(beside.path(), skew);
            let mut fighter = Other::start_in("fight", &place(&options), clock);
            let says: i64 = fighter.line("clock ")[6..].parse().expect("a number");
            assert!((says - wall_clock() - skew).abs() < 60, "{says} is not {skew} s off");
            fighter
        })
        .into();
    let heard: Vec<_> = fighters.iter_mut().map(Other::listen).collect();
    let begun = Instant::now();
    let (mut stops, mut cuts) = (0, 0);
    while begun.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(200 + random(&mut draw) % 400));
        if random(&mut draw).is_multiple_of(3) {
            block_on(async {
                let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                           WHERE datname = current_database() AND pid <> pg_backend_pid() \
                           AND random() < 0.5";
                psql(&options).await.query(sql, &[]).await.expect("cut");
            });
            cuts += 1;
        } else {
            let fighter = &fighters[random(&mut draw) as usize % 2];
            fighter.signal("-STOP");
            std::thread::sleep(LEASE + Duration::from_millis(random(&mut draw) % 1500));
            fighter.signal("-CONT");
            stops += 1;
        }
    }
    fighters.drain(..).for_each(Other::end);
    let said: String = heard.into_iter().map(|it| it.join().expect("heard")).collect();
    let count = |word: &str| said.lines().filter(|line| line.starts_with(word)).count();
    let acks: Vec<Ack> = said.lines().filter_map(Ack::parse).collect();

    let store = open(&options);
    let (mut events, mut handovers) = (0, 0);
    for n in 0..PROCESSES {
        // Reading verifies that there is no gap and that the chain holds.
        let read = block_on(store.read(&local, pid(n), Seq(0), usize::MAX)).expect("one chain");
        assert!(read.is_sorted_by_key(|record| record.epoch), "a stale epoch came through");
        for ack in acks.iter().filter(|ack| ack.n == n) {
            let there = read.get(ack.last as usize).map(|record| record.hash);
            assert_eq!(there, Some(ack.hash), "{ack:?}");
        }
        let there = block_on(store.process(&local, pid(n))).expect("answers").expect("there");
        assert_eq!(there.next, Seq(read.len() as u64));
        assert!(Some(there.epoch) >= read.last().map(|record| record.epoch));
        events += read.len();
        handovers += there.epoch.0 - Epoch(1).0;
    }
    let (refused, lost) = (count("refused "), count("lost its lease"));
    println!(
        "{{\"name\":\"fight\",\"seconds\":{seconds},\"stops\":{stops},\"cuts\":{cuts},\
         \"handovers\":{handovers},\"events\":{events},\"acks\":{},\"refused\":{refused},\
         \"lost_leases\":{lost}}}",
        acks.len()
    );
    assert!(handovers >= PROCESSES && refused > 0 && lost > 0, "they did not fight");
}
