//! `steps`: durable steps per second through the kernel with a no-op model, beside the floor.
//!
//! What a floor is says [`floor`] for a file and [`floor_postgres`] for a server. A server has
//! three; the kernel is compared with each. Peers are measured by the plain one.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aosk_abi::{Exit, Manifest, Pid, Tenant};
use aosk_kernel::{
    Kernel, Model, Observer, Options, OsRandom, Outcome, Parts, Redactor, Spawn, Stop, SystemClock,
};
use aosk_ports::{Device, Store};
use aosk_sandbox::NoFiles;
use aosk_store::{PostgresOptions, PostgresReader, PostgresStore, SqliteStore};
use futures::future::try_join_all;
use serde::Serialize;

use crate::floor;
use crate::floor_postgres::{self, Commits};
use crate::noop::{Noop, Quarters};
use crate::place::{Choice, Place};
use crate::report::{Failure, cpu_seconds, median, quantile_ms, result, say};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Choice,
    /// How many agents run at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    agents: u64,
    /// How many steps each makes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// How many bytes each step adds.
    #[arg(long, default_value_t = 2048)]
    bytes: usize,
    /// How many pairs of kernel and floors are run, in turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
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
    agents: u64,
    steps: u64,
    bytes: usize,
    pair: u32,
    seed: u64,
    steps_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_us_per_step: f64,
    /// What the steps added to the database, free space on its pages included; the tables of an empty
    /// store with its tenant are left out.
    bytes_per_step: u64,
    fsync: bool,
}

/// Runs the pairs.
pub fn run(args: &Args) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut ratios: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut overheads = Vec::new();
    for pair in 1..=args.pairs {
        let kernel = runtime.block_on(kernel(args, &place, pair))?;
        result(&kernel, args.json)?;
        for floor in runtime.block_on(floors(args, &place, pair))? {
            result(&floor, args.json)?;
            ratios.entry(floor.name).or_default().push(kernel.steps_per_s / floor.steps_per_s);
        }
        overheads.push(kernel.bytes_per_step.saturating_sub(args.bytes as u64) as f64);
    }
    let of_floors: Vec<String> = ratios
        .iter_mut()
        .map(|(name, ratios)| format!("{:.2} of {name}'s steps per second", median(ratios)))
        .collect();
    say(&format!(
        "median of {} pairs: {}; {} bytes a step beyond the payload",
        args.pairs,
        of_floors.join(", "),
        median(&mut overheads)
    ));
    Ok(())
}

async fn kernel(args: &Args, place: &Place, pair: u32) -> Result<Row, Failure> {
    let dir = tempfile::tempdir()?;
    let agents = usize::try_from(args.agents)?;
    let calls = agents * usize::try_from(args.steps)?;
    let device = Arc::new(Noop::new(args.seed, args.bytes, agents, calls));
    let (store, reader): (Arc<dyn Store>, _) = match place {
        Place::Folder => (embedded(dir.path())?, None),
        Place::Server { url, .. } => {
            let mut options = PostgresOptions::new(url, "aosk-bench");
            options.schema = schema("steps", pair);
            let store = Arc::new(PostgresStore::open(&options)?);
            (store, Some(PostgresReader::open(&options)?))
        }
    };
    store.content_key(&Tenant::local()).await?;
    let bench = kernel_on(store, device.clone(), Arc::new(()))?;
    let size = || size(dir.path(), reader.as_ref());
    let empty = size().await?;
    let (began, cpu) = (Instant::now(), cpu_seconds());
    // All at once, as the floor's: one after the other would time a thousand syncs.
    let pids = try_join_all((0..agents).map(|_| spawn(&bench, args.steps))).await?;
    for (pid, outcome) in bench.wait_each(&pids).await {
        if !matches!(outcome, Outcome::Exited(Exit::StepLimit { .. })) {
            return Err(format!("process {pid} ended otherwise: {outcome:?}").into());
        }
    }
    let spent = (began.elapsed(), cpu_seconds() - cpu);
    let bytes = size().await? - empty;
    bench.stop(Stop::Graceful);
    Ok(row("aosk", args, (place, pair), spent, &device.latencies(), bytes))
}

/// The name of a schema that no other run has.
fn schema(of: &str, pair: u32) -> String {
    format!("bench_{of}_{}_{pair}", std::process::id())
}

