//! `swap`: how long it takes to bring a page to a store of very many, and to have it back.
//!
//! A page leaves the prompt without being written: its content has been durable since it came, and
//! what leaving adds is a few bytes of the next plan. So a swap-out is timed as what makes it
//! possible, the durable append of an event with the page's bytes, hashing included. A swap-in is
//! the read of those bytes by their address, through the port that the kernel reads through: *warm*
//! over an open store whose pages were read once before, *cold* over a connection that was opened
//! for it, after the system was made to forget the database's files. Every page that comes back is
//! compared with what was written.

mod cold;

use std::path::Path;
use std::time::{Duration, Instant};

use aosk_abi::{Hash, Pid, Seq, Tenant};
use aosk_conformance::{Scribe, Server};
use aosk_ports::{Append, Journal, Store};
use aosk_store::{PostgresOptions, PostgresReader, PostgresStore, SqliteReader, SqliteStore};
use futures::future::try_join_all;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde::Serialize;

use crate::payload::payload;
use crate::place::{Backend, Place};
use crate::report::{Failure, quantile_ms, result, say};
use cold::Files;

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// The stores; several separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Backend::Sqlite, Backend::Postgres])]
    store: Vec<Backend>,
    /// A server to use, as postgres://…; one is started for the run where none is given.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// How many pages the store holds in the end.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pages: u64,
    /// The size of a page; several separated by commas. Up to 4,096 bytes stand beside their event,
    /// more in a table of their own.
    #[arg(long, value_delimiter = ',', default_values_t = [3_800, 8_192])]
    bytes: Vec<usize>,
    /// Over how many processes the pages are spread.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    processes: u64,
    /// How many of the pages, the last ones, are swapped out one by one and timed; and how many
    /// swap-ins of pages at random are timed warm.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    samples: u64,
    /// How many swap-ins are timed cold.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    cold: u64,
    /// The seed of the pages and of which are swapped in.
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
    pages: u64,
    bytes: usize,
    processes: u64,
    seed: u64,
    /// How many swap-outs were timed, each after the one before was durable.
    outs: usize,
    out_p50_ms: f64,
    out_p99_ms: f64,
    /// How many swap-ins were timed over an open store.
    warm: usize,
    warm_p50_ms: f64,
    warm_p99_ms: f64,
    /// How many were timed over a new connection each.
    cold: usize,
    cold_p50_ms: f64,
    cold_p99_ms: f64,
    /// The same with the opening of the connection.
    cold_opened_p50_ms: f64,
    cold_opened_p99_ms: f64,
    /// The share of the database that the system had in memory before a cold swap-in; null where
    /// that cannot be seen.
    cold_in_memory: Option<f64>,
    /// Whether the server was started anew before, so that its own memory held nothing either; null
    /// where there is none.
    cold_restarted: Option<bool>,
    fsync: bool,
}

/// Where a page is.
#[derive(Clone, Copy)]
struct Address {
    pid: Pid,
    seq: Seq,
    hash: Hash,
}

