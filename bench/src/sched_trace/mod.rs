//! `sched-trace`: how long programs wait under each order, on a recorded trace of requests.
//!
//! The model: D places serve calls without interruption, each for 0.3 s + input / 8,000 s + output
//! / 60 s. Requests of which one continues the other's prompt are one program, and the gap between
//! them, less what the service of the first takes, is its think time. Eight tenants, of which one
//! owns half of the programs. D and the pace at which programs arrive are set so that the work
//! divided by the places and the time gives the load. The figure is the delay that waiting adds to
//! a program's service and think time.
//!
//! `ours` is the scheduler as it is, with its default options: its estimates come from the lengths
//! of outputs that ended before, it is charged what a call took when it ends, and knows nothing of
//! the trace. `ours-tuned` is the same with a bandit that chooses among settings within the ranges of
//! the bounds, and whose tries count in its figures. The others are for comparison and know neither tenants nor weights; `srpt-oracle`
//! and `fsp` know the size of every program in advance.

mod line;
mod model;
mod ours;
mod trace;

use std::path::PathBuf;

use serde::Serialize;

use crate::report::{Failure, result, say};
use line::{Line, Rule, Simple};
use model::{Delay, World};
use ours::Ours;

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// A trace: `.jsonl` with timestamp, input_length, output_length and hash_ids, or `.csv` with
    /// time, input and output; also zstd-compressed, as `.zst`.
    #[arg(long)]
    trace: PathBuf,
    /// Work divided by capacity.
    #[arg(long, default_value_t = 0.95)]
    load: f64,
    /// In which order calls go.
    #[arg(long, value_enum, default_value_t = Order::All)]
    order: Order,
    /// How many assignments of programs to tenants.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    Fifo,
    Rr,
    Plas,
    SrptOracle,
    Fsp,
    Ours,
    OursTuned,
    All,
}

const ORDERS: [(Order, &str); 7] = [
    (Order::Fifo, "fifo"),
    (Order::Rr, "rr"),
    (Order::Plas, "plas"),
    (Order::SrptOracle, "srpt-oracle"),
    (Order::Fsp, "fsp"),
    (Order::Ours, "ours"),
    (Order::OursTuned, "ours-tuned"),
];

#[derive(Serialize)]
struct Row {
    name: &'static str,
    trace: String,
    load: f64,
    order: &'static str,
    seeds: u64,
    programs: usize,
    calls: usize,
    places: usize,
    /// Added delay in seconds, the mean over the seeds of each seed's figure.
    delay: Figures,
    /// Turnaround over service and think time.
    slowdown: Figures,
    /// Turnaround in seconds.
    turnaround: Figures,
    /// Added delay of the seven tenants that do not own half.
    small: Figures,
    /// Added delay of each tenant; the first owns half.
    tenants: Vec<Figures>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Figures {
    mean: f64,
    p50: f64,
    p99: f64,
    max: f64,
}

/// Replays the trace in each order.
pub fn run(args: &Args) -> Result<(), Failure> {
    if !(args.load > 0.0 && args.load <= 10.0) {
        return Err(format!("load {} is out of range: give above 0 to 10", args.load).into());
    }
    let programs = trace::read(&args.trace)?;
    let calls = programs.iter().map(|program| program.calls.len()).sum();
    say(&format!("{} programs of {calls} calls", programs.len()));
    let trace = args.trace.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for (order, name) in ORDERS {
        if args.order != Order::All && args.order != order {
            continue;
        }
        let mut row = Row {
            name: "sched-trace",
            trace: trace.clone(),
            load: args.load,
            order: name,
            seeds: args.seeds,
            programs: programs.len(),
            calls,
            places: 0,
            delay: Figures::default(),
            slowdown: Figures::default(),
            turnaround: Figures::default(),
            small: Figures::default(),
            tenants: vec![Figures::default(); model::TENANTS],
        };
        for seed in 1..=args.seeds {
            let world = World::new(&programs, args.load, seed);
            row.places = world.places;
            let mut line = line_of(order, &world, seed)?;
            row.add(&world.run(line.as_mut())?);
        }
        row.end();
        result(&row, args.json)?;
    }
    Ok(())
}

fn line_of(order: Order, world: &World, seed: u64) -> Result<Box<dyn Line>, Failure> {
    Ok(match order {
        Order::OursTuned => Box::new(Ours::tuned(world, seed)?),
        Order::Ours => Box::new(Ours::new(world)?),
        Order::Fifo | Order::All => Box::new(Simple::new(Rule::Fifo)),
        Order::Rr => Box::new(Simple::new(Rule::RoundRobin)),
        Order::Plas => Box::new(Simple::new(Rule::LeastAttained)),
        Order::SrptOracle => Box::new(Simple::new(Rule::ShortestRemaining)),
        Order::Fsp => Box::new(Simple::new(Rule::FairSojourn)),
    })
}

impl Row {
    fn add(&mut self, delays: &[Delay]) {
        let seconds = |of: fn(&Delay) -> u64, who: &dyn Fn(&Delay) -> bool| {
            let chosen = delays.iter().filter(|delay| who(delay));
            Figures::of(chosen.map(|delay| of(delay) as f64 / 1e6).collect())
        };
        self.delay.add(seconds(|delay| delay.waited, &|_| true));
        self.turnaround.add(seconds(Delay::turnaround, &|_| true));
        self.small.add(seconds(|delay| delay.waited, &|delay| delay.tenant > 0));
        for (tenant, figures) in self.tenants.iter_mut().enumerate() {
            figures.add(seconds(|delay| delay.waited, &|delay| delay.tenant == tenant));
        }
        let slow = |delay: &Delay| delay.turnaround() as f64 / delay.alone.max(1) as f64;
        self.slowdown.add(Figures::of(delays.iter().map(slow).collect()));
    }

    fn end(&mut self) {
        let others = [&mut self.delay, &mut self.slowdown, &mut self.turnaround, &mut self.small];
        for figures in others.into_iter().chain(&mut self.tenants) {
            let [mean, p50, p99, max] = [figures.mean, figures.p50, figures.p99, figures.max]
                .map(|sum| (sum / self.seeds as f64 * 1e3).round() / 1e3);
            *figures = Figures { mean, p50, p99, max };
        }
    }
}

impl Figures {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let last = values.len().saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=last")]
        let at = |share: f64| values.get((last as f64 * share).round() as usize).copied();
        Self {
            mean: values.iter().sum::<f64>() / values.len().max(1) as f64,
            p50: at(0.5).unwrap_or(0.0),
            p99: at(0.99).unwrap_or(0.0),
            max: at(1.0).unwrap_or(0.0),
        }
    }

    fn add(&mut self, other: Self) {
        self.mean += other.mean;
        self.p50 += other.p50;
        self.p99 += other.p99;
        self.max += other.max;
    }
}
