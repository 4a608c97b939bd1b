//! `paging`: what each replacement policy costs and forgets, on recorded runs of agents.
//!
//! A run is a sequence of calls; each brings new pages and refers to older ones. A policy keeps a
//! prompt of at most `budget` tokens through the page table that the kernel uses. With `h` the
//! tokens of the longest common prefix of a prompt and the one before (none where the cache has
//! expired), a call costs `read x h + write x (size - h)`. A page that is referred to and does not
//! stand in the prompt is a fault: the model says 60 tokens to ask for it, it comes to the end of
//! the prompt, and the call is repeated; the repeated call counts in the price and not in `hit`.
//! `J = price + 5000 x faults`. Placeholders of masked results count as nothing, which favours the
//! policies that mask.

mod optimum;
mod replay;
mod trace;
pub mod tune;
mod weights;

use std::path::PathBuf;

use aosk_abi::Ppm;
use aosk_context::{Compaction, POLICIES, Policy, Terms};
use serde::Serialize;

use self::optimum::{Calls, Optimum};
use self::replay::{Outcome, replay};
use self::trace::Run;
use crate::report::{Failure, result, say};

/// What to play and at which prices.
#[derive(clap::Args)]
pub struct Args {
    /// Runs, one JSON object a line: .jsonl or .jsonl.zst.
    #[arg(long)]
    trace: PathBuf,
    /// The room of a prompt: tokens, or a share of what a run has besides its head, as in 0.5x.
    #[arg(long)]
    budget: Budget,
    /// Only the policies of these names, separated by commas.
    #[arg(long, value_delimiter = ',')]
    policies: Vec<String>,
    /// Only this half of the runs, 0 or 1, split by a hash of their ids.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=1))]
    half: Option<u8>,
    /// Other constants for `cost_aware`, as `NAME=VALUE`, separated by commas.
    #[arg(long, value_delimiter = ',')]
    weights: Vec<String>,
    #[command(flatten)]
    market: Market,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// Prices, in those of a token of uncached input.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Market {
    /// How long the endpoint's cache keeps a prompt, in seconds.
    #[arg(long, default_value_t = 300.0)]
    pub ttl: f64,
    /// The price of a token that is read from the cache.
    #[arg(long, default_value_t = 0.1)]
    pub read: f64,
    /// The price of a token that is written to it.
    #[arg(long, default_value_t = 1.25)]
    pub write: f64,
    /// The price of a token of output.
    #[arg(long, default_value_t = 5.0)]
    pub output: f64,
    /// What a fault counts in J besides its price.
    #[arg(long, default_value_t = 5000.0)]
    pub fault: f64,
}

impl Default for Market {
    fn default() -> Self {
        Self { ttl: 300.0, read: 0.1, write: 1.25, output: 5.0, fault: 5000.0 }
    }
}

impl Market {
    fn check(&self) -> Result<(), Failure> {
        let Self { ttl, read, write, output, fault } = *self;
        for (name, value) in
            [("ttl", ttl), ("read", read), ("write", write), ("output", output), ("fault", fault)]
        {
            if !(0.0..1e9).contains(&value) {
                return Err(format!("--{name} {value}: give a number from 0 to 10^9").into());
            }
        }
        if read.max(write).max(output) > 1000.0 {
            return Err("prices are multiples of that of uncached input, at most 1000".into());
        }
        Ok(())
    }

    /// What a call costs whose prompt of `size` tokens begins with `cached` that the endpoint has.
    pub fn call(&self, size: u64, cached: u64) -> f64 {
        self.read * cached as f64 + self.write * (size - cached) as f64
    }

    /// The terms that a warm call is planned under.
    pub fn terms(&self) -> Terms {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=1000")]
        let ppm = |price: f64| Ppm((price * 1e6).round() as u32);
        Terms {
            read: ppm(self.read),
            write: ppm(self.write),
            output: ppm(self.output),
            cold: false,
            lost: false,
        }
    }
}

