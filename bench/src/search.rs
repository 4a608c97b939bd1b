//! `search`: how long the nearest pages of a large memory take, and how many of them are right.
//!
//! All pages stand in one shared memory, which is the worst case: a process's own has some thousands.
//! Vectors are directions of low rank with noise, as those of sentences are, or those of the
//! sentence model. What is right is decided by an exact scan of the same vectors.
//! Pages go in as a kernel puts them in, in batches through the port, and `lag_s` is how long a page
//! that is put in last takes until it is found by its direction.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aosk_abi::{Hash, MicroDollars, PageId, PageKind, Pid, Seq, Tenant, Timestamp};
use aosk_conformance::Server;
use aosk_ports::{
    Batch, CallError, Embedded, Embedder, Embedding, Entry, Item, Means, Query, Retriever, Space,
};
use aosk_store::{PostgresOptions, PostgresReader, PostgresStore, SearchIndex};
use futures::future::BoxFuture;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::Serialize;

use crate::model;
use crate::report::{Failure, quantile_ms, result, say};

/// What to search.
#[derive(clap::Args)]
pub struct Args {
    /// How many pages; several separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000])]
    rows: Vec<u32>,
    /// How many components; several separated by commas. A million rows are measured at 384 alone.
    #[arg(long, value_delimiter = ',', default_values_t = [384, 1_536])]
    dims: Vec<usize>,
    /// Which stores: sqlite, postgres.
    #[arg(long, value_delimiter = ',', default_values_t = ["sqlite".to_owned(), "postgres".to_owned()])]
    stores: Vec<String>,
    /// Which vectors: gauss, minilm (384 components).
    #[arg(long, value_delimiter = ',', default_values_t = ["gauss".to_owned(), "minilm".to_owned()])]
    vectors: Vec<String>,
    /// How many questions.
    #[arg(long, default_value_t = 300)]
    queries: u32,
    /// The seed of the vectors.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder of a sentence model, for `minilm`.
    #[arg(long, env = "AOSK_TEST_MINILM")]
    model: Option<PathBuf>,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    store: &'static str,
    vectors: String,
    rows: u32,
    dims: usize,
    queries: u32,
    p50_ms: f64,
    p99_ms: f64,
    /// The same with words beside the vector, both ranked and fused.
    hybrid_p50_ms: f64,
    hybrid_p99_ms: f64,
    recall_at_10: f64,
    /// Until everything is indexed and has its vector, without the time that making vectors takes.
    build_s: f64,
    /// Of the index on the disk.
    bytes: u64,
    lag_s: f64,
}

/// Above this many rows only 384 components are measured: the exact scan alone would read 6 GB a question.
const LARGE: u32 = 100_000;

/// The rank of the vectors: what sentences of a model have, by their largest components.
const RANK: usize = 48;

/// What a server of this size is given: memory for what is read often and for a graph of a million vectors,
/// and room in the log for what is built.
const SETTINGS: [&str; 3] =
    ["shared_buffers = '4GB'", "max_wal_size = '4GB'", "maintenance_work_mem = '3GB'"];

/// How many sentences the model reads. A page is three of them: the model takes a long text in pieces, and
/// the mean of their directions is the direction of the text.
const PIECES: usize = 2_000;

/// How many pages go in at once.
const BATCH: u32 = 1_000;

