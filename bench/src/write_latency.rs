//! `write-latency`: how long one durable append takes, alone.

use std::time::Instant;

use aosk_abi::{Pid, Tenant};
use aosk_conformance::Scribe;
use aosk_ports::Store;
use serde::Serialize;

use crate::payload::payload;
use crate::place::{Choice, Place};
use crate::report::{Common, Failure, quantile_ms, result, say};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Choice,
    /// How many appends are made, each after the one before was acknowledged.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    appends: u64,
    /// How many bytes each brings along.
    #[arg(long, default_value_t = 2048)]
    bytes: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    store: &'static str,
    appends: u64,
    bytes: usize,
    seed: u64,
    p50_ms: f64,
    p99_ms: f64,
    fsync: bool,
}

/// Appends one by one.
pub fn run(args: &Args) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let store = place.open(dir.path(), "latency")?;
    runtime.block_on(measure(args, place.name(), &*store))
}

async fn measure(args: &Args, name: &'static str, store: &dyn Store) -> Result<(), Failure> {
    let mut scribe = Scribe::new(store, &Tenant::local(), Pid::from_bytes([7; 16])).await;
    let mut latencies = Vec::with_capacity(usize::try_from(args.appends)?);
    for number in 0..args.appends {
        let bytes = payload(args.common.seed, 0, number, args.bytes);
        let began = Instant::now();
        scribe.write(store, &[&bytes]).await?;
        latencies.push(began.elapsed());
    }
    latencies.sort_unstable();
    let row = Row {
        name: "aosk",
        store: name,
        appends: args.appends,
        bytes: args.bytes,
        seed: args.common.seed,
        p50_ms: quantile_ms(&latencies, 0.5),
        p99_ms: quantile_ms(&latencies, 0.99),
        fsync: true,
    };
    result(&row, args.common.json)?;
    say(&format!("a durable append takes {} ms (median), {} ms (p99)", row.p50_ms, row.p99_ms));
    Ok(())
}