/// Fills each store and reads from it.
pub fn run(args: &Args) -> Result<(), Failure> {
    if args.postgres.is_some() && !args.store.contains(&Backend::Postgres) {
        return Err("--postgres goes with --store postgres".into());
    }
    if args.bytes.iter().any(|bytes| *bytes < 16) {
        return Err("--bytes must be at least 16, so that no two pages are equal".into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for &store in &args.store {
        let place = Place::on(store, args.postgres.as_deref())?;
        for &bytes in &args.bytes {
            let row = runtime.block_on(measure(args, &place, bytes))?;
            result(&row, args.json)?;
            let memory = row.cold_in_memory.map_or_else(
                || "an unknown share".to_owned(),
                |share| format!("{:.1} %", share * 100.0),
            );
            say(&format!(
                "{}: {} pages of {bytes} bytes: out {} ms, in {} ms warm and {} ms cold (p99), with \
                 {memory} of the files in memory before a cold one",
                row.store, row.pages, row.out_p99_ms, row.warm_p99_ms, row.cold_p99_ms
            ));
        }
    }
    Ok(())
}

async fn measure(args: &Args, place: &Place, bytes: usize) -> Result<Row, Failure> {
    match place {
        Place::Folder => {
            let dir = tempfile::tempdir()?;
            let command = "aosk-bench".to_owned();
            let options = aosk_store::Options { dir: dir.path().to_owned(), command };
            let store = SqliteStore::open(&options)?;
            let (addresses, outs) = swap_out(args, &store, bytes).await?;
            let warm = warm(args, &store, &addresses, bytes).await?;
            drop(store);
            let files = Files::below(dir.path());
            let open = || Ok(Box::new(SqliteReader::open(dir.path())?) as Box<dyn Journal>);
            let cold = cold(args, (&files, &open), &addresses, bytes).await?;
            Ok(row(args, place, bytes, outs, warm, cold))
        }
        Place::Server { url, started } => {
            let mut options = PostgresOptions::new(url, "aosk-bench");
            options.schema = format!("bench_swap_{}_{bytes}", std::process::id());
            let store = PostgresStore::open(&options)?;
            let (addresses, outs) = swap_out(args, &store, bytes).await?;
            let warm = warm(args, &store, &addresses, bytes).await?;
            drop(store);
            if let Some(server) = started {
                restart(server);
            }
            let files = Files::below(Path::new(&folder(url).await?));
            let open = || Ok(Box::new(PostgresReader::open(&options)?) as Box<dyn Journal>);
            let mut cold = cold(args, (&files, &open), &addresses, bytes).await?;
            cold.restarted = Some(started.is_some());
            Ok(row(args, place, bytes, outs, warm, cold))
        }
    }
}

/// Starts the server anew, with everything in its files, so that it begins with nothing in memory.
fn restart(server: &Server) {
    server.sql("CHECKPOINT");
    server.stop();
    server.go();
}

/// Where the server keeps its files, as it says; they may be on another machine.
async fn folder(url: &str) -> Result<String, Failure> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let driver = tokio::spawn(connection);
    let folder = client.query_one("SHOW data_directory", &[]).await?.try_get(0)?;
    drop(client);
    driver.await??;
    Ok(folder)
}

/// Writes all pages, the last of them one by one.
async fn swap_out(
    args: &Args,
    store: &dyn Store,
    bytes: usize,
) -> Result<(Vec<Address>, Vec<Duration>), Failure> {
    let mut scribes = Vec::new();
    for process in 0..args.processes {
        let pid = Pid::from_alias(&format!("swap-{process}"));
        scribes.push(Scribe::new(store, &Tenant::local(), pid).await);
    }
    let timed = args.samples.min(args.pages);
    let mut addresses = Vec::with_capacity(usize::try_from(args.pages)?);
    let mut next = 0;
    while next < args.pages - timed {
        // One page each of all processes at once, as many agents write, and no two in one append:
        // those would stand in one row and be read together.
        let group = next..(next + args.processes).min(args.pages - timed);
        next = group.end;
        let appends = group
            .map(|page| append(args, &mut scribes, page, bytes, &mut addresses))
            .collect::<Result<Vec<_>, _>>()?;
        try_join_all(appends.into_iter().map(|append| store.append(append))).await?;
    }
    let mut times = Vec::with_capacity(usize::try_from(timed)?);
    for page in next..args.pages {
        let began = Instant::now();
        store.append(append(args, &mut scribes, page, bytes, &mut addresses)?).await?;
        times.push(began.elapsed());
    }
    Ok((addresses, times))
}

/// The append of one event that brings that page, whose address is put behind the others.
fn append(
    args: &Args,
    scribes: &mut [Scribe],
    page: u64,
    bytes: usize,
    addresses: &mut Vec<Address>,
) -> Result<Append, Failure> {
    let scribe = &mut scribes[usize::try_from(page % args.processes)?];
    let append = scribe.append(&[&text(args, page, bytes)]);
    for (record, content) in append.records.iter().zip(&append.contents) {
        addresses.push(Address { pid: scribe.pid, seq: record.seq, hash: content.hash() });
    }
    scribe.follow(&append);
    Ok(append)
}

fn text(args: &Args, page: u64, bytes: usize) -> Vec<u8> {
    payload(args.seed, bytes as u64, page, bytes)
}

/// Reads a page, and says when it was there. What comes back must be what was written.
async fn swap_in(
    args: &Args,
    store: &dyn Journal,
    addresses: &[Address],
    page: usize,
    bytes: usize,
) -> Result<Instant, Failure> {
    let Address { pid, seq, hash } = addresses[page];
    let found = store.contents(&Tenant::local(), pid, &[(seq, hash)]).await?;
    let there = Instant::now();
    if found.len() != 1 || *found[0] != *text(args, page as u64, bytes) {
        return Err(format!("page {page} came back with other bytes than it left with").into());
    }
    Ok(there)
}

/// Pages at random, the same for the same seed.
fn pages(args: &Args, many: u64) -> impl Iterator<Item = usize> {
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let pages = args.pages;
    #[expect(clippy::cast_possible_truncation, reason = "there are as many addresses")]
    (0..many).map(move |_| (random.next_u64() % pages) as usize)
}

/// Swaps pages in over the store that wrote them; a first round is not timed.
async fn warm(
    args: &Args,
    store: &dyn Journal,
    addresses: &[Address],
    bytes: usize,
) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::new();
    for round in 0..2 {
        for page in pages(args, args.samples) {
            let began = Instant::now();
            let there = swap_in(args, store, addresses, page, bytes).await?;
            if round == 1 {
                times.push(there - began);
            }
        }
    }
    Ok(times)
}

