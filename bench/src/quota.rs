//! `quota`: a provider with hidden limits, asked by many through the real kernel.
//!
//! First nobody has a budget: how much of what the provider gives is used, and how many calls it
//! refuses. Then two cents are left and forty ask at once for a cent each: two may call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aosk_abi::{Manifest, MicroDollars, Sharing, Tenant};
use aosk_kernel::{Options, Stop};
use futures::future::try_join_all;
use serde::Serialize;

use crate::provider::{BURST, CAP, CAP_TO_ACTUAL, Provider, RATE};
use crate::report::{Failure, result, say};
use crate::steps::{open_with, spawn_as};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// How many ask at once.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    callers: u64,
    /// For how many seconds they ask.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    callers: u64,
    seconds: f64,
    rate: u64,
    burst: u64,
    cap: u64,
    cap_to_actual: u64,
    calls: u64,
    rejected: u64,
    /// Money beyond the budget, in millionths of a dollar.
    overspend: u64,
    /// Of forty calls of a cent at once on a budget of two.
    ran_of_forty: u64,
    utilisation: f64,
    rejected_429_share: f64,
}

/// The budget of the second part, as settings write it, and what a call of it may cost.
const BUDGET: &str = "[tenants.local]\nquota.spend = \"0.02\"\n";
const CENT: MicroDollars = MicroDollars(10_000);

/// Runs both parts.
pub fn run(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (seen, took) = runtime.block_on(asked(args))?;
    let (ran, spent) = runtime.block_on(budget())?;
    let calls = seen.0 + seen.1;
    let row = Row {
        name: "quota",
        callers: args.callers,
        seconds: (took.as_secs_f64() * 1e3).round() / 1e3,
        rate: RATE,
        burst: BURST,
        cap: CAP,
        cap_to_actual: CAP_TO_ACTUAL,
        calls,
        rejected: seen.1,
        overspend: spent.saturating_sub(2 * CENT.0),
        ran_of_forty: ran,
        utilisation: (seen.2 * 1e4).round() / 1e4,
        rejected_429_share: (seen.1 as f64 / calls.max(1) as f64 * 1e6).round() / 1e6,
    };
    result(&row, args.json)?;
    say("bars: overspend 0 with 2 of forty, utilisation from 0.97, 429s up to 0.01 of the calls");
    Ok(())
}

/// What the provider took, refused, and the share of it that was used.
async fn asked(args: &Args) -> Result<((u64, u64, f64), Duration), Failure> {
    let dir = tempfile::tempdir()?;
    let provider = Arc::new(Provider::new(usize::try_from(args.callers)?, MicroDollars::ZERO));
    let options = Options::new(Tenant::local(), "bench");
    let kernel = open_with(dir.path(), provider.clone(), Arc::new(()), options)?;
    let manifest = Manifest::from_toml("name = \"caller\"\nmax_steps = 1000000\n")?;
    let spawn = || spawn_as(&kernel, manifest.clone(), "mock");
    let began = Instant::now();
    try_join_all((0..args.callers).map(|_| spawn())).await?;
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let (seen, took) = (provider.seen(), began.elapsed());
    kernel.stop(Stop::Graceful);
    kernel.quiet().await;
    Ok(((seen.taken, seen.refused, seen.utilisation), took))
}

/// How many of forty calls ran on the budget of two, and what they spent, where each uses a quarter
/// of what it may cost and is paid as if it had used all.
async fn budget() -> Result<(u64, u64), Failure> {
    let dir = tempfile::tempdir()?;
    let provider = Arc::new(Provider::new(40, CENT));
    let mut options = Options::new(Tenant::local(), "bench");
    options.sharing = toml::from_str::<Sharing>(BUDGET)?;
    let kernel = open_with(dir.path(), provider.clone(), Arc::new(()), options)?;
    let manifest = Manifest::from_toml("name = \"caller\"\nmax_steps = 1\n")?;
    let spawn = || spawn_as(&kernel, manifest.clone(), "mock");
    let pids = try_join_all((0..40).map(|_| spawn())).await?;
    // Forty ask at once, and nobody has answered yet.
    tokio::time::sleep(Duration::from_millis(60)).await;
    let ran = provider.seen().taken;
    kernel.wait_each(&pids).await;
    let spent = provider.seen().taken * CENT.0 / CAP_TO_ACTUAL;
    kernel.stop(Stop::Graceful);
    kernel.quiet().await;
    Ok((ran, spent))
}
