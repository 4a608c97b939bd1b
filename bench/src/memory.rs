//! `memory`: what it takes to recover very many blocked processes.
//!
//! The processes are made by one program and recovered by another, so that what the making left in
//! the allocator is not counted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::blocked::{fill, kernel, resident_bytes};
use crate::report::{Failure, result, say};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// How many processes are blocked.
    #[arg(long, default_value_t = 100_000)]
    processes: usize,
    /// How many pages each has.
    #[arg(long, default_value_t = 10)]
    pages: usize,
    /// Recover what this folder holds, which an earlier run made.
    #[arg(long, hide = true)]
    recover: Option<PathBuf>,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    store: &'static str,
    processes: usize,
    pages: usize,
    /// From the opening of the store until every process is known to the kernel.
    recovered_s: f64,
    rss_before: u64,
    rss_after: u64,
    bytes_per_process: f64,
}

/// Makes the processes, and has them recovered by a fresh program.
pub fn run(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(dir) = &args.recover {
        return runtime.block_on(recover(args, dir));
    }
    let dir = tempfile::tempdir()?;
    runtime.block_on(async {
        let kernel = kernel(dir.path(), args.pages, Arc::new(()))?;
        fill(&kernel, args.processes).await?;
        kernel.stop(aosk_kernel::Stop::Now);
        kernel.quiet().await;
        Ok::<(), Failure>(())
    })?;
    // The store's last user goes with the runtime.
    drop(runtime);
    let mut again = std::process::Command::new(std::env::current_exe()?);
    again.arg("memory").arg("--recover").arg(dir.path());
    again.args(["--processes", &args.processes.to_string(), "--pages", &args.pages.to_string()]);
    if args.json {
        again.arg("--json");
    }
    if again.status()?.success() { Ok(()) } else { Err("the recovery failed".into()) }
}

async fn recover(args: &Args, dir: &Path) -> Result<(), Failure> {
    let rss_before = resident_bytes()?;
    let began = Instant::now();
    let kernel = kernel(dir, args.pages, Arc::new(()))?;
    let recovered = kernel.recover().await?.len();
    while kernel.residents() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = began.elapsed();
    let rss_after = resident_bytes()?;
    if recovered != args.processes {
        return Err(format!("{recovered} processes were recovered").into());
    }
    let row = Row {
        name: "aosk",
        store: "sqlite",
        processes: recovered,
        pages: args.pages,
        recovered_s: (took.as_secs_f64() * 1e3).round() / 1e3,
        rss_before,
        rss_after,
        bytes_per_process: ((rss_after as f64 - rss_before as f64) / recovered as f64).round(),
    };
    result(&row, args.json)?;
    say(&format!(
        "{recovered} blocked processes recovered in {:.2} s; {} MB in RAM",
        row.recovered_s,
        rss_after / 1_000_000
    ));
    kernel.stop(aosk_kernel::Stop::Now);
    kernel.quiet().await;
    Ok(())
}