/// How much room a prompt has.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Budget {
    Tokens(u64),
    /// Of what the run has besides its head.
    Share(f64),
}

impl std::str::FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?}: give tokens above 0, as 32000, or a share up to 1, as 0.5x");
        match text.strip_suffix('x') {
            Some(share) => match share.parse() {
                Ok(share) if share > 0.0 && share <= 1.0 => Ok(Self::Share(share)),
                _ => Err(wrong()),
            },
            None => match text.parse() {
                Ok(tokens) if tokens > 0 => Ok(Self::Tokens(tokens)),
                _ => Err(wrong()),
            },
        }
    }
}

impl Budget {
    fn of(self, run: &Run) -> u64 {
        match self {
            Self::Tokens(tokens) => tokens,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of at most 2^32 tokens"
            )]
            Self::Share(share) => {
                run.head + ((run.whole() - run.head) as f64 * share).floor() as u64
            }
        }
    }
}

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tokens(tokens) => write!(f, "{tokens}"),
            Self::Share(share) => write!(f, "{share}x"),
        }
    }
}

#[derive(Serialize)]
struct Row {
    policy: &'static str,
    price_over_opt: f64,
    j_over_opt: f64,
    price_over_unbounded: f64,
    /// In percent; absent for the bound, which is no schedule.
    recall: Option<f64>,
    hit: Option<f64>,
    util: Option<f64>,
    faults: Option<u64>,
    epochs: Option<u64>,
    price: f64,
    runs: usize,
    calls: usize,
    infeasible: usize,
    budget: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    half: Option<u8>,
}

/// Sums over the runs that do not depend on a policy.
#[derive(Default)]
struct Common {
    optimum: Optimum,
    bound: f64,
    unbounded: f64,
    runs: usize,
    calls: usize,
    infeasible: usize,
    budget: String,
    half: Option<u8>,
}

/// Plays every run under every policy.
pub fn run(args: &Args) -> Result<(), Failure> {
    args.market.check()?;
    let weights = weights::parse(&args.weights)?;
    let policies = chosen(&args.policies)?;
    let mut runs = trace::read(&args.trace)?;
    if let Some(half) = args.half {
        runs.retain(|run| run.half() == half);
    }
    let common = common(&runs, args);
    if common.calls == 0 {
        return Err(format!(
            "no call fits: all {} have a head and new pages above the budget. Give a larger --budget",
            common.infeasible
        )
        .into());
    }
    for policy in policies {
        let mut outcome = Outcome::default();
        let policy: &dyn Policy = if policy.name() == weights.name() { &weights } else { policy };
        for run in &runs {
            outcome.add(&replay(run, args.budget.of(run), &args.market, policy)?);
        }
        result(&common.row(policy.name(), &outcome, &args.market), args.json)?;
    }
    result(&common.clairvoyant(), args.json)?;
    result(&common.bound(), args.json)?;
    say(&format!(
        "{} runs, {} calls; {} more are infeasible: their head and new pages alone exceed the budget",
        common.runs, common.calls, common.infeasible
    ));
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<&'static dyn Policy>, Failure> {
    let all = POLICIES.iter().copied().chain([&Compaction as &dyn Policy]);
    if let Some(name) = names.iter().find(|name| !all.clone().any(|it| it.name() == **name)) {
        let known: Vec<_> = all.map(|policy| policy.name()).collect();
        return Err(format!("there is no policy {name:?}; there are: {}", known.join(", ")).into());
    }
    Ok(all.filter(|it| names.is_empty() || names.iter().any(|name| name == it.name())).collect())
}

fn common(runs: &[Run], args: &Args) -> Common {
    let mut common =
        Common { budget: args.budget.to_string(), half: args.half, ..Common::default() };
    for run in runs {
        let (budget, market) = (args.budget.of(run), &args.market);
        let calls = Calls::of(run, budget, market);
        common.runs += 1;
        common.calls += calls.steps.len();
        common.infeasible += calls.infeasible;
        common.bound += optimum::lower_bound(run, budget, market);
        common.unbounded += optimum::unbounded(run, budget, market);
        let best = optimum::optimum(run, budget, market);
        common.optimum.price += best.price;
        common.optimum.cached += best.cached;
        common.optimum.input += best.input;
        common.optimum.used += best.used;
        common.optimum.full_steps += best.full_steps;
    }
    common
}

