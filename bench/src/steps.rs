//! `steps`: durable steps per second through the kernel with a no-op model, beside the floor.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aosk_abi::{Exit, Manifest, Pid, Tenant};
use aosk_kernel::{
    Kernel, Model, Observer, Options, OsRandom, Outcome, Parts, Redactor, Spawn, SystemClock,
};
use aosk_ports::Device;
use aosk_sandbox::NoFiles;
use aosk_store::SqliteStore;
use clap::ValueEnum;
use serde::Serialize;

use crate::floor;
use crate::noop::{Noop, Quarters};
use crate::report::{Failure, cpu_seconds, median, quantile_ms, result, say};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// The store.
    #[arg(long, value_enum, default_value_t = Backend::Sqlite)]
    store: Backend,
    /// How many agents run at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    agents: u64,
    /// How many steps each makes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// How many bytes each step adds.
    #[arg(long, default_value_t = 2048)]
    bytes: usize,
    /// How many pairs of kernel and floor are run, in turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// The seed of the payloads.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Backend {
    /// The embedded store.
    Sqlite,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    store: &'static str,
    agents: u64,
    steps: u64,
    bytes: usize,
    pair: u32,
    seed: u64,
    steps_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_us_per_step: f64,
    /// What the steps added to the database, free space on its pages included; an empty store's
    /// tables are left out.
    bytes_per_step: u64,
    fsync: bool,
}

/// Runs the pairs.
pub fn run(args: &Args) -> Result<(), Failure> {
    let Backend::Sqlite = args.store;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut ratios = Vec::new();
    let mut overheads = Vec::new();
    for pair in 1..=args.pairs {
        let kernel = runtime.block_on(kernel(args, pair))?;
        let floor = runtime.block_on(bare(args, pair))?;
        result(&kernel, args.json)?;
        result(&floor, args.json)?;
        ratios.push(kernel.steps_per_s / floor.steps_per_s);
        overheads.push(kernel.bytes_per_step.saturating_sub(args.bytes as u64) as f64);
    }
    say(&format!(
        "median of {} pairs: {:.2} of the floor's steps per second; {} bytes a step beyond the \
         payload",
        args.pairs,
        median(&mut ratios),
        median(&mut overheads)
    ));
    Ok(())
}

async fn kernel(args: &Args, pair: u32) -> Result<Row, Failure> {
    let dir = tempfile::tempdir()?;
    let agents = usize::try_from(args.agents)?;
    let calls = agents * usize::try_from(args.steps)?;
    let device = Arc::new(Noop::new(args.seed, args.bytes, agents, calls));
    let bench = open(dir.path(), device.clone())?;
    let empty = aosk_store::sizes(dir.path())?.total;
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut pids = Vec::with_capacity(agents);
    for _ in 0..args.agents {
        pids.push(spawn(&bench, args.steps).await?);
    }
    for (pid, outcome) in bench.wait_each(&pids).await {
        if !matches!(outcome, Outcome::Exited(Exit::StepLimit { .. })) {
            return Err(format!("process {pid} ended otherwise: {outcome:?}").into());
        }
    }
    let spent = (began.elapsed(), cpu_seconds() - cpu);
    let bytes = aosk_store::sizes(dir.path())?.total - empty;
    Ok(row("aosk", args, pair, spent, &device.latencies(), bytes))
}

async fn bare(args: &Args, pair: u32) -> Result<Row, Failure> {
    let dir = tempfile::tempdir()?;
    let cpu = cpu_seconds();
    let floor = floor::run(dir.path(), args.seed, args.agents, args.steps, args.bytes).await?;
    Ok(row("floor", args, pair, (floor.wall, cpu_seconds() - cpu), &floor.latencies, floor.bytes))
}

fn row(
    name: &'static str,
    args: &Args,
    pair: u32,
    (wall, cpu): (Duration, f64),
    latencies: &[Duration],
    bytes: u64,
) -> Row {
    let total = args.agents * args.steps;
    Row {
        name,
        store: "sqlite",
        agents: args.agents,
        steps: args.steps,
        bytes: args.bytes,
        pair,
        seed: args.seed,
        steps_per_s: (total as f64 / wall.as_secs_f64()).round(),
        p50_ms: quantile_ms(latencies, 0.5),
        p99_ms: quantile_ms(latencies, 0.99),
        cpu_us_per_step: (cpu / total as f64 * 1e7).round() / 10.0,
        bytes_per_step: bytes / total,
        fsync: true,
    }
}

/// A kernel on the embedded store in `dir`, with that device as its only model.
pub fn open(dir: &Path, device: Arc<dyn Device>) -> Result<Kernel, Failure> {
    open_watched(dir, device, Arc::new(()))
}

/// A kernel as [`open`] makes it, watched.
pub fn open_watched(
    dir: &Path,
    device: Arc<dyn Device>,
    observer: Arc<dyn Observer>,
) -> Result<Kernel, Failure> {
    let options = aosk_store::Options { dir: dir.to_path_buf(), command: "aosk-bench".to_owned() };
    let name = device.info().name.clone();
    let model = Model { device, tokenizer: Arc::new(Quarters) };
    let parts = Parts {
        store: Arc::new(SqliteStore::open(&options)?),
        models: HashMap::from([(name, model)]),
        recorder: None,
        alternatives: HashMap::new(),
        connect: None,
        tools: BTreeMap::new(),
        sandbox: Arc::new(|_| Ok(Arc::new(NoFiles))),
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(OsRandom),
        observer,
        secrets: Redactor::default(),
    };
    Ok(Kernel::start(parts, Options::new(Tenant::local(), "bench"))?)
}

/// Begins an agent that makes that many steps.
pub async fn spawn(kernel: &Kernel, steps: u64) -> Result<Pid, Failure> {
    let manifest = Manifest::from_toml(&format!("name = \"noop\"\nmax_steps = {steps}\n"))?;
    let model = "noop".to_owned();
    let task = "Go on.".to_owned();
    Ok(kernel.spawn(Spawn { manifest, model, task, alias: None, parent: None }).await?)
}