/// Measures every cell.
pub fn run(args: &Args) -> Result<(), Failure> {
    let known = |names: &[String], all: [&str; 2], option: &str| match names
        .iter()
        .find(|name| !all.contains(&name.as_str()))
    {
        Some(name) => Err(format!("{option} has {name:?}: give {} or {}", all[0], all[1])),
        None => Ok(()),
    };
    known(&args.stores, ["sqlite", "postgres"], "--stores")?;
    known(&args.vectors, ["gauss", "minilm"], "--vectors")?;
    if args.queries == 0 || args.rows.iter().any(|rows| *rows < 10) || args.dims.contains(&0) {
        return Err("--queries and --dims must be at least 1, --rows at least 10".into());
    }
    let server = args.stores.iter().any(|store| store == "postgres");
    let server = match server && Server::is_here() {
        true => Some(Server::with(&SETTINGS)),
        false if server => return Err("there is no PostgreSQL: run scripts/postgres.sh".into()),
        false => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut cell = 0;
    for kind in &args.vectors {
        for &dims in &args.dims {
            for &rows in &args.rows {
                if dims != 384 && (rows > LARGE || kind == "minilm") {
                    continue;
                }
                let data = runtime.block_on(data(args, kind, rows, dims))?;
                for store in &args.stores {
                    cell += 1;
                    let site = match (&server, store.as_str()) {
                        (Some(server), "postgres") => Site::server(server, cell),
                        _ => Site::Folder(tempfile::tempdir()?),
                    };
                    let row = runtime.block_on(measure(args, kind, &data, &site))?;
                    result(&row, args.json)?;
                }
            }
        }
    }
    Ok(())
}

/// Texts, their vectors, and questions.
struct Data {
    /// The words of a page; its number comes first, by which the embedder knows it.
    words: Vec<String>,
    vectors: Arc<Vec<Embedding>>,
    queries: Vec<Embedding>,
}

async fn data(args: &Args, kind: &str, rows: u32, dims: usize) -> Result<Data, Failure> {
    say(&format!("makes {rows} vectors of {dims} components ({kind})"));
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let total = rows + args.queries;
    let words: Vec<String> = (0..total).map(|_| sentence(&mut random)).collect();
    let mut vectors = Vec::with_capacity(total as usize);
    if kind == "gauss" {
        let basis: Vec<Vec<f32>> =
            (0..RANK).map(|_| (0..dims).map(|_| gauss(&mut random)).collect()).collect();
        while vectors.len() < total as usize {
            let mut values: Vec<f32> = (0..dims).map(|_| 0.5 * gauss(&mut random)).collect();
            for axis in &basis {
                let weight = gauss(&mut random);
                values.iter_mut().zip(axis).for_each(|(value, axis)| *value += weight * axis);
            }
            vectors.extend(Embedding::of(values));
        }
    } else {
        let folder = args.model.as_ref().ok_or("minilm needs --model: see scripts/minilm.sh")?;
        let model = model::open(folder)?;
        let texts: Vec<Arc<str>> = (0..PIECES).map(|_| statement(&mut random).into()).collect();
        let pieces = model.embed(&texts).await.map_err(|error| error.to_string())?.vectors;
        while vectors.len() < total as usize {
            let mut values = vec![0.0; dims];
            for _ in 0..3 {
                let piece = pieces.get(random.next_u32() as usize % pieces.len());
                let piece = piece.map_or(&[][..], Embedding::values);
                values.iter_mut().zip(piece).for_each(|(value, piece)| *value += piece);
            }
            vectors.extend(Embedding::of(values));
        }
    }
    let queries = vectors.split_off(rows as usize);
    Ok(Data { words, vectors: Arc::new(vectors), queries })
}

/// A normal number, as the sum of twelve even ones.
fn gauss(random: &mut ChaCha8Rng) -> f32 {
    (0..12).map(|_| (random.next_u32() >> 8) as f32 / (1_u32 << 24) as f32).sum::<f32>() - 6.0
}

/// Some words of a vocabulary in which few are frequent and most are rare.
fn sentence(random: &mut ChaCha8Rng) -> String {
    const SYLLABLES: [&str; 16] = [
        "ka", "lo", "mir", "ten", "sa", "vu", "pel", "dro", "nim", "fas", "gor", "hi", "jut",
        "qua", "ros", "zet",
    ];
    let mut text = String::new();
    for _ in 0..12 {
        let size = 1_u64 << (random.next_u32() % 16);
        let mut number = size + u64::from(random.next_u32()) % size;
        while number > 0 {
            text.push_str(SYLLABLES[(number % 16) as usize]);
            number /= 16;
        }
        text.push(' ');
    }
    text
}

/// A sentence as agents write them down.
fn statement(random: &mut ChaCha8Rng) -> String {
    const WHO: [&str; 12] = [
        "The customer",
        "Our database",
        "The scheduler",
        "Maria",
        "The nightly backup",
        "A tourist",
        "The compiler",
        "The patient",
        "My landlord",
        "The payment service",
        "The orchestra",
        "The test suite",
    ];
    const DID: [&str; 12] = [
        "rejected",
        "rewrote",
        "is waiting for",
        "paid for",
        "lost",
        "reported",
        "prefers",
        "measured",
        "cannot open",
        "postponed",
        "complains about",
        "asked twice about",
    ];
    const WHAT: [&str; 12] = [
        "the invoice from March",
        "a window seat",
        "the second migration",
        "three parcels",
        "an allergy to peanuts",
        "the rent of the flat",
        "a borrow of a moved value",
        "the rehearsal",
        "a memory leak",
        "the quarterly forecast",
        "a vegetarian menu",
        "the access token",
    ];
    const WHEN: [&str; 12] = [
        "yesterday",
        "before the deadline",
        "in Lisbon",
        "at 4 in the morning",
        "after the release",
        "because of the storm",
        "without telling anybody",
        "for the third time",
        "next summer",
        "on the staging server",
        "over the phone",
        "since the upgrade",
    ];
    let mut pick = |of: &[&'static str; 12]| of[random.next_u32() as usize % of.len()];
    format!("{} {} {} {}.", pick(&WHO), pick(&DID), pick(&WHAT), pick(&WHEN))
}

/// Hands out the vectors that were made before, by the number with which a text begins.
struct Known {
    vectors: Arc<Vec<Embedding>>,
    dims: usize,
    made: AtomicUsize,
}

impl Embedder for Known {
    fn id(&self) -> &'static str {
        "known"
    }

    fn dims(&self) -> usize {
        self.dims
    }

    fn embed<'a>(&'a self, texts: &'a [Arc<str>]) -> BoxFuture<'a, Result<Embedded, CallError>> {
        self.made.fetch_add(texts.len(), Ordering::Relaxed);
        let number = |text: &Arc<str>| text.split(' ').next().and_then(|it| it.parse().ok());
        let of = |text: &Arc<str>| self.vectors.get(number(text).unwrap_or(0)).cloned();
        let vectors = texts.iter().filter_map(of).collect();
        Box::pin(async { Ok(Embedded { vectors, tokens: None, cost: MicroDollars::ZERO }) })
    }
}

/// Where the index of a cell is.
enum Site {
    Folder(tempfile::TempDir),
    Schema(PostgresOptions),
}

impl Site {
    fn server(server: &Server, cell: u32) -> Self {
        let mut options = PostgresOptions::new(server.url("postgres", ""), "a benchmark");
        options.schema = format!("search_{cell}");
        Self::Schema(options)
    }

    fn open(&self, embedder: Arc<dyn Embedder>) -> Result<SearchIndex, Failure> {
        Ok(match self {
            Self::Folder(folder) => SearchIndex::in_folder(folder.path(), Some(embedder))?,
            Self::Schema(options) => {
                drop(PostgresStore::open(options)?);
                SearchIndex::on_server(options, Some(embedder))?
            }
        })
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Folder(_) => "sqlite",
            Self::Schema(_) => "postgres",
        }
    }

    async fn bytes(&self) -> Result<u64, Failure> {
        match self {
            Self::Folder(folder) => size(folder.path()),
            Self::Schema(options) => {
                let occupied = PostgresReader::open(options)?.occupied().await?;
                let tables = occupied.iter().filter(|it| it.table.starts_with("search_"));
                Ok(tables.map(|it| it.bytes + it.index_bytes).sum())
            }
        }
    }
}