impl Common {
    fn row(&self, policy: &'static str, outcome: &Outcome, market: &Market) -> Row {
        let missed = outcome.faults as f64 / outcome.needs as f64;
        let penalty = market.fault * outcome.faults as f64;
        Row {
            j_over_opt: round((outcome.price + penalty) / self.optimum.price, 1e4),
            recall: (outcome.needs > 0).then(|| round(100.0 * (1.0 - missed), 1e2)),
            hit: Some(round(100.0 * outcome.cached / outcome.input, 1e2)),
            util: (outcome.full_steps > 0)
                .then(|| round(100.0 * outcome.used / outcome.full_steps as f64, 1e2)),
            faults: Some(outcome.faults),
            epochs: Some(outcome.epochs),
            ..self.price(policy, outcome.price)
        }
    }

    fn clairvoyant(&self) -> Row {
        let Optimum { price, cached, input, used, full_steps } = self.optimum;
        Row {
            recall: Some(100.0),
            hit: Some(round(100.0 * cached / input, 1e2)),
            util: (full_steps > 0).then(|| round(100.0 * used / full_steps as f64, 1e2)),
            faults: Some(0),
            ..self.price("opt", price)
        }
    }

    fn bound(&self) -> Row {
        self.price("lower_bound", self.bound)
    }

    fn price(&self, policy: &'static str, price: f64) -> Row {
        let over_opt = round(price / self.optimum.price, 1e4);
        Row {
            policy,
            price_over_opt: over_opt,
            j_over_opt: over_opt,
            price_over_unbounded: round(price / self.unbounded, 1e4),
            recall: None,
            hit: None,
            util: None,
            faults: None,
            epochs: None,
            price: round(price, 1.0),
            runs: self.runs,
            calls: self.calls,
            infeasible: self.infeasible,
            budget: self.budget.clone(),
            half: self.half,
        }
    }
}

fn round(value: f64, unit: f64) -> f64 {
    (value * unit).round() / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_tokens_or_a_share() {
        assert_eq!("32000".parse(), Ok(Budget::Tokens(32_000)));
        assert_eq!("0.5x".parse(), Ok(Budget::Share(0.5)));
        assert_eq!("1x".parse(), Ok(Budget::Share(1.0)));
        for wrong in ["0", "-1", "0x", "1.1x", "NaNx", "x", "", "half"] {
            assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_small_run_costs_what_its_definition_says() {
        let run = trace::tests::parse(
            r#"{"prefix":10,"steps":[
            {"new":[[0,30,"tool"]],"need":[]},
            {"new":[[1,30,"asst"]],"need":[]},
            {"new":[[2,40,"tool"]],"need":[],"dt":10.0},
            {"new":[[3,5,"asst"]],"need":[[0]],"dt":301.0},
            {"new":[[4,95,"tool"]],"need":[]}]}"#,
        )
        .expect("a run");
        let outcome =
            replay(&run, 100, &Market::default(), &aosk_context::TruncateOldest).expect("plays");
        // 40 written; 40 read and 30 written; the first page has left: 10 read and 70 written; the
        // cache has expired: 85 written; then the request, and 115 do not fit: the second page
        // leaves, 10 read and 45 + 30 written; the last step is infeasible.
        let expected = 50.0 + (4.0 + 37.5) + (1.0 + 87.5) + 106.25 + 300.0 + (1.0 + 93.75);
        assert!((outcome.price - expected).abs() < 1e-9, "{} not {expected}", outcome.price);
        assert_eq!((outcome.faults, outcome.needs, outcome.epochs), (1, 1, 2));
        assert_eq!((outcome.cached, outcome.input), (50.0, 40.0 + 70.0 + 80.0 + 85.0));
    }
}
