//! `plan`: how long it takes to plan a prompt, by the number of pages in it.

use std::time::Instant;

use aosk_abi::{
    Admission, CacheLife, CacheRules, Changes, Conditions, Hash, Op, PageKind, Planned, Ppm, Seq,
    Source, Step, Tokens,
};
use aosk_context::{Arrival, CostAware, Demand, PageTable, Terms};
use serde::Serialize;

use crate::report::{Failure, quantile_ms, result};

/// What to plan.
#[derive(clap::Args)]
pub struct Args {
    /// How many pages stand in the prompt; several separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 20_000, 40_000, 80_000, 100_000])]
    pages: Vec<u32>,
    /// How many plans of each kind are made.
    #[arg(long, default_value_t = 200)]
    plans: usize,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    pages: u32,
    plans: usize,
    /// What fits is kept as it is.
    keep_p50_ms: f64,
    keep_p99_ms: f64,
    /// What does not fit any more is priced and evicted.
    evict_p50_ms: f64,
    evict_p99_ms: f64,
    /// How many pages such a plan lets go of.
    evicted: usize,
}

/// The size of every page.
const PAGE: u64 = 500;

/// Plans both ways at each size.
pub fn run(args: &Args) -> Result<(), Failure> {
    if args.plans == 0 || args.pages.contains(&0) {
        return Err("--pages and --plans must be at least 1".into());
    }
    for &pages in &args.pages {
        let table = table(pages)?;
        let whole = u64::from(pages) * PAGE;
        let mut evicted = 0;
        let mut time = |room: u64| -> Result<(f64, f64), Failure> {
            let mut taken = Vec::with_capacity(args.plans);
            for _ in 0..args.plans {
                let arrivals = [arrival(u64::from(pages) + 10, PageKind::Reply)];
                let begun = Instant::now();
                let plan =
                    table.plan_under(&arrivals, &demand(room), &CostAware, &Terms::default())?;
                taken.push(begun.elapsed());
                evicted = plan.evicted.len();
            }
            taken.sort_unstable();
            Ok((quantile_ms(&taken, 0.5), quantile_ms(&taken, 0.99)))
        };
        let (keep_p50_ms, keep_p99_ms) = time(whole + 10 * PAGE)?;
        let (evict_p50_ms, evict_p99_ms) = time(whole)?;
        let plans = args.plans;
        let row =
            Row { pages, plans, keep_p50_ms, keep_p99_ms, evict_p50_ms, evict_p99_ms, evicted };
        result(&row, args.json)?;
    }
    Ok(())
}

fn demand(window: u64) -> Demand {
    Demand {
        window: Tokens(window),
        max_output: Tokens::ZERO,
        overhead: Tokens::ZERO,
        reserve: Tokens::ZERO,
        gaps: 0,
        margin: Ppm(0),
    }
}

fn arrival(seq: u64, kind: PageKind) -> Arrival {
    Arrival {
        kind,
        source: Source { seq: Seq(seq), part: 0 },
        range: None,
        unit: Seq(seq),
        tokens: Tokens(PAGE),
        pinned: kind == PageKind::System,
        importance: Admission::DEFAULT_IMPORTANCE,
    }
}

/// A table of that many pages, ten a turn, of which every seventh was needed.
fn table(pages: u32) -> Result<PageTable, Failure> {
    let mut table = PageTable::default();
    let mut next = 0;
    while next < pages {
        let turn = next..(next + 10).min(pages);
        let arrivals: Vec<Arrival> = turn
            .map(|seq| {
                let kind = match seq {
                    0 => PageKind::System,
                    turn if turn % 10 == 0 => PageKind::Reply,
                    _ => PageKind::ToolResult,
                };
                arrival(u64::from(seq), kind)
            })
            .collect();
        next += 10;
        let demand = demand(u64::MAX);
        let plan = table.plan(&arrivals, &demand, &CostAware)?;
        let planned = Planned {
            op: Op(0),
            step: Step(1),
            generation: plan.generation,
            life: CacheLife::Short,
            tools: true,
            under: Changes::default(),
            prompt_tokens: plan.prompt_tokens,
            prompt: Hash::ZERO,
            prompt_len: 0,
            tail: false,
            admitted: plan.admitted,
            evicted: plan.evicted,
            reasons: plan.reasons,
            stubs: Vec::new(),
        };
        let under = Conditions {
            cache: CacheRules::default(),
            max_output: Tokens::ZERO,
            policy: "cost_aware".to_owned(),
            render: "none".to_owned(),
            tokenizer: "none".to_owned(),
            window: demand.window,
        };
        table.apply(&planned, &under)?;
    }
    for page in (0..pages).step_by(7) {
        table.access(aosk_abi::PageId(page))?;
    }
    Ok(table)
}