/// What cold swap-ins took.
struct Cold {
    reads: Vec<Duration>,
    with_opening: Vec<Duration>,
    in_memory: Option<f64>,
    restarted: Option<bool>,
}

type Open<'a> = &'a dyn Fn() -> Result<Box<dyn Journal>, Failure>;

/// Swaps pages in over a new connection each, after the system forgot the files.
async fn cold(
    args: &Args,
    (files, open): (&Files, Open<'_>),
    addresses: &[Address],
    bytes: usize,
) -> Result<Cold, Failure> {
    files.settle()?;
    files.forget()?;
    let in_memory = files.remembered();
    let (mut reads, mut with_opening) = (Vec::new(), Vec::new());
    for page in pages(args, args.cold) {
        files.forget()?;
        let began = Instant::now();
        let store = open()?;
        let opened = Instant::now();
        let there = swap_in(args, &*store, addresses, page, bytes).await?;
        reads.push(there - opened);
        with_opening.push(there - began);
    }
    Ok(Cold { reads, with_opening, in_memory, restarted: None })
}

fn row(
    args: &Args,
    place: &Place,
    bytes: usize,
    mut outs: Vec<Duration>,
    mut warm: Vec<Duration>,
    mut cold: Cold,
) -> Row {
    for times in [&mut outs, &mut warm, &mut cold.reads, &mut cold.with_opening] {
        times.sort_unstable();
    }
    Row {
        name: "aosk",
        store: place.name(),
        pages: args.pages,
        bytes,
        processes: args.processes,
        seed: args.seed,
        outs: outs.len(),
        out_p50_ms: quantile_ms(&outs, 0.5),
        out_p99_ms: quantile_ms(&outs, 0.99),
        warm: warm.len(),
        warm_p50_ms: quantile_ms(&warm, 0.5),
        warm_p99_ms: quantile_ms(&warm, 0.99),
        cold: cold.reads.len(),
        cold_p50_ms: quantile_ms(&cold.reads, 0.5),
        cold_p99_ms: quantile_ms(&cold.reads, 0.99),
        cold_opened_p50_ms: quantile_ms(&cold.with_opening, 0.5),
        cold_opened_p99_ms: quantile_ms(&cold.with_opening, 0.99),
        cold_in_memory: cold.in_memory.map(|share| (share * 1e4).round() / 1e4),
        cold_restarted: cold.restarted,
        fsync: true,
    }
}
