//! `history`: whether a step costs the same bytes late in a history as early.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::noop::Noop;
use crate::report::{Failure, result, say};
use crate::steps::{open, spawn};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// How many steps the agent makes; the first and the last `span` are compared.
    #[arg(long, default_value_t = 1000)]
    steps: usize,
    /// How many steps are compared.
    #[arg(long, default_value_t = 100)]
    span: usize,
    /// How many bytes each step adds.
    #[arg(long, default_value_t = 2048)]
    bytes: usize,
    /// The seed of the payloads.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    store: &'static str,
    from_step: usize,
    to_step: usize,
    bytes: usize,
    seed: u64,
    /// Bytes in use on the database's pages, unused space of pages left out: the file grows by
    /// whole pages, which would hide what a hundred steps cost.
    bytes_per_step: f64,
}

/// Runs one agent and measures at both ends of its history.
pub fn run(args: &Args) -> Result<(), Failure> {
    if args.span == 0 || 2 * args.span > args.steps {
        return Err(format!("--span {} must be 1 to half of --steps", args.span).into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(args))
}

async fn measure(args: &Args) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let device = Arc::new(Noop::new(args.seed, args.bytes, 1, 0));
    let kernel = open(dir.path(), device.clone())?;
    spawn(&kernel, args.steps as u64 + 1).await?;
    let marks = [0, args.span, args.steps - args.span, args.steps];
    let mut used = Vec::new();
    let mut made = 0;
    for mark in marks {
        device.allow(mark - made);
        made = mark;
        // The call after the mark waits at the gate; what came before it is durable by then.
        while device.asked() <= made as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let tables = aosk_store::sizes(dir.path())?.tables;
        used.push(tables.iter().map(|table| table.bytes - table.unused).sum::<u64>());
    }
    let per_step = |from: usize, to: usize| {
        (used[to] as f64 - used[from] as f64) / (marks[to] - marks[from]) as f64
    };
    let (early, late) = (per_step(0, 1), per_step(2, 3));
    for (from, to, bytes_per_step) in
        [(1, args.span, early), (args.steps - args.span + 1, args.steps, late)]
    {
        let row = Row {
            name: "aosk",
            store: "sqlite",
            from_step: from,
            to_step: to,
            bytes: args.bytes,
            seed: args.seed,
            bytes_per_step,
        };
        result(&row, args.json)?;
    }
    say(&format!("late / early: {:.3}", late / early));
    kernel.stop(aosk_kernel::Stop::Now);
    kernel.quiet().await;
    Ok(())
}
