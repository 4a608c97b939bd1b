//! `recover`: how long it takes to read processes back after a crash.
//!
//! Agents make steps until they have written that many events, and are dropped in the middle. Then
//! the store is opened anew and every process is folded, as a kernel does that takes them all up.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aosk_abi::{Pid, Tenant};
use aosk_kernel::{Stop, load};
use aosk_ports::{Journal, ProcessFilter};
use aosk_store::SqliteStore;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::noop::Noop;
use crate::report::{Common, Failure, median, result, say};
use crate::steps::{open, spawn};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// How many events there are in all, at least.
    #[arg(long, default_value = "1e6", value_parser = count)]
    events: u64,
    /// Over how many processes they are spread.
    #[arg(long, default_value_t = 10_000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    processes: usize,
    /// How many events one more process has alone, at least.
    #[arg(long, default_value = "1e5", value_parser = count)]
    long: u64,
    /// How many bytes each step adds.
    #[arg(long, default_value_t = 256)]
    bytes: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    store: &'static str,
    processes: usize,
    events: u64,
    bytes: usize,
    seed: u64,
    /// To open the store.
    opened_ms: f64,
    /// To fold all processes; of one alone the median of many.
    folded_ms: f64,
}

/// How often the long process is folded.
const FOLDS: usize = 21;

/// How many processes are folded at once.
const AT_ONCE: usize = 4;

/// A whole number of at least 1, also as `1e6`.
pub fn count(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
        Ok(number) if (1.0..=1e12).contains(&number) && number.fract() == 0.0 => Ok(number as u64),
        _ => Err(format!("{text} is no whole number from 1 to 1e12")),
    }
}

/// How many steps an agent may make: more than any makes.
const STEPS: u64 = 1_000_000_000;

/// Fills a store and reads it back, twice.
pub fn run(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        measure(args, args.processes, args.events, 1).await?;
        measure(args, 1, args.long, FOLDS).await
    })
}

async fn measure(args: &Args, processes: usize, events: u64, folds: usize) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    fill(args, dir.path(), processes, events).await?;
    let began = Instant::now();
    let store = reopened(dir.path()).await?;
    let opened = began.elapsed();
    let mut times = Vec::with_capacity(folds);
    let mut found = 0;
    for _ in 0..folds {
        let began = Instant::now();
        let listed = store.processes(&Tenant::local(), ProcessFilter::Unfinished).await?;
        if listed.len() != processes {
            return Err(format!("{} processes are there", listed.len()).into());
        }
        found = stream::iter(listed)
            .map(|receipt| fold(&store, receipt.pid))
            .buffer_unordered(AT_ONCE)
            .try_fold(0, async |sum, events| Ok(sum + events))
            .await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let row = Row {
        name: "aosk",
        store: "sqlite",
        processes,
        events: found,
        bytes: args.bytes,
        seed: args.common.seed,
        opened_ms: (opened.as_secs_f64() * 1e4).round() / 10.0,
        folded_ms: (median(&mut times) * 10.0).round() / 10.0,
    };
    result(&row, args.common.json)?;
    say(&format!(
        "{processes} processes of {found} events in all: opened in {} ms, folded in {} ms",
        row.opened_ms, row.folded_ms
    ));
    Ok(())
}

async fn fold(store: &SqliteStore, pid: Pid) -> Result<u64, Failure> {
    Ok(load(store, &Tenant::local(), pid, None).await?.next.0)
}

/// Has agents make steps until there are that many events, and drops them where they are.
async fn fill(args: &Args, dir: &Path, processes: usize, events: u64) -> Result<(), Failure> {
    let device = Arc::new(Noop::new(args.common.seed, args.bytes, processes.min(256), 0));
    let kernel = open(dir, device.clone())?;
    let mut pids = Vec::with_capacity(processes);
    for _ in 0..processes {
        pids.push(spawn(&kernel, STEPS).await?);
    }
    let reader = aosk_store::SqliteReader::open(dir)?;
    let mut made = 0;
    loop {
        let mut there = 0;
        for receipt in reader.processes(&Tenant::local(), ProcessFilter::All).await? {
            there += receipt.next.0;
        }
        if there >= events {
            break;
        }
        // A step is four events; a call that waits at the gate has made three of them.
        let calls = usize::try_from((events - there).div_ceil(4))?.max(1);
        device.allow(calls);
        made += calls as u64;
        while device.asked() <= made && kernel.residents() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    kernel.stop(Stop::Now);
    kernel.quiet().await;
    Ok(())
}

/// The store, when its last owner has let go of it.
async fn reopened(dir: &Path) -> Result<SqliteStore, Failure> {
    let options = aosk_store::Options { dir: dir.to_owned(), command: "aosk-bench".to_owned() };
    loop {
        match SqliteStore::open(&options) {
            Err(error) if error.code == aosk_abi::Code::StoreOwned => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => return Ok(other?),
        }
    }
}
