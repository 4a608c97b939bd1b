//! `start`: from the start of the program to its first durable event.
//!
//! To be run in the project's folder. The `aosk` binary beside this one runs an agent on a recorded reply, so that no endpoint is
//! waited for; the clock stops at the first line that it prints, which it prints when the event is
//! durable.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::report::{Failure, quantile_ms, result, say};

/// The agent that runs, and its recorded replies.
const AGENT: &str = "examples/first-run/sums.toml";
const CASSETTE: &str = "crates/aosk-cli/demo/replies.jsonl";

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// How many times.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The program; the one beside this benchmark.
    #[arg(long)]
    aosk: Option<PathBuf>,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    store: &'static str,
    runs: u32,
    p50_ms: f64,
    p99_ms: f64,
    binary_bytes: u64,
}

/// Starts the program again and again, each time on an empty store.
pub fn run(args: &Args) -> Result<(), Failure> {
    let beside = std::env::current_exe()?.with_file_name("aosk");
    let aosk = args.aosk.clone().unwrap_or(beside);
    let binary_bytes = std::fs::metadata(&aosk)
        .map_err(|error| format!("{}: {error}: build it with --release", aosk.display()))?
        .len();
    let mut times = Vec::new();
    for _ in 0..args.runs {
        times.push(once(&aosk)?);
    }
    times.sort_unstable();
    let row = Row {
        name: "aosk",
        store: "sqlite",
        runs: args.runs,
        p50_ms: quantile_ms(&times, 0.5),
        p99_ms: quantile_ms(&times, 0.99),
        binary_bytes,
    };
    result(&row, args.json)?;
    say(&format!("{} ms to the first durable event (median)", row.p50_ms));
    Ok(())
}

fn once(aosk: &PathBuf) -> Result<Duration, Failure> {
    let dir = tempfile::tempdir()?;
    let began = Instant::now();
    let mut child = Command::new(aosk)
        .args(["run", AGENT, "--json", "--cassette", CASSETTE, "--data-dir"])
        .arg(dir.path().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let out = child.stdout.take().ok_or("no output to read")?;
    let mut lines = BufReader::new(out).lines();
    let first = lines.next().ok_or("it printed nothing")??;
    let took = began.elapsed();
    lines.by_ref().for_each(drop);
    let first: serde_json::Value = serde_json::from_str(&first)?;
    if !child.wait()?.success() || first["kind"] != "spawned" {
        return Err(format!("it did not run: its first line is {first}").into());
    }
    Ok(took)
}