/// What a store takes: its file, or its tables and indexes on a server.
async fn size(dir: &Path, reader: Option<&PostgresReader>) -> Result<u64, Failure> {
    match reader {
        None => Ok(aosk_store::sizes(dir)?.total),
        Some(reader) => {
            let occupied = reader.occupied().await?;
            Ok(occupied.iter().map(|table| table.bytes + table.index_bytes).sum())
        }
    }
}

/// The floors of the place, one after the other.
async fn floors(args: &Args, place: &Place, pair: u32) -> Result<Vec<Row>, Failure> {
    let Args { seed, agents, steps, bytes, .. } = *args;
    let load = (seed, agents, steps, bytes);
    let mut rows = Vec::new();
    match place {
        Place::Folder => {
            let (dir, cpu) = (tempfile::tempdir()?, cpu_seconds());
            let floor = floor::run(dir.path(), seed, agents, steps, bytes).await?;
            rows.push(of_floor("floor", args, (place, pair), cpu, &floor));
        }
        Place::Server { url, .. } => {
            for commits in [Commits::Single, Commits::Grouped, Commits::Fenced] {
                let cpu = cpu_seconds();
                let schema = schema(commits.name(), pair);
                let floor = floor_postgres::run(url, &schema, commits, load).await?;
                rows.push(of_floor(commits.name(), args, (place, pair), cpu, &floor));
            }
        }
    }
    Ok(rows)
}

/// The row of a floor that began when this much of the processor's time was used.
fn of_floor(
    name: &'static str,
    args: &Args,
    of: (&Place, u32),
    cpu: f64,
    floor: &floor::Floor,
) -> Row {
    let spent = (floor.wall, cpu_seconds() - cpu);
    row(name, args, of, spent, &floor.latencies, floor.bytes)
}

fn row(
    name: &'static str,
    args: &Args,
    (place, pair): (&Place, u32),
    (wall, cpu): (Duration, f64),
    latencies: &[Duration],
    bytes: u64,
) -> Row {
    let total = args.agents * args.steps;
    Row {
        name,
        store: place.name(),
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
    kernel_on(embedded(dir)?, device, observer)
}

/// The store in that folder.
fn embedded(dir: &Path) -> Result<Arc<dyn Store>, Failure> {
    let options = aosk_store::Options { dir: dir.to_path_buf(), command: "aosk-bench".to_owned() };
    Ok(Arc::new(SqliteStore::open(&options)?))
}

/// A kernel on that store, watched.
fn kernel_on(
    store: Arc<dyn Store>,
    device: Arc<dyn Device>,
    observer: Arc<dyn Observer>,
) -> Result<Kernel, Failure> {
    kernel_with(store, device, observer, Options::new(Tenant::local(), "bench"))
}

/// A kernel on the embedded store in `dir`, with those options.
pub fn open_with(
    dir: &Path,
    device: Arc<dyn Device>,
    observer: Arc<dyn Observer>,
    options: Options,
) -> Result<Kernel, Failure> {
    kernel_with(embedded(dir)?, device, observer, options)
}

fn kernel_with(
    store: Arc<dyn Store>,
    device: Arc<dyn Device>,
    observer: Arc<dyn Observer>,
    options: Options,
) -> Result<Kernel, Failure> {
    let name = device.info().name.clone();
    let model = Model { device, tokenizer: Arc::new(Quarters) };
    let parts = Parts {
        store,
        models: HashMap::from([(name, model)]),
        recorder: None,
        memory: None,
        alternatives: HashMap::new(),
        spreads: HashMap::new(),
        connect: None,
        tools: BTreeMap::new(),
        sandbox: Arc::new(|_| Ok(Arc::new(NoFiles))),
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(OsRandom),
        observer,
        secrets: Redactor::default(),
    };
    Ok(Kernel::start(parts, options)?)
}

/// Begins an agent that makes that many steps.
pub async fn spawn(kernel: &Kernel, steps: u64) -> Result<Pid, Failure> {
    let manifest = Manifest::from_toml(&format!("name = \"noop\"\nmax_steps = {steps}\n"))?;
    spawn_as(kernel, manifest, "noop").await
}

/// Begins an agent that asks that model.
pub async fn spawn_as(kernel: &Kernel, manifest: Manifest, model: &str) -> Result<Pid, Failure> {
    let (model, task) = (model.to_owned(), "Go on.".to_owned());
    Ok(kernel.spawn(Spawn { manifest, model, task, alias: None, parent: None }).await?)
}
