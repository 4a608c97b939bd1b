//! `audit`: how long it takes to find what a process did in a window of time, among very many events.
//!
//! Processes take turns; each turn is one append of events a second apart, as steps are made. Then
//! windows of a minute of random processes are asked for, one after the other, as an auditor does.

use std::time::Instant;

use aosk_abi::{Event, Hash, Op, Pid, Record, Seq, Tenant, Timestamp, Told, What};
use aosk_conformance::Scribe;
use aosk_ports::{Append, Store, Ticket};
use serde::Serialize;

use crate::payload::payload;
use crate::place::{Choice, Place};
use crate::recover::count;
use crate::report::{Common, Failure, quantile_ms, result, say};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Choice,
    /// How many events there are in all, at least.
    #[arg(long, default_value = "1e7", value_parser = count)]
    rows: u64,
    /// Over how many processes they are spread.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    processes: u64,
    /// How many windows are asked for.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    queries: u64,
    /// How many events an append has.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1000))]
    events: u64,
    /// How many bytes of text each append brings along.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    store: &'static str,
    /// Events in the store.
    rows: u64,
    processes: u64,
    queries: u64,
    seed: u64,
    /// To write them.
    built_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// What all the questions together were answered with.
    events_read: u64,
}

/// When the first event happened, in milliseconds.
const BEGINNING: u64 = 1_790_000_000_000;

/// How far two events of a process are apart, in milliseconds.
const APART: u64 = 1000;

/// How long a window is, in milliseconds.
const WINDOW: u64 = 60_000;

/// Fills a store and asks it.
pub fn run(args: &Args) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let store = place.open(dir.path(), "audit")?;
    runtime.block_on(measure(args, place.name(), &*store))
}

async fn measure(args: &Args, name: &'static str, store: &dyn Store) -> Result<(), Failure> {
    let began = Instant::now();
    let rounds = args.rows.div_ceil(args.processes * args.events);
    fill(args, rounds, store).await?;
    let built = began.elapsed();
    let per_process = rounds * args.events;
    let mut latencies = Vec::with_capacity(usize::try_from(args.queries)?);
    let mut events_read = 0;
    for number in 0..args.queries {
        let (which, when) = drawn(args.common.seed, number);
        let from = BEGINNING + when % per_process * APART;
        let (from, until) = (Timestamp::from_millis(from), Timestamp::from_millis(from + WINDOW));
        let began = Instant::now();
        let pid = pid(which % args.processes);
        let found = store.events_between(&Tenant::local(), pid, from, until, usize::MAX).await?;
        latencies.push(began.elapsed());
        let first = when % per_process;
        let expected = (WINDOW / APART).min(per_process - first);
        if found.len() as u64 != expected || found[0].seq != Seq(first) {
            return Err(format!(
                "{} events of process {pid} from event {first} on, where {expected} \
                                happened",
                found.len()
            )
            .into());
        }
        events_read += expected;
    }
    latencies.sort_unstable();
    let row = Row {
        name: "aosk",
        store: name,
        rows: per_process * args.processes,
        processes: args.processes,
        queries: args.queries,
        seed: args.common.seed,
        built_s: (built.as_secs_f64() * 10.0).round() / 10.0,
        p50_ms: quantile_ms(&latencies, 0.5),
        p99_ms: quantile_ms(&latencies, 0.99),
        events_read,
    };
    result(&row, args.common.json)?;
    say(&format!(
        "a minute of one of {} processes among {} events: {} ms (median), {} ms (p99)",
        row.processes, row.rows, row.p50_ms, row.p99_ms
    ));
    Ok(())
}

/// The process of that number.
fn pid(number: u64) -> Pid {
    let mut last = [0; 10];
    last[2..].copy_from_slice(&number.to_be_bytes());
    Pid::from_parts(BEGINNING, last)
}

/// Two numbers by seed.
fn drawn(seed: u64, number: u64) -> (u64, u64) {
    let hash = Hash::of(&[seed.to_le_bytes(), number.to_le_bytes()].concat());
    let half = |from: usize| {
        hash.as_bytes()[from..].iter().take(7).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    (half(0), half(8))
}

/// Has the processes write that many appends each, in turns.
async fn fill(args: &Args, rounds: u64, store: &dyn Store) -> Result<(), Failure> {
    let mut scribes = Vec::with_capacity(usize::try_from(args.processes)?);
    for number in 0..args.processes {
        scribes.push(Scribe::new(store, &Tenant::local(), pid(number)).await);
    }
    let mut last: Option<Ticket> = None;
    for round in 0..rounds {
        for (number, scribe) in (0..).zip(&mut scribes) {
            let append = append(args, scribe, round, number)?;
            scribe.follow(&append);
            let ticket = store.append(append);
            // Some groups are always under way, and memory stays bounded.
            let is_mark = number % 256 == 255 || number + 1 == args.processes;
            let before = if is_mark { last.replace(ticket) } else { None };
            if let Some(before) = before {
                before.await?;
            }
        }
    }
    if let Some(last) = last {
        last.await?;
    }
    Ok(())
}

fn append(args: &Args, scribe: &Scribe, round: u64, number: u64) -> Result<Append, Failure> {
    let content = scribe.key.seal(payload(args.common.seed, number, round, args.bytes));
    let mut append = scribe.append(&[]);
    append.records.clear();
    let mut prev = scribe.head;
    for event in 0..args.events {
        let seq = round * args.events + event;
        let told = What::Told(Told { op: Op(seq), content: content.reference() });
        let event = Event::new(Timestamp::from_millis(BEGINNING + seq * APART), told);
        let record =
            Record::seal(&scribe.tenant, scribe.pid, Seq(seq), scribe.epoch, prev, &event)?;
        prev = record.hash;
        append.records.push(record);
    }
    append.contents = vec![content];
    Ok(append)
}