fn size(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for file in std::fs::read_dir(folder)? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes)
}

fn space() -> Result<Space, Failure> {
    Ok(Space::Shared("all".parse()?))
}

fn batch(data: &Data, pages: std::ops::Range<u32>) -> Result<Batch, Failure> {
    let (pid, space) = (Pid::from_alias("search"), space()?);
    let items = pages.map(|page| {
        let text = format!("{page} {}", data.words.get(page as usize).map_or("", |it| it));
        Item {
            entry: Entry {
                space: space.clone(),
                pid,
                page: PageId(page),
                start: 0,
                seq: Seq(u64::from(page)),
                hash: Hash::of(text.as_bytes()),
                kind: PageKind::ToolResult,
                time: Timestamp::from_millis(u64::from(page)),
                tags: Vec::new(),
            },
            text: text.into(),
        }
    });
    Ok(Batch { tenant: Tenant::local(), items: items.collect(), followed: None })
}

async fn measure(args: &Args, kind: &str, data: &Data, site: &Site) -> Result<Row, Failure> {
    let dims = data.vectors.first().map_or(0, |it| it.values().len());
    let rows = u32::try_from(data.vectors.len())?;
    let made = AtomicUsize::new(0);
    let known = Arc::new(Known { vectors: Arc::clone(&data.vectors), dims, made });
    let index = site.open(known.clone())?;
    let begun = Instant::now();
    let last = rows - 1;
    for from in (0..last).step_by(BATCH as usize) {
        index.index(batch(data, from..(from + BATCH).min(last))?).await?;
    }
    while index.embed(BATCH as usize).await?.waiting > 0 {}
    let build_s = begun.elapsed().as_secs_f64();
    let bytes = site.bytes().await?;
    let begun = Instant::now();
    index.index(batch(data, last..rows)?).await?;
    index.embed(BATCH as usize).await?;
    let vector = data.vectors.last().cloned();
    let query =
        Query { vector, means: Means::Vectors, ..Query::new(Tenant::local(), space()?, "-", 10) };
    let found = index.query(query.clone()).await?;
    let lag_s = begun.elapsed().as_secs_f64();
    if found.hits.first().map(|hit| hit.entry.page) != Some(PageId(last)) {
        return Err("the page that was put in last is not the nearest to itself".into());
    }
    if known.made.load(Ordering::Relaxed) != rows as usize {
        return Err("a vector was made twice, or never".into());
    }
    let (mut alone, mut hybrid, mut right) = (Vec::new(), Vec::new(), 0);
    for (number, vector) in data.queries.iter().enumerate() {
        let text = data.words.get(rows as usize + number).map_or("", |it| it);
        let ask = Query { vector: Some(vector.clone()), text: Some(text.into()), ..query.clone() };
        let begun = Instant::now();
        let found = index.query(ask.clone()).await?;
        alone.push(begun.elapsed());
        let nearest = nearest(&data.vectors, vector);
        right += found.hits.iter().filter(|hit| nearest.contains(&hit.entry.page.0)).count();
        let begun = Instant::now();
        index.query(Query { means: Means::Hybrid, ..ask }).await?;
        hybrid.push(begun.elapsed());
    }
    let quantiles = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        (quantile_ms(times, 0.5), quantile_ms(times, 0.99))
    };
    let ((p50_ms, p99_ms), (hybrid_p50_ms, hybrid_p99_ms)) =
        (quantiles(&mut alone), quantiles(&mut hybrid));
    let round = |value: f64| (value * 1e4).round() / 1e4;
    Ok(Row {
        store: site.name(),
        vectors: kind.to_owned(),
        rows,
        dims,
        queries: args.queries,
        p50_ms,
        p99_ms,
        hybrid_p50_ms,
        hybrid_p99_ms,
        recall_at_10: round(right as f64 / f64::from(10 * args.queries)),
        build_s: round(build_s),
        bytes,
        lag_s: round(lag_s),
    })
}

/// The ten nearest, by comparing all.
fn nearest(vectors: &[Embedding], query: &Embedding) -> Vec<u32> {
    let mut all: Vec<(f32, u32)> =
        vectors.iter().map(|it| it.cosine(query).unwrap_or(-1.0)).zip(0..).collect();
    let better = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0);
    all.select_nth_unstable_by(9, better);
    all.truncate(10);
    all.into_iter().map(|it| it.1).collect()
}
