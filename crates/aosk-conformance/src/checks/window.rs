//! Windows of time.

use aosk_abi::{Code, Event, Pid, Record, Seq, Timestamp, Unblocked, What};
use aosk_ports::{Append, CLOCK_STEP};

use super::refused;
use crate::World;
use crate::scribe::Scribe;

const STEP: u64 = CLOCK_STEP.as_millis() as u64;

/// Longer before the first event than a clock may go back.
const BEGINNING: u64 = 1_790_000_000_000;

/// An append of an event at each of these times.
fn at(scribe: &Scribe, times: &[u64]) -> Append {
    let mut prev = scribe.head;
    let records = (scribe.next.0..).zip(times).map(|(seq, &time)| {
        let event = Event::new(Timestamp::from_millis(time), What::Unblocked(Unblocked {}));
        let (tenant, pid, epoch) = (&scribe.tenant, scribe.pid, scribe.epoch);
        let record = Record::seal(tenant, pid, Seq(seq), epoch, prev, &event);
        let record = record.expect("no text holds U+0000");
        prev = record.hash;
        record
    });
    let records = records.collect();
    Append { records, ..scribe.append(&[]) }
}

async fn write(world: &World, scribe: &mut Scribe, times: &[u64]) {
    let mut rest = times;
    let mut lengths = [1, 3, 2, 5].into_iter().cycle();
    while !rest.is_empty() {
        let (some, others) = rest.split_at(lengths.next().unwrap_or(1).min(rest.len()));
        let append = at(scribe, some);
        world.store().append(append.clone()).await.expect("continues");
        scribe.follow(&append);
        rest = others;
    }
}

async fn between(
    world: &World,
    scribe: &Scribe,
    (from, until): (u64, u64),
    limit: usize,
) -> Vec<u64> {
    let (from, until) = (Timestamp::from_millis(from), Timestamp::from_millis(until));
    let (tenant, pid) = (&scribe.tenant, scribe.pid);
    let found = world.store().events_between(tenant, pid, from, until, limit).await;
    let time = |record: &Record| record.at().expect("of an event").as_millis();
    found.expect("read").iter().map(time).collect()
}

fn expected(times: &[u64], (from, until): (u64, u64), limit: usize) -> Vec<u64> {
    times.iter().copied().filter(|time| (from..until).contains(time)).take(limit).collect()
}

/// Every window has just the events in it, in their order, its first moment included and its last
/// not; also where clocks went back, again and again, by as much as they may.
pub async fn a_window_holds_what_happened_in_it_however_clocks_went_back(world: World) {
    let mut scribe = world.scribe(1).await;
    let (mut times, mut latest) = (Vec::new(), BEGINNING);
    for n in 0..400_u64 {
        // Ties, small steps and leaps; every seventh is as late as it may be.
        latest += [0, 1, 900, 20_000, 2 * STEP][(n * n % 11 % 5) as usize];
        times.push(if n % 7 == 3 { latest - STEP } else { latest });
    }
    write(&world, &mut scribe, &times).await;
    let mut edges: Vec<u64> = times.iter().step_by(23).copied().collect();
    edges.extend([0, BEGINNING, latest, u64::MAX]);
    for &from in &edges {
        for &until in &edges {
            for window in [(from, until), (from.saturating_add(1), until), (from, until / 2)] {
                let found = between(&world, &scribe, window, usize::MAX).await;
                assert_eq!(found, expected(&times, window, usize::MAX), "{window:?}");
            }
        }
        for limit in [0, 1, 7] {
            let found = between(&world, &scribe, (from, latest), limit).await;
            assert_eq!(found, expected(&times, (from, latest), limit), "{limit} from {from}");
        }
    }
    let nobody = Pid::from_bytes([0xee; 16]);
    let (from, until) = (Timestamp::from_millis(BEGINNING), Timestamp::from_millis(latest));
    let asked = world.store().events_between(&scribe.tenant, nobody, from, until, 1).await;
    refused(asked, Code::StoreUnknownProcess);
}

/// Of a clock that went back by more than it may: what comes is within the times and in order, what
/// it hides is what stands before the place where it went back.
pub async fn a_clock_that_went_back_too_far_hides_events_and_invents_none(world: World) {
    for (n, (back, hides)) in [(STEP, false), (STEP + 1, true)].into_iter().enumerate() {
        let mut scribe = world.scribe(n as u64 + 1).await;
        // One event ahead of its time, and many after it.
        let late = BEGINNING + back;
        let mut times = vec![BEGINNING, late];
        times.extend([BEGINNING; 30]);
        times.extend((1..30).map(|n| late + n));
        write(&world, &mut scribe, &times).await;
        let all = expected(&times, (late, u64::MAX), usize::MAX);
        let found = between(&world, &scribe, (late, u64::MAX), usize::MAX).await;
        let hidden = usize::from(hides);
        assert_eq!(found, all[hidden..], "{back} ms back");
    }
}
